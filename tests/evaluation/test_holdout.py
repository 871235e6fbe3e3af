"""True answers are opened by the evaluation and by nothing that trains."""

import os
from pathlib import Path

import pytest
from conftest import write_jsonl

from bakeoff.data.seal import questions, sealed
from bakeoff.errors import UserError
from bakeoff.evaluation.stage import read_gold
from bakeoff.sandbox import Limits
from bakeoff.scoring import user_function
from bakeoff.scoring.verifiers.answers import read_graded

ROW = {"prompt": "What is 1 + 1?", "answer": "2", "verifier": "number"}


def test_rows(tmp_path):
    (answer,) = read_gold(write_jsonl(tmp_path / "gold.jsonl", [ROW]))
    assert (answer.answer, answer.verifier, answer.messages[0].content) == ("2", "number", "What is 1 + 1?")


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("{", "gold.jsonl:2: not JSON"),
        ('{"prompt": "p"}', "gold.jsonl:2: a row needs"),
        ('{"prompt": "p", "answer": "2", "verifier": "magic"}', "gold.jsonl:2: unknown verifier 'magic'; known: "),
        ('{"answer": "2"}', "gold.jsonl:2: prompt or messages hold no text"),
    ],
)
def test_bad_rows_name_file_and_line(tmp_path, line, words):
    path = write_jsonl(tmp_path / "gold.jsonl", [ROW])
    path.write_text(path.read_text() + line + "\n")
    with pytest.raises(UserError, match=words):
        read_gold(path)


def test_a_sealed_file_cannot_be_opened_by_any_path(tmp_path, monkeypatch):
    path = write_jsonl(tmp_path / "gold.jsonl", [ROW])
    link = tmp_path / "link"
    link.symlink_to(path)
    monkeypatch.chdir(tmp_path)
    ways = (
        lambda: path.read_text(),
        lambda: os.open("gold.jsonl", os.O_RDONLY),
        lambda: os.open(link, os.O_RDONLY),
        lambda: read_gold(Path("./gold.jsonl")),
    )
    with sealed([str(path)]):
        for way in ways:
            with pytest.raises(UserError, match="sealed"):
                way()
        (tmp_path / "other").write_text("others open as ever")
    assert path.read_text()


def test_what_is_asked_may_be_known_while_the_answers_are_sealed(tmp_path):
    path = write_jsonl(tmp_path / "gold.jsonl", [ROW])
    with sealed([str(path)]):
        assert [[m.content for m in messages] for messages in questions(str(path))] == [["What is 1 + 1?"]]
        with pytest.raises(UserError, match="sealed"):
            path.read_text()
    assert questions("") == []


def test_completions_with_true_answers(tmp_path):
    rows = [
        {"prompt": "p", "completions": ["It is 4.", "5"], "answer": "4", "verifier": "number"},
        {"prompt": "q", "completions": ["a", "b"], "gold": [0.25, 2]},
    ]
    first, second = read_graded(write_jsonl(tmp_path / "graded.jsonl", rows))
    assert first.worth == [1.0, 0.0] and second.worth == [0.25, 2.0] and second.messages[0].content == "q"


@pytest.mark.parametrize(
    ("row", "words"),
    [
        (
            {"prompt": "p", "completions": ["a", "b"], "gold": [1]},
            "graded.jsonl:1: gold must hold a number for each of the 2",
        ),
        ({"prompt": "p", "completions": "ab", "gold": [1]}, "completions must be a list of strings"),
        ({"prompt": "p", "completions": ["a", "b"]}, "a row needs prompt or messages, and answer"),
        (["a"], "a row must be an object"),
    ],
)
def test_bad_rows_of_completions_with_true_answers(tmp_path, row, words):
    with pytest.raises(UserError, match=words):
        read_graded(write_jsonl(tmp_path / "graded.jsonl", [row]))


def test_the_same_prompt_may_stand_in_rows_with_other_answers(tmp_path):
    rows = [{"prompt": "p", "completions": ["4", "5"], "answer": answer, "verifier": "number"} for answer in "45"]
    first, second = read_graded(write_jsonl(tmp_path / "graded.jsonl", rows))
    assert first.worth == [1.0, 0.0] and second.worth == [0.0, 1.0]


def test_completions_that_cannot_be_verified_are_one_line(tmp_path, monkeypatch):
    monkeypatch.setattr(user_function, "Limits", lambda: Limits(seconds=0.5))
    row = {"prompt": "p", "completions": ["a" * 40 + "!", "a"], "answer": "^(a+)+$", "verifier": "regex"}
    with pytest.raises(UserError, match=r"graded.jsonl:1: the verifier regex fails \(timeout: not done within 0.5 s\)"):
        read_graded(write_jsonl(tmp_path / "graded.jsonl", [row]))
