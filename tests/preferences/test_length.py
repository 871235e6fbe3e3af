import numpy as np
import pytest

from bakeoff.preferences.gate import Judged
from bakeoff.preferences.metrics import length_bias


def group(value, reward, length, prompt="p"):
    return Judged(prompt, np.array(value, float), np.array(reward, float), np.array(length, float))


def test_accuracy_where_the_shorter_and_the_longer_was_preferred_by_hand():
    groups = [
        group([1, 0, 0], [2, 1, 3], [5, 9, 2], "1"),  # better: shorter than the 2nd (won), longer than the 3rd (lost)
        group([0, 1], [1, 1], [9, 4], "2"),  # shorter, a tie
        group([1, 1], [1, 5], [1, 9], "3"),  # tells nothing
    ]
    bias = length_bias(groups, seed=0)
    assert bias["shorter_better"].value == pytest.approx((1 + 0.5) / 2) and bias["shorter_better"].n == 2
    assert bias["longer_better"].value == 0


def test_correlation_is_within_groups():
    # within each group the reward falls with length; between the groups it rises
    groups = [group([1, 0], [5, 4], [100, 101], "1"), group([1, 0], [9, 8], [200, 201], "2")]
    bias = length_bias(groups, seed=0)
    assert bias["reward_correlation"].value == pytest.approx(-1) and bias["value_correlation"].value == pytest.approx(
        -1
    )
