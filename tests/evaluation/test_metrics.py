"""What is said of two policies, on draws few enough to count."""

import dataclasses
import math

import numpy as np
import pytest

from bakeoff.evaluation import metrics
from bakeoff.math import best_of_n
from bakeoff.math.statistics import Measured
from bakeoff.models.incomplete import repetition
from bakeoff.records import Completion

REFERENCE = np.array([[0.0, 1.0, 0.0, 0.0], [1.0, 0.0, 1.0, 0.0]])
TUNED = np.array([[1.0, 1.0], [1.0, 0.0]])


def test_win_shares_by_hand():
    # pairs of one index are left out; prompt 1: the first 1 beats two and ties one, the second beats three;
    # prompt 2: 1 beats two and ties one, 0 loses two and ties one
    assert metrics.win_shares(TUNED, REFERENCE) == pytest.approx([(2.5 + 3) / 6, (2.5 + 0.5) / 6])
    assert metrics.win_shares(REFERENCE, REFERENCE).tolist() == [0.5, 0.5]
    assert metrics.win_shares(TUNED[:, :1], REFERENCE[:, :1]).tolist() == [1, 0.5]  # there is no other pair


def test_wins_and_their_price():
    kl_P = np.array([0.2, 0.4])
    found = metrics.wins("judge", {"reference": REFERENCE, "tuned": TUNED}, kl_P, seed=0)
    share = (5.5 / 6 + 3 / 6) / 2
    assert found["win_rate"].value == pytest.approx(share, rel=1e-4)
    tries = share / (1 - share)
    assert found["k_eff"].value == pytest.approx(tries, rel=1e-4)
    assert found["kl_efficiency"].value == pytest.approx(best_of_n.kl_bound(tries) / 0.3, rel=1e-4)


def test_a_perfect_best_of_n_gives_n_and_spends_what_it_must():
    rng = np.random.default_rng(0)
    reference, tuned = rng.random((4000, 4)), rng.random((4000, 2, 8)).max(-1)
    found = metrics.wins(
        "judge", {"reference": reference, "tuned": tuned}, np.full(4000, best_of_n.kl_bound(8)), seed=0
    )
    assert found["k_eff"].low < 8 < found["k_eff"].high and found["k_eff"].value == pytest.approx(8, rel=0.1)
    assert found["kl_efficiency"].value == pytest.approx(1, abs=0.06)


def test_the_gap_is_also_told_at_eight_and_sixteen_tries():
    rng = np.random.default_rng(1)
    reward = {"reference": rng.random((50, 16)), "tuned": rng.random((50, 3)) + 0.2}
    found = metrics.comparison(reward, reward, seed=0)
    best = best_of_n.best_of_k_curve(reward["reference"], reward["reference"], [8, 16]).mean(0)
    gain = reward["tuned"].mean() - reward["reference"].mean()
    for k, value in zip((8, 16), best, strict=True):
        expected = gain / (value - reward["reference"].mean())
        assert found[f"gap_closed_at_{k}"].value == pytest.approx(expected, rel=1e-4)
    assert found["gap_closed"] == found["gap_closed_at_16"]
    assert [row["k"] for row in found["tuned_oracle"]] == [1, 2, 3]
    few = {name: values[:, :3] for name, values in reward.items()}
    assert not any(name.startswith("gap_closed_at") for name in metrics.comparison(few, few, seed=0))


def test_a_narrow_policy_gains_at_one_and_loses_coverage():
    value = {"reference": np.array([[1.0, 0, 0, 0], [0, 0, 1, 0]]), "tuned": np.array([[1.0, 1], [0, 0]])}
    found = metrics.coverage(value, seed=0)
    assert found["k"] == 2
    assert found["reference"].value == 0.5  # two of four see the right one half of the time
    assert found["tuned"].value == 0.5
    assert found["change"].value == 0


def test_agreement_counts_pairs_that_differ():
    value = np.array([[1.0, 0.0, 0.0], [1.0, 1.0, 1.0], [1.0, 0.0, 0.0]])
    reward = np.array([[3.0, 1.0, 2.0], [1.0, 2.0, 3.0], [2.0, 2.0, 5.0]])
    assert metrics.ordered_alike(value, reward) == pytest.approx([1.0, math.nan, 0.25], nan_ok=True)
    found = metrics.order_agreement(
        {"reference": value, "tuned": value}, {"reference": reward, "tuned": -reward}, seed=0
    )
    assert found["reference"].value == pytest.approx(0.625) and found["reference"].n == 2
    assert found["change"].value == pytest.approx(((0 - 1) + (0.75 - 0.25)) / 2)


def test_agreement_leaves_out_draws_without_a_reward():
    value = np.array([[1.0, 0.0, 0.0], [1.0, 0.0, 0.0]])
    reward = np.array([[3.0, math.nan, 2.0], [math.nan, math.nan, math.nan]])
    assert metrics.ordered_alike(value, reward) == pytest.approx([1.0, math.nan], nan_ok=True)
    found = metrics.order_agreement(
        {"reference": value, "tuned": value}, {"reference": reward, "tuned": reward}, seed=0
    )
    assert found["reference"] == Measured(1.0, -math.inf, math.inf, 1)


def test_what_was_gained_and_lost_has_its_sign_and_its_picker():
    value = {"reference": np.array([[1.0, 0, 0, 0], [0, 1, 0, 0]] * 10)}
    value |= {"tuned": np.array([[1.0, 1.0], [0, 0]] * 10), "control": np.array([[0.0, 1.0], [0, 0]] * 10)}
    reward = {"reference": np.array([[3.0, 2, 1, 0], [3, 2, 1, 0]] * 10), "tuned": np.array([[0.0, 1.0], [1, 0]] * 10)}
    found = metrics.comparison(value, reward | {"control": reward["tuned"]}, seed=0)
    assert found["gain"].value == 0.25 and found["gain_over_control"].value == 0.25
    assert [row["value"] for row in found["curve"]] == [0.25, 0.41667, 0.5]  # (1/2 + 1/3)/2 of two
    assert [row["value"] for row in found["oracle"]] == [0.25, 0.5, 1.0]
    assert (
        [row["value"] for row in found["tuned_curve"]] == [row["value"] for row in found["tuned_oracle"]] == [0.5, 0.5]
    )
    told = {"reference": 1 - value["reference"], "tuned": value["tuned"]}
    turned = metrics.comparison(told, told, seed=0)  # a tuned draw wins less than half against these
    assert turned["k_eff"].value < 1 < metrics.comparison(value, value, seed=0)["k_eff"].value
    kept = metrics.coverage({"reference": value["reference"], "tuned": value["control"]}, seed=0)
    assert (kept["reference"].value, kept["tuned"].value, kept["change"].value) == (0.5, 0.5, 0.0)
    lost = metrics.coverage({"reference": value["reference"], "tuned": value["tuned"] * 0}, seed=0)
    assert (lost["reference"].value, lost["tuned"].value, lost["change"].value) == (0.5, 0.0, -0.5)


def test_more_than_all_tries_are_worth_has_no_upper_end():
    reference = np.tile(np.arange(4.0), (30, 1))
    above = metrics.comparison(
        {"reference": reference, "tuned": reference[:, :2] + 9},
        {"reference": reference, "tuned": reference[:, :2]},
        seed=0,
    )
    assert above["equivalent_n"] == Measured(4.0, 4.0, math.inf, 30)
    within = metrics.comparison(
        {"reference": reference, "tuned": reference[:, 1:3] + 0.5},
        {"reference": reference, "tuned": reference[:, :2]},
        seed=0,
    )
    assert 1 < within["equivalent_n"].low == within["equivalent_n"].high < 4


def test_tries_that_are_certainly_many_have_a_lower_end():
    reference, tuned = np.zeros((10, 2)), np.array([[1.0, 1.0]] * 9 + [[0.0, 0.0]])
    found = metrics.comparison(
        {"reference": reference, "tuned": tuned}, {"reference": reference, "tuned": tuned}, seed=0
    )["k_eff"]
    assert found.value == pytest.approx(19) and found.low > 4 and math.isinf(found.high)


def test_repetition_by_hand():
    assert repetition([1, 2, 3]) == 0
    assert repetition([1, 2, 3, 4, 5, 6, 7, 8]) == 0
    assert repetition([7] * 23) == 1 - 1 / 20
    assert repetition([1, 2, 3, 4, 1, 2, 3, 4]) == pytest.approx(1 / 5)


def test_style_counts_different_answers_and_weighs_entropy_by_tokens():
    tokens = [[[1, 2], [1, 2], [3], [4, 5, 6]], [[1], [1], [1], [1]]]
    logps = [[-1.0, -1.0, -2.0, -4.0], [-1.0, -1.0, -1.0, -1.0]]
    groups = [
        [Completion("c", "p", 0, "", t, logp, "stop") for t, logp in zip(*rows, strict=True)]
        for rows in zip(tokens, logps, strict=True)
    ]
    found = metrics.style(groups, seed=0)
    assert found["distinct"].value == pytest.approx((3 / 4 + 1 / 4) / 2)
    assert found["length"].value == 1.5
    assert found["entropy"].value == pytest.approx((8 + 4) / (8 + 4))
    groups[1][0] = dataclasses.replace(groups[1][0], logp=None)
    assert "entropy" not in metrics.style(groups, seed=0)
