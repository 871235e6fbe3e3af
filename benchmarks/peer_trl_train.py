"""TRL's GRPOTrainer or RLOOTrainer as a peer of `study_peers.py`: trains, and waits at checkpoints to be measured.

Reads a job, one line, from standard input. `FOLDER/checkpoints.jsonl` and standard output get a line {"step",
"seconds", "reward"} for each policy saved as `FOLDER/step-STEP`; the seconds are those of training, from before the
models are loaded, without saving and waiting. The answer "on" lets it go on, any other ends it. A training that was
killed goes on from its last checkpoint.
"""

import json
import sys
import time
from pathlib import Path

from datasets import Dataset
from transformers import AutoModelForSequenceClassification, AutoTokenizer, TrainerCallback
from trl import GRPOConfig, GRPOTrainer, RLOOConfig, RLOOTrainer

ROWS = 8
"""Completions in one forward and backward pass; more do not fit beside another training."""
TRAINERS = {"grpo": (GRPOTrainer, GRPOConfig), "rloo": (RLOOTrainer, RLOOConfig)}


class Checkpoints(TrainerCallback):
    """Saves policy and trainer every so many seconds of training, and asks whether to go on."""

    def __init__(self, start, job, tokenizer, told):
        self.job, self.tokenizer, self.told, self.output = job, tokenizer, told, sys.stdout
        self.last = told[-1]["seconds"] if told else 0.0
        self.start, self.saving, self.reward, self.since = start - self.last, 0.0, None, 0.0

    def on_log(self, args, state, control, logs=None, **_):
        self.reward = (logs or {}).get("reward", self.reward)

    def on_step_end(self, args, state, control, model=None, **_):
        self.since = time.perf_counter()
        seconds = self.since - self.start - self.saving
        control.should_log = True
        if seconds - self.last < self.job["every"]:
            return
        self.last = seconds
        folder = Path(self.job["folder"])
        model.save_pretrained(folder / f"step-{state.global_step}")
        self.tokenizer.save_pretrained(folder / f"step-{state.global_step}")
        self.told.append({"step": state.global_step, "seconds": round(seconds, 1), "reward": self.reward})
        control.should_save = True

    def on_save(self, args, state, control, **_):
        lines = "".join(json.dumps(row) + "\n" for row in self.told)
        (Path(self.job["folder"]) / "checkpoints.jsonl").write_text(lines)
        print(json.dumps(self.told[-1]), file=self.output, flush=True)
        control.should_training_stop = sys.stdin.readline() != "on\n"
        self.saving += time.perf_counter() - self.since


def main() -> None:
    job = json.loads(sys.stdin.readline())
    start = time.perf_counter()
    folder = Path(job["folder"])
    told = []
    if (folder / "checkpoints.jsonl").exists():
        told = [json.loads(line) for line in (folder / "checkpoints.jsonl").read_text().splitlines()]
    trainer, settings = TRAINERS[job["trainer"]]
    config = settings(
        output_dir=str(folder / "trainer"),
        use_cpu=True,
        bf16=True,
        per_device_train_batch_size=ROWS,
        gradient_accumulation_steps=job["prompts_per_step"] * job["group_size"] // ROWS,
        num_generations=job["group_size"],
        max_completion_length=job["max_tokens"],
        temperature=job["temperature"],
        max_steps=job["steps"],
        learning_rate=job["learning_rate"],
        lr_scheduler_type="constant",
        beta=0.0,
        mask_truncated_completions=job["mask_truncated"],
        gradient_checkpointing=False,
        logging_steps=1,
        report_to=[],
        save_strategy="no",
        save_total_limit=1,
        seed=job["seed"],
        model_init_kwargs={"dtype": job["dtype"]},
    )
    tokenizer = AutoTokenizer.from_pretrained(job["model"])
    checkpoints = Checkpoints(start, job, tokenizer, told)
    sys.stdout = sys.stderr  # what libraries print is no answer
    trainer(
        model=job["model"],
        reward_funcs=AutoModelForSequenceClassification.from_pretrained(job["scorer"], dtype="bfloat16"),
        reward_processing_classes=AutoTokenizer.from_pretrained(job["scorer"]),
        args=config,
        train_dataset=Dataset.from_list([{"prompt": messages} for messages in job["prompts"]]),
        callbacks=[checkpoints],
    ).train(resume_from_checkpoint=bool(told))


if __name__ == "__main__":
    main()
