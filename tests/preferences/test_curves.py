import numpy as np
import pytest

from bakeoff.preferences.gate import Judged
from bakeoff.preferences.metrics import best_of_k, per_doubling


def group(value, reward, prompt="p"):
    return Judged(prompt, np.array(value, float), np.array(reward, float), np.ones(len(value)))


def test_the_curve_by_hand():
    found = best_of_k([group([1, 0, 0], [3, 2, 1], "1"), group([1, 0, 0], [1, 2, 3], "2")], seed=0)
    # best of 2: a scorer that knows finds the right one of three in 2/3 of the pairs, one that errs never
    assert [row["value"] for row in found["curve"]] == pytest.approx([1 / 3, 1 / 3, 1 / 2], abs=1e-4)
    assert [row["value"] for row in found["oracle"]] == pytest.approx([1 / 3, 2 / 3, 1], abs=1e-4)
    assert found["random"]["value"] == pytest.approx(1 / 3, abs=1e-4) and found["peak"] == 3
    assert found["turns_down"] is None


def test_a_scorer_that_is_gamed_turns_down():
    # the reward rises with quality, but for the one completion it likes best of all, which is worthless
    groups = [group([0, 1, 2, 3, 4, 5, 6, -9], range(8), str(i)) for i in range(30)]
    found = best_of_k(groups, seed=0)
    values = [row["value"] for row in found["curve"]]
    assert found["turns_down"] == found["peak"] == int(np.argmax(values)) + 1 < 8
    assert values[-1] == -9 and found["fall"]["value"] == pytest.approx(-9 - max(values), abs=1e-3)


def test_groups_smaller_than_most_are_left_out():
    groups = [group([1, 0], [1, 0], "a"), *(group([1, 0, 0, 0], [1, 0, 0, 0], str(i)) for i in range(3))]
    assert [row["k"] for row in best_of_k(groups, seed=0)["curve"]] == [1, 2, 3, 4]


def test_what_a_doubling_adds():
    right = np.array([[0.0, 0.0, 1.0, 0.0], [0.0, 1.0, 1.0, 0.0], [1.0, 1.0, 1.0, 0.0]])  # 1/4, 2/4, 3/4
    assert per_doubling([50, 100, 200], right, list("abcd"), seed=0).value == pytest.approx(0.25)
    assert per_doubling([50, 200], right[[0, 2]], list("abcd"), seed=0).value == pytest.approx(0.25)  # two doublings
