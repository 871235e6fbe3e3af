"""The ways to bake: which completions of a group are trained on, and the loss of their log-probabilities.

M different completions in a group, S of them trained on. Equal completions are one, counted.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from bakeoff.math import best_of_n, losses

LEAST_WEIGHT = 0.02
"""Completions of a smaller share of a group's weight are not worth a pass."""
DPO_BETA = 0.1
"""The customary strength of DPO's pull towards the reference (arXiv:2305.18290)."""
CLIP = (0.2, 0.28)
"""How far a probability ratio may go before it stops to teach: down, up (arXiv:2503.14476)."""
LEAST_TARGET = -7.0
"""Nats: what is to become a thousand times less likely is gone; pulling it further only does harm."""
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
    """Whether each is a whole answer: what was cut short, is empty or loops must not become more likely."""


Loss = Callable[[Tensor, Tensor, Group, list[int], float], Tensor]
"""(logp [S], ref_logp [S], group, selected, N) -> the group's loss; `ref_logp` is from before the training."""


@dataclass(frozen=True, slots=True)
class Method:
    """A way to bake."""

    select: Callable[[Group, float, int], list[int]]
    """(group, N, at most so many) -> the completions to train on; none when the group teaches nothing."""
    loss: Loss
    reference: bool = True
    """Whether the loss needs the log-probabilities of the reference. Both are then those at the sampling temperature:
    there the completions were drawn, and there the policy is to draw best-of-N."""
    per_token: bool = False
    """Whether the losses of a batch are divided by its tokens, instead of by its groups."""
    most: int = 8
    """Of a group at most so many completions are trained on, as when the methods were compared."""
    own: bool = False
    """Whether it is meant for the policy's own completions: its rounds are one training, whose optimizer goes on."""
    patience: int = 1
    """Rounds end after so many that did not raise the reward on held-out prompts; small ones need more of it."""
    by_token: bool = False
    """Whether `loss` is given log-probabilities of tokens, [S, T] padded with zeros, instead of their sums."""


def best_weights(group: Group, n: float) -> np.ndarray:
    """How much of best-of-N each completion is, estimated without bias from all finished draws: [M], sums to 1.

    The weights of `bestofn.best_of_k_curve`, for an N of at most the draws that finished.
    """
    finished = np.flatnonzero(group.finished_M)
    draws = np.repeat(finished, group.count_M[finished])
    k = max(1, min(round(n), len(draws)))
    each = np.eye(len(group.reward_M))[draws]
    return best_of_n.best_of_k_curve(np.tile(group.reward_M[draws], (each.shape[1], 1)), each.T, [k])[:, 0]


def _weighty(group: Group, n: float, most: int) -> list[int]:
    """The heaviest completions; more than `most` for an N below the draws, over which the weight then spreads."""
    weights = best_weights(group, n)
    order = [int(i) for i in np.argsort(-weights, kind="stable")[: max(most, round(3 * group.count_M.sum() / n))]]
    return [i for i in order if weights[i] >= min(LEAST_WEIGHT, weights[order[0]])]


def _best_of_n_sft(logp_S: Tensor, ref_logp_S: Tensor, group: Group, selected: list[int], n: float) -> Tensor:
    """The unbiased cross-entropy of best-of-N: RAFT (arXiv:2304.06767) with all of a group, by rank weights."""
    weights = best_weights(group, n)[selected]
    return (-_like(weights / weights.sum(), logp_S) * logp_S).sum()


def _spread(group: Group, n: float, most: int) -> list[int]:
    """Whole answers evenly from best to worst by reward, and one that was cut short: all of these where there is room.

    As one of two it would leave nothing to compare but lengths.
    """
    order = np.argsort(-group.reward_M, kind="stable").tolist()
    whole, cut = ([i for i in order if group.finished_M[i] == kind] for kind in (True, False))
    cut = cut[: max(most > 2, most - len(whole))]
    places = np.linspace(0, len(whole) - 1, min(most - len(cut), len(whole))).round().astype(int)
    chosen = [whole[i] for i in dict.fromkeys(places.tolist())] + cut
    return chosen if len(chosen) > 1 else []


def _qrpo(logp_S: Tensor, ref_logp_S: Tensor, group: Group, selected: list[int], n: float) -> Tensor:
    quantile_M, beta = _by_draw(best_of_n.quantiles, group), best_of_n.beta_for(n)
    advantage_M = losses.group_advantage(_like(quantile_M, logp_S), beta, _like(group.count_M, logp_S))
    target_S = advantage_M[selected].clamp(min=LEAST_TARGET * beta)
    return _mean(losses.qrpo(logp_S, ref_logp_S, target_S, beta), group, selected)


def _grpo(logp_ST: Tensor, old_logp_ST: Tensor, group: Group, selected: list[int], n: float) -> Tensor:
    """Every token of a batch weighs the same, so that a long answer is not let off lightly (arXiv:2503.14476)."""
    advantage_M = _by_draw(lambda reward: losses.standardised(torch.tensor(reward)).numpy(), group)
    loss_ST = losses.clipped(logp_ST, old_logp_ST, _like(advantage_M[selected], logp_ST)[:, None], CLIP)
    length_S = torch.tensor([len(group.tokens[i]) for i in selected], device=logp_ST.device)
    inside_ST = torch.arange(logp_ST.shape[1], device=logp_ST.device) < length_S[:, None]
    return len(selected) * _mean((loss_ST * inside_ST).sum(-1), group, selected)


def _mean(loss_S: Tensor, group: Group, selected: list[int]) -> Tensor:
    """The mean over draws: a completion that was drawn twice weighs twice, and is computed once."""
    weight_S = _like(group.count_M[selected], loss_S)
    return (weight_S * loss_S).sum() / weight_S.sum()


def _by_draw(of_draws: Callable[[np.ndarray], np.ndarray], group: Group) -> np.ndarray:
    """[M]: what a function of the rewards of all draws says of each different completion."""
    draws = np.repeat(np.arange(len(group.reward_M)), group.count_M)
    first = np.searchsorted(draws, np.arange(len(group.reward_M)))
    return of_draws(group.reward_M[draws])[first]


def _pair(group: Group, n: float, most: int) -> list[int]:
    """[chosen, rejected]: the best whole answer, and the one nearest to two deviations below their mean, if any."""
    whole = np.flatnonzero(group.finished_M)
    chosen = int(whole[group.reward_M[whole].argmax()])
    pool = whole if len(set(group.reward_M[whole].tolist())) > 1 else np.arange(len(group.reward_M))
    draws = np.repeat(group.reward_M[pool], group.count_M[pool])
    rejected = int(pool[np.abs(group.reward_M[pool] - (draws.mean() - REJECTED_DEVIATIONS * draws.std())).argmin()])
    return [chosen, rejected] if group.reward_M[chosen] > group.reward_M[rejected] else []


def _dpo(logp_S: Tensor, ref_logp_S: Tensor, group: Group, selected: list[int], n: float) -> Tensor:
    return losses.dpo(logp_S, ref_logp_S, DPO_BETA)


def _like(values: np.ndarray, tensor: Tensor) -> Tensor:
    return torch.as_tensor(values, dtype=tensor.dtype, device=tensor.device)


METHODS: dict[str, Method] = {
    "best_of_n_sft": Method(_weighty, _best_of_n_sft, reference=False, per_token=True),
    "qrpo": Method(_spread, _qrpo, most=2),
    "grpo": Method(_spread, _grpo, most=4, own=True, patience=5, by_token=True, per_token=True),
    "dpo": Method(_pair, _dpo),
}
FORMER = {
    "distil": "is now called 'best_of_n_sft'",
    "regress": "is now called 'qrpo'",
    "regress_log": "was dropped; use 'qrpo' or 'best_of_n_sft'",
    "regress_reward": "was dropped; use 'qrpo' or 'best_of_n_sft'",
    "ipo": "was dropped; use 'dpo' or 'best_of_n_sft'",
    "bond": "was dropped; use 'grpo' or 'best_of_n_sft'",
    "rloo": "was dropped; use 'grpo' or 'best_of_n_sft'",
}
"""What became of methods of earlier versions."""
