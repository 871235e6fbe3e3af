"""Ensembles: the arithmetic by hand, the bootstrap, and members that are plain folders."""

import dataclasses

import numpy as np
import pytest
import torch
from conftest import write_jsonl
from transformers import AutoModelForSequenceClassification

from bakeoff import cli
from bakeoff.records import Completion, Message, Pick, prompt_id
from bakeoff.rewards import choose, ensemble
from bakeoff.rewards import model as reward_model
from bakeoff.run import open_run, read_json
from bakeoff.settings import Recipe, Reward, Scoring
from bakeoff.train_reward import train_reward


def test_the_mean_less_the_variance_by_hand():
    r_KN = np.array([[1.0, 3.0, 2.0], [2.0, 8.0, 5.0]])  # means 2 and 5; apart -1 1 0 and -3 3 0
    assert ensemble.combined(r_KN, r_KN.mean(1), 0.0).tolist() == [1.5, 5.5, 3.5]
    assert ensemble.combined(r_KN, r_KN.mean(1), 0.5).tolist() == [1.0, 5.0, 3.5]


def test_a_members_own_constant_is_no_disagreement():
    r_KN = np.random.default_rng(0).normal(size=(4, 6))
    shifted = r_KN + np.array([[5.0], [-3.0], [0.0], [100.0]])
    one, other = (ensemble.combined(r, r.mean(1), 2.0) for r in (r_KN, shifted))
    assert one - one[0] == pytest.approx(other - other[0])


def test_a_bootstrap_draws_whole_prompts():
    picks = [Pick([Message("user", f"q{i // 2}")], ["a", "b"], i % 2, "f:1") for i in range(40)]
    drawn = ensemble.bootstrap(picks, seed=0, number=2)
    counts = {key: sum(prompt_id(p.messages) == key for p in drawn) for key in {prompt_id(p.messages) for p in picks}}
    assert sum(counts.values()) == 40 and {n % 2 for n in counts.values()} == {0} and {0, 4} <= set(counts.values())
    assert drawn == ensemble.bootstrap(picks, seed=0, number=2) != ensemble.bootstrap(picks, seed=0, number=3)


def test_the_stage_trains_members_that_load_alone_and_the_scorer_is_all_of_them(tmp_path, tiny_llama):
    rows = [{"prompt": f"question {i}", "completions": ["aa", "b", "ccc"], "pick": i % 3} for i in range(24)]
    picks = write_jsonl(tmp_path / "picks.jsonl", rows)
    settings = Reward(picks=[str(picks)], members=2, spread_penalty=3.0, learning_rate=1e-2)
    recipe = Recipe(model=str(tiny_llama), dtype="float32", reward=settings)
    run = open_run(tmp_path / "run", recipe)
    train_reward(run, recipe)
    assert [p.name for p in run.members(2)] == ["reward_model", "reward_model_2"]
    for folder in run.members(2):
        assert AutoModelForSequenceClassification.from_pretrained(folder).config.num_labels == 1
    texts = ["aa", "b", "ccc", "b"]
    group = (
        [Message("user", "question 1")],
        [Completion(f"c{i}", "p", i, t, [], None, "stop") for i, t in enumerate(texts)],
    )
    each = [reward_model.load(folder, recipe).rewards([(group[0], texts)])[0] for folder in run.members(2)]
    assert each[0] != each[1]
    r_KN = np.array(each)
    (scores,) = choose.scorer(run, recipe).score([group])
    assert [s.reward for s in scores] == pytest.approx(ensemble.combined(r_KN, r_KN.mean(1), 3.0).tolist(), abs=1e-6)
    (against,) = choose.scorer(run, recipe, (), {"p": group[1][:2]}).score([group])  # on the scale of its peers
    assert [s.reward for s in against] == pytest.approx(
        ensemble.combined(r_KN, r_KN[:, :2].mean(1), 3.0).tolist(), abs=1e-6
    )

    figures = read_json(run.details("reward_model"))
    alone = open_run(tmp_path / "alone", dataclasses.replace(recipe, reward=dataclasses.replace(settings, members=1)))
    train_reward(alone, dataclasses.replace(recipe, reward=dataclasses.replace(settings, members=1)))
    assert figures["trained_tokens"] > read_json(alone.details("reward_model"))["trained_tokens"]


def test_heads_on_one_trunk_are_an_ensemble_in_a_plain_folder_of_their_mean(tmp_path, tiny):
    rows = [{"prompt": f"question {i}", "completions": ["aa", "b", "ccc"], "pick": i % 2} for i in range(24)]
    data, out = write_jsonl(tmp_path / "picks.jsonl", rows), tmp_path / "model"
    settings = ["heads=3", "dtype=float32", "learning_rate=1e-2", "heldout=0.0"]
    assert cli.main(["reward", "train", str(data), *settings, "--base", str(tiny), "--out", str(out)]) == 0
    recipe, groups = Recipe(dtype="float32"), [([Message("user", "question 1")], ["aa", "b", "ccc", "dddd"])]
    (r_HN,) = reward_model.load(out, recipe).each(groups)
    assert r_HN.shape == (3, 4) and min(np.ptp(r_HN, axis=0)) > 1e-3
    plain = AutoModelForSequenceClassification.from_pretrained(out, dtype=torch.float32)
    assert plain.config.num_labels == 1 and plain.score.weight.shape[0] == 1
    one = reward_model.RewardModel(plain.eval(), reward_model.load(out, recipe).tokenizer)
    assert one.rewards(groups)[0] == pytest.approx(r_HN.mean(0).tolist(), abs=1e-4)
    found = choose.scorer(None, Recipe(dtype="float32", score=Scoring(scorer=f"reward_model:{out}")))
    assert found.rewards(groups)[0] == pytest.approx(ensemble.combined(r_HN, r_HN.mean(1), 0.5).tolist(), abs=1e-5)


def test_a_head_learns_as_often_as_its_bootstrap_drew_the_prompt(tiny_llama):
    picks = [Pick([Message("user", f"q{i}")], ["aa", "b"], i % 2, "f:1") for i in range(400)]
    scorer = reward_model.fresh(tiny_llama, Recipe(dtype="float32"))
    training = reward_model.Training(scorer, picks, Reward(heads=4, centre=0.0), seed=0)
    drawn = torch.stack([training.draws[prompt_id(p.messages)] for p in picks])
    assert drawn.mean(0).tolist() == pytest.approx([1] * 4, abs=0.2)
    assert drawn.var(0).tolist() == pytest.approx([1] * 4, abs=0.3)  # Poisson's
    pick = next(p for p in picks if set(training.draws[prompt_id(p.messages)].tolist()) >= {0, 1, 2})
    with torch.no_grad():
        scorer.model.score.weight.copy_(scorer.model.score.weight[:1].expand(4, -1))  # alike, but for their draws
    training._accumulate([[pick]])
    at = next(i for i, p in enumerate(training.optimizer.parameters) if p is scorer.model.score.weight)
    slope = training.optimizer.masters[at].grad
    for head, times in zip(slope, training.draws[prompt_id(pick.messages)], strict=True):
        one = slope[training.draws[prompt_id(pick.messages)].tolist().index(1)]
        assert head.tolist() == pytest.approx((times * one).tolist(), abs=1e-7)
    assert slope.abs().max() > 0
