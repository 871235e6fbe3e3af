"""Sampling: tokens per second beside the engines that a user could take instead, and beside what the processor can do.

A peer runs in the interpreter that is named for it (benchmarks/peers.py). Every completion has the full number of
tokens: the end of turn is ignored on all sides.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from bakeoff.models.chat import render
from bakeoff.models.load import load_policy, model_folder
from bakeoff.records import Prompt
from bakeoff.run import peak_memory_mb
from bakeoff.sampling import Sampling
from bakeoff.sampling.local import LocalEngine
from benchmarks import peers, results, work

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
    others = {peer: python for peer in PEERS if (python := getattr(args, peer))}
    rows = cost_of_n() if "n" in args.tasks else []  # first: it tells the memory that this process took until then
    rows += [row for task in args.tasks if task != "n" for row in measure(task, others, args.repeats)]
    results.finish("bench", rows, recorded=args.record)


def measure(task: str, others: dict[str, Path], repeats: int) -> list[dict[str, Any]]:
    """The in-process engine's rate, and by how much it is that of `generate`, the peers and the ceiling."""
    make, sampling = TASKS[task]
    prompts = make()
    model, tokenizer = load_policy(work.MODEL)
    tokens = len(prompts) * sampling.group_size * sampling.max_tokens
    sides: dict[str, Callable[[], object]] = {
        "bakeoff": ours(model, tokenizer, prompts, sampling),
        "generate": generate(model, tokenizer, prompts, sampling),
    }
    taken = dict(zip(sides, work.seconds(*sides.values(), repeats=repeats), strict=True))
    job = {"model": str(model_folder(work.MODEL)), "prompts": [render(tokenizer, p.messages) for p in prompts]}
    job |= {"group_size": sampling.group_size, "max_tokens": sampling.max_tokens}
    taken |= {name: peers.ask(python, name, job) for name, python in others.items()}
    rate = {name: tokens / s for name, s in taken.items()}
    rate["ceiling"] = work.product_rate() / flops_per_token(model)
    own = rate.pop("bakeoff")
    rows = [{"name": f"sample_{task}_vs_{name}", "value": own / theirs, "n": repeats} for name, theirs in rate.items()]
    return [{"name": f"sample_{task}_tokens_per_s", "value": own}, *rows]


def ours(model: Any, tokenizer: Any, prompts: Sequence[Prompt], sampling: Sampling) -> Callable[[], object]:
    engine = LocalEngine(model, tokenizer)
    engine.ends = []  # every completion to its full length

    def run() -> None:
        done = list(engine.complete(prompts, sampling))
        assert all(len(c.tokens) == sampling.max_tokens for group in done for c in group)

    return run


def generate(model: Any, tokenizer: Any, prompts: Sequence[Prompt], sampling: Sampling) -> Callable[[], object]:
    """`transformers` generate over all prompts at once, padded on the left: its fastest plain use."""
    ids = [render(tokenizer, p.messages) for p in prompts]
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


def flops_per_token(model: Any) -> float:
    """Two per weight that a token is multiplied with: all but the embeddings, and the vocabulary projection."""
    weights = sum(p.numel() for p in model.model.layers.parameters())
    return 2 * (weights + model.lm_head.weight.numel())


def cost_of_n() -> list[dict[str, Any]]:
    """How the time for one document prompt's group grows with N, and the memory that all of it took."""
    prompts = work.document_prompts(1)
    model, tokenizer = load_policy(work.MODEL)
    sizes = [1, 2, 4, 8, 16, 32, 64]
    runs = [ours(model, tokenizer, prompts, Sampling(group_size=n, max_tokens=48)) for n in sizes]
    taken = work.seconds(*runs)
    rows = [{"name": f"cost_of_{n}_over_1", "value": s / taken[0]} for n, s in zip(sizes, taken, strict=True)]
    return [*rows, {"name": "sample_peak_memory_mb", "value": peak_memory_mb()}]


if __name__ == "__main__":
    main()
