"""TRL's GRPOTrainer or RLOOTrainer as a peer of `study_peers.py`: trains until a time is over, with checkpoints.

Reads a job from standard input. `FOLDER/checkpoints.jsonl` gets a line {"step", "seconds", "reward"} for each policy
saved as `FOLDER/step-STEP`; the seconds are those of training, from before the models are loaded, without the saving.
"""

import json
import sys
import tempfile
import time
from pathlib import Path

from datasets import Dataset
from transformers import AutoModelForSequenceClassification, AutoTokenizer, TrainerCallback
from trl import GRPOConfig, GRPOTrainer, RLOOConfig, RLOOTrainer

TRAINERS = {"grpo": (GRPOTrainer, GRPOConfig), "rloo": (RLOOTrainer, RLOOConfig)}


class Checkpoints(TrainerCallback):
    """Saves the policy every so many seconds of training, and stops the training when its time is over."""

    def __init__(self, start, job, tokenizer):
        self.start, self.job, self.tokenizer = start, job, tokenizer
        self.saving, self.last, self.reward = 0.0, 0.0, None

    def on_log(self, args, state, control, logs=None, **_):
        self.reward = (logs or {}).get("reward", self.reward)

    def on_step_end(self, args, state, control, model=None, **_):
        now = time.perf_counter()
        seconds = now - self.start - self.saving
        control.should_log = True
        if seconds - self.last < self.job["every"] and seconds < self.job["most"]:
            return
        self.last = seconds
        folder = Path(self.job["folder"])
        model.save_pretrained(folder / f"step-{state.global_step}")
        self.tokenizer.save_pretrained(folder / f"step-{state.global_step}")
        with (folder / "checkpoints.jsonl").open("a") as file:
            line = {"step": state.global_step, "seconds": round(seconds, 1), "reward": self.reward}
            file.write(json.dumps(line) + "\n")
        control.should_training_stop = seconds >= self.job["most"]
        self.saving += time.perf_counter() - now


def main() -> None:
    job = json.load(sys.stdin)
    start = time.perf_counter()
    trainer, settings = TRAINERS[job["trainer"]]
    config = settings(
        output_dir=tempfile.mkdtemp(),
        use_cpu=True,
        bf16=True,
        per_device_train_batch_size=job["group_size"],
        gradient_accumulation_steps=job["prompts_per_step"],
        num_generations=job["group_size"],
        max_completion_length=job["max_tokens"],
        temperature=job["temperature"],
        max_steps=job["steps"],
        learning_rate=job["learning_rate"],
        lr_scheduler_type="constant",
        beta=0.0,
        gradient_checkpointing=False,
        logging_steps=1,
        report_to=[],
        save_strategy="no",
        seed=job["seed"],
        model_init_kwargs={"dtype": job["dtype"]},
    )
    tokenizer = AutoTokenizer.from_pretrained(job["model"])
    trainer(
        model=job["model"],
        reward_funcs=AutoModelForSequenceClassification.from_pretrained(job["scorer"], dtype="bfloat16"),
        reward_processing_classes=AutoTokenizer.from_pretrained(job["scorer"]),
        args=config,
        train_dataset=Dataset.from_list([{"prompt": messages} for messages in job["prompts"]]),
        callbacks=[Checkpoints(start, job, tokenizer)],
    ).train()


if __name__ == "__main__":
    main()
