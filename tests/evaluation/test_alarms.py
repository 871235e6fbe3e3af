"""Each alarm sounds for its own fault and is silent on a sound run."""

import copy
import math

import pytest

from bakeoff.evaluation.alarms import alarms
from bakeoff.math.statistics import Measured


def m(value, half=0.05, n=100):
    return Measured(value, value - half, value + half, n)


REWARD = {"pick_accuracy": m(0.5), "chance": m(0.1), "longest_wins": m(0.2)}
REWARD |= {"over_chance": m(0.4), "over_longest_wins": m(0.3)}
REWARD = {name: measured.as_dict() for name, measured in REWARD.items()}
OUTSIDE = {
    "judge": "true answers",
    "gain": m(0.3),
    "coverage": {"k": 4, "reference": m(0.5), "tuned": m(0.6), "change": m(0.1)},
    "agreement": {"reference": m(0.8), "tuned": m(0.8), "change": m(0.0)},
}
STYLE = {"distinct": m(0.8), "repetition": m(0.01)}
SUMMARY = {
    "quality": {"gain": m(0.3), "gain_over_control": m(0.2), "greedy_gain": m(0.2)},
    "reward": {"gain": m(2.0), "picker": "verifier"},
    "wins": {"outside": OUTSIDE},
    "kl": {"tuned": m(2.0)},
    "forgotten": m(0.02),
    "length": {"reference": m(20), "tuned": m(18)},
    "truncated": {"reference": 0.0, "tuned": 0.0},
    "style": {"reference": STYLE, "tuned": dict(STYLE)},
    "failed": {"sample": {}, "evaluate": {}},
    "scorer": {"missing": {"score": {}, "evaluate": {}}},
    "tasks": {},
    "leaked": 0,
    "unverified": {},
    "turned_away": {},
}
BAKED = {"groups": {"trained": 95, "no_spread": 5}, "completions": 100, "faults": {}, "strategies": {}}


def found(path=(), value=None, baked=BAKED, referee=None):
    summary = copy.deepcopy(SUMMARY)
    inner = summary
    for key in path[:-1]:
        inner = inner[key]
    if path:
        inner[path[-1]] = value
    return alarms(summary, REWARD, referee, baked)


def test_a_sound_run_is_quiet():
    assert found() == []


@pytest.mark.parametrize(
    ("path", "value", "words", "advice"),
    [
        (["wins", "outside", "gain"], m(-0.1), "(true answers) sees a loss of 0.1", "bake less"),
        (["wins", "outside", "agreement", "change"], m(-0.2), "80% of pairs", "add picks"),
        (["wins", "outside", "coverage", "change"], m(-0.2), "The best of 4 tuned answers is worse", "bake less"),
        (["quality", "gain_over_control"], m(0.04), "random picks did as well", "add picks"),
        (["quality", "greedy_gain"], m(0.04), "what it gained is sharpness", "at temperature 0"),
        (["length", "tuned"], m(41), "2.05 times as long", "read some"),
        (["length", "tuned"], m(9), "0.45 times as long", "read some"),
        (["style", "tuned", "repetition"], m(0.3), "30% of a tuned answer repeats itself", "bake less"),
        (["truncated", "tuned"], 0.4, "40% of the tuned answers are cut short", "raise sample.max_tokens"),
        (["scorer", "missing", "score"], {"timeout": 3}, "stage score: 3 timeout", "scores.parquet says why"),
        (["kl", "tuned"], m(0.0, 0.0), "changed next to nothing (0 nats", "raise bake.learning_rate"),
        (["forgotten"], m(0.3), "less likely by 0.3 nats per token", "lower bake.learning_rate"),
        (["failed", "sample"], {"too_long": 3}, "3 too_long", "says why"),
        (["turned_away"], {"thoughts": 7}, "In place of completions the endpoint gave 7 thoughts", "sample.max_tokens"),
        (
            ["unverified"],
            {"gold.jsonl:3: timeout: not done within 10 s": 5, "gold.jsonl:9: raised: ValueError": 1},
            "6 answers could not be verified and count as wrong; the first by gold.jsonl:3: timeout: not done",
            "mend evaluate.holdout",
        ),
        (["leaked"], 2, "2 prompts with true answers were also trained on", "take them out"),
    ],
)
def test_each_fault_has_its_alarm_with_what_to_do(path, value, words, advice):
    (alarm,) = found(path, value)
    assert words in alarm and advice in alarm and alarm.endswith(".")


def test_a_judge_that_knows_nothing_is_told():
    unsure = REWARD | {"over_chance": m(0.04).as_dict()}
    (alarm,) = found(referee=unsure)
    assert alarm.startswith("Of the judge from outside: ") and "does not beat chance" in alarm


def test_with_several_tasks_each_is_watched_by_itself():
    bad = SUMMARY | {"length": {"reference": m(20), "tuned": m(41)}, "quality": {"gain": m(-0.2)}}
    first, second = found(["tasks"], {"a": SUMMARY, "b": bad})
    assert first.startswith("Task b: Answers are now 2.05 times") and second.startswith("The task b got worse (-0.2)")


def test_rounds_of_which_none_helped():
    rounds = [{"reward": m(1.0)}, {"reward": m(0.9)}, {"reward": m(0.5)}]
    (alarm,) = found(baked=BAKED | {"rounds": rounds, "kept": 1})
    assert "No round raised the reward" in alarm and "1 before, 0.9 in" in alarm and "keep the model as it is" in alarm


def test_groups_that_teach_nothing():
    (alarm,) = found(baked=BAKED | {"groups": {"trained": 70, "no_spread": 20, "unfinished": 10}})
    assert "30 of 100 groups taught nothing (20 with one reward for all, 10 with no finished completion)" in alarm
    assert "sample.temperature" in alarm and "sample.max_tokens" not in alarm  # the advice is that of the largest cause


def test_completions_that_are_no_answers_and_strategies_that_give_none():
    (alarm,) = found(baked=BAKED | {"faults": {"unfinished": 20, "looping": 5}})
    assert "(20% unfinished, 5% looping)" in alarm and "raise sample.max_tokens" in alarm
    rows = {"steps": {"share": m(0.5), "best": m(0.1), "lift": m(0.2)}, "plain": {"lift": m(1.8)}}
    (alarm,) = found(baked=BAKED | {"strategies": rows})
    assert "'steps' gave 50% of the completions and 10% of the best" in alarm


def test_a_scorer_that_is_its_own_judge_is_said():
    summary = copy.deepcopy(SUMMARY)
    summary["wins"]["outside"], summary["reward"]["picker"] = None, "majority"
    (alarm,) = alarms(summary, REWARD, None, BAKED)
    assert "Nothing but the majority measured its own gain" in alarm
    summary["reward"]["gain"] = m(-0.1)
    assert alarms(summary, REWARD, None, BAKED) == []


def test_without_an_outside_judge_variety_stands_for_coverage():
    summary = copy.deepcopy(SUMMARY)
    summary["wins"]["outside"] = None
    assert alarms(summary, REWARD, REWARD, BAKED) == []
    summary["style"]["tuned"] = STYLE | {"distinct": m(0.2)}
    (alarm,) = alarms(summary, REWARD, REWARD, BAKED)
    assert "Only 20% of a prompt's tuned answers differ" in alarm


def test_a_bound_that_is_not_known_raises_no_alarm_of_a_fall():
    unknown = Measured(-0.2, -math.inf, math.inf, 1)
    assert found(["wins", "outside", "coverage", "change"], unknown) == []


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (["wins", "outside", "gain"], m(-0.04)),
        (["quality"], {"gain": m(0.01), "gain_over_control": m(0.0), "greedy_gain": m(0.0)}),
        (["forgotten"], m(0.1)),
        (["length", "tuned"], m(30)),
        (["length", "tuned"], m(13.4)),
        (["style", "tuned", "repetition"], m(0.11)),
        (["truncated", "tuned"], 0.2),
        (["kl", "tuned"], m(0.01, 0.0)),
    ],
)
def test_up_to_its_threshold_and_within_chance_an_alarm_is_silent(path, value):
    assert found(path, value) == []


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (["wins", "outside", "gain"], m(-0.06)),
        (["forgotten"], m(0.11)),
        (["length", "tuned"], m(31)),
        (["length", "tuned"], m(13.2)),
        (["style", "tuned", "repetition"], m(0.12)),
        (["truncated", "tuned"], 0.21),
    ],
)
def test_just_beyond_its_threshold_an_alarm_sounds(path, value):
    assert len(found(path, value)) == 1


def test_a_budget_that_was_overspent_is_told():
    (alarm,) = found(baked=BAKED | {"kl_budget": 0.5})
    assert (
        "2 nats a sequence from the reference, bake.kl_budget is 0.5" in alarm and "lower bake.learning_rate" in alarm
    )
    assert found(baked=BAKED | {"kl_budget": 1.96}) == [] == found(baked=BAKED | {"kl_budget": 0.0})


def test_what_counts_as_no_help_and_as_nothing_taught():
    rounds = [{"reward": m(1.0)}, {"reward": m(1.0)}]
    (alarm,) = found(baked=BAKED | {"rounds": rounds, "kept": 1})
    assert "No round raised the reward" in alarm
    assert found(baked=BAKED | {"rounds": [rounds[0], {"reward": m(1.1)}], "kept": 1}) == []
    (alarm,) = found(baked=BAKED | {"groups": {"trained": 79, "unscored": 21}})
    assert "21 of 100 groups taught nothing" in alarm
    assert found(baked=BAKED | {"groups": {"trained": 80, "unscored": 20}}) == []
