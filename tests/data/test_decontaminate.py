"""Contamination: prompts that carry the questions of an evaluation set are set aside, others are not."""

from __future__ import annotations

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from ingested import clean, lengths

from bakeoff.config import load
from bakeoff.data.prepare import clean_into
from bakeoff.data.stage import prompts
from bakeoff.errors import UserError
from bakeoff.records import Message, Prompt, read_table
from bakeoff.run import Run
from bakeoff.settings import Prompts

WORDS = [f"{a}{b}" for a in ("ba", "co", "di", "fu", "ge", "ha") for b in ("lin", "mer", "nok", "rus")]
LONG = " ".join(WORDS)
"""Twenty-four words, twenty runs of five."""
REASON = "evaluation question"


def without(*places):
    return " ".join("another" if i in places else w for i, w in enumerate(WORDS))


def kept(tmp_path, questions, asked, **settings):
    """What is left of `asked` when `questions` are avoided."""
    (tmp_path / "eval.jsonl").write_text("".join(json.dumps({"question": q, "answer": "7"}) + "\n" for q in questions))
    (tmp_path / "log.jsonl").write_text("".join(json.dumps({"prompt": a}) + "\n" for a in asked))
    settings = Prompts(decontaminate=[str(tmp_path / "eval.jsonl")], skip=["near_duplicates", "short"], **settings)
    result = clean([tmp_path / "log.jsonl"], settings)
    assert set(result.dropped) <= {REASON}
    return [p.messages[-1].content for p in result.prompts]


@pytest.mark.parametrize(
    ("changed", "carries"),
    [
        ((), True),
        ((23,), True),
        ((20,), True),  # sixteen of the twenty runs: just enough
        ((19,), False),  # fifteen
        ((0, 23), True),
        ((12,), False),
    ],
)
def test_four_runs_of_five_words_in_five(tmp_path, changed, carries):
    other = "What is the capital of France?"
    texts = [f"Please tell me: {without(*changed)}. Thanks a lot!", other]
    assert kept(tmp_path, [LONG], texts) == ([other] if carries else texts)


def test_short_questions_must_be_there_as_a_whole_and_a_word_or_two_be_the_prompt(tmp_path):
    asked = [
        "Tell me, WHAT is 2 + 2, and why?",
        "What is 2 + 3?",
        "What was 2 + 2?",
        "Bonds!",
        "Bonds, what are they?",
    ]
    assert kept(tmp_path, ["What is 2 + 2?", "Bonds"], asked) == [asked[1], asked[2], asked[4]]


def test_the_template_of_an_evaluation_set_is_no_question(tmp_path):
    template = "Read the text below and then answer the question in one short sentence without any other words at all."
    questions = [
        f"{template} Who founded the {a} {b} company in {1900 + i}?"
        for i, (a, b) in enumerate(zip(WORDS, reversed(WORDS), strict=True))
    ]
    other = f"{template} Which of the rivers of Europe is the longest?"
    assert kept(tmp_path, questions, [questions[5], other]) == [other]


def test_an_earlier_turn_counts_and_so_does_what_is_redacted(tmp_path):
    question = f"Is the address ann@example.com of {LONG}?"
    (tmp_path / "eval.csv").write_text(f'prompt\n"{question}"\n')
    chat = [
        {"role": "user", "content": question.upper()},
        {"role": "assistant", "content": "Yes."},
        {"role": "user", "content": "Are you sure of that?"},
    ]
    rows = [{"messages": chat}, {"messages": chat[2:]}]
    (tmp_path / "log.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    result = clean([tmp_path / "log.jsonl"], Prompts(decontaminate=[str(tmp_path / "*.csv")]))
    assert [p.source for p in result.prompts] == [f"{tmp_path}/log.jsonl:2"]
    assert [(s.reason, s.source) for s in result.set_aside] == [(REASON, f"{tmp_path}/log.jsonl:1")]


def test_any_source_is_read_and_one_without_questions_is_an_error(tmp_path):
    pq.write_table(pa.table({"question": [LONG]}), tmp_path / "eval.parquet")
    (tmp_path / "log.txt").write_text(f"{LONG}\nWhat is the capital of France?\n")
    assert clean([tmp_path / "log.txt"], Prompts(decontaminate=[str(tmp_path / "eval.parquet")])).dropped == {REASON: 1}
    (tmp_path / "none.jsonl").write_text('{"id": 1}\n')
    with pytest.raises(UserError, match=r"prompts.decontaminate: .*none\.jsonl: no question in it"):
        clean([tmp_path / "log.txt"], Prompts(decontaminate=[str(tmp_path / "none.jsonl")]))
    with pytest.raises(UserError, match="nowhere"):
        clean([tmp_path / "log.txt"], Prompts(decontaminate=[str(tmp_path / "nowhere.jsonl")]))


def test_parts_made_before_the_file_changed_are_not_gone_on_with(tmp_path):
    avoided, log = tmp_path / "eval.txt", tmp_path / "log.txt"
    log.write_text(f"{LONG}\nWhat is the capital of France?\n")
    avoided.write_text("Who wrote the first novel?\n")
    settings = Prompts(decontaminate=[str(avoided)])

    def stop(rows: int) -> None:
        raise KeyboardInterrupt

    def texts():
        return [p.messages[0].content for p in read_table(tmp_path / "out" / "prompts.parquet", Prompt)]

    with pytest.raises(KeyboardInterrupt):
        clean_into(tmp_path / "out", [log], settings, count_tokens=lengths, progress=stop)
    avoided.write_text(f"{LONG}\n")
    clean_into(tmp_path / "out", [log], settings, count_tokens=lengths)
    assert texts() == ["What is the capital of France?"]
    with pytest.raises(KeyboardInterrupt):
        clean_into(tmp_path / "out", [log], settings, count_tokens=lengths, progress=stop)
    gold = [[Message("user", "What is the capital of France?")]]
    with pytest.raises(UserError, match="not one prompt in 2 rows; 2 'evaluation question'"):
        clean_into(tmp_path / "out", [log], settings, count_tokens=lengths, gold=gold)


def test_in_a_run_the_true_answers_are_avoided_too(tmp_path):
    (tmp_path / "log.txt").write_text(f"{LONG}\nWhat is the capital of France?\nWho wrote the first novel?\n")
    (tmp_path / "eval.txt").write_text(f"{LONG}\n")
    (tmp_path / "gold.jsonl").write_text(
        json.dumps({"prompt": "Who wrote the first novel?", "answer": "x", "verifier": "exact"})
    )
    (tmp_path / "r.toml").write_text(
        'model = ""\n[prompts]\nsources = ["log.txt"]\ndecontaminate = ["eval.txt"]\n'
        '[evaluate]\nholdout = "gold.jsonl"\n'
    )
    run = Run(tmp_path / "run")
    run.folder.mkdir()
    prompts(run, load(tmp_path / "r.toml"))
    assert [p.messages[0].content for p in read_table(run.table("prompts"), Prompt)] == [
        "What is the capital of France?"
    ]
