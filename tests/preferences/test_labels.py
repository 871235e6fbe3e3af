"""Every shape that people keep labels in becomes the same record."""

import csv
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import write_jsonl

from bakeoff.errors import UserError
from bakeoff.preferences import native_format
from bakeoff.preferences.formats import own_rows
from bakeoff.preferences.load import passed_over, read_picks
from bakeoff.records import Message

USER, BOT = {"role": "user", "content": "p"}, {"role": "assistant", "content": "hm"}
P = [Message("user", "p")]
THREE = {"prompt": "p", "completions": ["a", "b", "c"]}


def pick_of(row, source):
    """What a row of any format says, where it says one thing."""
    found = [native_format.pick_of(one, source) for one in own_rows(row, source)]
    assert len(found) < 2
    return found[0] if found else None


@pytest.mark.parametrize(
    ("row", "pick", "shape", "values"),
    [
        ({**THREE, "pick": 1}, 1, "pick", []),
        ({**THREE, "picks": [1, 2, 1, None, "cannot tell"]}, 1, "votes", [0, 2, 1]),
        ({**THREE, "votes": [0, 1, 4]}, 2, "votes", [0, 1, 4]),
        ({**THREE, "ranking": [2, 0, 1]}, 2, "ranking", [1, 2, 0]),
        ({**THREE, "ranking": [1]}, 1, "ranking", [1, 0, 1]),
        ({**THREE, "ratings": [2, 5, 1]}, 1, "ratings", [2, 5, 1]),
    ],
)
def test_groups(row, pick, shape, values):
    found = pick_of(row, "f:1")
    assert (found.messages, found.completions, found.source) == (P, ["a", "b", "c"], "f:1")
    assert (found.pick, found.shape, found.values) == (pick, shape, values)


@pytest.mark.parametrize("pick", [None, -1, "tie", "cannot tell"])
def test_who_says_nothing_is_passed_over(pick):
    assert pick_of({**THREE, "pick": pick}, "f:1") is None
    assert pick_of({**THREE, "picks": [pick, pick]}, "f:1") is None
    assert pick_of({"prompt": "p", "chosen": "same", "rejected": "same"}, "f:1") is None
    assert pick_of({**THREE, "ratings": [3, 3, None]}, "f:1") is None


def test_none_is_good_says_something_and_so_do_those_who_could_have_said_it(tmp_path):
    rows = [
        {**THREE, "pick": "none is good"},
        {**THREE, "picks": [1, "none", 1, None]},
        {**THREE, "pick": 2},
        {**THREE, "ranking": [2, 0, 1]},
        {**THREE, "pick": "cannot tell"},
    ]
    found = read_picks([str(asked := write_jsonl(tmp_path / "asked.jsonl", rows))])
    assert [(p.shape, p.values, p.none, p.decided) for p in found] == [
        ("votes", [0, 0, 0], 1, False),
        ("votes", [0, 2, 0], 1, True),
        ("pick", [], 0, True),
        ("ranking", [1, 2, 0], None, True),
    ]
    (plain,) = read_picks([str(other := write_jsonl(tmp_path / "plain.jsonl", rows[2:3]))])
    assert plain.none is None and passed_over([str(asked), str(other)]) == 1


HH = "\n\nHuman: p\n\nAssistant: hm\n\nHuman: p\n\nAssistant: {}"


@pytest.mark.parametrize(
    ("row", "turns"),
    [
        ({"prompt": "p", "chosen": "good", "rejected": "bad"}, [USER]),
        ({"prompt": [USER], "chosen": [{**BOT, "content": "good"}], "rejected": [{**BOT, "content": "bad"}]}, [USER]),
        ({"chosen": [USER, {**BOT, "content": "good"}], "rejected": [USER, {**BOT, "content": "bad"}]}, [USER]),
        ({"prompt": "p", "chosen": {**BOT, "content": "good"}, "rejected": {**BOT, "content": "bad"}}, [USER]),
        ({"chosen": HH.format("good"), "rejected": HH.format("bad")}, [USER, BOT, USER]),
        ({"messages": [USER, BOT, USER], "chosen": "good", "rejected": "bad"}, [USER, BOT, USER]),
    ],
)
def test_pairs(row, turns):
    found = pick_of(row, "f:1")
    assert found.messages == [Message(**turn) for turn in turns]
    assert (found.completions, found.pick, found.shape) == (["good", "bad"], 0, "pick")


def test_pairs_that_say_how_much(tmp_path):
    pair = {"prompt": "p", "chosen": "good", "rejected": "bad"}
    assert pick_of({**pair, "votes": [2, 3]}, "f:1").values == [2, 3]
    rows = [{**pair, "score_chosen": 9.0, "score_rejected": 4.0}, {**pair, "score_chosen": 6, "score_rejected": 5}]
    first, second = read_picks([str(write_jsonl(tmp_path / "p.jsonl", rows))])
    assert (first.shape, first.values, second.values) == ("ratings", [9 / 5, 4 / 5], [6 / 5, 1])


def test_ultrafeedback_ratings_without_a_score_are_left_out():
    texts = [{"response": t, "overall_score": s} for t, s in (("a", 3.0), ("b", None), ("c", 8.5))]
    found = pick_of({"instruction": "p", "completions": texts}, "f:1")
    assert (found.messages, found.completions, found.values, found.pick) == (P, ["a", "c"], [3.0, 8.5], 1)


def test_worth_orders_any_shape_and_equal_texts_share_it():
    rows = ({"pick": 0}, {"votes": [1, 0, 2]}, {"ranking": [1, 0, 2]}, {"ratings": [1, 7, 9]})
    worth = [pick_of({**THREE, "completions": ["a", "b", "a"], **row}, "f:1").worth for row in rows]
    assert worth == [[1, 0, 1], [2, 0, 2], [-1, 0, -1], [9, 7, 9]]


def test_the_same_rows_in_any_format(tmp_path):
    rows = [
        {"prompt": "p, q", "completions": ["a\n", "b"], "pick": 1},
        {"prompt": "[1] p", "completions": ["a", "\u2028b"], "votes": [2, 1]},
        {"prompt": "p", "chosen": "1", "rejected": "2"},
    ]
    lines = write_jsonl(tmp_path / "rows.jsonl", rows)
    lines.write_text("".join(json.dumps(r, ensure_ascii=False) + "\n" for r in rows), encoding="utf-8")
    names = list(dict.fromkeys(name for row in rows for name in row))
    pq.write_table(pa.Table.from_pylist([dict.fromkeys(names) | row for row in rows]), tmp_path / "rows.parquet")
    with (tmp_path / "rows.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, names)
        writer.writeheader()
        for row in rows:
            writer.writerow({k: v if isinstance(v, str) else json.dumps(v) for k, v in row.items()})
    jsonl, parquet, table = (
        [(p.messages, p.completions, p.pick, p.shape, p.values) for p in read_picks([str(tmp_path / f"rows{end}")])]
        for end in (".jsonl", ".parquet", ".csv")
    )
    assert jsonl == parquet == table and len(jsonl) == 3


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({**THREE, "votes": [1, 2]}, "f:1: votes must hold a number for each of the 3 completions"),
        ({**THREE, "votes": [1, -2, 0]}, "votes must be counts"),
        ({**THREE, "ranking": [0, 0]}, "ranking must name each completion once"),
        ({**THREE, "ranking": [3]}, "ranking must be an index from 0 to 2; found 3"),
        ({**THREE, "ratings": "5"}, "ratings must be a list"),
        ({**THREE, "label": 1}, "completions need one of pick, picks, votes, ranking, ranks, ratings"),
        ({"chosen": "no turns", "rejected": "here"}, "dialogues of Human: and Assistant:"),
        ({"chosen": [USER, BOT], "rejected": [BOT, BOT]}, "answer different dialogues"),
    ],
)
def test_bad_rows_say_what_to_do(row, words):
    with pytest.raises(UserError, match=words):
        pick_of(row, "f:1")


def test_a_file_of_another_kind(tmp_path):
    (tmp_path / "picks.xlsx").write_text("")
    with pytest.raises(UserError, match=r"picks are read from .jsonl, .json, .csv, .parquet files; found '.xlsx'"):
        read_picks([str(tmp_path / "picks.xlsx")])
