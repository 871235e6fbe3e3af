"""The figures of a training: what its groups gave, why some taught nothing, and what each prompt variant earned."""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NotRequired, TypedDict

import numpy as np

from bakeoff.math import statistics
from bakeoff.math.statistics import Measured

IDLE = {
    "unfinished": ("with no finished completion", "raise sample.max_tokens, or give sample.stop"),
    "empty": ("with empty completions", "find out why the model ends at once"),
    "looping": ("with completions that repeat themselves", "raise sample.temperature"),
    "unscored": ("without a reward", "mend the scorer; scores.parquet says why, one by one"),
    "alike": ("with one distinct completion", "raise sample.temperature"),
    "no_spread": ("with one reward for all", "take a scorer that tells completions apart, or raise sample.temperature"),
}
"""Why a group teaches nothing: in words, and what to do about it. The first three are of completions, too: `fault`."""


class Earned(TypedDict):
    """What a prompt variant gave."""

    share: Measured
    """Of the completions."""
    reward: Measured
    best: Measured
    """The share of groups whose best completion is of this variant; ties are shared."""
    lift: Measured
    """`best` divided by `share`: 1 is no better than any other variant."""


class Round(TypedDict):
    """A policy on the prompts that choose among rounds."""

    reward: Measured
    kl: Measured


class Baked(TypedDict):
    """`bake.json`."""

    groups: dict[str, int]
    completions: int
    distinct: int
    faults: dict[str, int]
    strategies: dict[str, Earned]
    trained_tokens: int
    kl_budget: NotRequired[float]
    rounds: NotRequired[list[Round]]
    """The reference, then each round."""
    kept: NotRequired[int]


def read_figures(path: Path) -> Any:
    """The figures in a JSON file; each `{value, low, high, n}` becomes a `Measured`."""
    return json.loads(path.read_text(encoding="utf-8"), object_hook=_measured)


def _measured(row: dict[str, Any]) -> dict[str, Any] | Measured:
    """A JSON object, which is a `Measured` where it has just the keys of one."""
    return Measured.of(row) if row.keys() == {"value", "low", "high", "n"} else row


def earned(variants: Sequence[Sequence[str]], rewards: Sequence[Sequence[float]], *, seed: int) -> dict[str, Earned]:
    """What each prompt variant gave, from groups of variants' names and of rewards (NaN where there is none)."""
    found: dict[str, Earned] = {}
    for name in dict.fromkeys(name for group in variants for name in group):
        mine = [np.array([variant == name for variant in group]) for group in variants]
        top = [np.array(r) == np.nanmax(r) for r in rewards]
        best = np.array([(m & t).sum() / t.sum() for m, t in zip(mine, top, strict=True)])
        share = np.array([m.mean() for m in mine])
        known = [np.array(r)[m & ~np.isnan(r)] for m, r in zip(mine, rewards, strict=True)]
        means = np.array([r.mean() if r.size else math.nan for r in known])
        found[name] = {
            "share": statistics.bootstrap(share, seed=seed),
            "reward": statistics.bootstrap(means[~np.isnan(means)], seed=seed),
            "best": statistics.bootstrap(best, seed=seed),
            "lift": statistics.ratio_of_sums(best, share, seed=seed),
        }
    return found


def idle(counts: Mapping[str, int], unscored: str = "") -> tuple[str, str]:
    """(counts by cause in words, the largest first; its advice). `unscored` says more of missing rewards."""
    causes = sorted((cause for cause in IDLE if counts.get(cause)), key=lambda cause: -counts[cause])
    said = (f"{counts[c]} {IDLE[c][0]}{f' ({unscored})' if unscored and c == 'unscored' else ''}" for c in causes)
    return (", ".join(said), IDLE[causes[0]][1]) if causes else ("no groups", "give more prompts")
