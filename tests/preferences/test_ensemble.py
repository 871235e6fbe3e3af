"""Ensembles: the arithmetic by hand, the bootstrap, and members that are plain folders."""

import dataclasses

import numpy as np
import pytest
from conftest import write_jsonl
from transformers import AutoModelForSequenceClassification

from bakeoff.preferences import reward_model
from bakeoff.preferences.stage import bootstrap_prompts, train_reward
from bakeoff.records import Completion, Message, Pick, prompt_id
from bakeoff.run import open_run, read_json
from bakeoff.scoring import choose
from bakeoff.settings import Recipe, Reward


def test_the_mean_less_the_variance_by_hand():
    r_KN = np.array(
        [[1.0, 3.0, 2.0], [2.0, 8.0, 5.0]]
    )  # means 2 and 5; apart -1 1 0 and -3 3 0; half of variances 1 1 0
    assert reward_model.combined(r_KN, r_KN.mean(1)).tolist() == [1.0, 5.0, 3.5]


def test_a_members_own_constant_is_no_disagreement():
    r_KN = np.random.default_rng(0).normal(size=(4, 6))
    shifted = r_KN + np.array([[5.0], [-3.0], [0.0], [100.0]])
    one, other = (reward_model.combined(r, r.mean(1)) for r in (r_KN, shifted))
    assert one - one[0] == pytest.approx(other - other[0])


def test_a_bootstrap_draws_whole_prompts():
    picks = [Pick([Message("user", f"q{i // 2}")], ["a", "b"], i % 2, "f:1") for i in range(40)]
    drawn = bootstrap_prompts(picks, seed=0, number=2)
    counts = {key: sum(prompt_id(p.messages) == key for p in drawn) for key in {prompt_id(p.messages) for p in picks}}
    assert sum(counts.values()) == 40 and {n % 2 for n in counts.values()} == {0} and {0, 4} <= set(counts.values())
    assert drawn == bootstrap_prompts(picks, seed=0, number=2) != bootstrap_prompts(picks, seed=0, number=3)


def test_the_stage_trains_members_that_load_alone_and_the_scorer_is_all_of_them(tmp_path, tiny_llama):
    rows = [{"prompt": f"question {i}", "completions": ["aa", "b", "ccc"], "pick": i % 3} for i in range(24)]
    picks = write_jsonl(tmp_path / "picks.jsonl", rows)
    settings = Reward(picks=[str(picks)], ensemble=2, learning_rate=1e-2)
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
    each = [reward_model.RewardModel.load(folder, recipe).rewards([(group[0], texts)])[0] for folder in run.members(2)]
    assert each[0] != each[1]
    r_KN = np.array(each)
    (scores,) = choose.make_scorer(run, recipe).score([group])
    assert [s.reward for s in scores] == pytest.approx(reward_model.combined(r_KN, r_KN.mean(1)).tolist(), abs=1e-6)
    (against,) = choose.make_scorer(run, recipe, (), {"p": group[1][:2]}).score([group])  # on the scale of its peers
    assert [s.reward for s in against] == pytest.approx(
        reward_model.combined(r_KN, r_KN[:, :2].mean(1)).tolist(), abs=1e-6
    )

    figures = read_json(run.details("reward_model"))
    alone = open_run(tmp_path / "alone", dataclasses.replace(recipe, reward=dataclasses.replace(settings, ensemble=1)))
    train_reward(alone, dataclasses.replace(recipe, reward=dataclasses.replace(settings, ensemble=1)))
    assert figures["trained_tokens"] > read_json(alone.details("reward_model"))["trained_tokens"]
