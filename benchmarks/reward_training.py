"""Training a reward model on pairs, beside TRL's RewardTrainer: the same pairs, one pass, the same layers, one run.

python benchmarks/reward_training.py --trl PYTHON [--record]     # an interpreter of an environment with trl

short: 128 pairs of the demo's picks, each with a filings prompt of about 105 tokens. doc: 8 documents of about 1,000
tokens with 8 completions each, as 4 pairs. Both sides train the upper half of the layers and the head with bfloat16
arithmetic, as many pairs an optimizer step. What differs: bakeoff reads a prompt once for all its completions, sends no
gradient through it (`--through` shows it with one), sorts by length, and keeps float32 master weights, as TRL does not.
bakeoff's time includes rendering and tokens, TRL's the optimizer steps alone; TRL saves no memory by recomputing.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

import results
import work
from scoring import sampled

from bakeoff.models import load as models
from bakeoff.models import packed_logps
from bakeoff.preferences import reward_model, reward_training
from bakeoff.records import Message, Pick
from bakeoff.settings import Reward

MICRO_BATCH = {"short": 8, "doc": 4}
"""Pairs that TRL reads at once: the fastest of 2, 4 and 8 here."""
COMPLETIONS = 8


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trl", type=Path, required=True, help="Python interpreter of an environment with trl")
    parser.add_argument("--tasks", nargs="+", default=list(MICRO_BATCH), choices=MICRO_BATCH)
    parser.add_argument("--micro-batch", type=int, help="pairs that TRL reads at once")
    parser.add_argument("--through", action="store_true", help="also with the gradient through the prompt")
    parser.add_argument("--record", action="store_true", help="write docs/results/reward_model.json")
    args = parser.parse_args()
    rows = []
    for task in args.tasks:
        picks = pairs(task)
        ours = seconds(picks)
        theirs = trl(args.trl, picks, args.micro_batch or MICRO_BATCH[task])
        table = [["TRL RewardTrainer", theirs, "1.00x"], ["bakeoff", ours, f"{theirs / ours:.2f}x"]]
        if args.through:
            whole = seconds(picks, through_prompt=True)
            table.append(["bakeoff, gradient through the prompt", whole, f"{theirs / whole:.2f}x"])
        work.table(f"Reward training, {task}: {len(picks)} pairs", ["side", "s", "of TRL"], table)
        rows.append({"name": f"train_{task}_vs_trl", "value": theirs / ours, "n": len(picks)})
    if args.record:
        results.record("reward_model", rows)


def pairs(task: str) -> list[Pick]:
    """The task's pairs; which of two sampled completions is preferred does not matter to the time."""
    if task == "short":
        lines = (work.FILINGS / "picks.jsonl").read_text(encoding="utf-8").splitlines()
        return [_pair(json.loads(line), i) for i, line in enumerate(lines[:128])]
    found = []
    for i, (messages, texts) in enumerate(sampled("doc")):
        different = list(dict.fromkeys(texts))[:COMPLETIONS]
        found += [Pick(messages, list(two), 0, f"{i}") for two in zip(different[::2], different[1::2], strict=False)]
    return found


def _pair(row: dict, number: int) -> Pick:
    chosen = row["completions"][row["pick"]]
    rejected = next(c for c in row["completions"] if c != chosen)
    return Pick([Message("user", row["prompt"])], [chosen, rejected], 0, str(number))


def seconds(picks: Sequence[Pick], *, through_prompt: bool = False) -> float:
    training = reward_training.RewardTraining(reward_model.RewardModel.fresh(work.MODEL), picks, Reward(), seed=0)
    if through_prompt:
        plain = packed_logps.rewards
        packed_logps.rewards = lambda model, packed, **_: plain(model, packed)
    start = time.perf_counter()
    for _ in training.steps():
        pass
    taken = time.perf_counter() - start
    if through_prompt:
        packed_logps.rewards = plain
    return taken


def trl(python: Path, picks: Sequence[Pick], micro_batch: int) -> float:
    """Seconds of TRL's steps of one pass over the pairs."""
    training = reward_training.RewardTraining(reward_model.RewardModel.fresh(work.MODEL), picks, Reward(), seed=0)
    turns = [[{"role": m.role, "content": m.content} for m in p.messages] for p in picks]
    job = {
        "model": str(models.folder(work.MODEL)),
        "trained": [n for n, p in training.scorer.model.named_parameters() if p.requires_grad],
        "pairs": [
            {"prompt": t} | {s: [{"role": "assistant", "content": p.completions[i]}] for i, s in enumerate(SIDES)}
            for t, p in zip(turns, picks, strict=True)
        ],
        "batch": sum(map(len, training.batches[0])),
        "micro_batch": micro_batch,
    }
    script = Path(__file__).with_name("peer_trl_reward.py")
    out = subprocess.run([python, script], input=json.dumps(job), stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(out.stdout.splitlines()[-1])["seconds"]


SIDES = ("chosen", "rejected")

if __name__ == "__main__":
    main()
