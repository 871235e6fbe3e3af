"""A conditional logit finds the weights that chose, leans on its prior where few did, and knows how sure it is."""

import numpy as np
import pytest

from bakeoff.math import choice
from bakeoff.math.choice import Choices

WEIGHTS = np.array([1.5, -0.7, 0.0])


def simulated(groups, rng, size=8):
    features = [rng.standard_normal((size, 3)) for _ in range(groups)]
    chosen = [int(rng.choice(size, p=choice.probabilities(x, WEIGHTS))) for x in features]
    return Choices(features, chosen)


def test_probabilities_by_hand():
    features = np.array([[0.0], [np.log(3)]])
    assert choice.probabilities(features, np.array([1.0])) == pytest.approx([0.25, 0.75])
    assert choice.probabilities(features, np.array([0.0])) == pytest.approx([0.5, 0.5])


def test_the_weights_that_chose_are_found_within_their_interval():
    found = choice.fit(simulated(3000, np.random.default_rng(0)), np.zeros(3))
    assert np.abs(found.value_F - WEIGHTS).max() < 0.12
    assert (np.abs(found.value_F - WEIGHTS) < 3 * found.deviation_F).all()
    assert (found.deviation_F < 0.05).all()


def test_without_choices_the_weights_are_the_prior():
    found = choice.fit(Choices([], []), np.array([1.0, 0.5]))
    assert found.value_F == pytest.approx([1.0, 0.5])
    assert found.deviation_F == pytest.approx([choice.PRIOR_DEVIATION] * 2)


def test_few_choices_move_the_weights_little():
    few, many = (choice.fit(simulated(n, np.random.default_rng(1)), np.zeros(3)).value_F for n in (3, 300))
    assert np.linalg.norm(few) < np.linalg.norm(many)


def test_features_are_measured_in_deviations_of_those_compared_with():
    among = np.array([[1.0, 5.0], [3.0, 5.0]])
    assert choice.standardised(np.array([[3.0, 5.0], [5.0, 6.0]]), among).tolist() == [[1.0, 0.0], [3.0, 0.0]]


def test_crossed_probabilities_are_calibrated_and_do_not_see_their_own_choice():
    choices = simulated(2000, np.random.default_rng(2))
    folds = [i % 5 for i in range(2000)]
    crossed = choice.cross_fitted(choices, np.zeros(3), folds)
    right = [int(p.argmax()) == c for p, c in zip(crossed, choices.chosen, strict=True)]
    assert choice.calibration_error([float(p.max()) for p in crossed], right) < 0.05
    noise = Choices([np.eye(2)] * 10, [0, 1] * 5)
    own = choice.cross_fitted(noise, np.zeros(2), list(range(10)))
    assert all(p[c] < 0.5 for p, c in zip(own, noise.chosen, strict=True))


def test_calibration_error_by_hand():
    assert choice.calibration_error([0.9] * 10, [True] * 9 + [False], bins=1) == pytest.approx(0.0)
    assert choice.calibration_error([0.9] * 10, [True] * 4 + [False] * 6, bins=1) == pytest.approx(0.5)


def test_a_choice_that_goes_against_a_strong_prior_is_found():
    """A plain Newton step from here goes too far, and back, for ever."""
    features = np.array([[2.0], [0.0], [-2.0]])
    found = choice.fit(Choices([features] * 60, [2] * 60), np.array([5.0]))
    assert found.value_F[0] < 0
