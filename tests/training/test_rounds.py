"""Rounds: the best is kept by the rule, a budget ends a training, and a killed bake goes on to the same weights."""

import json
import signal
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import write_jsonl
from safetensors.torch import load_file
from test_pipeline import bakeoff

from bakeoff import config
from bakeoff.cli import main
from bakeoff.data import splits
from bakeoff.errors import UserError
from bakeoff.evaluation.stage import UNRELATED
from bakeoff.math.statistics import Measured
from bakeoff.models.incomplete import fault
from bakeoff.records import Completion, Message, Prompt, Score, read_table
from bakeoff.run import Run
from bakeoff.sampling.resume import failures
from bakeoff.settings import Bake, Recipe, Sample, Scoring, Task
from bakeoff.training import rounds
from bakeoff.training import stage as once
from bakeoff.training.stage import within_budget

RECIPE = """
model = "{model}"
dtype = "float32"
[prompts]
sources = ["log.jsonl"]
heldout = 0.5
[sample]
group_size = 4
max_tokens = 24
prompts = 6
stop = ["a", "e", "i", "o", "0", "1", "T", "S"]
[[sample.variants]]
name = "plain"
[[sample.variants]]
name = "revised"
instruction = "Say it again."
examples = 1
[reward]
picks = ["picks.jsonl"]
[bake]
batch_size = 2
rounds = 3
method = "grpo"
[evaluate]
samples = 2
"""


DRAWN = ("completions", "validation", "reference", "tuned", "control", "reference_greedy", "tuned_greedy", "unrelated")


@pytest.fixture
def recipe(tmp_path, tiny_llama) -> Path:
    everyday = UNRELATED.read_text().splitlines()
    write_jsonl(tmp_path / "log.jsonl", [{"prompt": q} for q in everyday])
    picks = [{"prompt": q.upper(), "completions": ["aa", "b", "ccc"], "pick": 1} for q in everyday]
    write_jsonl(tmp_path / "picks.jsonl", picks)
    path = tmp_path / "recipe.toml"
    path.write_text(RECIPE.format(model=tiny_llama))
    return path


def row(reward, kl=0.0):
    return {"reward": Measured(reward, reward, reward, 9), "kl": Measured(kl, kl, kl, 9)}


def test_the_rule():
    history = [row(0.0), row(1.0), row(2.0), row(2.0), row(1.5)]
    assert rounds.best_round(history) == rounds.kept_round(history) == 2
    worse = [row(3.0), row(1.0), row(2.0)]
    assert (rounds.best_round(worse), rounds.kept_round(worse)) == (0, 2)

    def last(patience=1, kl_budget=0.0, history=history):
        settings = Recipe(bake=Bake(rounds=9, method="grpo" if patience > 1 else "best_of_n_sft", kl_budget=kl_budget))
        return next(i for i in range(1, 6) if i == 5 or rounds.is_last(history[:i], settings)) - 1

    assert last() == 3  # an equal round has not helped
    assert last(history=[row(0.0), row(-1.0)]) == 1
    far = [row(i, kl=i) for i in range(5)]
    assert last(kl_budget=2.0, history=far) == 2
    assert not rounds.is_last(far, Recipe(bake=Bake(rounds=5)))
    assert rounds.is_last([*far, row(5)], Recipe(bake=Bake(rounds=5)))


def test_no_prompt_both_chooses_and_is_evaluated_and_rounds_take_turns():
    prompts = [Prompt(f"{i:03d}", [Message("user", "q")], "log:1", 1, ("train", "heldout")[i % 2]) for i in range(20)]
    once, several = Recipe(sample=Sample(prompts=4)), Recipe(sample=Sample(prompts=4), bake=Bake(rounds=3))
    assert splits.validation(prompts, once) == [] and len(splits.evaluation(prompts, once)) == 10
    chosen, kept = splits.validation(prompts, several), splits.evaluation(prompts, several)
    assert len(chosen) == 5 and sorted([*chosen, *kept], key=lambda p: p.id) == prompts[1::2]
    turns = [[int(p.id) for p in splits.training(prompts, several, number)] for number in (1, 2, 3)]
    assert turns == [[0, 2, 4, 6], [8, 10, 12, 14], [16, 18, 0, 2]]


def test_all_rounds_are_validated_on_the_prompts_that_the_reference_has_rewards_for():
    prompts = [Prompt(key, [Message("user", key)], "log:1", 1, "heldout", task=key[0]) for key in ("a1", "a2", "b1")]

    def told(rewards):
        return [Score(f"{key}{i}", key, "s", r) for key, row in rewards.items() for i, r in enumerate(row)]

    before = told({"a1": [0.0, 1.0, 2.0, 3.0], "a2": [None] * 4, "b1": [0.0, 1.0, 2.0, 3.0]})
    now = told({"a1": [3.0, None, None, None], "a2": [9.0] * 4})  # b1 failed this time
    rewards, counted = rounds.on_reference_prompts(now, before, Recipe(), prompts)
    assert counted.tolist() == [True, False, True]
    assert rewards[counted].tolist() == [[3, 0, 0, 0], [0, 0, 0, 0]]  # a lost form is no perfect score
    scorings = {name: Scoring(scorer=f"verifier:{verifier}") for name, verifier in (("a", "number"), ("b", "exact"))}
    several = Recipe(tasks=[Task(name, 1, score=scoring) for name, scoring in scorings.items()])
    apart, _ = rounds.on_reference_prompts(now, before, several, prompts)
    assert apart[0, 0] == pytest.approx(1.5 / np.std(range(4)))


class Toy:
    """A training of ten steps whose divergence is the number of steps taken."""

    class optimizer:
        steps, taken, closed = 16, 0, False

        @classmethod
        def close(cls):
            cls.closed = True

    class settings:
        kl_budget = 5.0

    model = None


@pytest.mark.parametrize("begin", [0, 3, 4, 6])
def test_a_budget_ends_the_training_at_the_same_step_wherever_it_went_on(begin):
    Toy.optimizer.taken, Toy.optimizer.closed = begin, False

    def steps():
        while True:
            Toy.optimizer.taken += 1
            yield {"step": Toy.optimizer.taken}

    taken = list(within_budget(steps(), Toy, lambda model, step: float(step)))
    assert [t["step"] for t in taken] == list(range(begin + 1, 7)) and Toy.optimizer.closed
    assert [t["kl"] for t in taken if "kl" in t] == [i for i in (2.0, 4.0, 6.0) if i > begin]


def test_the_last_step_is_looked_at_too(monkeypatch):
    monkeypatch.setattr(Toy.optimizer, "steps", 17)
    Toy.optimizer.taken = 0

    def steps():
        while Toy.optimizer.taken < 17:
            Toy.optimizer.taken += 1
            yield {}

    found = [line.get("kl") for line in within_budget(steps(), Toy, lambda model, step: step / 9)]
    assert [step for step, kl in enumerate(found, 1) if kl is not None] == [*range(2, 17, 2), 17]


def test_rounds_learn_from_their_own_completions_and_keep_the_best(recipe, tmp_path, capsys):
    run = Run(tmp_path / "run")
    assert main(["run", str(recipe), "--anyway", "--out", str(run.folder)]) == 0
    baked = json.loads(run.details("bake").read_text())
    values = [r["reward"]["value"] for r in baked["rounds"]]
    assert len(values) == 4 and baked["kept"] == values.index(max(values[1:]), 1)
    assert baked["rounds"][0]["kl"]["value"] == 0 and baked["rounds"][1]["kl"]["value"] > 0
    tables = [read_table(r.table("completions"), Completion) for r in (run, run.round("bake", 2), run.round("bake", 3))]
    asked = [list(dict.fromkeys(c.prompt_id for c in table)) for table in tables]
    prompts = read_table(run.table("prompts"), Prompt)
    training = sorted(p.id for p in prompts if p.split == "train")
    assert [len(a) for a in asked] == [6, 6, 6] and asked[0] + asked[1] == training[:12]
    drawn = [read_table(f, Completion) for f in run.folder.rglob("*.parquet") if f.stem in DRAWN]
    tokens = json.loads(run.summary.read_text())["tokens"]
    assert tokens["sampled"] == sum(len(c.tokens) for table in drawn for c in table) and len(drawn) > 9
    faulty = [c for f in run.folder.rglob("completions.parquet") for c in read_table(f, Completion)]
    unscored = [
        *read_table(run.table("unrelated"), Completion),
        *(c for c in faulty if fault(c.text, c.tokens, c.finish)),
    ]
    assert tokens["sampled"] - tokens["scored"] == sum(len(c.tokens) for c in unscored)
    chose = {c.prompt_id for c in read_table(run.round("bake", 0).table("validation"), Completion)}
    assert chose and not chose & {c.prompt_id for c in read_table(run.table("tuned"), Completion)}
    assert not [p for p in (run.folder / "rounds").rglob("*") if p.name == "policy" or p.suffix == ".safetensors"]
    assert run.policy.exists()
    made = json.loads(run.summary.read_text())
    assert made["rounds"] == {"rounds": baked["rounds"], "kept": baked["kept"]}
    assert all(made["strategies"][name]["share"]["value"] == 0.5 for name in ("plain", "revised"))


def test_killed_in_any_round_the_same_command_ends_with_the_same_weights(recipe, tmp_path):
    whole, broken = Run(tmp_path / "whole"), Run(tmp_path / "broken")
    for stage in ("prompts", "sample", "reward", "score", "bake"):
        assert main([stage, str(recipe), "--out", str(whole.folder)]) == 0
    for stage in ("prompts", "sample", "reward", "score"):
        assert main([stage, str(recipe), "--out", str(broken.folder)]) == 0
    second, third = (broken.round("bake", number) for number in (2, 3))
    for made in (second.metrics, third.policy):
        process = bakeoff("bake", recipe, "--out", broken.folder)
        while not made.exists():
            assert process.poll() is None, process.communicate()
            time.sleep(0.002)
        process.send_signal(signal.SIGKILL)
        process.communicate()
    assert main(["bake", str(recipe), "--out", str(broken.folder)]) == 0
    assert json.loads(broken.details("bake").read_text()) == json.loads(whole.details("bake").read_text())
    a, b = (load_file(r.policy / "model.safetensors") for r in (whole, broken))
    assert all(torch.equal(a[name], b[name]) for name in a)
    for name, record in (("completions", Completion), ("scores", Score)):
        pair = [read_table(r.round("bake", 3).table(name), record) for r in (whole, broken)]
        assert pair[0] == pair[1]


def test_a_round_goes_on_from_the_optimizers_state_of_the_one_before(recipe, tmp_path, monkeypatch):
    monkeypatch.setattr(rounds, "_prune", lambda *_: None)
    run = Run(tmp_path / "run")
    for stage in ("prompts", "sample", "reward", "score", "bake"):
        assert main([stage, str(recipe), 'dtype="bfloat16"', "--out", str(run.folder)]) == 0
    taken = [len(run.round("bake", number).steps("bake")) for number in (1, 2, 3)]
    states = [load_file(run.round("bake", number).checkpoint("bake")) for number in (1, 2, 3)]
    assert [int(state["step.0"]) for state in states] == [sum(taken[:n]) for n in (1, 2, 3)]
    first, second = (state["master.0"] for state in states[:2])
    assert not torch.equal(first, first.bfloat16().float())  # what a policy's file would have lost
    assert 0 < (second - first).abs().max() < 1e-2


def test_a_spent_budget_ends_the_bake(recipe, tmp_path, monkeypatch):
    run = Run(tmp_path / "run")
    settings = [str(recipe), "bake.kl_budget=1e-6", "bake.learning_rate=1e-3", "--out", str(run.folder)]
    for stage in ("prompts", "sample", "reward", "score", "bake"):
        assert main([stage, *settings]) == 0
    assert len(json.loads(run.details("bake").read_text())["rounds"]) == 2  # the reference and one round
    steps = run.round("bake", 1).steps("bake")
    assert len(steps) == 1 and steps[0]["kl"] > 1e-6

    spent = Run(tmp_path / "spent")  # by the training's own prompts alone: those that choose among rounds are nearer
    monkeypatch.setattr(once, "kl_meter", lambda *_: lambda model, step: 9.0 * (step > 0))
    settings = [str(recipe), "bake.kl_budget=8", "bake.rounds=3", "--out", str(spent.folder)]
    for stage in ("prompts", "sample", "reward", "score", "bake"):
        assert main([stage, *settings]) == 0
    told = json.loads(spent.details("bake").read_text())
    assert len(told["rounds"]) == 2 and told["rounds"][1]["kl"]["value"] < 8
    assert told["kl_budget"] == 8.0  # what an alarm compares the tuned model with

    late = Run(tmp_path / "late")  # spent by the very last step: the next round would only be sampled
    monkeypatch.setattr(once, "kl_meter", lambda *_: lambda model, step: 9.0 * (step == 3))
    settings = [*settings[:-1], str(late.folder), "bake.batch_size=2"]
    for stage in ("prompts", "sample", "reward", "score", "bake"):
        assert main([stage, *settings]) == 0
    assert len(late.round("bake", 1).steps("bake")) == 3 and not late.round("bake", 2).folder.exists()


def test_rounds_need_prompts_to_choose_by(recipe, tmp_path, capsys):
    write_jsonl(tmp_path / "gold.jsonl", [{"prompt": "p", "answer": "a"}])
    gold = f"evaluate.holdout={tmp_path / 'gold.jsonl'}"
    settings = [str(recipe), "prompts.heldout=0.0", gold, "--out", str(tmp_path / "run")]
    assert main(["run", *settings]) == 2
    assert "prompts.heldout: 0 prompts are held out, 1 needed" in capsys.readouterr().err
    for stage in ("prompts", "sample", "reward", "score"):
        assert main([stage, *settings]) == 0
    assert main(["bake", *settings]) == 2
    assert "no prompt is held out to choose among rounds" in capsys.readouterr().err


def test_prompts_to_choose_by_that_cannot_be_completed_are_one_line_and_counted(recipe, tmp_path):
    current, long = (
        Run(tmp_path / "run").round("bake", 0),
        Prompt("p", [Message("user", "word " * 9000)], "log:1", 1, "heldout"),
    )
    settings = config.load(recipe)
    with pytest.raises(UserError, match="no prompt to choose among rounds could be completed"):
        rounds.validated(current, settings, settings.model, [long])
    assert [f.prompt_id for f in failures(current, "validation")] == ["p"]
