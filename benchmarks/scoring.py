"""Scoring: completions per second, the completions of a prompt packed behind it beside padded rows."""

from __future__ import annotations

import argparse
import copy
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from bakeoff.models.load import load_policy
from bakeoff.preferences import reward_model
from bakeoff.records import Message
from bakeoff.sampling import Sampling
from bakeoff.sampling.local import LocalEngine
from benchmarks import results, work

ROWS = 16
"""Padded rows read at once: the fastest of 4, 8, 16 and 32 here."""
TASKS = {"chat": (work.chat_prompts, 64), "doc": (work.document_prompts, 48)}
Groups = list[tuple[list[Message], list[str]]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tasks", nargs="+", default=list(TASKS), choices=TASKS)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--record", action="store_true", help="write docs/results/bench.json")
    args = parser.parse_args()
    rows = [row for task in args.tasks for row in measure(task, args.repeats)]
    results.finish("bench", rows, recorded=args.record)


def measure(task: str, repeats: int) -> list[dict[str, Any]]:
    groups = sampled(task)
    scorer = reward_model.RewardModel.fresh(work.MODEL)
    torch.manual_seed(0)
    torch.nn.init.normal_(scorer.model.score.weight, std=0.05)
    rounding = differences(scorer, groups[:2])
    ours, theirs = work.seconds(lambda: scorer.rewards(groups), lambda: padded_rewards(scorer, groups), repeats=repeats)
    rows = [{"name": f"score_{task}_vs_padded", "value": theirs / ours, "n": repeats}]
    return rows + [{"name": f"score_{task}_error_{name}", "value": value} for name, value in rounding.items()]


def differences(scorer: reward_model.RewardModel, groups: Groups) -> dict[str, float]:
    """How far the rewards are from those of padded rows in float32, beside how far those rows are in bfloat16."""
    exact = reward_model.RewardModel(copy.deepcopy(scorer.model).float(), scorer.tokenizer)
    found = {
        "packed_float32": exact.rewards(groups),
        "packed_bfloat16": scorer.rewards(groups),
        "padded_bfloat16": padded_rewards(scorer, groups),
    }
    truth = np.array(padded_rewards(exact, groups))
    return {name: float(np.sqrt(((np.array(r) - truth) ** 2).mean()) / truth.std()) for name, r in found.items()}


def sampled(task: str) -> Groups:
    """Groups of different completions of the task's prompts, drawn from the model."""
    make, tokens = TASKS[task]
    prompts = make()
    engine = LocalEngine(*load_policy(work.MODEL))
    found = {g[0].prompt_id: [c.text for c in g] for g in engine.complete(prompts, Sampling(16, max_tokens=tokens))}
    return [(p.messages, found[p.id]) for p in prompts]


@torch.inference_mode()
def padded_rewards(scorer: reward_model.RewardModel, groups: Groups) -> list[list[float]]:
    """The usual way: every completion with its prompt in a row of its own, sorted by length, padded on the right."""
    rows = [scorer.shared_prefix(0, m, [text]) for m, texts in groups for text in texts]
    ids = [[*t.prompt, *t.completions[0]] for t in rows]
    order = sorted(range(len(ids)), key=lambda i: len(ids[i]))
    rewards = [0.0] * len(ids)
    for start in range(0, len(order), ROWS):
        batch = order[start : start + ROWS]
        for i, reward in zip(batch, _plain(scorer, [ids[i] for i in batch]), strict=True):
            rewards[i] = reward
    sizes = [len(texts) for _, texts in groups]
    return [rewards[sum(sizes[:i]) : sum(sizes[: i + 1])] for i in range(len(sizes))]


def _plain(scorer: reward_model.RewardModel, ids: Sequence[list[int]]) -> list[float]:
    pad, longest = scorer.model.config.pad_token_id, max(map(len, ids))
    padded = torch.tensor([x + [pad] * (longest - len(x)) for x in ids])
    mask = torch.tensor([[1] * len(x) + [0] * (longest - len(x)) for x in ids])
    return scorer.model(padded, attention_mask=mask).logits[:, 0].float().tolist()


if __name__ == "__main__":
    main()
