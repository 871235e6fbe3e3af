"""Whether a scorer's confidence is to be believed: its share of the choice, softmax(reward / T), beside how often it
is right."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from bakeoff.math import statistics
from bakeoff.preferences.gate import Judged, telling

TEMPERATURES = np.geomspace(0.01, 100, 461)
"""Those tried, in steps of 2 %."""
BINS = 10
"""At most so many bins of the reliability curve, of equal numbers of groups, ..."""
BIN_GROUPS = 15
"""... and none of fewer groups than this."""


def calibration(groups: Sequence[Judged], *, seed: int) -> dict[str, Any]:
    """A temperature fitted on half of the prompts; on the other half, calibration as it is (`raw`) and with it.

    Each holds `error`, the expected calibration error (which is never 0: chance alone makes some), `loss`, the mean
    negative log-likelihood of people's choice in nats, and the `curve` of confidence and accuracy.
    """
    fitting, measuring = halves(telling(groups))
    temperature = fitted_temperature(fitting, seed=seed)
    fit = temperature.value if fitting else 1.0
    return {
        "temperature": temperature.as_dict(),
        "raw": _measured(measuring, 1.0, seed=seed),
        "fitted": _measured(measuring, fit, seed=seed),
    }


def halves(groups: Sequence[Judged]) -> tuple[list[Judged], list[Judged]]:
    """Two halves by prompt, told by the last digit of its id, so that no prompt is in both."""
    sides: tuple[list[Judged], list[Judged]] = ([], [])
    for group in groups:
        sides[int(group.prompt[-1], 16) % 2].append(group)
    return sides


def fitted_temperature(groups: Sequence[Judged], *, seed: int) -> statistics.Measured:
    """The temperature under which people's choices are likeliest (Guo et al., arXiv:1706.04599)."""
    loss_GT = np.array([loss(g, TEMPERATURES) for g in groups]).reshape(-1, len(TEMPERATURES))

    def best(rows: np.ndarray) -> float:
        return float(TEMPERATURES[loss_GT[rows].sum(0).argmin()]) if len(rows) else np.nan

    return statistics.interval(best, len(groups), seed=seed, owners=[g.prompt for g in groups])


def shares(group: Judged, temperature: float | np.ndarray) -> np.ndarray:
    """softmax(reward / T) over the group, a row for each temperature: [..., K]."""
    logit = (group.reward - group.reward.max()) / np.asarray(temperature, float)[..., None]
    weight = np.exp(logit)
    return weight / weight.sum(-1, keepdims=True)


def loss(group: Judged, temperature: float | np.ndarray) -> np.ndarray:
    """-log of the share of the best completions: [...]; Luce's choice, equal texts counted together."""
    return -np.log(np.maximum(shares(group, temperature)[..., group.best].sum(-1), 1e-300))


def confidence(group: Judged, temperature: float) -> float:
    """The share that the scorer gives to its choice, with what ties with it."""
    return float(shares(group, temperature)[group.chosen > 0].sum())


def expected_error(confidence_G: np.ndarray, right_G: np.ndarray) -> float:
    """The mean over bins of equal size of |mean confidence - accuracy|, weighted by size."""
    return float(sum(len(b) * abs(confidence_G[b].mean() - right_G[b].mean()) for b in bins(confidence_G))) / max(
        1, len(confidence_G)
    )


def bins(confidence_G: np.ndarray) -> list[np.ndarray]:
    """The indices of the groups from the least confident to the most, in bins of equal size."""
    number = int(np.clip(len(confidence_G) // BIN_GROUPS, 1, BINS))
    return [b for b in np.array_split(np.argsort(confidence_G, kind="stable"), number) if len(b)]


def _measured(groups: Sequence[Judged], temperature: float, *, seed: int) -> dict[str, Any]:
    sure = np.array([confidence(g, temperature) for g in groups])
    right = np.array([float(g.chosen @ g.best) for g in groups])
    losses = np.array([float(loss(g, temperature)) for g in groups])
    owners = [g.prompt for g in groups]
    error = statistics.interval(lambda i: expected_error(sure[i], right[i]), len(groups), seed=seed, owners=owners)
    return {
        "error": error.as_dict(),
        "loss": statistics.bootstrap(losses, seed=seed, owners=owners).as_dict(),
        "curve": [
            {"confidence": round(float(sure[b].mean()), 4)}
            | statistics.bootstrap(right[b], seed=seed, owners=[owners[i] for i in b]).as_dict()
            for b in bins(sure)
        ],
    }
