import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import write_jsonl

from bakeoff.errors import UserError
from bakeoff.preferences.load import read_picks
from bakeoff.preferences.split import split
from bakeoff.records import Message, Pick

ROW = {"prompt": "p", "completions": ["a", "bb"], "pick": 1}


def pick(prompt="p", completions=("a", "bb", "cc"), best=0):
    return Pick([Message("user", prompt)], list(completions), best, "f:1")


def test_rows(tmp_path):
    chat = {"messages": [{"role": "system", "content": "s"}, {"role": "user", "content": "u"}]}
    first, second = read_picks([str(write_jsonl(tmp_path / "picks.jsonl", [ROW, {**ROW, **chat}]))])
    assert first == Pick([Message("user", "p")], ["a", "bb"], 1, first.source)
    assert second.messages == [Message("system", "s"), Message("user", "u")] and second.source.endswith(":2")


def test_parquet_columns_that_nobody_needs_do_not_stop_the_reading(tmp_path):
    columns = {name: [value] for name, value in ROW.items()} | {"prompt": [b"p"]}
    odd = {
        "asked": pa.array([1_760_000_000_000_000_007], pa.timestamp("ns")),
        "far": pa.array([2**62], pa.int64()).view(pa.timestamp("us")),
        "day": pa.array([2**30], pa.int32()).cast(pa.date32()),
    }
    pq.write_table(pa.table(columns | odd), path := tmp_path / "picks.parquet")
    assert read_picks([str(path)]) == [Pick([Message("user", "p")], ["a", "bb"], 1, f"{path}:1")]


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({**ROW, "pick": 2}, r"picks.jsonl:2: pick must be an index from 0 to 1; found 2"),
        ({**ROW, "pick": "1"}, "pick must be an index from 0 to 1; found '1'"),
        ({**ROW, "pick": True}, "found True"),
        ({**ROW, "completions": ["a"]}, "completions must be a list of two or more"),
        ({**ROW, "prompt": None}, "hold no text"),
        ({**ROW, "messages": "hello"}, "messages must be a list"),
        (["p"], "a row needs a prompt"),
    ],
)
def test_bad_rows_name_file_and_line(tmp_path, row, words):
    with pytest.raises(UserError, match=words):
        read_picks([str(write_jsonl(tmp_path / "picks.jsonl", [ROW, row]))])


def test_no_file_and_no_rows(tmp_path):
    with pytest.raises(UserError, match="no such file"):
        read_picks([str(tmp_path / "none.jsonl")])
    with pytest.raises(UserError, match="holds no picks"):
        read_picks([str(write_jsonl(tmp_path / "empty.jsonl", []))])


def test_no_prompt_is_on_both_sides():
    picks = [pick(prompt=str(i % 100), best=i % 3) for i in range(300)]
    training, heldout = split(picks, 0.2)
    assert len(training) + len(heldout) == 300 and 10 < len(heldout) < 110
    assert not {p.messages[0].content for p in training} & {p.messages[0].content for p in heldout}


def test_case_punctuation_and_space_make_no_other_prompt():
    picks = [
        pick(prompt=text.format(i)) for i in range(100) for text in ("Why {}, then?", "why  {} then", "WHY {}\n then!")
    ]
    for side in split(picks, 0.3):
        assert len(side) % 3 == 0 and len(side) > 0
