"""Several tasks in one run: mixed by weight, scored each by its own scorer, reported apart, and never confused."""

import json
import tomllib

import numpy as np
import pytest
from conftest import write_jsonl

from bakeoff import config, pipeline, tasks
from bakeoff.cli import main
from bakeoff.data import splits
from bakeoff.data.stage import OF_ANOTHER
from bakeoff.errors import UserError
from bakeoff.records import Completion, Message, Prompt, Score, SetAside, read_table
from bakeoff.run import Run, read_json
from bakeoff.scoring.composite import ByTask
from bakeoff.settings import Evaluate, Prompts, Recipe, Reward, Sample, Task

RECIPE = """
model = "{model}"
dtype = "float32"
[prompts]
heldout = 0.2
[sample]
group_size = 4
prompts = 16
max_tokens = 24
stop = ["a", "e", "0", "T"]
[score]
scorer = "majority"
[bake]
batch_size = 8
[evaluate]
samples = 2
prompts = 10

[[tasks]]
name = "filings"
holdout = "gold.jsonl"
[tasks.prompts]
sources = ["filings.jsonl"]

[[tasks]]
name = "messages"
weight = 3
[tasks.prompts]
sources = ["messages.jsonl"]
skip = ["short"]
[tasks.score]
scorer = "short.py:short"
"""
SHORT = "def short(prompt, completion):\n    assert 'message' in prompt\n    return -len(completion)\n"
WORDS = ["revenue", "cash", "debt", "staff", "stores", "patents", "plants", "rent", "taxes", "margin"]
FILINGS = [f"How much {w} did company {c} report in its filing?" for w in WORDS for c in ("Alder", "Birch", "Cedar")]
MESSAGES = [
    f"The message of {w} number {n} about {x}, in JSON." for w in WORDS for n, x in (("one", "tea"), ("two", "ice"))
]


@pytest.fixture
def recipe(tmp_path, tiny_llama):
    write_jsonl(tmp_path / "filings.jsonl", [{"prompt": q} for q in FILINGS] + [{"prompt": ""}])
    write_jsonl(tmp_path / "messages.jsonl", [{"prompt": q} for q in [*MESSAGES, FILINGS[0], "Hello there"]])
    gold = [{"prompt": q.replace("report", "name"), "answer": "12", "verifier": "number"} for q in FILINGS[:6]]
    write_jsonl(tmp_path / "gold.jsonl", gold)
    (tmp_path / "short.py").write_text(SHORT)
    path = tmp_path / "recipe.toml"
    path.write_text(RECIPE.format(model=tiny_llama))
    return path


def prompt(number, task, split="train"):
    return Prompt(f"{number:02d}", [Message("user", "?")], "log:1", 1, split, task)


def of(*weights, prompts=100, **settings):
    made = [Task(name, weight, Prompts(sources=["log"])) for name, weight in zip("abc", weights, strict=False)]
    return Recipe(tasks=made, sample=Sample(prompts=prompts), **settings)


def test_a_second_judge_is_trained_for_the_tasks_that_have_no_true_answers():
    for golds, wanted in ((("gold", ""), True), (("", ""), True), (("gold", "gold"), False)):
        made = [Task(name, 1, Prompts(sources=["log"]), holdout=gold) for name, gold in zip("ab", golds, strict=True)]
        assert pipeline.has_referee(Recipe(tasks=made, reward=Reward(picks=["picks"]))) == wanted


def test_a_task_has_what_it_gives_and_else_what_the_recipe_gives(recipe, tmp_path):
    loaded = config.load(recipe, ["prompts.max_tokens=99"])
    first, second = loaded.tasks
    assert (first.score.scorer, second.score.scorer) == ("majority", f"{tmp_path / 'short.py'}:short")
    assert (first.prompts.skip, second.prompts.skip) == ([], ["short"])
    assert [t.prompts.heldout for t in loaded.tasks] == [0.2, 0.2] and first.prompts.max_tokens == 99
    assert first.holdout == str(tmp_path / "gold.jsonl") and first.prompts.sources == [str(tmp_path / "filings.jsonl")]
    again = tmp_path / "again.toml"
    again.write_text(config.dump(loaded))
    assert config.load(again) == loaded


def test_runs_made_before_a_setting_was_known_go_on():
    old = tomllib.loads(config.dump(Recipe(seed=3)))
    del old["tasks"], old["bake"]["kl_budget"]
    assert config.differences(old, tomllib.loads(config.dump(Recipe(seed=3)))) == []
    assert config.differences(old, tomllib.loads(config.dump(of(1)))) != []


def test_prompts_are_mixed_by_weight_each_round_with_the_next_ones():
    pool = [prompt(i, "a" if i % 2 else "b") for i in range(40)]
    first, second = (splits.training(pool, of(1, 3, prompts=8), number) for number in (1, 2))
    assert [p.task for p in first].count("a") == 2 and [p.task for p in first].count("b") == 6
    assert [p.id for p in first] == sorted(p.id for p in first)
    assert not {p.id for p in first} & {p.id for p in second}


def test_without_tasks_the_prompts_are_those_of_before():
    pool = [prompt(i, "") for i in range(10)]
    ids = [[p.id for p in splits.training(pool, Recipe(sample=Sample(prompts=4)), n)] for n in (1, 2, 3)]
    assert ids == [["00", "01", "02", "03"], ["04", "05", "06", "07"], ["08", "09", "00", "01"]]


@pytest.mark.parametrize(
    "pools, weights, total, expected",
    [
        ({"a": 50, "b": 50}, {"a": 1, "b": 1}, 10, {"a": 5, "b": 5}),
        ({"a": 50, "b": 50}, {"a": 1, "b": 4}, 10, {"a": 2, "b": 8}),
        ({"a": 50, "b": 3}, {"a": 1, "b": 4}, 10, {"a": 7, "b": 3}),
        ({"a": 2, "b": 3}, {"a": 1, "b": 1}, 10, {"a": 2, "b": 3}),
        ({"a": 0, "b": 3}, {"a": 9, "b": 1}, 2, {"a": 0, "b": 2}),
    ],
)
def test_a_task_gives_its_share_and_what_another_lacks(pools, weights, total, expected):
    assert tasks.task_shares(pools, weights, total) == expected


def test_the_first_of_each_task_are_kept():
    pool = [prompt(i, "a" if i < 6 else "b") for i in range(8)]
    assert [p.id for p in tasks.limited_by_task(pool, 4)] == ["00", "01", "06", "07"]
    assert tasks.limited_by_task(pool, 0) == [] and tasks.limited_by_task(pool, 99) == pool


def test_rewards_of_tasks_on_one_scale():
    reference = np.array([[0.0, 2.0], [100.0, 300.0], [4.0, np.nan]])
    made = tasks.standardised_by_task(
        {"r": reference, "t": reference + [[2.0], [100.0], [2.0]]}, ["a", "b", "a"], reference
    )
    known = made["r"][~np.isnan(made["r"])]
    assert np.isnan(made["r"][2, 1]) and known.mean() == pytest.approx(0)
    assert made["r"][1].tolist() == [-1, 1] and made["t"][1].tolist() == [0, 2]
    flat = tasks.standardised_by_task({"": np.ones((2, 2))}, ["a", "a"], np.ones((2, 2)))[""]
    assert flat.tolist() == [[0, 0], [0, 0]]


def test_each_prompt_is_scored_by_the_scorer_of_its_task():
    class Always:
        def __init__(self, reward):
            self.reward, self.used = reward, {"calls": 0}

        def score(self, groups):
            self.used["calls"] += 1
            for _, group in groups:
                yield [Score(c.id, c.prompt_id, "s", self.reward) for c in group]

    prompts = [prompt(i, "ab"[i % 2]) for i in range(5)]
    groups = [(p.messages, [Completion(f"{p.id}-0", p.id, 0, "x", [1], 0.0, "stop")]) for p in prompts]
    scorer = ByTask({"a": Always(1.0), "b": Always(2.0)}, prompts)
    rewards = [scores[0].reward for scores in scorer.score(groups)]
    assert rewards == [1, 2, 1, 2, 1] and scorer.used["calls"] == 2

    shared = Always(1.0)
    both = ByTask({"a": shared, "b": shared}, prompts)
    list(both.score(groups))
    assert both.used["calls"] == shared.used["calls"] == 2


@pytest.mark.parametrize(
    "recipe, named",
    [
        (Recipe(tasks=[Task("a", 1, Prompts(sources=["x"])), Task("a", 1, Prompts(sources=["x"]))]), "'a'"),
        (Recipe(tasks=[Task("", 1, Prompts(sources=["x"]))]), "''"),
        (Recipe(tasks=[Task("a")]), "a has no prompts"),
        (Recipe(tasks=[Task("..", 1, Prompts(sources=["x"]))]), r"'\.\.'"),
        (of(1, prompts=9, evaluate=Evaluate(holdout="g.jsonl")), "evaluate.holdout"),
    ],
)
def test_tasks_that_cannot_be(recipe, named):
    with pytest.raises(UserError, match=named):
        tasks.check_tasks(recipe)


def test_an_unknown_setting_of_a_task(recipe):
    recipe.write_text(recipe.read_text().replace("skip", "skpi"))
    with pytest.raises(UserError, match=r"tasks 2.prompts.skpi.*skip"):
        config.load(recipe)


def test_the_loop_over_two_tasks(recipe, tmp_path):
    run = Run(tmp_path / "run")
    assert main(["run", str(recipe), "--out", str(run.folder), "bake.rounds=2", "bake.control=false"]) == 0

    prompts = read_table(run.table("prompts"), Prompt)
    counts = read_json(run.details("prompts"))
    assert {p.task for p in prompts} == {"filings", "messages"}
    assert len(prompts) == counts["kept"] == sum(c["kept"] for c in counts["tasks"].values())
    assert counts["read"] == counts["kept"] + sum(counts["dropped"].values()) == len(FILINGS) + len(MESSAGES) + 3
    aside = [s.text for s in read_table(run.table("set_aside"), SetAside) if s.reason == OF_ANOTHER]
    assert aside == [FILINGS[0]] and counts["dropped"][OF_ANOTHER] == 1

    task = {p.id: p.task for p in prompts}
    completions = read_table(run.table("completions"), Completion)
    assert sum(task[c.prompt_id] == "messages" for c in completions) == 12 * 4
    text = {c.id: c.text for c in completions}
    scores = read_table(run.table("scores"), Score)
    assert all(s.reward == -len(text[s.completion_id]) for s in scores if task[s.prompt_id] == "messages")
    assert {s.scorer for s in scores if task[s.prompt_id] == "filings"} == {"majority"}

    summary = json.loads(run.summary.read_text())
    assert list(summary["tasks"]) == ["filings", "messages"]
    filings, messages = summary["tasks"].values()
    assert filings["quality"]["tuned_at_1"]["n"] == 6 and messages["quality"] is None
    assert messages["reward"]["measure"] == "function" and messages["reward"]["reference_at_1"]["value"] < 0
    assert summary["reward"]["picker"] == "scorer of each task"
    assert abs(summary["reward"]["reference_at_1"]["value"]) < 1  # in standard deviations, from the reference's mean
    assert summary["rounds"]["rounds"][0]["reward"]["value"] == pytest.approx(0, abs=1e-9)
    page = run.report.read_text()
    assert "By task" in page and ">messages<" in page


def test_no_task_opens_the_true_answers_of_another(recipe, tmp_path):
    (tmp_path / "short.py").write_text(
        f"def short(completion):\n    open({str(tmp_path / 'gold.jsonl')!r}).read()\n    return 1\n"
    )
    assert main(["prompts", str(recipe), "--out", str(tmp_path / "run")]) == 0
    assert main(["sample", str(recipe), "--out", str(tmp_path / "run")]) == 0
    assert main(["score", str(recipe), "--out", str(tmp_path / "run")]) == 0
    scores = read_table(Run(tmp_path / "run").table("scores"), Score)
    assert any("sealed" in s.reason for s in scores if s.scorer != "majority")
