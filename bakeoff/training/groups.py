"""What groups of completions give to a training: why some teach nothing, and what each prompt variant earned."""

import math
from collections.abc import Mapping, Sequence

import numpy as np

from bakeoff.math import statistics

IDLE = {
    "unfinished": ("with no finished completion", "raise sample.max_tokens, or give sample.stop"),
    "empty": ("with empty completions", "find out why the model ends at once"),
    "looping": ("with completions that repeat themselves", "raise sample.temperature"),
    "unscored": ("without a reward", "mend the scorer; scores.parquet says why, one by one"),
    "alike": ("with one distinct completion", "raise sample.temperature"),
    "no_spread": ("with one reward for all", "take a scorer that tells completions apart, or raise sample.temperature"),
}
"""Why a group teaches nothing: in words, and what to do about it. The first three are of completions, too: `fault`."""


def earned(
    strategies: Sequence[Sequence[str]], rewards: Sequence[Sequence[float]], *, seed: int
) -> dict[str, dict[str, dict]]:
    """What each strategy gave, from groups of strategies' names and of rewards (NaN where there is none).

    `share` of the draws, mean `reward`, `best`, the share of groups whose best it drew (ties shared), and `lift`, the
    one over the other: 1 is no better than any other draw.
    """
    found = {}
    for name in dict.fromkeys(name for group in strategies for name in group):
        mine = [np.array([s == name for s in group]) for group in strategies]
        top = [np.array(r) == np.nanmax(r) for r in rewards]
        best = np.array([(m & t).sum() / t.sum() for m, t in zip(mine, top, strict=True)])
        share = np.array([m.mean() for m in mine])
        known = [np.array(r)[m & ~np.isnan(r)] for m, r in zip(mine, rewards, strict=True)]
        means = np.array([r.mean() if r.size else math.nan for r in known])
        found[name] = {
            "share": statistics.bootstrap(share, seed=seed).as_dict(),
            "reward": statistics.bootstrap(means[~np.isnan(means)], seed=seed).as_dict(),
            "best": statistics.bootstrap(best, seed=seed).as_dict(),
            "lift": statistics.ratio_of_sums(best, share, seed=seed),
        }
    return found


def idle(counts: Mapping[str, int], told: str = "") -> tuple[str, str]:
    """(counts by cause in words, the largest first and followed by what is `told` of missing rewards; its advice)."""
    causes = sorted((cause for cause in IDLE if counts.get(cause)), key=lambda cause: -counts[cause])
    said = (f"{counts[c]} {IDLE[c][0]}{f' ({told})' if told and c == 'unscored' else ''}" for c in causes)
    return (", ".join(said), IDLE[causes[0]][1]) if causes else ("no groups", "give more prompts")
