"""Whether a scorer likes length for its own sake."""

from collections.abc import Sequence

import numpy as np

from bakeoff.math import statistics
from bakeoff.preferences.gate import Judged, pairs, ratio, telling


def length_bias(groups: Sequence[Judged], *, seed: int) -> dict[str, statistics.Measured]:
    """Correlation with length within groups, of the rewards and of people's own values, and accuracy on pairs in which
    the shorter or the longer completion is the better one; 95 % intervals over prompts."""
    groups = telling(groups)
    by_pair = [pairs(g) for g in groups]

    def accuracy(kind: str) -> statistics.Measured:
        sides = [longer < 0 if kind == "shorter" else longer > 0 for _, longer in by_pair]
        won = np.array([right[side].sum() for (right, _), side in zip(by_pair, sides, strict=True)])
        return ratio(groups, won, np.array([side.sum() for side in sides], float), seed=seed)

    return {
        "reward_correlation": correlation(groups, [g.reward for g in groups], seed=seed),
        "value_correlation": correlation(groups, [g.value for g in groups], seed=seed),
        "shorter_better": accuracy("shorter"),
        "longer_better": accuracy("longer"),
    }


def correlation(groups: Sequence[Judged], columns: Sequence[np.ndarray], *, seed: int) -> statistics.Measured:
    """Pearson's correlation with length of what is left when each group's own mean is taken off."""
    moments = np.array([_moments(g.length, c) for g, c in zip(groups, columns, strict=True)]).reshape(-1, 3)

    def pearson(rows: np.ndarray) -> float:
        length, both, other = moments[rows].sum(0)
        return float(both / np.sqrt(length * other))

    return statistics.interval(pearson, len(groups), seed=seed, owners=[g.prompt for g in groups])


def _moments(length: np.ndarray, other: np.ndarray) -> tuple[float, float, float]:
    """Sums of squares and products about the group's means: of length, of both, of the other."""
    a, b = length - length.mean(), other - other.mean()
    return float(a @ a), float(a @ b), float(b @ b)
