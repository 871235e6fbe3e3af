"""Choosing one of a group by a few features: a conditional logit, Luce's choice (1959) with a linear utility.

McFadden (1974): P(i) = exp(x_i w) / sum_j exp(x_j w). N completions of a group, F features.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np

PRIOR_DEVIATION = 0.5
"""How far a weight may be from its prior before evidence: about 16 decided picks outweigh it."""
STEPS = 50


@dataclasses.dataclass(frozen=True, slots=True)
class Choices:
    """Groups of which one completion was chosen."""

    features: list[np.ndarray]
    """Of each group [N, F]."""
    chosen: list[int]

    def of(self, places: Sequence[int]) -> "Choices":
        """Some of the groups."""
        return Choices([self.features[i] for i in places], [self.chosen[i] for i in places])


@dataclasses.dataclass(frozen=True, slots=True)
class Weights:
    value_F: np.ndarray
    deviation_F: np.ndarray
    """Standard deviations of the posterior, by Laplace's approximation."""


def standardised(feature_NF: np.ndarray, among_MF: np.ndarray) -> np.ndarray:
    """Each feature less its mean `among` some completions, over its deviation among them; 0 where all are alike."""
    deviation_F = among_MF.std(0)
    centred = feature_NF - among_MF.mean(0)
    return np.divide(centred, deviation_F, out=np.zeros_like(centred), where=deviation_F > 1e-9)


def probabilities(feature_NF: np.ndarray, weight_F: np.ndarray) -> np.ndarray:
    """P [N] that each completion of a group is chosen."""
    utility_N = feature_NF @ weight_F
    share_N = np.exp(utility_N - utility_N.max())
    return share_N / share_N.sum()


def fit(choices: Choices, prior_F: np.ndarray) -> Weights:
    """The weights of the largest posterior: a normal prior around `prior_F`, by damped Newton (it is concave)."""
    weight_F, curve_FF = prior_F.astype(float), np.eye(len(prior_F)) / PRIOR_DEVIATION**2
    for _ in range(STEPS):
        slope_F, curve_FF = _derivatives(choices, prior_F, weight_F)
        step_F, before = np.linalg.solve(curve_FF, slope_F), _log_posterior(choices, prior_F, weight_F)
        while np.abs(step_F).max() > 1e-8 and _log_posterior(choices, prior_F, weight_F + step_F) < before:
            step_F = step_F / 2
        weight_F = weight_F + step_F
        if np.abs(step_F).max() < 1e-8:
            break
    return Weights(weight_F, np.sqrt(np.diag(np.linalg.inv(curve_FF))))


def _derivatives(choices: Choices, prior_F: np.ndarray, weight_F: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The gradient [F] of the log posterior and its negative Hessian [F, F]."""
    curve_FF = np.eye(len(prior_F)) / PRIOR_DEVIATION**2
    slope_F = curve_FF @ (prior_F - weight_F)
    for feature_NF, chosen in zip(choices.features, choices.chosen, strict=True):
        share_N = probabilities(feature_NF, weight_F)
        mean_F = share_N @ feature_NF
        slope_F = slope_F + feature_NF[chosen] - mean_F
        curve_FF = curve_FF + (feature_NF * share_N[:, None]).T @ feature_NF - np.outer(mean_F, mean_F)
    return slope_F, curve_FF


def _log_posterior(choices: Choices, prior_F: np.ndarray, weight_F: np.ndarray) -> float:
    found = -((weight_F - prior_F) ** 2).sum() / (2 * PRIOR_DEVIATION**2)
    for feature_NF, chosen in zip(choices.features, choices.chosen, strict=True):
        utility_N = feature_NF @ weight_F
        found += utility_N[chosen] - np.logaddexp.reduce(utility_N)
    return float(found)


def cross_fitted(choices: Choices, prior_F: np.ndarray, folds: Sequence[int]) -> list[np.ndarray]:
    """For each group the probabilities [N] by weights that were fitted on the groups of the other folds."""
    found: list[np.ndarray] = [np.zeros(0)] * len(folds)
    for fold in sorted(set(folds)):
        weights = fit(choices.of([i for i, own in enumerate(folds) if own != fold]), prior_F)
        for i in (i for i, own in enumerate(folds) if own == fold):
            found[i] = probabilities(choices.features[i], weights.value_F)
    return found


def calibration_error(probability: Sequence[float], right: Sequence[bool], bins: int = 5) -> float:
    """The mean distance of probability and share right over bins of as many choices (Naeini et al., 2015)."""
    order = np.argsort(probability, kind="stable")
    parts = [part for part in np.array_split(order, bins) if len(part)]
    off = [abs(np.mean(np.array(probability)[p]) - np.mean(np.array(right, float)[p])) * len(p) for p in parts]
    return float(sum(off) / len(order))
