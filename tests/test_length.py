import json

import numpy as np
import pytest
from conftest import write_jsonl

from bakeoff.cli import main
from bakeoff.records import Message
from bakeoff.rewards import model as reward_model
from bakeoff.rewards.length import correlation, length_bias, length_slope
from bakeoff.rewards.trust import Judged


def group(value, reward, length, prompt="p"):
    return Judged(prompt, np.array(value, float), np.array(reward, float), np.array(length, float))


def test_accuracy_where_the_shorter_and_the_longer_was_preferred_by_hand():
    groups = [
        group([1, 0, 0], [2, 1, 3], [5, 9, 2], "1"),  # better: shorter than the 2nd (won), longer than the 3rd (lost)
        group([0, 1], [1, 1], [9, 4], "2"),  # shorter, a tie
        group([1, 1], [1, 5], [1, 9], "3"),  # tells nothing
    ]
    bias = length_bias(groups, seed=0)
    assert bias["shorter_better"].value == pytest.approx((1 + 0.5) / 2) and bias["shorter_better"].n == 2
    assert bias["longer_better"].value == 0


def test_correlation_is_within_groups():
    # within each group the reward falls with length; between the groups it rises
    groups = [group([1, 0], [5, 4], [100, 101], "1"), group([1, 0], [9, 8], [200, 201], "2")]
    bias = length_bias(groups, seed=0)
    assert bias["reward_correlation"].value == pytest.approx(-1) and bias["value_correlation"].value == pytest.approx(
        -1
    )


def test_the_controlled_reward_has_no_correlation_with_length_within_groups():
    rng = np.random.default_rng(0)
    lengths = [rng.integers(1, 300, size=k).astype(float) for k in (2, 4, 8, 8, 16)]
    rewards = [0.02 * length + rng.normal(size=len(length)) + 7 * i for i, length in enumerate(lengths)]
    slope = length_slope(lengths, rewards)
    assert slope == pytest.approx(0.02, abs=0.003)
    controlled = [r - slope * n for r, n in zip(rewards, lengths, strict=True)]
    groups = [group(np.arange(len(r)), r, n, str(i)) for i, (r, n) in enumerate(zip(controlled, lengths, strict=True))]
    assert correlation(groups, controlled, seed=0).value == pytest.approx(0, abs=1e-9)
    assert correlation(groups, rewards, seed=0).value > 0.8
    assert length_slope(lengths, [r + 100 for r in rewards]) == pytest.approx(slope)  # a group's own level is nothing


def test_no_slope_where_lengths_do_not_differ():
    assert length_slope([np.array([3.0, 3.0])], [np.array([1.0, 2.0])]) == 0


def test_length_control_takes_the_length_out_of_a_trained_model(tiny_llama, tmp_path):
    rng = np.random.default_rng(0)
    texts = [["ba"[int(n > 19)] * int(n) for n in rng.choice(range(1, 40), size=4, replace=False)] for _ in range(60)]
    rows = [
        {"prompt": f"Q{i}?", "completions": t, "pick": int(np.argmax([len(x) for x in t]))} for i, t in enumerate(texts)
    ]
    data = write_jsonl(tmp_path / "picks.jsonl", rows)
    command = ["reward", "train", str(data), "--base", str(tiny_llama), "epochs=2", "learning_rate=3e-3", "heldout=0.0"]
    found = {}
    for control in ("false", "true"):
        folder = tmp_path / control
        assert main([*command, f"length_control={control}", "--out", str(folder)]) == 0
        scorer = reward_model.load(folder)
        rewards = [np.array(r) for r in scorer.rewards([([Message("user", f"Q{i}?")], t) for i, t in enumerate(texts)])]
        judged = [
            group(np.arange(4), r, [len(x) for x in t], str(i))
            for i, (r, t) in enumerate(zip(rewards, texts, strict=True))
        ]
        found[control] = correlation(judged, rewards, seed=0).value
    assert found["false"] > 0.5 and found["true"] == pytest.approx(0, abs=1e-3)
    assert json.loads((tmp_path / "true" / "config.json").read_text())[reward_model.LENGTH_SLOPE] > 0
