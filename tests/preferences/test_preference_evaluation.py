"""`bakeoff reward eval` over real reward models: tiny ones, whose head is set by hand."""

import json
import xml.etree.ElementTree as ET

import pytest
import torch
from conftest import byte_tokenizer, write_jsonl
from transformers import AutoModelForSequenceClassification

from bakeoff import config
from bakeoff.cli import main
from bakeoff.errors import UserError
from bakeoff.models.load import save_model
from bakeoff.preferences import reward_model
from bakeoff.preferences.load import read_picks
from bakeoff.run import Run
from bakeoff.scoring import choose

SHORT, LONG = "No.", "Yes, it is in the report of the year."


@pytest.fixture(scope="module")
def judge(tiny_llama, tmp_path_factory):
    """A folder with a reward model of random opinions."""
    scorer = reward_model.RewardModel.fresh(tiny_llama)
    torch.nn.init.normal_(scorer.model.score.weight, std=1.0, generator=torch.Generator().manual_seed(0))
    folder = tmp_path_factory.mktemp("judge") / "model"
    save_model(scorer.model, scorer.tokenizer, folder)
    return folder


@pytest.fixture
def data(tmp_path):
    """Forty picks of the shorter answer."""
    rows = [{"prompt": f"What of {i}?", "completions": [LONG, SHORT, f"{i}"], "pick": 1} for i in range(40)]
    return write_jsonl(tmp_path / "picks.jsonl", rows)


def test_text_json_and_page(judge, data, tmp_path, capsys):
    rows = [{"prompt": f"What of {i}?", "completions": ["one", "two", "six"], "gold": [0, 1, 0]} for i in range(12)]
    gold = write_jsonl(tmp_path / "gold.jsonl", rows)
    out = tmp_path / "out"
    command = ["reward", "eval", str(judge), str(data), "--gold", str(gold), "--out", str(out)]
    assert main(command) == 0
    said, figures = capsys.readouterr().out, json.loads((out / "reward_eval.json").read_text())

    scorer = reward_model.RewardModel.load(judge)
    rewards = scorer.rewards([(p.messages, p.completions) for p in read_picks([str(data)])])
    right = sum(r[1] > max(r[0], r[2]) for r in rewards) / 40
    assert figures["agreement"]["pick_accuracy"]["value"] == pytest.approx(right)
    assert figures["agreement"]["chance"]["value"] == pytest.approx(1 / 3, abs=1e-4)
    assert figures["agreement"]["longest_wins"]["value"] == 0
    assert bool(figures["doubts"]) == (right <= 0.5)  # far from chance either way
    chosen = [
        max(range(3), key=r.__getitem__)
        for r in scorer.rewards([(p.messages, rows[0]["completions"]) for p in read_picks([str(data)])[:12]])
    ]
    assert figures["gold"]["curve"][-1]["value"] == pytest.approx(sum(c == 1 for c in chosen) / 12, abs=1e-4)
    assert figures["learning"] is None

    for title in ("Agreement with people", "Calibration", "Length", "The best of k, by true answers"):
        assert title in said and title in (out / "reward_eval.html").read_text()
    page = (out / "reward_eval.html").read_text()
    for svg in page.split("<svg")[1:]:
        ET.fromstring("<svg" + svg.split("</svg>")[0] + "</svg>")
    assert page.count("<svg") >= 3 and "http:" not in page.replace("http://www.w3.org/2000/svg", "")

    made = {path: path.stat().st_mtime_ns for path in out.glob("*.parquet")}
    assert main(command) == 0 and made == {path: path.stat().st_mtime_ns for path in out.glob("*.parquet")}
    data.write_text(data.read_text().replace("What of 7?", "What of seven?"))
    assert main(command) == 0 and len(list(out.glob("*.parquet"))) == len(made) + 1  # other data is scored anew


def test_only_what_a_run_held_out(judge, data, tmp_path):
    assert main(["reward", "eval", str(judge), str(data), "--heldout", "0.5", "--out", str(tmp_path / "out")]) == 0
    held_out = json.loads((tmp_path / "out" / "reward_eval.json").read_text())["data"]["groups"]
    assert 5 < held_out < 35


def test_a_learning_curve_of_a_task_that_can_be_learnt_says_label_more(tiny_llama, judge, tmp_path, capsys):
    rows = [{"prompt": f"Q{i}?", "completions": ["good", "bad"][:: 1 - 2 * (i % 2)], "pick": i % 2} for i in range(400)]
    train, test = write_jsonl(tmp_path / "train.jsonl", rows[:368]), write_jsonl(tmp_path / "test.jsonl", rows[360:])
    command = ["reward", "eval", str(judge), str(test), "--learn", str(train), "--base", str(tiny_llama)]
    assert main([*command, "--out", str(tmp_path / "out")]) == 0
    learning = json.loads((tmp_path / "out" / "reward_eval.json").read_text())["learning"]
    assert [row["picks"] for row in learning["curve"]] == [45, 90, 180, 360] and learning["left_out"] == 8
    assert learning["curve"][-1]["value"] == 1
    assert learning["label_more"] == (learning["per_doubling"]["low"] > 0)
    assert ("Label more" in capsys.readouterr().out) == learning["label_more"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"completions": ["same", "same"], "pick": 0}, "in no row is one completion preferred"),
        ({"pick": None, "votes": [2, 2]}, "in no group is one completion preferred"),
        ({"pick": 7}, "picks.jsonl:1: pick must be an index"),
    ],
)
def test_what_cannot_be_measured_is_one_line(judge, tmp_path, capsys, change, words):
    path = write_jsonl(tmp_path / "picks.jsonl", [{"prompt": "p", "completions": ["a", "b"], "pick": 0} | change])
    assert main(["reward", "eval", str(judge), str(path), "--out", str(tmp_path / "out")]) == 2
    assert words in capsys.readouterr().err.splitlines()[-1]


def test_no_such_model_is_one_line(data, tmp_path, capsys):
    assert main(["reward", "eval", str(tmp_path / "none"), str(data), "--out", str(tmp_path / "out")]) == 2
    assert "cannot be loaded" in capsys.readouterr().err


def test_votes_are_measured_beside_the_people_themselves(judge, tmp_path, capsys):
    rows = [{"prompt": f"What of {i}?", "completions": ["one", "two"], "votes": [3, 1]} for i in range(30)]
    data = write_jsonl(tmp_path / "votes.jsonl", rows)
    assert main(["reward", "eval", str(judge), str(data), "--out", str(tmp_path / "out")]) == 0
    figures = json.loads((tmp_path / "out" / "reward_eval.json").read_text())
    assert figures["people"]["people"]["value"] == 0.5  # of four people, three on one side: 3 of the 6 pairs agree
    right = figures["agreement"]["pick_accuracy"]["value"]
    assert figures["people"]["scorer"]["value"] == pytest.approx(0.75 * right + 0.25 * (1 - right), abs=1e-4)
    assert figures["agreement"]["regret"]["value"] == pytest.approx(2 * (1 - right), abs=1e-4)  # in votes
    assert "two people agree" in capsys.readouterr().out


@pytest.mark.parametrize("outputs", [None, 2])
def test_what_is_no_reward_model_is_refused_instead_of_given_a_random_head(outputs, tiny_llama, data, tmp_path, capsys):
    other, words = tiny_llama, "names LlamaForCausalLM, where"
    if outputs:
        model = AutoModelForSequenceClassification.from_pretrained(tiny_llama, num_labels=outputs)
        model.save_pretrained(other := tmp_path / "classifier")
        byte_tokenizer().save_pretrained(other)
        words = "names LlamaForSequenceClassification with 2 outputs, where"
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(f"[score]\nscorer = 'reward_model:{other}'\n")
    out = tmp_path / "out"
    for command in (["reward", "eval", str(other), str(data)], ["run", str(recipe)]):
        assert main([*command, "--out", str(out)]) == 2
        said = capsys.readouterr().err
        assert words in said and "bakeoff reward train" in said and said.splitlines()[-1].startswith("bakeoff: model")
    assert not list(out.glob("*.parquet"))
    with pytest.raises(UserError, match=words):
        choose.make_scorer(Run(out), config.load(recipe))
