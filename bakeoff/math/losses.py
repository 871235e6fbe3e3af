"""Losses as functions of tensors. Each gives one loss per item; the caller takes the mean.

Shapes: G groups, K completions to pick from, M completions of a group, B items. `logp` is a completion's
log-probability summed over its tokens: a mean over tokens would tilt the optimum by length. Quantiles come from
`bestofn.quantiles`.
"""

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid


def luce(
    reward_GK: Tensor, pick_G: Tensor | int, error_rate: Tensor | float = 0.0, mask_GK: Tensor | None = None
) -> Tensor:
    """-log((1 - e) softmax(reward)[pick] + e/K): Luce's choice (1959) by a tester who slips with probability e; [G].

    `mask_GK` is True where there is a completion, so that groups may differ in size; K then counts those.
    One group alone, rewards [K] and an integer pick, gives a scalar.
    """
    if mask_GK is None:
        mask_GK = torch.ones_like(reward_GK, dtype=torch.bool)
    choice = reward_GK.masked_fill(~mask_GK, -torch.inf).log_softmax(-1)
    picked = choice.gather(-1, torch.as_tensor(pick_G, device=choice.device)[..., None])[..., 0]
    return _or_slip(picked, error_rate, mask_GK.sum(-1))


def _or_slip(logp: Tensor, error_rate: Tensor | float, size: Tensor | int) -> Tensor:
    """-log((1 - e) exp(logp) + e / size)."""
    e = torch.as_tensor(error_rate, dtype=logp.dtype, device=logp.device)
    return -torch.logaddexp(logp + torch.log1p(-e), torch.log(e / size))


def votes(reward_K: Tensor, vote_K: Tensor, error_rate: Tensor | float = 0.0) -> Tensor:
    """The mean of `luce` over the votes for each completion: cross-entropy with their shares as a soft target; scalar.

    Without slips it is least where softmax(reward) is the shares, and no less than their entropy.
    """
    return (vote_K / vote_K.sum() * _or_slip(reward_K.log_softmax(-1), error_rate, len(reward_K))).sum()


def outside(reward_K: Tensor) -> Tensor:
    """[K + 1]: the rewards, then 0, that of choosing none: P(none) = 1 / (1 + sum exp r) by Luce's choice.

    So where people may say that none is good, 0 is the bar: a completion is as likely to be chosen as none is.
    """
    return torch.cat([reward_K, reward_K.new_zeros(1)])


def plackett_luce(reward_K: Tensor, place_K: Tensor, error_rate: Tensor | float = 0.0) -> Tensor:
    """-log of a ranking as successive choices among what is left: Luce (1959), Plackett (1975); scalar.

    `place_K` is 0 for the best. Completions of one place are not compared with each other, so that a ranking may stop
    early; places 0, 1, 1, ... are a pick.
    """
    left_KK = (place_K[None, :] > place_K[:, None]) | torch.eye(len(place_K), dtype=torch.bool, device=place_K.device)
    compared = left_KK.sum(-1) > 1
    rows_KK = reward_K.expand(len(reward_K), -1)
    picks = torch.arange(len(reward_K), device=reward_K.device)
    return luce(rows_KK[compared], picks[compared], error_rate, left_KK[compared]).sum()


def margins(reward_K: Tensor, rating_K: Tensor, error_rate: Tensor | float = 0.0) -> Tensor:
    """Bradley-Terry over all pairs rated unlike, each to be won by the difference of the ratings; their mean, scalar.

    The margin within the likelihood is Llama 2's (arXiv:2307.09288, equation 2).
    """
    better, worse = torch.nonzero(rating_K[:, None] > rating_K[None, :], as_tuple=True)
    gap = reward_K[better] - reward_K[worse] - (rating_K[better] - rating_K[worse])
    return luce(torch.stack([gap, torch.zeros_like(gap)], -1), torch.zeros_like(better), error_rate).mean()


def off_centre(reward_GK: Tensor) -> Tensor:
    """The square of a group's mean reward: a weak pull that keeps rewards around 0 (arXiv:2312.09244); [G]."""
    return reward_GK.mean(-1) ** 2


def group_advantage(utility_GM: Tensor, beta: float, count_GM: Tensor | None = None) -> Tensor:
    """u - beta log mean exp(u / beta) over the group: A*-PO (arXiv:2505.20686), so that mean exp(A / beta) = 1; [G, M].

    `count_GM` says how many draws a completion stands for (0 is padding): duplicates are counted, not repeated.
    """
    if count_GM is None:
        count_GM = torch.ones_like(utility_GM)
    share = torch.log(count_GM / count_GM.sum(-1, keepdim=True))
    return utility_GM - beta * torch.logsumexp(utility_GM / beta + share, -1, keepdim=True)


def qrpo(logp: Tensor, ref_logp: Tensor, advantage: Tensor, beta: float) -> Tensor:
    """(beta (logp - ref_logp) - A)^2, A from the rewards' quantiles: QRPO (arXiv:2507.08068); any equal shapes."""
    return (beta * (logp - ref_logp) - advantage) ** 2


def dpo(logp_B2: Tensor, ref_logp_B2: Tensor, beta: float) -> Tensor:
    """-log sigmoid(beta h), h the log-ratio of the chosen (first) less the rejected's; log 2 at the reference; [B].

    DPO (arXiv:2305.18290, equation 7).
    """
    ratio_B2 = logp_B2 - ref_logp_B2
    return -logsigmoid(beta * (ratio_B2[..., 0] - ratio_B2[..., 1]))


def group_standardised(reward_GM: Tensor) -> Tensor:
    """Each reward less its group's mean, over the group's deviation: GRPO (arXiv:2402.03300); 0 without spread."""
    centred = reward_GM - reward_GM.mean(-1, keepdim=True)
    deviation = centred.square().mean(-1, keepdim=True).sqrt()
    return torch.where(reward_GM.amax(-1, keepdim=True) > reward_GM.amin(-1, keepdim=True), centred / deviation, 0.0)


def clipped(logp: Tensor, old_logp: Tensor, advantage: Tensor, clip: tuple[float, float]) -> Tensor:
    """-min(r A, r' A), r = exp(logp - old_logp) and r' within [1 - low, 1 + high]: PPO (arXiv:1707.06347, equation 7).

    A wider upper bound lets what is rare grow (DAPO, arXiv:2503.14476). Per token or per completion; any equal shapes.
    """
    ratio = torch.exp(logp - old_logp)
    within = ratio.clamp(1 - clip[0], 1 + clip[1])
    return -torch.minimum(ratio * advantage, within * advantage)
