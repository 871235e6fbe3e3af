"""Recipes are read, checked and written; a mistake is one line that says where it is, what it is and what to give."""

import dataclasses
import json
import tomllib
from pathlib import Path

import pytest

from bakeoff import config
from bakeoff.errors import UserError
from bakeoff.settings import FORMER, Recipe, Sample

SCHEMA = Path(__file__).parents[1] / "docs" / "recipe.schema.json"


@pytest.fixture
def recipe(tmp_path):
    path = tmp_path / "recipe.toml"
    path.write_text('model = "m"\n[prompts]\nsources = ["logs/*.jsonl"]\n[bake]\nlearning_rate = 1\n')
    return path


def test_values_overrides_and_paths(recipe, tmp_path):
    loaded = config.load(recipe, ["sample.group_size=4", "model=other", "evaluate.holdout=/abs/gold.jsonl"])
    assert loaded.model == "other" and loaded.sample.group_size == 4 and loaded.bake.learning_rate == 1.0
    assert loaded.prompts.sources == [str(tmp_path / "logs/*.jsonl")]
    assert loaded.evaluate.holdout == "/abs/gold.jsonl"


def test_scorers_that_are_files_are_looked_up_from_the_recipe(recipe, tmp_path):
    (tmp_path / "judge").mkdir()
    recipe.write_text('[score.scorer]\n"mine.py:short" = 1\n"reward_model:judge" = 2\n"judge:http://h:1/v1" = 1\n')
    names = [f"{tmp_path}/mine.py:short", f"reward_model:{tmp_path}/judge", "judge:http://h:1/v1"]
    assert config.load(recipe).score.scorer == dict(zip(names, [1, 2, 1], strict=True))


def test_dump_holds_every_setting_and_loads_again(recipe, tmp_path):
    loaded = config.load(recipe)
    again = tmp_path / "again.toml"
    again.write_text(config.dump(loaded))
    assert config.load(again) == loaded


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("sample.group_sise=4", "unknown setting 'sample.group_sise'; did you mean 'group_size'?"),
        ("sample.group_size=many", "sample.group_size: found 'many'; give a whole number"),
        ("sample.group_size=true", "sample.group_size: found True; give a whole number"),
        ("sample.group_size=1", "sample.group_size: found 1; give 2 or more"),
        ("prompts.sources=x", "prompts.sources: found 'x'; give a list"),
        ("prompts.fields.prompt=3", "prompts.fields.prompt: found 3; give a string"),
        ("sample=4", "sample: found 4; give a section of settings"),
        ("bake.control=1", "bake.control: found 1; give true or false"),
        ("bake.learning_rate=-1", "bake.learning_rate: found -1; give more than 0"),
        ("bake.learning_rate=nan", "bake.learning_rate: found 'nan'; give a number"),
        ("sample.top_p=2", "sample.top_p: found 2; give 1 or less"),
        ("prompts.heldout=1", "prompts.heldout: found 1; give less than 1"),
        ("bake.n=1", "bake.n: found 1; give 2 or more, or 0 for sample.group_size"),
        ("score.scorer=3", "score.scorer: found 3; give a string or a list or a table"),
        ("sample.variants=[{name='a'}, {name='b', share=0}]", "sample.variants 2.share: found 0; give 1 or more"),
        ("tasks=[{name='a', weight=0}]", "tasks 1.weight: found 0; give more than 0"),
        ("tasks=[{name='a', prompts={heldout=1}}]", "tasks 1.prompts.heldout: found 1; give less than 1"),
        ("bake.surest=0.5", "bake.surest is now bake.agreement_quantile"),
        ("tasks=[{score={weights=[1]}}]", "tasks.score.weights was dropped; score.scorer takes a table"),
        ("tasks=[{gold='g'}]", "tasks.gold is now tasks.holdout"),
    ],
)
def test_a_mistake_is_one_line(setting, words):
    with pytest.raises(UserError) as error:
        config.overridden({}, [setting], "here")
    assert str(error.value).startswith(f"here: {words}") and "\n" not in str(error.value)


def test_what_is_no_override(recipe):
    for override, words in (("nonsense", "section.key=value"), ("model.size=4", "'model' is a setting")):
        with pytest.raises(UserError, match=words):
            config.load(recipe, [override])


def test_missing_and_broken_recipes(tmp_path):
    with pytest.raises(UserError, match="no such recipe"):
        config.load(tmp_path / "none.toml")
    (tmp_path / "bad.toml").write_text("model = ")
    with pytest.raises(UserError, match="not valid TOML"):
        config.load(tmp_path / "bad.toml")


def test_differences_name_each_setting():
    old = tomllib.loads(config.dump(Recipe()))
    new = tomllib.loads(config.dump(Recipe(seed=3, sample=Sample(group_size=4))))
    assert config.differences(old, new) == ["sample.group_size: 16 -> 4", "seed: 0 -> 3"]
    assert config.differences(old, old) == []


def test_a_recipe_does_not_change_and_a_change_of_a_copy_is_checked():
    with pytest.raises(dataclasses.FrozenInstanceError):
        Recipe().seed = 1
    with pytest.raises(ValueError, match="seed"):
        dataclasses.replace(Recipe(), seed=-1)


def test_no_former_name_is_a_setting_and_each_new_name_is_one():
    names = set(config._names(dataclasses.asdict(Recipe())))
    assert not names & FORMER.keys()
    for what in FORMER.values():
        if what.startswith("is now ") and not what.startswith("is now tasks."):
            assert what.removeprefix("is now ").split(",")[0] in names


def test_the_schema_for_editors_is_current():
    assert json.loads(SCHEMA.read_text()) == config.schema(), "run: python -m bakeoff.config > docs/recipe.schema.json"
