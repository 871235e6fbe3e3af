import tomllib

import pytest

from bakeoff import config
from bakeoff.errors import UserError
from bakeoff.settings import Recipe, Sample


@pytest.fixture
def recipe(tmp_path):
    path = tmp_path / "recipe.toml"
    path.write_text('model = "m"\n[prompts]\nsources = ["logs/*.jsonl"]\n[bake]\nlearning_rate = 1\n')
    return path


def test_values_overrides_and_paths(recipe, tmp_path):
    loaded = config.load(recipe, ["sample.group_size=4", "model=other", "evaluate.gold=/abs/gold.jsonl"])
    assert loaded.model == "other" and loaded.sample.group_size == 4 and loaded.bake.learning_rate == 1.0
    assert loaded.prompts.sources == [str(tmp_path / "logs/*.jsonl")]
    assert loaded.evaluate.gold == "/abs/gold.jsonl"


def test_dump_holds_every_setting_and_loads_again(recipe, tmp_path):
    loaded = config.load(recipe)
    again = tmp_path / "again.toml"
    again.write_text(config.dump(loaded))
    assert config.load(again) == loaded


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("sample.group_sise=4", "did you mean 'group_size'?"),
        ("sample.group_size=many", "expected int, found 'many'"),
        ("sample.group_size=true", "expected int, found True"),
        ("prompts.sources=x", "expected a list"),
        ("sample=4", "expected a section"),
        ("nonsense", "section.key=value"),
        ("model.size=4", "'model' is a setting"),
        ("bake.ask=3", "recipe.toml: bake.ask was dropped; train on the new picks"),
        ("reward.patience=2", "reward.patience was dropped; reward.epochs says how long to train"),
    ],
)
def test_what_a_user_gets_wrong(recipe, override, words):
    with pytest.raises(UserError, match=words.replace("?", r"\?")):
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
