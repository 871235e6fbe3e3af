"""People, for real: trained on answers that an AI judged, tested on pairs that people judged.

python benchmarks/people.py --data FOLDER --out FOLDER [--record]    # or BAKEOFF_DATA, BAKEOFF_OUT

FOLDER/alpaca_eval/groups.jsonl.gz holds prompts with 15 answers and the chance that a judge prefers each to a fixed
one; FOLDER/pandalm/human_pairs.jsonl pairs with people's votes. Of each group the shorter answers are taken. Trained on
seven eighths of the prompts: all pairs of a group, the judge's odds as soft votes. Fitted on the groups held out: how
much of the reward, of the length and of the untouched model's likelihood tells the better answer. Tested on people's
pairs, ties left out. A stopped training goes on where it was.
"""

from __future__ import annotations

import argparse
import gzip
import itertools
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import results
import torch
import tqdm

from bakeoff import config
from bakeoff.errors import UserError
from bakeoff.math import statistics
from bakeoff.models import load as models
from bakeoff.models import packed_logps, packing
from bakeoff.preferences import load as people
from bakeoff.preferences import reward_model
from bakeoff.preferences.stage import train_alone
from bakeoff.records import Message, Pick, atomic, prompt_id

COMPLETIONS, WORDS = 8, 150
"""Answers of a group that are trained on, the shortest; words of an answer that are read."""
FLOOR, SHARPNESS = 3e-4, 0.5
"""The judge's chances are told apart down to about this; the exponent of its odds as votes."""
HELDOUT = 0.125
Group = dict[str, Any]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=os.environ.get("BAKEOFF_DATA", "data"))
    parser.add_argument("--out", type=Path, default=os.environ.get("BAKEOFF_OUT", "runs/people"))
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0], help="an ensemble of so many trainings")
    parser.add_argument("--settings", nargs="*", default=[], help="reward settings, key=value")
    parser.add_argument("--record", action="store_true", help="write docs/results/reward_model.json")
    args = parser.parse_args()
    try:
        training, heldout, pairs = read(args.data)
    except FileNotFoundError as error:
        raise SystemExit(f"people.py needs {error.filename}; give its folder as --data") from None
    args.out.mkdir(parents=True, exist_ok=True)
    rows = write_pairs(training, args.out / "pairs.jsonl")
    scorers = [trained(args, rows, seed) for seed in args.seeds]
    judged, tested = (features(scorers, args.model, groups) for groups in (heldout, pairs))
    weights = {name: fit(judged, heldout, names) for name, names in BLENDS.items()}
    for name, weight in weights.items():
        print(f"{name}: weights {np.round(weight, 2)}, held-out groups {accuracy(judged, heldout, name, weight)}")
    found = {name: accuracy(tested, pairs, name, weight) for name, weight in weights.items()}
    print("\n".join(f"people, {name}: {value}" for name, value in found.items()))
    if args.record:
        results.record("reward_model", [{"name": f"people.{k}"} | v.as_dict() for k, v in found.items()])


def read(folder: Path) -> tuple[list[Group], list[Group], list[Group]]:
    """(training groups, held-out groups, people's pairs), each `prompt`, `responses`, `worth`; no prompt is in two."""
    with gzip.open(folder / "alpaca_eval" / "groups.jsonl.gz", "rt", encoding="utf-8") as file:
        groups = [json.loads(line) for line in file]
    lines = (folder / "pandalm" / "human_pairs.jsonl").read_text(encoding="utf-8").splitlines()
    pairs = [json.loads(line) for line in lines]
    pairs = [p | {"worth": [p["pick"] == 0, p["pick"] == 1]} for p in pairs if p["pick"] is not None]
    asked = {p["prompt"].casefold().strip() for p in pairs}
    groups = [shorter(g) for g in groups if g["prompt"].casefold().strip() not in asked]
    sides = people.split([Pick(_turn(g), g["responses"], i, "") for i, g in enumerate(groups)], HELDOUT)
    return [groups[p.pick] for p in sides[0]], [groups[p.pick] for p in sides[1]], pairs


def shorter(group: Group) -> Group:
    """The shorter answers of a group, with the log-odds by which the judge prefers each."""
    texts = group["responses"]
    order = sorted((i for i in range(len(texts)) if texts[i].strip()), key=lambda i: len(texts[i]))[:COMPLETIONS]
    chance = np.array(group["win_prob"])[order]
    worth = np.log(chance + FLOOR) - np.log(1 - chance + FLOOR)
    return {"prompt": group["prompt"], "responses": [texts[i] for i in order], "worth": worth.tolist()}


def shortened(text: str) -> str:
    """The first words of an answer."""
    return " ".join(text.split(" ")[:WORDS])


def write_pairs(groups: Sequence[Group], path: Path) -> Path:
    """All pairs of each group, with the judge's preference as votes."""
    with atomic(path) as beside, beside.open("w", encoding="utf-8") as file:
        for group in groups:
            texts = [shortened(text) for text in group["responses"]]
            for i, j in itertools.combinations(range(len(texts)), 2):
                share = 1 / (1 + np.exp(SHARPNESS * (group["worth"][j] - group["worth"][i])))
                row = {"prompt": group["prompt"], "completions": [texts[i], texts[j]], "votes": [share, 1 - share]}
                file.write(json.dumps(row) + "\n")
    return path


def trained(args: argparse.Namespace, rows: Path, seed: int) -> reward_model.RewardModel:
    settings = [f"reward.{s}" for s in ("heldout=0.0", *args.settings)]
    reward_model.ERROR_RATE = 0.0  # votes are shares already
    values = {"model": args.model, "seed": seed, "reward": {"picks": [str(rows)]}}
    out = args.out / f"seed{seed}"
    try:
        train_alone(config.overridden(values, settings, "people.py"), out)
    except UserError as error:
        raise SystemExit(str(error)) from None
    return reward_model.load(out)


def features(scorers: Sequence[reward_model.RewardModel], model: str, groups: Sequence[Group]) -> list[np.ndarray]:
    """[K, 3] of each group: the mean reward, log of words, log-likelihood per token under the untouched model."""
    read = [(_turn(g), [shortened(text) for text in g["responses"]]) for g in groups]
    rewards = zip(*[scorer.rewards(read) for scorer in scorers], strict=True)
    words = [[np.log(len(text.split()) + 1) for text in g["responses"]] for g in groups]
    return [
        np.column_stack([np.mean(each, axis=0), length, likely])
        for each, length, likely in zip(rewards, words, likelihood(model, read), strict=True)
    ]


@torch.inference_mode()
def likelihood(name: str, groups: Sequence[tuple[list[Message], list[str]]]) -> list[np.ndarray]:
    """[K] of each group: the mean log-probability of an answer's tokens under the model, given the prompt."""
    model, tokenizer = models.load_policy(name)
    read = [
        packing.SharedPrefix(
            i, models.render(tokenizer, turn), [models.answer_tokens(tokenizer, text) for text in texts]
        )
        for i, (turn, texts) in enumerate(groups)
    ]
    found = [np.zeros(len(texts)) for _, texts in groups]
    for batch in tqdm.tqdm(packing.batches(read, packed_logps.TRAIN_TOKENS), desc="likelihood", unit="batch"):
        packed = packing.pack(batch, model)
        logps, owner = packed_logps.token_logps(model, packed)
        for number, (_, tree, branch, _) in enumerate(packed.starts()):
            found[tree.key][tree.first + branch] = float(logps[owner == number].mean())
    return found


BLENDS = {
    "reward_alone": [0],
    "longest_wins": [1],
    "with_length": [0, 1],
    "without_reward": [1, 2],
    "pair_accuracy": [0, 1, 2],
}
"""What the choice goes by: columns of `features`. The last is the figure, named before the people were asked."""


def differences(table: np.ndarray, group: Group) -> np.ndarray:
    """[P, F]: the better answer's features less the worse one's, for all pairs of unequal worth."""
    worth = np.array(group["worth"], float)
    better, worse = np.nonzero(worth[:, None] > worth[None, :] + (0.5 if len(worth) > 2 else 0))
    return table[better] - table[worse]


def fit(tables: Sequence[np.ndarray], groups: Sequence[Group], names: Sequence[int]) -> np.ndarray:
    """Logistic regression of pairs, no constant, a little ridge, every group with equal weight; Newton's steps."""
    found = [differences(t, g)[:, names] for t, g in zip(tables, groups, strict=True)]
    x = np.concatenate(found)
    size = np.concatenate([np.full(len(d), 1 / max(1, len(d))) for d in found])
    weight = np.zeros(len(names))
    for _ in range(20):
        p = 1 / (1 + np.exp(-x @ weight))
        slope = x.T @ (size * (1 - p)) - 0.1 * weight
        weight += np.linalg.solve((x * (size * p * (1 - p))[:, None]).T @ x + 0.1 * np.eye(len(names)), slope)
    return weight


def accuracy(
    tables: Sequence[np.ndarray], groups: Sequence[Group], name: str, weight: np.ndarray
) -> statistics.Measured:
    """The share of pairs ordered as judged, ties half, with its interval over prompts."""
    gaps = [differences(t, g)[:, BLENDS[name]] @ weight for t, g in zip(tables, groups, strict=True)]
    won = [((d > 0) + 0.5 * (d == 0)).sum() for d in gaps]
    top, under = np.array(won, float), np.array([len(d) for d in gaps], float)
    owners = [prompt_id(_turn(g)) for g in groups]
    return statistics.interval(lambda i: float(top[i].sum() / under[i].sum()), len(groups), seed=0, owners=owners)


def _turn(group: Group) -> list[Message]:
    return [Message("user", group["prompt"])]


if __name__ == "__main__":
    main()
