"""Sampling: tokens per second beside the engines that a user could take instead, and beside what the processor can do.

python benchmarks/sampling.py [--openvino PYTHON] [--vllm PYTHON] [--record]

A peer that is not installed here runs in the interpreter that is named for it. Every completion has the full number of
tokens: the end of turn is ignored on all sides.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import results
import torch
import work

from bakeoff.models import load as models
from bakeoff.records import Prompt
from bakeoff.run import peak_memory_mb
from bakeoff.sampling import Sampling
from bakeoff.sampling.local import LocalEngine

TASKS = {
    "chat": (work.chat_prompts, Sampling(group_size=16, max_tokens=64)),
    "doc": (work.document_prompts, Sampling(group_size=16, max_tokens=48)),
}
PEERS = ("openvino", "vllm")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    for peer in PEERS:
        parser.add_argument(f"--{peer}", type=Path, help=f"Python interpreter of an environment with {peer}")
    parser.add_argument("--tasks", nargs="+", default=["n", *TASKS], choices=["n", *TASKS], help="n: the cost of N")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--record", action="store_true", help="write docs/results/bench.json")
    args = parser.parse_args()
    peers = {peer: getattr(args, peer) for peer in PEERS if getattr(args, peer)}
    rows = cost_of_n() if "n" in args.tasks else []  # first: it tells the memory that this process took until then
    rows += [row for task in args.tasks if task != "n" for row in measure(task, peers, args.repeats)]
    if args.record:
        results.record("bench", rows)


def measure(task: str, peers: dict[str, Path], repeats: int) -> list[dict[str, Any]]:
    """One table: the in-process engine, `generate`, the peers, the ceiling; returns the ratios as results."""
    make, sampling = TASKS[task]
    prompts = make()
    model, tokenizer = models.load_policy(work.MODEL)
    tokens = len(prompts) * sampling.group_size * sampling.max_tokens
    sides: dict[str, Callable[[], object]] = {
        "bakeoff": ours(model, tokenizer, prompts, sampling),
        "generate": generate(model, tokenizer, prompts, sampling),
    }
    sides |= {name: peer(name, python, task, prompts, tokenizer) for name, python in peers.items()}
    taken = dict(zip(sides, work.seconds(*sides.values(), repeats=repeats), strict=True))
    for name in peers:  # a peer times itself, without its start
        taken[name] = sides[name].seconds  # type: ignore[attr-defined]
    rate = {name: tokens / s for name, s in taken.items()}
    rate["ceiling"] = work.product_rate() / flops_per_token(model)
    work.table(
        f"Sampling, {len(prompts)} {task} prompts x {sampling.group_size} completions x {sampling.max_tokens} tokens",
        ["engine", "tokens/s", "bakeoff is"],
        [[name, r, f"{rate['bakeoff'] / r:.2f}x"] for name, r in rate.items()],
    )
    return [{"name": f"sample_{task}_tokens_per_s", "value": rate["bakeoff"]}] + [
        {"name": f"sample_{task}_vs_{name}", "value": rate["bakeoff"] / r, "n": repeats}
        for name, r in rate.items()
        if name != "bakeoff"
    ]


def ours(model: Any, tokenizer: Any, prompts: Sequence[Prompt], sampling: Sampling) -> Callable[[], object]:
    engine = LocalEngine(model, tokenizer)
    engine.ends = []  # every completion to its full length

    def run() -> None:
        done = list(engine.complete(prompts, sampling))
        assert all(len(c.tokens) == sampling.max_tokens for group in done for c in group)

    return run


def generate(model: Any, tokenizer: Any, prompts: Sequence[Prompt], sampling: Sampling) -> Callable[[], object]:
    """`transformers` generate over all prompts at once, padded on the left: its fastest plain use."""
    ids = [models.render(tokenizer, p.messages) for p in prompts]
    longest = max(map(len, ids))
    padded = torch.tensor([[0] * (longest - len(x)) + x for x in ids])
    mask = torch.tensor([[0] * (longest - len(x)) + [1] * len(x) for x in ids])

    @torch.inference_mode()
    def run() -> None:
        out = model.generate(
            padded,
            attention_mask=mask,
            do_sample=True,
            top_k=0,
            temperature=1.0,
            num_return_sequences=sampling.group_size,
            max_new_tokens=sampling.max_tokens,
            min_new_tokens=sampling.max_tokens,
        )
        assert out.shape[1] == longest + sampling.max_tokens

    return run


def peer(name: str, python: Path, task: str, prompts: Sequence[Prompt], tokenizer: Any) -> Callable[[], object]:
    """A peer's own script in its own environment, told the prompts as token ids; `seconds` holds its last time."""
    _, sampling = TASKS[task]
    job = {
        "model": str(models.folder(work.MODEL)),
        "prompts": [models.render(tokenizer, p.messages) for p in prompts],
        "sampling": dataclasses.asdict(sampling),
    }

    def run() -> None:
        script = Path(__file__).with_name(f"peer_{name}.py")
        out = subprocess.run([python, script], input=json.dumps(job), capture_output=True, text=True, check=True)
        run.seconds = json.loads(out.stdout.splitlines()[-1])["seconds"]  # type: ignore[attr-defined]

    return run


def flops_per_token(model: Any) -> float:
    """Two per weight that a token is multiplied with: all but the embeddings, and the vocabulary projection."""
    weights = sum(p.numel() for p in model.model.layers.parameters())
    return 2 * (weights + model.lm_head.weight.numel())


def cost_of_n() -> list[dict[str, Any]]:
    """How the time for one document prompt's group grows with N, and the memory that all of it took."""
    prompts = work.document_prompts(1)
    model, tokenizer = models.load_policy(work.MODEL)
    sizes = [1, 2, 4, 8, 16, 32, 64]
    runs = [ours(model, tokenizer, prompts, Sampling(group_size=n, max_tokens=48)) for n in sizes]
    taken = work.seconds(*runs)
    work.table(
        "One document prompt of about 1,000 tokens, 48 new tokens: cost of N completions",
        ["N", "s", "of N = 1"],
        [[n, s, f"{s / taken[0]:.2f}x"] for n, s in zip(sizes, taken, strict=True)],
    )
    print(f"\npeak memory of this process: {peak_memory_mb():,} MB")
    rows = [{"name": f"cost_of_{n}_over_1", "value": s / taken[0]} for n, s in zip(sizes, taken, strict=True)]
    return [*rows, {"name": "sample_peak_memory_mb", "value": peak_memory_mb()}]


if __name__ == "__main__":
    main()
