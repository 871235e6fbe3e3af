"""A reward model remembers its prompts: what it is measured on is new to it."""

import json

import pytest
from conftest import write_jsonl

from bakeoff import config
from bakeoff.cli import main
from bakeoff.errors import UserError
from bakeoff.preferences.split import TRAINED_ON, remember, trained_on
from bakeoff.preferences.stage import train_reward
from bakeoff.records import Message, Pick
from bakeoff.run import Run, read_json

ROWS = [{"prompt": f"Which letter, {i}?", "completions": ["xx", "y" * (1 + i % 3)], "pick": 0} for i in range(70)]


def pick(prompt):
    return Pick([Message("user", prompt)], ["a", "b"], 0, "f:1")


@pytest.fixture(scope="module")
def trained(tiny_llama, tmp_path_factory):
    """(file of picks, reward model trained on most of them)."""
    folder = tmp_path_factory.mktemp("trained")
    data = write_jsonl(folder / "picks.jsonl", ROWS)
    assert main(["reward", "train", str(data), "--base", str(tiny_llama), "--out", str(folder / "model")]) == 0
    return data, folder / "model"


def evaluate(model, data, out, capsys, *more):
    capsys.readouterr()
    assert main(["reward", "eval", str(model), str(data), "--out", str(out), *more]) == 0
    return capsys.readouterr().out, json.loads((out / "reward_eval.json").read_text())


def test_every_spelling_of_a_prompt_is_that_prompt(tmp_path):
    remember(tmp_path, [pick("Why is the sky blue?"), pick("What is 6 x 7?")])
    text = "Please tell me why the sky above the sea is blue on a clear day in summer"
    others = ["WHY is  the sky\nblue", "What is 6 x 8?", text, text + "s"]
    assert trained_on(tmp_path, [pick(p) for p in others]) == [True, False, False, False]
    remember(tmp_path, [pick(text)])
    assert trained_on(tmp_path, [pick(p) for p in others]) == [False, False, True, True]  # nearly the same text
    assert "sky" not in (tmp_path / TRAINED_ON).read_text()
    (tmp_path / TRAINED_ON).write_text("{")
    with pytest.raises(UserError, match=f"{TRAINED_ON}: damaged"):
        trained_on(tmp_path, [pick("p")])


def test_eval_says_how_many_of_the_picks_it_was_trained_on(trained, tmp_path, capsys):
    data, model = trained
    said, figures = evaluate(model, data, tmp_path / "same", capsys)
    known = read_json(model / "training.json")["figures"]["picks"]["train"]
    assert figures["data"]["seen"] == known and figures["unseen"] is None and 70 - known < 20
    line = f"It was trained on the prompts of {known} of these 70 groups"
    assert line in said and line in (tmp_path / "same" / "reward_eval.html").read_text()
    assert f"measured on {70 - known} held-out picks ({known} more, of prompts that it was trained on" in said

    said, figures = evaluate(model, data, tmp_path / "heldout", capsys, "--heldout", "0.2")
    assert figures["data"]["seen"] == 0 and "trained on none of the prompts" in said


def test_the_figures_on_the_others_stand_beside_and_decide(trained, tmp_path, capsys):
    data, model = trained
    other = [row | {"prompt": f"And then, {i}?"} for i, row in enumerate(ROWS[:30])]
    shouted = [row | {"prompt": row["prompt"].upper()} for row in ROWS]
    both = write_jsonl(tmp_path / "both.jsonl", [*shouted, *other])
    said, figures = evaluate(model, both, tmp_path / "both", capsys)
    known = read_json(model / "training.json")["figures"]["picks"]["train"]
    assert figures["data"]["seen"] == known and figures["agreement"]["pick_accuracy"]["n"] == 100
    assert figures["unseen"]["pick_accuracy"]["n"] == 100 - known
    assert f"on {100 - known} new groups" in said and "on prompts that it was not trained on" in said


def test_a_model_from_elsewhere_does_not_say(trained, tmp_path, capsys):
    data, model = trained
    other = tmp_path / "other"
    other.mkdir()
    for file in model.iterdir():
        if file.name != TRAINED_ON:
            (other / file.name).symlink_to(file)
    said, figures = evaluate(other, data, tmp_path / "out", capsys)
    assert figures["data"]["seen"] is None and "is not known" in said


def test_the_gate_measures_a_finished_model_on_what_is_new_to_it(trained, tmp_path):
    data, model = trained
    counts = []
    for name, share in (("same", 0.2), ("more", 0.6)):
        run = Run(tmp_path / name)
        run.folder.mkdir()
        recipe = config.overridden(
            {"score": {"scorer": f"reward_model:{model}"}, "reward": {"picks": [str(data)], "heldout": share}}, (), "t"
        )
        train_reward(run, recipe)
        figures = read_json(run.details("reward_model"))
        counts.append(figures["picks"])
        assert figures["pick_accuracy"]["n"] == figures["picks"]["heldout"]
    assert "seen" not in counts[0] and counts[1]["seen"] > 0
    assert counts[1]["heldout"] == counts[0]["heldout"]
