"""Intervals: every number that is reported is a `Measured`, with its 95 % interval over prompts."""

import math
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True, slots=True)
class Measured:
    """A value with its interval; a bound that the data cannot give is infinite, a value that does not exist is NaN."""

    value: float
    low: float
    high: float
    n: int
    """Prompts (or picks, pairs...) it was measured on."""

    def as_dict(self) -> dict[str, float | int | None]:
        """For JSON: five significant digits, None for what is not finite."""
        return {"value": _json(self.value), "low": _json(self.low), "high": _json(self.high), "n": self.n}

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> "Measured":
        """Back from `as_dict`, or from a longer row that holds it."""
        value, low, high = row["value"], row["low"], row["high"]
        return cls(
            math.nan if value is None else value,
            -math.inf if low is None else low,
            math.inf if high is None else high,
            row["n"],
        )


def _json(value: float) -> float | None:
    return float(f"{value:.5g}") if math.isfinite(value) else None


def interval(
    statistic: Callable[[np.ndarray], float],
    n: int,
    *,
    seed: int,
    resamples: int = 2000,
    level: float = 0.95,
    owners: Sequence[Hashable] | None = None,
) -> Measured:
    """The percentile bootstrap over n rows (Efron 1979) of any function of resampled row indices.

    With `owners` (the prompt of each row, say) whole owners are drawn, because their rows are not independent.

    `statistic` maps indices [n] to a number: `lambda i: tuned[i].mean() - reference[i].mean()` is paired, because both
    columns see the same rows. A resample whose statistic is not finite (a ratio over zero) may lie anywhere, so it
    counts as below the low bound and above the high one: more than 2.5 % of them leave no bounds. Neither do fewer
    than two rows, or than two owners.
    """
    owners = range(n) if owners is None else owners
    with np.errstate(divide="ignore", invalid="ignore"):
        value = float(statistic(np.arange(n))) if n else math.nan
        if len(set(owners)) < 2:
            return Measured(value, -math.inf, math.inf, n)
        draw, generator = _drawing(owners), np.random.default_rng(seed)
        values = np.array([statistic(draw(generator)) for _ in range(resamples)], float)
    known, tail = np.isfinite(values), (1 - level) / 2
    low = np.quantile(np.where(known, values, -np.inf), tail, method="inverted_cdf")
    high = np.quantile(np.where(known, values, np.inf), 1 - tail, method="inverted_cdf")
    return Measured(value, float(low), float(high), n)


def _drawing(owners: Sequence[Hashable]) -> Callable[[np.random.Generator], np.ndarray]:
    """Draws as many owners as there are, with repetition: the indices of all their rows."""
    rows: dict[Hashable, list[int]] = {}
    for row, owner in enumerate(owners):
        rows.setdefault(owner, []).append(row)
    if len(rows) == len(owners):
        return lambda generator: generator.integers(len(owners), size=len(owners))
    members = [np.array(own) for own in rows.values()]
    return lambda generator: np.concatenate([members[i] for i in generator.integers(len(members), size=len(members))])


def bootstrap(
    values: np.ndarray,
    statistic: Callable[[np.ndarray], float] = np.mean,
    *,
    seed: int,
    resamples: int = 2000,
    owners: Sequence[Hashable] | None = None,
) -> Measured:
    """The interval of a statistic (np.mean, np.median) of one number per prompt, values [P], or per row of an owner."""
    values = np.asarray(values, float)
    return interval(lambda rows: statistic(values[rows]), len(values), seed=seed, resamples=resamples, owners=owners)


def ratio_of_sums(above_P: np.ndarray, below_P: np.ndarray, *, seed: int) -> Measured:
    """The sum of `above_P` divided by the sum of `below_P`, with its interval."""
    return interval(lambda i: float(above_P[i].sum() / below_P[i].sum()), len(above_P), seed=seed)
