"""Every number of a recipe has its limits, and a mistake in one is told before anything runs."""

import dataclasses
import typing

import pytest

from bakeoff import config, limits
from bakeoff.errors import UserError
from bakeoff.settings import Recipe


def numbers(section, prefix=""):
    for name, hint in typing.get_type_hints(section).items():
        inner = typing.get_args(hint)[0] if typing.get_origin(hint) is list else hint
        if dataclasses.is_dataclass(inner):
            yield from numbers(inner, f"{prefix}{name}.")
        elif hint in (int, float):
            yield f"{prefix}{name}"


def limited(table, prefix=""):
    for name, limit in table.items():
        if limit.keys() <= limits.WORDS.keys():
            yield f"{prefix}{name}"
        else:
            yield from limited(limit, f"{prefix}{name}.")


def test_every_number_has_limits_and_nothing_else_has():
    assert sorted(limited(limits.LIMITS)) == sorted(numbers(Recipe))
    limits.check(Recipe(), "defaults")


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("bake.learning_rate=-1", "bake.learning_rate: -1.0: give more than 0"),
        ("bake.learning_rate=nan", "bake: learning_rate: expected float, found 'nan'"),
        ("bake.learning_rate=inf", "bake: learning_rate: expected float, found 'inf'"),
        ("sample.top_p=0", "sample.top_p: 0.0: give more than 0, at most 1"),
        ("sample.min_p=2", "sample.min_p: 2.0: give 0 or more, at most 1"),
        ("seed=-1", "seed: -1: give 0 or more"),
        ("reward.error_rate=-0.5", "reward.error_rate: -0.5: give 0 or more, less than 1"),
        ("bake.frozen=1", "bake.frozen: 1.0: give 0 or more, less than 1"),
        ("prompts.limit=-1", "prompts.limit: -1: give 0 or more"),
        ("bake.n=1", "bake.n: 1: give 2 or more, or 0"),
    ],
)
def test_a_number_that_makes_no_sense_is_one_line(setting, words):
    with pytest.raises(UserError) as error:
        config.overridden({}, [setting], "here")
    assert str(error.value) == f"here: {words}"


def test_what_is_allowed_besides_is_allowed():
    recipe = config.overridden({}, ["bake.n=0", "bake.lora=-1"], "here")
    assert (recipe.bake.n, recipe.bake.lora) == (0, -1)


def test_tasks_and_strategies_are_held_to_them_too():
    with pytest.raises(UserError, match=r"here: sample.strategies.share: 0: give 1 or more"):
        config.overridden({"sample": {"strategies": [{"name": "a"}, {"name": "b", "share": 0}]}}, [], "here")
    with pytest.raises(UserError, match=r"here: tasks.weight: 0.0: give more than 0"):
        config.overridden({"tasks": [{"name": "a", "weight": 0}]}, [], "here")
    with pytest.raises(UserError, match=r"here: tasks.prompts.heldout: 1.0: give 0 or more, less than 1"):
        config.overridden({"tasks": [{"name": "a", "prompts": {"heldout": 1}}]}, [], "here")
