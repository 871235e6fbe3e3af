import pyarrow.parquet as pq
import pytest

from bakeoff.records import Completion, Message, Prompt, Score, atomic, prompt_id, read_table, write_table


def test_a_table_reads_back_as_it_was_written(tmp_path):
    prompts = [Prompt("a", [Message("system", "é\n"), Message("user", "")], "f:1", 2, "train")]
    completions = [Completion("c", "a", 0, "t", [1, 2], -0.5, "stop")]
    scores = [Score("c", "a", "rm", None, "timed out"), Score("d", "a", "rm", 1.5)]
    for record, rows in ((Prompt, prompts), (Completion, completions), (Score, scores), (Score, [])):
        write_table(tmp_path / "t.parquet", record, rows)
        assert read_table(tmp_path / "t.parquet", record) == rows
    assert pq.read_table(tmp_path / "t.parquet").column_names[0] == "completion_id"


def test_a_file_is_whole_or_not_there(tmp_path):
    path = tmp_path / "t"
    with pytest.raises(RuntimeError), atomic(path) as beside:
        beside.write_text("half")
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []


def test_ids_depend_on_content_alone():
    assert prompt_id([Message("user", "hi")]) == prompt_id([Message("user", "hi")])
    assert prompt_id([Message("user", "hi")]) != prompt_id([Message("user", "hi ")])
    assert prompt_id([Message("user", "ab"), Message("user", "c")]) != prompt_id([Message("user", "abc")])
