"""TRL's RewardTrainer as a peer of `reward_training.py`: a job from standard input, {"seconds"} of its steps out."""

import json
import sys
import tempfile
import time

import torch
from datasets import Dataset
from transformers import AutoModelForSequenceClassification, AutoTokenizer, TrainerCallback
from trl import RewardConfig, RewardTrainer


class Clock(TrainerCallback):
    """Times optimizer steps; what TRL does before (rendering, tokens) and between them is not counted."""

    def __init__(self):
        self.times = []

    def on_step_begin(self, *_, **__):
        self.times.append(time.perf_counter())

    def on_step_end(self, *_, **__):
        self.times[-1] = time.perf_counter() - self.times[-1]


def main() -> None:
    job = json.load(sys.stdin)
    config = RewardConfig(
        output_dir=tempfile.mkdtemp(),
        use_cpu=True,
        bf16=True,
        per_device_train_batch_size=job["micro_batch"],
        gradient_accumulation_steps=job["batch"] // job["micro_batch"],
        num_train_epochs=1,
        max_length=None,
        learning_rate=1e-4,
        gradient_checkpointing=False,
        report_to=[],
        save_strategy="no",
    )
    model = AutoModelForSequenceClassification.from_pretrained(job["model"], num_labels=1, dtype=torch.bfloat16)
    for name, parameter in model.named_parameters():
        parameter.requires_grad = name in job["trained"]
    clock = Clock()
    RewardTrainer(
        model=model,
        processing_class=AutoTokenizer.from_pretrained(job["model"]),
        args=config,
        train_dataset=Dataset.from_list(job["pairs"]),
        callbacks=[clock],
    ).train()
    print(json.dumps({"seconds": sum(clock.times), "all": clock.times}))


if __name__ == "__main__":
    main()
