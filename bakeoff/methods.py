"""The ways to bake: which completions of a group are trained on, and the loss of their log-probabilities.

M different completions in a group, S of them trained on. Equal completions are one, counted.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from bakeoff import bestofn, losses

LEAST_WEIGHT = 0.02
"""Completions of a smaller share of a group's weight are not worth a pass."""
DPO_BETA = 0.1
"""The customary strength of DPO's pull towards the reference (arXiv:2305.18290)."""
REJECTED_DEVIATIONS = 2.0
"""A rejected completion lies about so many below the mean: the worst of N teaches less (arXiv:2502.16825)."""


@dataclass(frozen=True, slots=True)
class Group:
    """A prompt's different completions and what is known of them."""

    prompt_id: str
    tokens: list[list[int]]
    reward_M: np.ndarray
    count_M: np.ndarray
    """How many draws each completion stands for."""
    finished_M: np.ndarray
    """Whether each ended by itself: what was cut short must not become more likely."""


@dataclass(frozen=True, slots=True)
class Method:
    """A way to bake."""

    select: Callable[[Group, float, int], list[int]]
    """(group, N, at most so many) -> the completions to train on; none when the group teaches nothing."""
    loss: Callable[[Tensor, Tensor, Group, list[int], float], Tensor]
    """(logp [S], ref_logp [S], group, selected, N) -> the group's loss."""
    reference: bool = True
    """Whether the loss needs the log-probabilities of the reference."""
    per_token: bool = False
    """Whether the losses of a batch are divided by its tokens, instead of by its groups."""


def best_weights(group: Group, n: float) -> np.ndarray:
    """How much of best-of-N each completion is, estimated without bias from all finished draws: [M], sums to 1.

    The weights of `bestofn.best_of_k_weights`, shared among ties, for an N of at most the draws that finished.
    """
    finished = np.flatnonzero(group.finished_M)
    draws = np.repeat(finished, group.count_M[finished])
    k = max(1, min(round(n), len(draws)))
    each = np.eye(len(group.reward_M))[draws]
    return bestofn.best_of_k_curve(np.tile(group.reward_M[draws], (each.shape[1], 1)), each.T, [k])[:, 0]


def _weighty(group: Group, n: float, most: int) -> list[int]:
    weights = best_weights(group, n)
    order = [int(i) for i in np.argsort(-weights, kind="stable")[:most]]
    return [i for i in order if weights[i] >= LEAST_WEIGHT]


def _distil(logp_S: Tensor, ref_logp_S: Tensor, group: Group, selected: list[int], n: float) -> Tensor:
    weights = best_weights(group, n)[selected]
    return losses.distil(logp_S, _like(weights / weights.sum(), logp_S)).sum()


def _spread(group: Group, n: float, most: int) -> list[int]:
    """Completions evenly from best to worst by reward; those cut short are trained on only below the median."""
    order = [int(i) for i in np.argsort(-group.reward_M, kind="stable")]
    middle = np.median(np.repeat(group.reward_M, group.count_M))
    order = [i for i in order if group.finished_M[i] or group.reward_M[i] < middle]
    places = np.linspace(0, len(order) - 1, min(most, len(order))).round().astype(int)
    return [order[i] for i in dict.fromkeys(places.tolist())] if len(order) > 1 else []


def _regress(logp_S: Tensor, ref_logp_S: Tensor, group: Group, selected: list[int], n: float) -> Tensor:
    beta = bestofn.beta_for(n)
    draws = np.repeat(np.arange(len(group.reward_M)), group.count_M)
    first = np.searchsorted(draws, np.arange(len(group.reward_M)))
    utility_M = bestofn.quantiles(group.reward_M[draws])[first]
    advantage_M = losses.group_advantage(_like(utility_M, logp_S), beta, _like(group.count_M, logp_S))
    weight_S = _like(group.count_M[selected], logp_S)
    loss_S = losses.regress(logp_S, ref_logp_S, advantage_M[selected], beta)
    return (weight_S * loss_S).sum() / weight_S.sum()


def _pair(group: Group, n: float, most: int) -> list[int]:
    """[chosen, rejected]: the best finished completion, and the one nearest to two deviations below the mean."""
    draws = np.repeat(group.reward_M, group.count_M)
    finished = np.flatnonzero(group.finished_M)
    chosen = int(finished[group.reward_M[finished].argmax()])
    rejected = int(np.abs(group.reward_M - (draws.mean() - REJECTED_DEVIATIONS * draws.std())).argmin())
    return [chosen, rejected] if group.reward_M[chosen] > group.reward_M[rejected] else []


def _dpo(logp_S: Tensor, ref_logp_S: Tensor, group: Group, selected: list[int], n: float) -> Tensor:
    return losses.dpo(losses.log_ratio_gap(*logp_S, *ref_logp_S), DPO_BETA)


def _ipo(logp_S: Tensor, ref_logp_S: Tensor, group: Group, selected: list[int], n: float) -> Tensor:
    return losses.ipo(losses.log_ratio_gap(*logp_S, *ref_logp_S), 1 / (2 * best_of_n_gap(n)))


def best_of_n_gap(n: float) -> float:
    """The log-ratio by which best-of-N parts the best of N draws from the worst: (N - 1) H_(N-1) (arXiv:2406.00832)."""
    return (n - 1) * sum(1 / i for i in range(1, math.floor(n)))


def _like(values: np.ndarray, tensor: Tensor) -> Tensor:
    return torch.as_tensor(values, dtype=tensor.dtype, device=tensor.device)


METHODS: dict[str, Method] = {
    "distil": Method(_weighty, _distil, reference=False, per_token=True),
    "regress": Method(_spread, _regress),
    "dpo": Method(_pair, _dpo),
    "ipo": Method(_pair, _ipo),
}
