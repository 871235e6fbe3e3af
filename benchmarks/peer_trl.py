"""TRL's GRPOTrainer as a peer of `step.py`: reads a job from standard input, prints {"seconds"} of its fastest step."""

import json
import sys
import tempfile
import time

from datasets import Dataset
from transformers import AutoModelForSequenceClassification, AutoTokenizer, TrainerCallback
from trl import GRPOConfig, GRPOTrainer

STEPS = 3


class Clock(TrainerCallback):
    def __init__(self):
        self.times = []

    def on_step_begin(self, *_, **__):
        self.times.append(time.perf_counter())

    def on_step_end(self, *_, **__):
        self.times[-1] = time.perf_counter() - self.times[-1]


def main() -> None:
    job = json.load(sys.stdin)
    rows = Dataset.from_list([{"prompt": messages} for messages in job["prompts"]])
    config = GRPOConfig(
        output_dir=tempfile.mkdtemp(),
        use_cpu=True,
        bf16=True,
        per_device_train_batch_size=32,
        gradient_accumulation_steps=len(rows) * job["group_size"] // 32,
        num_generations=job["group_size"],
        max_completion_length=job["max_tokens"],
        max_steps=STEPS,
        learning_rate=1e-6,
        beta=0.0,
        gradient_checkpointing=False,
        report_to=[],
        save_strategy="no",
        model_init_kwargs={"dtype": "bfloat16"},
    )
    clock = Clock()
    scorer = AutoModelForSequenceClassification.from_pretrained(job["scorer"], dtype="bfloat16")
    GRPOTrainer(
        model=job["model"],
        reward_funcs=scorer,
        reward_processing_classes=AutoTokenizer.from_pretrained(job["scorer"]),
        args=config,
        train_dataset=rows,
        callbacks=[clock],
    ).train()
    print(json.dumps({"seconds": min(clock.times), "all": clock.times}))


if __name__ == "__main__":
    main()
