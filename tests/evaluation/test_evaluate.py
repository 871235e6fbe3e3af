"""What the evaluation says of made-up answers whose figures can be told by hand."""

import dataclasses
import math

import numpy as np
import pytest

from bakeoff.errors import UserError
from bakeoff.evaluation.stage import Draws, answered_by_all, figures, unverified
from bakeoff.math.statistics import Measured
from bakeoff.records import Answer, Completion, Message, Prompt
from bakeoff.sandbox import Limits
from bakeoff.scoring import user_function
from bakeoff.scoring.verifiers.answers import verdicts
from bakeoff.settings import Recipe, Sample

PROMPTS = [Prompt(key, [Message("user", f"{key}?")], "log:1", 1, "heldout") for key in ("p", "q", "r")]
ANSWERS = {p.id: Answer(p.id, p.messages, "2", "exact", "gold:1") for p in PROMPTS[:2]}
RECIPE = Recipe(sample=Sample(group_size=4))


def draws(*texts, rewards=None):
    """A policy's answers to the prompts, a word of numbers each; without `rewards` they are the numbers themselves."""
    groups = [
        [
            Completion(f"{p.id}{i}", p.id, i, text, [int(text)], -1.0, "length" if text == "9" else "stop")
            for i, text in enumerate(group.split())
        ]
        for p, group in zip(PROMPTS, texts, strict=False)
    ]
    own = [[float(c.text) for c in group] for group in groups] if rewards is None else rewards
    return Draws(groups, np.array(own, float))


def verified(drawn, answers=ANSWERS):
    return verdicts(answers, (c for d in drawn.values() for group in d.completions for c in group))


def measured(drawn, answers=ANSWERS):
    return figures(
        RECIPE, verified(drawn, answers), PROMPTS, drawn, (np.array([0.5, 1.5, 1.0]), np.array([0.01, 0.03]))
    )


SOUND = {
    "reference": draws("1 2 1 1", "1 1 2 2", "0 0 0 4"),
    "tuned": draws("2 2", "2 1", "4 4"),
    "reference_greedy": draws("1", "2", "0"),
    "tuned_greedy": draws("2", "2", "4"),
    "control": draws("1 2", "2 2", "0 0"),
}


def test_true_answers_count_on_the_prompts_that_have_them_and_rewards_on_all():
    found = measured(SOUND)
    quality = {key: row.value for key, row in found["quality"].items() if isinstance(row, Measured)}
    assert quality["reference_at_1"] == 3 / 8 and quality["tuned_at_1"] == 3 / 4
    assert quality["reference_best_of_n"] == 1.0  # 2 is the highest reward of both groups
    assert quality["gain"] == 3 / 8 and quality["gap_closed"] == pytest.approx(3 / 5)
    assert quality["control_at_1"] == 3 / 4 and quality["gain_over_control"] == 0
    assert quality["reference_greedy"] == 1 / 2 and quality["greedy_gain"] == 1 / 2
    assert 1 < quality["equivalent_n"] < 4 and found["quality"]["gain"].n == 2
    assert found["reward"]["tuned_at_1"].value == pytest.approx((2 + 1.5 + 4) / 3)
    assert found["reward"]["tuned_at_1"].n == 3
    assert found["kl"]["tuned"].value == 1.0 and found["forgotten"].value == pytest.approx(0.02)


@pytest.mark.parametrize(("n", "tries"), [(0, RECIPE.sample.group_size), (2, 2)])
def test_the_bound_on_the_divergence_is_that_of_the_dial_or_of_all_draws(n, tries):
    recipe = dataclasses.replace(RECIPE, bake=dataclasses.replace(RECIPE.bake, n=n))
    found = figures(recipe, verified(SOUND), PROMPTS, SOUND, (np.ones(3), np.zeros(2)))
    assert found["kl"]["best_of_n"] == pytest.approx(math.log(tries) - (tries - 1) / tries)


def test_pairs_are_won_lost_or_tied_by_each_judge():
    found = measured(SOUND)["wins"]
    first, second = (1 / 2 + 1 + 1 + 3) / 6, (1 + 1 / 2 + 1 / 2 + 1 / 2) / 6  # without the pairs of one index
    assert found["outside"]["judge"] == "true answers"
    assert found["outside"]["win_rate"].value == pytest.approx((first + second) / 2, rel=1e-4)
    third = (1 + 1 + 1 / 2) / 3
    assert found["scorer"]["win_rate"].value == pytest.approx((first + second + third) / 3, rel=1e-4)


def test_a_scorer_that_picks_the_wrong_ones_shows_in_quality_and_not_in_reward():
    mistaken = [[2.0, 1.0, 2.0, 2.0], [2.0, 2.0, 1.0, 1.0], [0.0] * 4]
    found = measured(SOUND | {"reference": draws("1 2 1 1", "1 1 2 2", "0 0 0 4", rewards=mistaken)})
    assert found["quality"]["reference_best_of_n"].value == 0
    assert (
        found["quality"]["gap_closed"].value != found["quality"]["gap_closed"].value
    )  # there is no way to what is worse
    assert found["reward"]["gain"].value > 0


def test_where_no_reward_can_pick_the_best_of_n_is_not_told():
    def blind(rows):
        hidden = {name: draws.reward_PM.copy() for name, draws in SOUND.items()}
        for reward_PM in hidden.values():
            reward_PM[rows] = np.nan
        return measured({name: Draws(draws.completions, hidden[name]) for name, draws in SOUND.items()})["quality"]

    half, none = blind([1]), blind([0, 1])
    for key in ("reference_at_1", "tuned_at_1", "gain", "control_at_1"):  # these ask no reward
        assert half[key] == none[key] == measured(SOUND)["quality"][key]
    assert half["reference_best_of_n"].n == 1 and half["curve"][0]["n"] == 1
    assert half["selection_gain"].value == 3 / 4 and half["gap_closed"].value == 1.0
    for key in ("reference_best_of_n", "selection_gain", "gap_closed", "equivalent_n", "k_eff"):
        assert math.isnan(none[key].value) and none[key].n == 0


def test_without_true_answers_the_reward_is_all_there_is_and_without_either_it_is_said():
    found = measured(SOUND, answers={})
    assert found["quality"] is None and found["wins"]["outside"] is None and found["reward"]["gain"].value > 0
    missing = {name: Draws(d.completions, np.full_like(d.reward_PM, np.nan)) for name, d in SOUND.items()}
    found = measured(missing, answers={})
    assert found["quality"] is None and found["reward"] is None


def test_answers_that_were_cut_short_are_counted():
    found = measured(SOUND | {"tuned": draws("9 2", "2 1", "4 4")})
    assert found["truncated"] == {"reference": 0, "tuned": 1 / 6}


def test_a_prompt_that_one_policy_failed_is_compared_by_none():
    few = {"reference": draws("1 2", "1 1", "0 4"), "tuned": draws("2 2", "2 1")}
    prompts, kept = answered_by_all(PROMPTS, few)
    assert [p.id for p in prompts] == ["p", "q"] and kept["reference"].reward_PM.tolist() == [[1, 2], [1, 1]]
    with pytest.raises(UserError, match="could be completed by every policy"):
        answered_by_all(PROMPTS, {"reference": draws("1 2"), "tuned": Draws([], np.zeros((0, 2)))})


def test_a_verifier_that_hangs_or_fails_counts_as_wrong_with_its_reason_and_stops_nothing(monkeypatch):
    monkeypatch.setattr(user_function, "Limits", lambda: Limits(seconds=1))
    kinds = {"p": ("(.+)+x", "regex"), "q": ("two numbers: 1 and 2", "number"), "r": ("0", "exact")}
    answers = {p.id: Answer(p.id, p.messages, *kinds[p.id], f"gold:{p.id}") for p in PROMPTS}
    long = "1" * 40
    drawn = {"reference": draws(f"{long} 0", "1 2", "0 1"), "tuned": draws(f"{long} 0", "1 3", "1 0")}
    right = verified(drawn, answers)
    assert [right["r"][text].reward for text in "01"] == [1, 0] and right["p"]["0"].reward == 0
    assert unverified(right, answers, drawn) == {
        "gold:p: timeout: not done within 1 s": 2,
        "gold:q: raised: ValueError: the answer 'two numbers: 1 and 2' must hold one number": 4,
    }
    found = figures(RECIPE, right, PROMPTS, drawn, (np.ones(3), np.zeros(2)))
    assert found["quality"]["reference_at_1"].value == pytest.approx(1 / 6, rel=1e-4)
