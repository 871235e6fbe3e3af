"""Baking on a tiny model: it learns what the reward prefers, and goes on bit for bit where it was stopped."""

import dataclasses
import itertools
import random

import numpy as np
import pytest
import torch
from conftest import byte_tokenizer
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from bakeoff.errors import UserError
from bakeoff.models import optimizer, packed_logps, packing
from bakeoff.models.chat import answer_tokens
from bakeoff.models.load import add_lora, freeze_layers, load_policy, lora_rank
from bakeoff.models.optimizer import follow
from bakeoff.records import Completion, Message, Prompt, Score
from bakeoff.run import open_run
from bakeoff.settings import Bake, Recipe, Sample, Scoring, Task
from bakeoff.training import stage
from bakeoff.training.groups import draw_agreement, group_of, most_agreed, shuffled, teaching
from bakeoff.training.methods import METHODS, Group, best_weights
from bakeoff.training.stage import NothingToBake, TrainingData, by_variant, train
from bakeoff.training.trainer import PolicyTraining

PROMPTS = [[5, 6, 7 + i] for i in range(6)]
GOOD, BAD = [40, 41, 42], [50, 51]


def groups():
    ok = np.array([True, True, True])
    return [Group(f"p{i}", [BAD, GOOD, [60]], np.array([0.0, 1.0, 0.2]), np.array([3, 1, 2]), ok) for i in range(6)]


def recipe(lora=0, **changes):
    settings = Bake(**{"batch_size": 2, "epochs": 2, "learning_rate": 3e-3} | changes)
    return Recipe(bake=settings, lora=lora, sample=Sample(group_size=6))


def training(folder, temperature=1.0, frozen=0.0, **settings):
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    chosen = recipe(**settings)
    chosen = dataclasses.replace(chosen, sample=dataclasses.replace(chosen.sample, temperature=temperature))
    freeze_layers(model, frozen)
    return PolicyTraining(model, groups(), PROMPTS, chosen)


def logps(model, branch):
    packed = packing.pack([packing.SharedPrefix(i, prompt, [branch]) for i, prompt in enumerate(PROMPTS)], model)
    with torch.no_grad():
        return packed_logps.token_logps(model, packed)[0].sum().item()


@pytest.mark.parametrize("method", list(METHODS))
def test_the_good_becomes_likelier_against_the_bad(tiny_llama, method):
    work = training(tiny_llama, method=method, epochs=8)
    before = logps(work.model, GOOD) - logps(work.model, BAD)
    metrics = list(work.steps())
    assert len(metrics) == 24 and metrics[-1]["loss"] < metrics[0]["loss"]
    assert logps(work.model, GOOD) - logps(work.model, BAD) > before + 1


def test_log_ratios_are_those_at_which_completions_are_drawn(tiny_llama):
    work = training(tiny_llama, temperature=0.7, method="qrpo")
    packed = packing.pack(work.prefixes[:1], work.model)
    with torch.no_grad():
        logps = [packed_logps.token_logps(work.model, packed, temperature)[0] for temperature in (0.7, 1.0)]
    drawn, other = ([s.sum().item() for s in x.split([len(b) for b in work.prefixes[0].completions])] for x in logps)
    assert work.ref_logps[0].tolist() == pytest.approx(drawn, abs=1e-3) and drawn != pytest.approx(other, abs=0.1)
    assert (
        training(tiny_llama, temperature=0.7).temperature == 1.0
    )  # best_of_n_sft makes its answers likely as they are


@pytest.mark.parametrize("method", ["best_of_n_sft", "qrpo", "grpo"])
def test_stopped_in_the_middle_it_goes_on_bit_for_bit(tiny_llama, tmp_path, monkeypatch, method):
    monkeypatch.setattr(optimizer, "CHECKPOINT_SECONDS", 0.0)
    whole, broken = training(tiny_llama, method=method), training(tiny_llama, method=method)
    list(whole.steps())
    run = open_run(tmp_path / "run", recipe())
    follow(run, "bake", broken.optimizer, itertools.islice(broken.steps(), 2))
    again = training(tiny_llama, method=method)
    follow(run, "bake", again.optimizer, again.steps())
    assert [line["step"] for line in run.steps("bake")] == list(range(6))
    for a, b in zip(whole.model.parameters(), again.model.parameters(), strict=True):
        assert torch.equal(a, b)


def test_equal_completions_are_one_counted():
    drawn = [Completion(f"c{i}", "p", i, "x", tokens, -1.0, "stop") for i, tokens in enumerate([[1], [2], [1], [1]])]
    group = group_of("p", [(c, float(i)) for i, c in enumerate(drawn)])
    assert group.tokens == [[1], [2]] and group.count_M.tolist() == [3, 1]


def test_at_random_a_completion_is_the_best_as_often_as_it_was_drawn():
    rows = [Completion(f"c{i}", "p", i, "x", tokens, -1.0, "stop") for i, tokens in enumerate([[1]] * 6 + [[2], [3]])]
    scores = [Score(c.id, "p", "test", float(i)) for i, c in enumerate(rows)]
    won = np.zeros(3)
    for seed in range(400):
        dealt = shuffled(rows, scores, random.Random(seed))
        assert [s.completion_id for s in dealt] == [c.id for c in rows]
        won += best_weights(group_of("p", [(c, s.reward) for c, s in zip(rows, dealt, strict=True)]), 8)
    assert won / 400 == pytest.approx([6 / 8, 1 / 8, 1 / 8], abs=0.06)
    unscored = [dataclasses.replace(s, reward=None) for s in scores]
    assert {s.reward for s in shuffled(rows, unscored, random.Random(0))} == {None}


def test_dealt_rewards_have_spread_where_the_real_ones_have():
    tokens = [[1]] * 3 + [[2]] * 3
    rows = [Completion(f"c{i}", "p", i, "x", t, -1.0, "stop") for i, t in enumerate(tokens)]
    scores = [Score(c.id, "p", "test", float(i < 3)) for i, c in enumerate(rows)]
    dealt = [shuffled(rows, scores, random.Random(seed)) for seed in range(200)]
    assert all(len({s.reward for s in group}) == 2 for group in dealt)
    assert sum(group[0].reward for group in dealt) == pytest.approx(100, abs=25)
    uneven = [dataclasses.replace(c, tokens=[1 + (i == 5)]) for i, c in enumerate(rows)]  # 5 draws of the right answer
    right = [dataclasses.replace(s, reward=float(i < 5)) for i, s in enumerate(scores)]
    assert sum(shuffled(uneven, right, random.Random(seed))[0].reward for seed in range(200)) == pytest.approx(
        200 * 5 / 6, abs=20
    )
    cut = [dataclasses.replace(c, finish="length" if i % 3 else "stop", tokens=[i]) for i, c in enumerate(rows)]
    whole = [shuffled(cut, scores, random.Random(seed)) for seed in range(50)]  # what is cut short wins nothing
    assert all({group[0].reward, group[3].reward} == {0.0, 1.0} for group in whole)
    assert all(
        [s for i, s in enumerate(group) if i % 3] == [s for i, s in enumerate(scores) if i % 3] for group in whole
    )
    flat = [dataclasses.replace(s, reward=1.0) for s in scores]
    assert {s.reward for s in shuffled(rows, flat, random.Random(0))} == {1.0}


def test_a_strategy_is_judged_by_its_whole_answers():
    drawn = [("plain", "stop", 1.0), ("plain", "stop", 0.0), ("steps", "length", 5.0), ("steps", "stop", 0.5)]
    rows = [Completion(f"c{i}", "p", i, "x", [i], -1.0, end, name) for i, (name, end, _) in enumerate(drawn)]
    scores = [Score(c.id, "p", "test", reward) for c, (*_, reward) in zip(rows, drawn, strict=True)]
    found = by_variant(TrainingData("m", [], rows, scores, 0))
    assert {name: row["best"].value for name, row in found.items()} == {"plain": 1.0, "steps": 0.0}
    assert found["steps"]["reward"].value == 0.5 and found["steps"]["share"].value == 0.5


def test_groups_that_teach_nothing_are_dropped_and_counted():
    def drawn(key, rewards, finish="stop"):
        rows = [Completion(f"{key}{i}", key, i, "x", [i], -1.0, finish) for i in range(len(rewards))]
        return rows, [Score(c.id, key, "test", r) for c, r in zip(rows, rewards, strict=True)]

    kinds = [drawn("a", [1.0, 2.0]), drawn("b", [1.0, 1.0]), drawn("c", [1.0, 2.0], "length"), drawn("d", [None, None])]
    completions, scores = (list(itertools.chain(*x)) for x in zip(*kinds, strict=True))
    kept, counts = teaching(completions, scores, recipe())
    assert [g.prompt_id for g in kept] == ["a"]
    assert counts == {"trained": 1, "no_spread": 1, "unfinished": 1, "unscored": 1}


def one_group(*drawn):
    """Completions of one prompt and their scores, from (text, tokens, finish, reward)."""
    rows = [Completion(f"c{i}", "p", i, text, tokens, -1.0, end) for i, (text, tokens, end, _) in enumerate(drawn)]
    why = "raised: KeyError: 'score'"
    scores = [Score(c.id, "p", "mine", r, "" if r is not None else why) for c, (*_, r) in zip(rows, drawn, strict=True)]
    return rows, scores


CUT, SAID = ("x", [1], "length", None), ("x", [2, 9], "stop", None)
CAUSES = {
    "unfinished": [CUT, CUT, ("", [9], "stop", None)],
    "empty": [("", [9], "stop", 0.5), (" ", [9], "stop", 0.1), CUT],
    "looping": [("x", [5] * 40, "stop", 1.0), ("x", [6] * 40, "stop", 2.0)],
    "unscored": [CUT, CUT, SAID, ("y", [3, 9], "stop", None)],  # what was cut short is not the first cause
    "alike": [("x", [2, 9], "stop", 1.0)] * 4,
    "no_spread": [("x", [2, 9], "stop", 1.0), ("y", [3, 9], "stop", 1.0)],
}


@pytest.mark.parametrize("cause", CAUSES)
def test_a_group_that_teaches_nothing_counts_once_under_its_first_cause(cause):
    kept, counts = teaching(*one_group(*CAUSES[cause]), recipe())
    assert not kept and counts == {cause: 1}


def test_one_reward_among_several_answers_leaves_nothing_to_compare_for_want_of_the_others():
    assert teaching(*one_group(SAID, ("y", [3, 9], "stop", 1.0)), recipe())[1] == {"unscored": 1}


@pytest.mark.parametrize(
    ("cause", "words"),
    [
        ("unfinished", "of 1 groups 1 with no finished completion; raise sample.max_tokens, or give sample.stop"),
        ("empty", "of 1 groups 1 with empty completions; find out why the model ends at once"),
        ("unscored", "without a reward (4 completions: raised: KeyError: 'score'); mend the scorer"),
        ("alike", "with one distinct completion; raise sample.temperature"),
        ("no_spread", "with one reward for all; take a scorer that tells completions apart"),
    ],
)
def test_nothing_to_bake_names_the_cause_and_the_advice_for_it_alone(tmp_path, cause, words):
    completions, scores = one_group(*CAUSES[cause])
    data = TrainingData("no model is loaded", [Prompt("p", [], "log:1", 1, "train")], completions, scores, 0)
    run = open_run(tmp_path / "run", recipe())
    with pytest.raises(NothingToBake) as raised:
        train(run, recipe(), data, "bake", run.policy)
    assert words in str(raised.value)
    others = {"max_tokens", "temperature", "scorer"} - set(words.replace(".", " ").replace(",", " ").split())
    assert cause == "no_spread" or not any(word in str(raised.value) for word in others)


def test_the_groups_kept_of_each_task_are_those_whose_best_answer_is_often_given():
    def drawn(key, texts, finish=()):
        return [
            Completion(f"{key}{i}", key, i, t, [i], -1.0, "length" if i in finish else "stop")
            for i, t in enumerate(texts)
        ]

    rows = {
        "a1": drawn("a1", ["$4.0 million", "It is 4 million dollars... $4 million.", "2019", "$5"]),  # 2 of 4
        "a2": drawn("a2", ["x", "y", "z", "w"]),
        "a3": drawn("a3", ["Hale", "the hale", "hale.", "Port"], finish=(1, 2)),  # the others are cut short: 1 of 4
        "b1": drawn("b1", ["u", "v", "u", "v"]),
        "b2": drawn("b2", ["u", "v", "w", "q"]),
    }
    completions = [c for group in rows.values() for c in group]
    scores = [Score(c.id, c.prompt_id, "test", float(-c.index)) for c in completions]
    prompts = [Prompt(key, [Message("user", key)], "log:1", 1, "train", key[0]) for key in rows]
    groups, _ = teaching(completions, scores, Recipe())
    shares = {g.prompt_id: draw_agreement(g, rows[g.prompt_id]) for g in groups}
    assert shares == {"a1": 0.5, "a2": 0.25, "a3": 0.25, "b1": 0.5, "b2": 0.25}
    both = [Task("a"), Task("b")]

    def kept(drawn, share):
        chosen = Recipe(bake=Bake(agreement_quantile=share), tasks=both)
        return [g.prompt_id for g in most_agreed(groups, prompts, drawn, chosen)]

    assert kept(completions, 0.4) == ["a1", "b1"]
    both[1] = Task("b", score=Scoring(extract="[qw]"))  # each task's answers are told as its own settings say
    with_letters = [dataclasses.replace(c, text=f"{c.text} q") if c.prompt_id == "b2" else c for c in completions]
    assert kept(with_letters, 0.4) == ["a1", "b2"]
    assert len(kept(completions, 1.0)) == len(groups) and len(kept(completions, 0.01)) == 2


def test_what_is_no_whole_answer_ranks_below_all_that_are():
    rows = [("x", [1, 9], "stop"), ("x", [2, 9], "stop"), ("x", [3] * 9, "length"), (" ", [9], "stop")]
    rows.append(("x", [5] * 40, "stop"))
    drawn = [Completion(f"c{i}", "p", i, *row[:2], -1.0, row[2]) for i, row in enumerate(rows)]
    group = group_of("p", [(c, float(i)) for i, c in enumerate(drawn)])
    assert group.finished_M.tolist() == [True, True, False, False, False]
    assert group.reward_M.tolist() == [0, 1, -0.5, -0.5, -0.5]


def test_an_answer_that_one_strategy_left_without_its_mark_is_whole_where_another_gave_it():
    drawn = [("steps", "length", None), ("examples", "stop", 5.0), ("examples", "stop", 0.0)]
    tokens = [[42], [42], [43]]
    rows = [
        (Completion(f"c{i}", "p", i, "42", tokens[i], -1.0, finish, strategy), reward)
        for i, (strategy, finish, reward) in enumerate(drawn)
    ]
    group = group_of("p", rows)
    assert group.tokens == [[42], [43]] and group.finished_M.all() and group.reward_M.tolist() == [5.0, 0.0]
    assert group.count_M.tolist() == [2, 1] and group.best == 0


def training_data(model, size=4):
    prompts = [Prompt(f"p{i}", [Message("user", f"q{i}")], "log:1", 1, "train") for i in range(size)]
    texts = ("good", "bad", "so so")
    tokens = [answer_tokens(byte_tokenizer(), text) for text in texts]
    rows = [Completion(f"{p.id}{i}", p.id, i, texts[i], tokens[i], -1.0, "stop") for p in prompts for i in range(3)]
    scores = [Score(c.id, c.prompt_id, "test", float(c.text == "good")) for c in rows]
    return TrainingData(str(model), prompts, rows, scores, 0)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_adapters_train_alone_and_leave_a_plain_model_that_a_budget_can_watch(tiny_llama, tmp_path, dtype):
    chosen = recipe(lora=4, learning_rate=1e-2, epochs=4, kl_budget=1e6)
    chosen = dataclasses.replace(chosen, model=str(tiny_llama), dtype=dtype, sample=Sample(group_size=3, max_tokens=8))
    run = open_run(tmp_path / "run", chosen)
    train(run, chosen, training_data(tiny_llama), "bake", run.policy)
    before, after = (load_file(folder / "model.safetensors") for folder in (tiny_llama, run.policy))
    assert before.keys() == after.keys()
    moved = {name for name in before if not torch.equal(before[name].to(after[name].dtype), after[name])}
    assert moved and all("layers.1." in name and "_proj" in name for name in moved)
    spent = [line["kl"] for line in run.steps("bake") if "kl" in line]
    assert len(spent) == 8 and all(kl > 0 for kl in spent)
    losses = [line["loss"] for line in run.steps("bake")]
    assert losses[-1] < losses[0]


def test_adapters_under_a_budget_go_on_bit_for_bit_too(tiny_llama, tmp_path, monkeypatch):
    monkeypatch.setattr(optimizer, "CHECKPOINT_SECONDS", 0.0)
    chosen = recipe(lora=4, learning_rate=1e-2, epochs=4, kl_budget=1e6)
    chosen = dataclasses.replace(chosen, model=str(tiny_llama), sample=Sample(group_size=3, max_tokens=8))
    whole, broken = (open_run(tmp_path / name, chosen) for name in ("whole", "broken"))
    train(whole, chosen, training_data(tiny_llama), "bake", whole.policy)

    class Stopped(PolicyTraining):
        def steps(self):
            yield from itertools.islice(super().steps(), 3)
            raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(stage, "PolicyTraining", Stopped)
        train(broken, chosen, training_data(tiny_llama), "bake", broken.policy)
    assert broken.checkpoint("bake").exists() and not broken.policy.exists()
    train(broken, chosen, training_data(tiny_llama), "bake", broken.policy)
    ends = [load_file(run.policy / "model.safetensors") for run in (whole, broken)]
    assert all(torch.equal(ends[0][name], ends[1][name]) for name in ends[0])
    assert [line["loss"] for line in whole.steps("bake")] == [line["loss"] for line in broken.steps("bake")]


def test_dealt_rewards_are_trained_on_in_the_groups_that_the_real_ones_are_sure_of(tiny_llama, tmp_path, monkeypatch):
    seen = []

    class Seen(PolicyTraining):
        def __init__(self, model, groups, *args, **kwargs):
            seen.append({g.prompt_id: g.tokens[int(g.reward_M.argmax())] for g in groups})
            super().__init__(model, groups, *args, **kwargs)

    monkeypatch.setattr(stage, "PolicyTraining", Seen)
    given = training_data(tiny_llama)
    texts = {"p11": "good", "p12": "good", "p31": "good", "p02": "bad", "p22": "bad"}  # where the best has company
    rows = [dataclasses.replace(c, text=texts.get(c.id, c.text)) for c in given.completions]
    wrong = [dataclasses.replace(s, reward=float(c.index)) for s, c in zip(given.scores, rows, strict=True)]
    level = [dataclasses.replace(s, reward=1.0) for s in given.scores]  # as dealing may leave them
    chosen = recipe(agreement_quantile=0.5, epochs=1)
    chosen = dataclasses.replace(chosen, model=str(tiny_llama), sample=Sample(group_size=3, max_tokens=8))
    for number, dealt in enumerate((None, wrong, level)):
        run = open_run(tmp_path / str(number), chosen)
        used = dataclasses.replace(given, completions=rows, shuffled=dealt)
        train(run, chosen, used, "bake", run.policy)
    assert seen[0].keys() == seen[1].keys() == seen[2].keys() == {"p1", "p3"} and seen[0] != seen[1]
    no_spread, _ = teaching(rows, level, chosen)
    assert no_spread == []


def test_where_no_layer_is_left_for_adapters_it_is_one_line(tiny_llama):
    model, _ = load_policy(str(tiny_llama))
    freeze_layers(model, 1.0)
    with pytest.raises(UserError, match="no linear layer is left to adapt; set lora to 0"):
        add_lora(model, 4)


def test_adapters_are_the_default_above_a_size_only(tiny_llama, monkeypatch):
    model = AutoModelForCausalLM.from_pretrained(tiny_llama)
    assert [lora_rank(model, setting) for setting in (-1, 0, 8)] == [0, 0, 8]
    monkeypatch.setattr("bakeoff.models.load.LORA_ABOVE", 1000)
    assert lora_rank(model, -1) == 16


def test_frozen_layers_stay_as_they_are(tiny_llama):
    work = training(tiny_llama, frozen=0.5)
    before = {name: p.clone() for name, p in work.model.named_parameters()}
    list(work.steps())
    moved = {name for name, p in work.model.named_parameters() if not torch.equal(p, before[name])}
    assert "lm_head.weight" in moved  # not tied to the embeddings here
    assert not any("layers.0." in name or "embed" in name for name in moved)
