"""Best-of-N in closed form. Only ranks matter, so one dial, N, says how far a policy is moved.

Shapes: P prompts, M draws per prompt. Equal rewards are ties, broken at random (exactly, never by position).
"""

import math
from collections.abc import Sequence

import numpy as np


def kl_bound(n: float) -> float:
    """KL(pi_N || pi) <= log N - (N - 1)/N in nats (arXiv:2401.01879), reached when no two draws tie."""
    return math.log(n) - (n - 1) / n


def k_eff(win_rate: float) -> float:
    """The N that a win rate w against one reference draw stands for, w/(1 - w); infinite when w = 1."""
    return win_rate / (1 - win_rate) if win_rate < 1 else math.inf


def best_of_k_curve(rewards_PM: np.ndarray, gold_PM: np.ndarray, ks: Sequence[int]) -> np.ndarray:
    """The expected gold of the draw a scorer picks among K of M, by prompt: [P, len(ks)], unbiased, ties shared.

    The i-th lowest of M weighs C(i-1, K-1)/C(M, K), its chance to be the best of K (arXiv:2107.03374, equation 1).
    Raises ValueError when a reward is missing (NaN) or a K is not in 1..M.
    """
    rewards, gold = np.asarray(rewards_PM, float), np.asarray(gold_PM, float)
    if rewards.shape != gold.shape or np.isnan(rewards).any():
        raise ValueError(f"rewards {rewards.shape} and gold {gold.shape} must match, and no reward may be missing")
    below, upto = _ranks(rewards)
    curve = np.empty((len(rewards), len(ks)))
    for column, k in enumerate(ks):
        chance = _subsets_below(rewards.shape[1], k)
        curve[:, column] = ((chance[upto] - chance[below]) / (upto - below) * gold).sum(-1)
    return curve


def known_rewards(reward: dict[str, np.ndarray]) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Rewards [P, draws] by policy without gaps, and the prompts [P] on which the reference has at least one reward.

    A missing reward counts as the lowest that is known for its prompt, so that what could not be judged is never
    preferred; on a prompt without any, all are 0, a tie, so that picking is random.
    """
    known_P = np.isfinite(reward["reference"]).any(1)
    every = np.concatenate(list(reward.values()), axis=1)
    lowest_P = np.where(np.isfinite(every), every, np.inf).min(1)
    lowest_P = np.where(np.isfinite(lowest_P), lowest_P, 0.0)
    filled = {name: np.where(np.isfinite(r), r, lowest_P[:, None]) for name, r in reward.items()}
    return filled, known_P


def pass_at_k(correct_PM: np.ndarray, ks: Sequence[int]) -> np.ndarray:
    """The best of K by an oracle: 1 - C(M-c, K)/C(M, K) (arXiv:2107.03374, equation 1), or the expected maximum of
    graded gold; [P, M] -> [P, len(ks)]."""
    return best_of_k_curve(correct_PM, correct_PM, ks)


def equivalent_n(curve: Sequence[float] | np.ndarray, ks: Sequence[int], value: float) -> float:
    """The tries at which the reference's best-of-K curve [len(ks)] first reaches a value, linear in log K between ks.

    A value above the whole curve gives the last K, which then is a lower bound. One below its start gives less than
    one try, along the first segment if that rises (0 if it does not). Raises ValueError unless the ks ascend from 1.
    """
    curve = np.asarray(curve, float)
    if list(ks) != sorted(set(ks)) or ks[0] != 1 or curve.shape != (len(ks),):
        raise ValueError(f"ks must ascend from 1, one for each point of the curve {curve.shape}; found {list(ks)!r}")
    if value > curve.max():
        return float(ks[-1])
    right = int(np.argmax(curve >= value)) or min(1, len(ks) - 1)
    left = max(right - 1, 0)
    rise = curve[right] - curve[left]
    if value == curve[left]:
        return float(ks[left])
    if rise <= 0:
        return 0.0
    return float(ks[left] * (ks[right] / ks[left]) ** ((value - curve[left]) / rise))


def quantiles(rewards: np.ndarray) -> np.ndarray:
    """Mid-rank quantiles within each group, (rank - 1/2)/M with tied ranks averaged (QRPO, arXiv:2507.08068): [..., M].

    Unchanged by any increasing change of the rewards; their mean is 1/2.
    """
    below, upto = _ranks(np.asarray(rewards, float))
    return (below + upto) / (2 * below.shape[-1])


def beta_for(n: float) -> float:
    """The beta at which the optimum of quantile regression costs the KL of best-of-N, log N - (N - 1)/N.

    The optimum is a density exp(q/beta)/Z on quantiles q in [0, 1], Z = beta (e^(1/beta) - 1) (arXiv:2507.08068); its
    KL rises with 1/beta, found by bisection to 1e-9. Infinite for N = 1; raises ValueError below.
    """
    if n < 1:
        raise ValueError(f"best of {n!r}: N is at least 1")
    if n == 1:
        return math.inf
    low, high = 1e-6, 4.0 * n
    while high - low > 1e-9 * high:
        tilt = (low + high) / 2
        low, high = (tilt, high) if _tilt_kl(tilt) < kl_bound(n) else (low, tilt)
    return 1 / high


def _tilt_kl(tilt: float) -> float:
    """KL of the density exp(t q)/Z from the uniform one on [0, 1]: t E[q] - log Z."""
    mean = 1 / -math.expm1(-tilt) - 1 / tilt
    return tilt * mean - tilt - math.log(-math.expm1(-tilt) / tilt)


def _ranks(rewards: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """How many of each group are strictly below, and at or below, each member: two int arrays [..., M]."""
    mine, others = rewards[..., :, None], rewards[..., None, :]
    return (others < mine).sum(-1), (others <= mine).sum(-1)


def _subsets_below(m: int, k: int) -> np.ndarray:
    """C(j, K)/C(M, K) for j = 0..M: the chance that K of M all come from the j lowest; [M + 1]."""
    if not 1 <= k <= m:
        raise ValueError(f"the best of {k!r} among {m!r} draws: expected 1 <= K <= M")
    return np.array([math.comb(j, k) / math.comb(m, k) for j in range(m + 1)])
