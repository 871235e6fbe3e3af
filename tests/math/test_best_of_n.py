import itertools
import math

import numpy as np
import pytest

from bakeoff.math import best_of_n


def distribution(p, reward, n):
    """Best-of-N of answers [Y] of probabilities p: p (F^N - F_<^N) / (F - F_<), ties shared (arXiv:2407.14622)."""
    below = (p * (reward[None, :] < reward[:, None])).sum(-1)
    level = (p * (reward[None, :] == reward[:, None])).sum(-1)
    return p * ((below + level).clip(max=1) ** n - below**n) / level


def kl(p, reward, n):
    """The exact KL(pi_N || pi) in nats: sum of pi_N log(pi_N / p), ties and collisions included."""
    best = distribution(p, reward, n)
    kept = best > 0
    return float((best[kept] * np.log(best[kept] / p[kept])).sum())


def test_kl_and_win_rate_of_the_table():
    assert [round(best_of_n.kl_bound(n), 3) for n in (1, 2, 4, 8, 16, 32, 64)] == [
        0.0, 0.193, 0.636, 1.204, 1.835, 2.497, 3.175
    ]  # fmt: skip
    many = np.full(2000, 1 / 2000)
    assert kl(many, np.arange(2000), 16) == pytest.approx(1.835, abs=1e-2)
    ten = np.full(10, 0.1)  # collisions make it cheaper than the bound
    assert kl(ten, np.arange(10), 16) == pytest.approx(1.733, abs=1e-3)
    assert kl(ten, np.arange(10), 64) == pytest.approx(2.29, abs=5e-3)
    assert kl(ten, np.zeros(10), 16) == pytest.approx(0)


def test_kl_of_a_right_or_wrong_reward():
    p, n = 0.2, 8
    a = 1 - (1 - p) ** n
    expected = a * math.log(a / p) + (1 - a) * math.log((1 - a) / (1 - p))
    assert kl(np.array([p, 1 - p]), np.array([1, 0]), n) == pytest.approx(expected)


def test_kl_stays_below_its_bound_and_nears_n_f_to_the_n_minus_1_without_ties():
    rng = np.random.default_rng(0)
    for _ in range(50):
        p, reward, n = rng.dirichlet(np.ones(6)), rng.integers(0, 4, 6), float(rng.uniform(1, 20))
        assert -1e-9 <= kl(p, reward, n) <= best_of_n.kl_bound(n) + 1e-9
    fine, middle = np.full(4000, 1 / 4000), (np.arange(4000) + 0.5) / 4000
    assert distribution(fine, np.arange(4000), 8) == pytest.approx(8 * fine * middle**7, rel=1e-3, abs=1e-12)


def test_k_eff_undoes_the_win_rate():
    for n in (1, 2, 8, 64):
        assert best_of_n.k_eff(n / (n + 1)) == pytest.approx(n)
    assert best_of_n.k_eff(0.5) == 1
    assert best_of_n.k_eff(0.25) == pytest.approx(1 / 3)
    assert best_of_n.k_eff(1) == math.inf


def weights(m, k):
    """What each of M draws, in ascending order, weighs in the curve at K."""
    return best_of_n.best_of_k_curve(np.tile(np.arange(m), (m, 1)), np.eye(m), [k])[:, 0]


def test_weights_of_the_curve_by_hand():
    # K = 2 of 4: the lowest never wins, then 1, 2 and 3 of the 6 pairs
    assert weights(4, 2) == pytest.approx([0, 1 / 6, 2 / 6, 3 / 6])
    assert weights(4, 1) == pytest.approx([0.25] * 4)
    assert weights(4, 4) == pytest.approx([0, 0, 0, 1])
    assert 1 / (weights(16, 8) ** 2).sum() == pytest.approx(2.9, abs=0.1)
    with pytest.raises(ValueError, match="best of 5 among 4"):
        weights(4, 5)


@pytest.mark.parametrize("rewards", [[3.0, 1.0, 2.0, 0.0], [1.0, 1.0, 0.0, 0.0], [1.0, 2.0, 2.0, 2.0]])
def test_the_curve_is_the_mean_over_every_subset(rewards):
    gold = [1.0, 0.0, 0.5, 0.25]
    curve = best_of_n.best_of_k_curve(np.array([rewards]), np.array([gold]), [1, 2, 3, 4])[0]
    for k in (1, 2, 3, 4):
        picked = []
        for subset in itertools.combinations(range(4), k):
            best = [i for i in subset if rewards[i] == max(rewards[j] for j in subset)]
            picked.append(np.mean([gold[i] for i in best]))
        assert curve[k - 1] == pytest.approx(np.mean(picked))


def test_the_curve_does_not_depend_on_positions_or_the_scale_of_rewards():
    rewards, gold = np.array([[1.0, 1.0, 0.0, 2.0]]), np.array([[1.0, 0.0, 1.0, 0.0]])
    curve = best_of_n.best_of_k_curve(rewards, gold, [1, 2, 4])
    assert best_of_n.best_of_k_curve(rewards[:, ::-1], gold[:, ::-1], [1, 2, 4]) == pytest.approx(curve)
    assert best_of_n.best_of_k_curve(np.exp(rewards), gold, [1, 2, 4]) == pytest.approx(curve)
    # a scorer that cannot tell is a random pick
    assert best_of_n.best_of_k_curve(np.zeros((1, 4)), gold, [1, 4]) == pytest.approx(np.array([[0.5, 0.5]]))


def test_a_missing_reward_is_not_a_reward():
    with pytest.raises(ValueError, match="missing"):
        best_of_n.best_of_k_curve(np.array([[1.0, np.nan]]), np.zeros((1, 2)), [1])


def test_pass_at_k_by_hand():
    # one of four right: two tries see it with 1 - C(3,2)/C(4,2) = 1/2
    correct = np.array([[0, 1, 0, 0], [1, 1, 1, 1], [0, 0, 0, 0]])
    expected = [[0.25, 0.5, 1], [1, 1, 1], [0, 0, 0]]
    assert best_of_n.pass_at_k(correct, [1, 2, 4]) == pytest.approx(np.array(expected))


@pytest.mark.parametrize(
    ("value", "tries"), [(0.2, 1), (0.4, 2), (0.5, 2 * math.sqrt(2)), (0.8, 8), (0.9, 8), (0.0, 0.5), (-0.2, 0.25)]
)
def test_equivalent_n_reads_the_curve_backwards(value, tries):
    assert best_of_n.equivalent_n(np.array([0.2, 0.4, 0.6, 0.8]), [1, 2, 4, 8], value) == pytest.approx(tries)


def test_equivalent_n_of_a_curve_that_turns_down_or_is_flat():
    assert best_of_n.equivalent_n(np.array([0.2, 0.6, 0.4]), [1, 2, 4], 0.4) == pytest.approx(math.sqrt(2))
    flat = np.array([0.5, 0.5])
    assert [best_of_n.equivalent_n(flat, [1, 8], v) for v in (0.4, 0.5, 0.6)] == [0, 1, 8]
    assert [best_of_n.equivalent_n(flat[:1], [1], v) for v in (0.4, 0.5, 0.6)] == [0, 1, 1]
    with pytest.raises(ValueError, match="ascend from 1"):
        best_of_n.equivalent_n(flat, [2, 4], 0.5)


def test_quantiles_share_ties_and_see_only_ranks():
    rewards = np.array([10.0, -1.0, 3.0, 3.0])
    assert best_of_n.quantiles(rewards) == pytest.approx([7 / 8, 1 / 8, 4 / 8, 4 / 8])
    assert (best_of_n.quantiles(np.exp(rewards)) == best_of_n.quantiles(rewards)).all()
    assert best_of_n.quantiles(np.zeros((2, 5))) == pytest.approx(np.full((2, 5), 0.5))


def test_the_dial_of_quantile_regression():
    betas = [best_of_n.beta_for(n) for n in (2, 4, 8, 16, 32)]
    assert betas == pytest.approx([0.44, 0.20, 0.11, 0.059, 0.030], rel=0.02)
    assert best_of_n.beta_for(1) == math.inf
    with pytest.raises(ValueError, match="at least 1"):
        best_of_n.beta_for(0.5)


@pytest.mark.parametrize("n", [2, 8, 32])
def test_at_its_beta_quantile_regression_costs_and_wins_as_best_of_n(n):
    q = (np.arange(200_000) + 0.5) / 200_000
    density = np.exp((q - 1) / best_of_n.beta_for(n))
    density /= density.mean()
    assert (density * np.log(density)).mean() == pytest.approx(best_of_n.kl_bound(n), abs=1e-4)
    assert (density * q).mean() == pytest.approx(n / (n + 1), abs=0.01)


def test_a_missing_reward_counts_as_the_lowest_of_its_prompt_and_a_prompt_without_any_is_a_tie():
    nan = math.nan
    reference = np.array([[1.0, nan, 3.0], [nan, nan, nan], [2.0, nan, 4.0]])
    tuned = np.array([[-5.0, 2.0], [nan, nan], [nan, nan]])
    filled, known = best_of_n.known_rewards({"reference": reference, "tuned": tuned})
    assert filled["reference"].tolist() == [[1, -5, 3], [0, 0, 0], [2, 2, 4]]
    assert filled["tuned"].tolist() == [[-5, 2], [0, 0], [2, 2]]
    assert known.tolist() == [True, False, True]  # what the tuned policy got no reward for counts against it
