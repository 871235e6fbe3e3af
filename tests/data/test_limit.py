"""Sampling down: so many prompts as asked for, unlike each other, from every stratum, the same ones each time."""

from __future__ import annotations

import json
import random

import numpy as np
import pytest
from ingested import clean, lengths

from bakeoff.data.dedup.diversity import farthest_first, most_diverse, shared, vectors
from bakeoff.data.dedup.minhash import hashed
from bakeoff.data.prepare import clean_into
from bakeoff.errors import UserError
from bakeoff.settings import Fields, Prompts

TOPICS = {
    "river": "Which river flows through the valley of {}?",
    "bread": "How long must rye bread bake in an oven like {}?",
    "chess": "Is the opening called {} any good in chess?",
    "taxes": "Do I pay income tax on a gift from {}?",
}


def names(n, seed=0):
    rng = random.Random(seed)
    return ["".join(rng.choice(["ka", "lo", "mi", "ru", "te", "zo"]) for _ in range(5)) for _ in range(n)]


def log(tmp_path, sizes):
    """So many prompts of each topic."""
    rows = [{"prompt": TOPICS[t].format(name), "topic": t} for t, n in sizes.items() for name in names(n)]
    (tmp_path / "log.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    return tmp_path / "log.jsonl"


def topics(result):
    asked = [p.messages[0].content for p in result.prompts]
    return {t: sum(a.startswith(text.split("{")[0]) for a in asked) for t, text in TOPICS.items()}


SIZES = {"river": 300, "bread": 60, "chess": 20, "taxes": 3}


def test_a_sample_is_of_every_kind_though_most_prompts_are_of_one(tmp_path):
    path = log(tmp_path, SIZES)
    whole = clean([path], Prompts())
    result = clean([path], Prompts(limit=12))
    assert len(result.prompts) == 12 and result.dropped["over the limit"] == 383 - 12 - result.dropped.get(
        "near duplicate", 0
    )
    assert {s.reason for s in result.set_aside} == {"over the limit"} and not whole.set_aside
    assert all(n >= 1 for n in topics(result).values()), "a random dozen has no question of taxes nine times in ten"
    assert {p.id for p in result.prompts} == {p.id for p in clean([path], Prompts(limit=12)).prompts}
    assert {p.id for p in result.prompts} != {p.id for p in clean([path], Prompts(limit=12), seed=1).prompts}
    assert topics(clean([path], Prompts(limit=1000))) == topics(whole), "fewer than the limit: all"


def test_strata_share_alike_and_what_one_lacks_goes_to_the_others(tmp_path):
    path = log(tmp_path, SIZES)
    assert topics(clean([path], Prompts(limit=40, fields=Fields(stratify="topic")))) == {
        "river": 13,
        "bread": 12,
        "chess": 12,
        "taxes": 3,
    }
    (tmp_path / "words.txt").write_text(
        "What is the name of the river that they cross?\nWas ist der Name von dem Fluss, den sie mit uns sehen?\n"
        "Which of the two is the one that I should take?\nIs it the same as the other one that we have?\n"
    )
    result = clean([tmp_path / "words.txt"], Prompts(limit=2, fields=Fields(stratify="language"), heldout=0.0))
    assert [p.messages[0].content.startswith("Was ist") for p in result.prompts].count(True) == 1


def test_duplicates_of_what_is_over_the_limit_are_set_aside_with_it(tmp_path):
    path = log(tmp_path, {"river": 30, "taxes": 2})
    path.write_text(path.read_text() * 3)
    result = clean([path], Prompts(limit=5))
    assert [p.count for p in result.prompts] == [3] * 5 and result.dropped["duplicate"] == 10
    assert result.dropped["over the limit"] == len(result.set_aside) == 96 - 15


def test_picks_of_prompts_over_the_limit_are_kept(tmp_path):
    rows = [{"prompt": f"What is the colour of {n}?", "response": "Red.", "edited": "Blue."} for n in names(20)]
    (tmp_path / "log.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    counts = clean_into(tmp_path, [tmp_path / "log.jsonl"], Prompts(limit=4, heldout=0.0), count_tokens=lengths)
    assert counts.kept == 4 and counts.picks == counts.feedback["edit"] == 20


def test_strata_are_counted_and_redacted(tmp_path):
    rows = [
        {"prompt": f"What is the colour of {n}?", "who": f"mail{i % 2}@example.com" if i < 9 else None}
        for i, n in enumerate(names(20))
    ]
    (tmp_path / "log.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    counts = clean_into(
        tmp_path, [tmp_path / "log.jsonl"], Prompts(limit=10, fields=Fields(stratify="who")), count_tokens=lengths
    )
    assert counts.strata == {"[EMAIL_1]": 5, "": 5}


def test_farthest_first_by_hand():
    points = np.array([[0, 0], [1, 0], [10, 0], [10, 1], [0, 9], [0, 0]], np.float32)
    centres, nearest = farthest_first(points, 3)
    assert centres.tolist() == [0, 3, 4] and nearest.tolist() == [0, 0, 1, 1, 2, 0]
    assert sorted(farthest_first(points, 6)[0].tolist()) == [0, 1, 2, 3, 4, 5], "equals too, each once"


@pytest.mark.parametrize(
    ("sizes", "room", "expected"),
    [
        ([5, 5], 4, [2, 2]),
        ([1, 9], 6, [1, 5]),
        ([3, 100, 3], 20, [3, 14, 3]),
        ([2, 2], 9, [2, 2]),
        ([4, 4, 4], 4, [1, 1, 2]),
    ],
)
def test_room_is_shared_evenly(sizes, room, expected):
    assert shared(np.array(sizes), room).tolist() == expected


def test_any_number_of_prompts_alike_or_not_gives_exactly_as_many(tmp_path):
    words = [[f"word{i % 7}", "the", f"w{i % 400}"] for i in range(2000)]
    known, counts = np.unique(hashed([w for document in words for w in document]), return_counts=True)
    found = vectors(words, known, counts.astype(np.uint32), 2000)
    ids = [str(i) for i in range(2000)]
    for room in (1, 7, 128, 129, 500, 1999):
        assert most_diverse(found, room, strata=[""] * 2000, ids=ids, seed=0).sum() == room
    alike = np.repeat(found[:1], 2000, 0)
    assert most_diverse(alike, 700, strata=[""] * 2000, ids=ids, seed=0).sum() == 700
    first = most_diverse(found, 350, strata=[""] * 2000, ids=ids, seed=0)
    assert len({tuple(words[i]) for i in np.flatnonzero(first)}) == 350, (
        "there are 2,000 kinds, 400 of them by the last word"
    )


def test_a_limit_that_cannot_be_is_an_error(tmp_path):
    path = log(tmp_path, {"river": 3})
    with pytest.raises(UserError, match=r"prompts\.limit.*'topic' shares"):
        clean([path], Prompts(fields=Fields(stratify="topic")))
