import numpy as np
import pytest

from bakeoff.preferences.gate import Judged, judged
from bakeoff.preferences.metrics import features, slices
from bakeoff.records import Message, Pick


def pick(prompt, completions=("a", "bb"), best=0, source="one.jsonl:3"):
    return Pick([Message("user", prompt)], list(completions), best, source)


def test_features_by_hand():
    row = features(pick("hello", ("a", "bbbb", "cccc")))
    assert row["source"] == "one.jsonl" and row["prompt, characters"] == 5 and row["completions"] == 3
    assert row["mean length, characters"] == 3 and row["longest over shortest"] == 4


def test_the_worst_slice_is_the_source_on_which_it_fails():
    good = [pick(f"{'p' * i}", source=f"good.jsonl:{i}") for i in range(1, 61)]
    bad = [pick(f"{'p' * i}", source=f"bad.jsonl:{i}") for i in range(1, 41)]
    groups = judged([*good, *bad], [[1, 0]] * 60 + [[0, 1]] * 30 + [[1, 0]] * 10)
    found = slices(groups, [features(p) for p in [*good, *bad]], seed=0)
    worst = found[0]
    assert (worst["by"], worst["name"]) == ("source", "bad.jsonl")
    assert worst["pick_accuracy"]["value"] == 0.25 and worst["chance"]["value"] == 0.5
    assert worst["lift"]["value"] == pytest.approx(-0.5) and worst["pick_accuracy"]["n"] == 40
    thirds = [row for row in found if row["by"] == "prompt, characters"]
    assert sum(row["pick_accuracy"]["n"] for row in thirds) == 100 and len(thirds) == 3
    assert not [row for row in found if row["by"] in ("turns", "completions")]  # one value: no cut


def test_more_completions_make_chance_smaller_and_lift_comparable():
    groups = [
        Judged(str(i), np.eye(k)[0], np.arange(k, 0, -1.0), np.ones(k)) for i, k in enumerate([2] * 30 + [8] * 30)
    ]
    found = slices(groups, [{"completions": len(g.value)} for g in groups], seed=0)
    assert {row["name"]: row["chance"]["value"] for row in found} == {"2": 0.5, "8": 0.125}
    assert all(row["lift"]["value"] == 1 for row in found)


def test_small_slices_are_not_shown():
    picks = [pick(str(i), source="a:1" if i < 19 else "b:1") for i in range(60)]
    found = slices(judged(picks, [[1, 0]] * 60), [features(p) for p in picks], seed=0)
    assert [row["name"] for row in found if row["by"] == "source"] == ["b"]
    assert slices([], [], seed=0) == []
