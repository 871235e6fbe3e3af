import numpy as np
import pytest

from bakeoff.preferences.gate import Judged
from bakeoff.preferences.metrics import (
    calibration,
    choice_confidence,
    choice_loss,
    choice_shares,
    expected_error,
    fitted_temperature,
    halves,
    reliability_bins,
)

LOG3 = np.log(3.0)


def group(value, reward, prompt="0"):
    return Judged(prompt, np.array(value, float), np.array(reward, float), np.ones(len(value)))


def drawn(groups, truth, seed=0):
    """Groups of four whose pick is really drawn with the probabilities softmax(reward / truth)."""
    rng = np.random.default_rng(seed)
    made = []
    for i in range(groups):
        reward = rng.normal(scale=2, size=4)
        chance = np.exp(reward / truth) / np.exp(reward / truth).sum()
        made.append(group(np.eye(4)[rng.choice(4, p=chance)], reward, f"{i:x}"))
    return made


def test_shares_confidence_and_loss_by_hand():
    two = group([1, 0], [LOG3, 0])
    assert choice_shares(two, 1.0) == pytest.approx([0.75, 0.25])
    assert choice_confidence(two, 1.0) == pytest.approx(0.75) and choice_confidence(two, 1e9) == pytest.approx(0.5)
    assert choice_loss(two, np.array([1.0, 0.5])) == pytest.approx([-np.log(0.75), -np.log(0.9)])
    copies = group([1, 1, 0], [0, 0, 0])  # a text that stands twice is chosen twice as easily
    assert choice_loss(copies, 1.0) == pytest.approx(-np.log(2 / 3)) and choice_confidence(
        copies, 1.0
    ) == pytest.approx(1)
    assert np.isfinite(choice_loss(group([0, 1], [1e6, 0]), 1.0))


def test_the_expected_error_by_hand():
    sure = np.repeat([0.6, 0.9], 20)
    right = np.array([1.0] * 10 + [0.0] * 10 + [1.0] * 18 + [0.0] * 2)  # 0.5 and 0.9
    assert [len(b) for b in reliability_bins(sure)] == [20, 20]
    assert expected_error(sure, right) == pytest.approx((20 * 0.1 + 20 * 0.0) / 40)


@pytest.mark.parametrize("truth", [0.5, 1.0, 3.0])
def test_the_fitted_temperature_is_the_one_the_picks_were_drawn_with(truth):
    measured = fitted_temperature(drawn(800, truth), seed=0)
    assert measured.low <= truth <= measured.high and measured.value == pytest.approx(truth, rel=0.2)


def test_a_temperature_mends_overconfidence_on_the_half_it_was_not_fitted_on():
    groups = drawn(1200, 3.0)
    fitting, measuring = halves(groups)
    assert len(fitting) + len(measuring) == 1200 and not {g.prompt for g in fitting} & {g.prompt for g in measuring}
    found = calibration(groups, seed=0)
    assert found["raw"]["error"]["low"] > 0.1 > 0.08 > found["fitted"]["error"]["value"]
    assert found["fitted"]["loss"]["high"] < found["raw"]["loss"]["low"]
    assert found["raw"]["error"]["n"] == len(measuring) and len(found["fitted"]["curve"]) == 10


def test_nothing_to_measure_is_no_number():
    found = calibration([], seed=0)
    assert found["temperature"]["value"] is None and found["raw"]["error"]["n"] == 0 and found["raw"]["curve"] == []
