import json
import math

import numpy as np
import pytest

from bakeoff.preferences.gate import Judged, doubts, human_agreement, judged, pick_agreement
from bakeoff.records import Message, Pick


def pick(prompt="p", completions=("a", "bb", "cc"), best=0):
    return Pick([Message("user", prompt)], list(completions), best, "f:1")


def group(value, reward, length=None, prompt=""):
    return Judged(prompt, np.array(value, float), np.array(reward, float), np.array(length or [1.0] * len(value)))


def as_json(figures):
    return json.loads(json.dumps({name: value.as_dict() for name, value in figures.items()}))


def test_agreement_by_hand():
    picks = [pick("1"), pick("2"), pick("3", completions=("a", "a", "b"), best=1)]
    figures = pick_agreement(judged(picks, [[2, 1, 0], [1, 2, 1], [5, 5, 0]]), seed=0)
    assert figures["pick_accuracy"].value == pytest.approx(2 / 3)
    assert figures["chance"].value == pytest.approx((1 / 3 + 1 / 3 + 2 / 3) / 3)
    assert figures["longest_wins"].value == pytest.approx((0 + 0 + 2 / 3) / 3)
    assert figures["pair_accuracy"].value == pytest.approx((1 + 0.25 + 1) / 3)
    assert figures["regret"].value == pytest.approx(1 / 3)
    assert figures["gap_closed"].value == pytest.approx((2 / 3 + -1 / 3 + 1 / 3) / (2 / 3 + 2 / 3 + 1 / 3))


def test_regret_in_the_units_of_the_value_and_graded_pairs():
    figures = pick_agreement([group([1, 4, 2], [0, 1, 2]), group([5, 5, 3], [1, 0, 0])], seed=0)
    assert figures["regret"].value == pytest.approx((4 - 2 + 0) / 2)
    assert figures["pick_accuracy"].value == pytest.approx(0.5)  # the second chooses one of the two best
    assert figures["chance"].value == pytest.approx((1 / 3 + 2 / 3) / 2)
    assert figures["pair_accuracy"].value == pytest.approx((2 / 3 + 1.5 / 2) / 2)


def test_a_constant_scorer_is_chance_and_a_group_without_a_difference_tells_nothing():
    groups = [group([0, 1, 0, 0], [3, 3, 3, 3], prompt=str(i)) for i in range(5)] + [group([1, 1], [1, 2])]
    figures = pick_agreement(groups, seed=0)
    assert figures["pick_accuracy"] == figures["chance"]
    assert figures["pick_accuracy"].value == 0.25 and figures["pick_accuracy"].n == 5
    assert figures["pair_accuracy"].value == 0.5 and figures["gap_closed"].value == 0


def test_the_gate_asks_for_both():
    rng = np.random.default_rng(0)

    def said(right, longest):
        """What the gate says of a scorer that is right in so many of 100 groups, and "the longest wins" in so many."""
        groups = []
        for i, (hit, long) in enumerate(zip(rng.permutation(100) < right, rng.permutation(100) < longest, strict=True)):
            groups.append(group([1, 0], [1, 0] if hit else [0, 1], [2.0, 1.0] if long else [1.0, 2.0], str(i)))
        return doubts(as_json(pick_agreement(groups, seed=0)))

    assert said(80, 50) == []
    (longest,) = said(80, 85)
    assert '"the longest wins"' in longest and "(0.80 against 0.85)" in longest
    (chance,) = said(52, 20)
    assert "beat chance on 100 held-out picks" in chance and "(0.52 against 0.50)" in chance
    assert len(said(50, 60)) == 2


def test_too_few_picks_tell_nothing_however_well_they_look():
    groups = [group([1, 0], [1, 0], [1.0, 2.0], str(i)) for i in range(19)]
    assert "19 held-out picks, too few" in doubts(as_json(pick_agreement(groups, seed=0)))[0]
    assert doubts(as_json(pick_agreement([*groups, group([1, 0], [1, 0], [1.0, 2.0], "20")], seed=0))) == []


def test_picks_of_one_prompt_count_as_one():
    groups = [group([1, 0], [i % 2, 0.5], prompt=str(i % 4)) for i in range(400)]  # right or wrong by prompt
    few, many = (
        pick_agreement(groups, seed=0),
        pick_agreement([Judged(str(i), g.value, g.reward, g.length) for i, g in enumerate(groups)], seed=0),
    )
    assert few["pick_accuracy"].value == many["pick_accuracy"].value == 0.5
    assert many["over_chance"].high < 0.1 and few["over_chance"].high == 0.5
    one = pick_agreement([Judged("p", g.value, g.reward, g.length) for g in groups], seed=0)
    assert one["pick_accuracy"].low == -math.inf


def test_agreement_beside_that_of_people_by_hand():
    groups = [group([3, 1], [1, 0]), group([2, 2], [0, 1]), group([1, 0], [0, 1]), group([1, 0], [1, 0])]
    found = human_agreement(
        groups, [[3, 1], [2, 2], [1, 0], []], seed=0
    )  # the third has one vote, the fourth is a pick
    assert found["people"].value == pytest.approx((6 / 12 + 4 / 12) / 2) and found["people"].n == 2
    assert found["scorer"].value == pytest.approx((3 / 4 + 2 / 4) / 2)
    assert found["difference"].value == pytest.approx(found["scorer"].value - found["people"].value)
    assert human_agreement(groups, [[1, 0], [], [], []], seed=0) is None


def test_people_who_agree_always_are_agreed_with_by_a_scorer_that_knows():
    groups = [group([5, 0, 0], [2, 1, 0], prompt=str(i)) for i in range(4)]
    found = human_agreement(groups, [[5, 0, 0]] * 4, seed=0)
    assert found["people"].value == found["scorer"].value == 1 and found["difference"].value == 0
