"""The libraries that others would use, each in the interpreter of an environment that has it.

`PYTHON benchmarks/peers.py NAME` reads a job, one line of JSON, and prints {"seconds"}: `vllm`, `openvino` (with
optimum-intel, which converts the model once), `datasketch`, `trl_step`, `trl_train`.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

Job = dict[str, Any]


def ask(python: Path, name: str, job: Job) -> float:
    """The seconds of a peer's job, as it measures them itself: without its start."""
    with started(python, name, job) as peer:
        told = peer.stdout.read()
    return json.loads(told.splitlines()[-1])["seconds"]


@contextlib.contextmanager
def started(python: str | Path, name: str, job: Job) -> Iterator[subprocess.Popen]:
    """A peer that has its job. Raises CalledProcessError if it fails; it does not see this interpreter's packages."""
    env = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "VIRTUAL_ENV")}
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, "env": env}
    with subprocess.Popen([python, __file__, name], **pipes) as peer:
        peer.stdin.write(json.dumps(job) + "\n")
        peer.stdin.flush()
        yield peer
    if peer.returncode:
        raise subprocess.CalledProcessError(peer.returncode, name)


def second(run: Callable[[], object]) -> Job:
    """The seconds of the second of two runs."""
    for _ in range(2):
        start = time.perf_counter()
        run()
    return {"seconds": time.perf_counter() - start}


def vllm(job: Job) -> Job:
    from vllm import LLM, SamplingParams

    llm = LLM(job["model"], dtype="bfloat16", max_model_len=2048, enable_prefix_caching=True)
    sampling = SamplingParams(n=job["group_size"], max_tokens=job["max_tokens"], ignore_eos=True, temperature=1.0)
    prompts = [{"prompt_token_ids": ids} for ids in job["prompts"]]

    def run() -> None:
        llm.reset_prefix_cache()
        llm.generate(prompts, sampling, use_tqdm=False)

    return second(run)


def openvino(job: Job) -> Job:
    import numpy as np
    import openvino
    import openvino_genai as genai

    folder = Path(job["model"]).with_name(Path(job["model"]).name + "-openvino")
    if not folder.exists():
        export = ["export", "openvino", "--model", job["model"], "--task", "text-generation-with-past"]
        command = [Path(sys.executable).with_name("optimum-cli"), *export, "--weight-format", "fp16", folder]
        subprocess.run(command, check=True)
    pipeline = genai.ContinuousBatchingPipeline(str(folder), genai.SchedulerConfig(), "CPU")
    config = genai.GenerationConfig()
    config.max_new_tokens = config.min_new_tokens = job["max_tokens"]
    config.ignore_eos, config.do_sample, config.temperature, config.top_k = True, True, 1.0, 2**31 - 1
    config.num_return_sequences = job["group_size"]
    prompts = [openvino.Tensor(np.array([ids], dtype=np.int64)) for ids in job["prompts"]]
    return second(lambda: pipeline.generate(prompts, [config] * len(prompts)))


def datasketch(job: Job) -> Job:
    """Near-duplicates among the lines of a file."""
    from datasketch import MinHash, MinHashLSH

    start, index = time.perf_counter(), MinHashLSH(threshold=0.8, num_perm=128)
    with open(job["file"], encoding="utf-8", errors="replace") as file:
        for number, line in enumerate(file):
            words = line.lower().split()
            sketch = MinHash(num_perm=128)
            sketch.update_batch({" ".join(words[i : i + 5]).encode() for i in range(max(1, len(words) - 4))})
            if not index.query(sketch):
                index.insert(str(number), sketch)
    return {"seconds": time.perf_counter() - start}


def trl_step(job: Job) -> Job:
    """The fastest step of a short training."""
    from transformers import TrainerCallback

    class Clock(TrainerCallback):
        seconds: list[float] = []

        def on_step_begin(self, *_: Any, **__: Any) -> None:
            self.start = time.perf_counter()

        def on_step_end(self, *_: Any, **__: Any) -> None:
            self.seconds.append(time.perf_counter() - self.start)

    _trl(job, Clock(), output_dir=tempfile.mkdtemp()).train()
    return {"seconds": min(Clock.seconds)}


def trl_train(job: Job) -> Job:
    """A training that waits at checkpoints to be measured, and goes on from the last one where it was killed.

    `FOLDER/checkpoints.jsonl` and standard output get a line {"step", "seconds"} for each policy, saved as
    `FOLDER/step-STEP` after each `every` seconds; the seconds are those of training, from before the models are loaded,
    without saving and waiting. The answer "on" lets it go on, any other ends it.
    """
    from transformers import TrainerCallback
    from trl import GRPOTrainer, RLOOTrainer  # noqa: F401, loaded before the clock starts

    start, folder, output = time.perf_counter(), Path(job["folder"]), sys.stdout
    told = folder / "checkpoints.jsonl"
    rows = [json.loads(line) for line in told.read_text().splitlines()] if told.exists() else []

    class Checkpoints(TrainerCallback):
        waited, since, last = 0.0, 0.0, rows[-1]["seconds"] if rows else 0.0
        begun = start - last

        def on_step_end(self, args: Any, state: Any, control: Any, model: Any = None, **_: Any) -> None:
            self.since = time.perf_counter()
            seconds = self.since - self.begun - self.waited
            if seconds - self.last >= job["every"]:
                self.last = seconds
                for saved in (model, trainer.processing_class):
                    saved.save_pretrained(folder / f"step-{state.global_step}")
                rows.append({"step": state.global_step, "seconds": round(seconds, 1)})
                control.should_save = True

        def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            told.write_text("".join(json.dumps(row) + "\n" for row in rows))
            print(json.dumps(rows[-1]), file=output, flush=True)
            control.should_training_stop = sys.stdin.readline() != "on\n"
            self.waited += time.perf_counter() - self.since

    settings = {"lr_scheduler_type": "constant", "mask_truncated_completions": job["mask_truncated"]}
    settings |= {"temperature": job["temperature"], "save_total_limit": 1, "seed": job["seed"]}
    trainer = _trl(job, Checkpoints(), output_dir=str(folder / "trainer"), **settings)
    trainer.train(resume_from_checkpoint=bool(rows))
    return {"seconds": time.perf_counter() - start}


def _trl(job: Job, callback: Any, **settings: Any) -> Any:
    import trl
    from datasets import Dataset
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    kind = {"grpo": "GRPO", "rloo": "RLOO"}[job["trainer"]]
    config = getattr(trl, f"{kind}Config")(
        use_cpu=True,
        bf16=True,
        per_device_train_batch_size=job["rows"],
        gradient_accumulation_steps=job["prompts_per_step"] * job["group_size"] // job["rows"],
        num_generations=job["group_size"],
        max_completion_length=job["max_tokens"],
        max_steps=job["steps"],
        learning_rate=job["learning_rate"],
        beta=0.0,
        gradient_checkpointing=False,
        report_to=[],
        save_strategy="no",
        model_init_kwargs={"dtype": job["dtype"]},
        **settings,
    )
    return getattr(trl, f"{kind}Trainer")(
        model=job["model"],
        reward_funcs=AutoModelForSequenceClassification.from_pretrained(job["scorer"], dtype="bfloat16"),
        reward_processing_classes=AutoTokenizer.from_pretrained(job["scorer"]),
        args=config,
        train_dataset=Dataset.from_list([{"prompt": messages} for messages in job["prompts"]]),
        callbacks=[callback],
    )


PEERS = {peer.__name__: peer for peer in (vllm, openvino, datasketch, trl_step, trl_train)}

if __name__ == "__main__":
    if len(sys.argv) != 2 or sys.argv[1] not in PEERS:
        sys.exit(__doc__)
    task, answer = json.loads(sys.stdin.readline()), sys.stdout
    with contextlib.redirect_stdout(sys.stderr):  # what libraries print is no answer
        found = PEERS[sys.argv[1]](task)
    if sys.argv[1] != "trl_train":
        print(json.dumps(found), file=answer)
