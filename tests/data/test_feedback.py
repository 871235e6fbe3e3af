"""What users said of old answers, in the shapes that carry it: each gives the ratings, pairs and choices it tells."""

from __future__ import annotations

import json
import math
import random

import pyarrow.parquet as pq
import pytest

from bakeoff.data.prepare import clean_into
from bakeoff.data.schema import conversations, feedback
from bakeoff.data.schema.feedback import ANSWER_KEYS, ONE
from bakeoff.data.schema.turns import asked, turns_of
from bakeoff.preferences.load import known_picks, read_picks
from bakeoff.run import Run
from bakeoff.settings import Fields, Prompts, Reward

ASKED = "What is a bond?"
CHAT = [{"role": "user", "content": ASKED}]
TOLD = {"role": "assistant", "content": "A loan."}
UP, DOWN = ("thumbs", ["A loan."], [1.0]), ("thumbs", ["A loan."], [0.0])
EDITED = ("edit", ["A loan.", "A loan to a state or firm."], [0.0, 1.0])


def body(*texts, **more):
    choices = [{"index": i, "message": {"role": "assistant", "content": t}} for i, t in enumerate(texts)]
    return {"choices": [c | {k: v[i] for k, v in more.items()} for i, c in enumerate(choices)]}


def text(value):
    return json.dumps(value)


def assessment(name, source="HUMAN", **what):
    return {"assessment_name": name, "source": {"source_type": source, "source_id": "ann"}} | what


def mlflow(*assessments):
    span = {
        "name": "root",
        "parent_span_id": None,
        "attributes": {"mlflow.spanInputs": text({"messages": CHAT}), "mlflow.spanOutputs": text(body("A loan."))},
    }
    return {"info": {"trace_id": "t", "assessments": list(assessments)}, "data": {"spans": [span]}}


def langfuse(*scores, output: object = "A loan."):
    return {"id": "t", "input": ASKED, "output": output, "observations": [], "scores": list(scores)}


CASES = {
    "thumbs": ({"prompt": ASKED, "response": "A loan.", "thumbs": "up"}, [UP]),
    "a flag": ({"prompt": ASKED, "response": "A loan.", "thumbs_up": False, "thumbs_down": True}, [DOWN]),
    "no flag": ({"prompt": ASKED, "response": "A loan.", "thumbs_up": False, "thumbs_down": False}, []),
    "a sign": ({"prompt": ASKED, "response": "A loan.", "reaction": "\U0001f44d\U0001f3fd"}, [UP]),
    "a comment": ({"prompt": ASKED, "response": "A loan.", "feedback": "Too short for me."}, []),
    "stars": ({"prompt": ASKED, "completion": "A loan.", "stars": "4"}, [("rating", ["A loan."], [4.0])]),
    "in an envelope": (
        {"messages": [*CHAT, TOLD], "metadata": text({"feedback": {"type": "thumb", "value": "positive"}})},
        [UP],
    ),
    "beside bodies": (
        {"request": text({"messages": CHAT}), "response": text(body("A loan.")), "rating": 1},
        [("rating", ["A loan."], [1.0])],
    ),
    "anthropic": (
        {
            "request": {"system": "Be brief.", "messages": CHAT},
            "response": {"type": "message", "role": "assistant", "content": [{"type": "text", "text": "A loan."}]},
            "feedback": -1,
        },
        [("thumbs", ["A loan."], [-1.0])],
    ),
    "responses": (
        {
            "input": ASKED,
            "model": "m",
            "output": [
                {"type": "reasoning", "summary": []},
                {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "A loan."}]},
            ],
            "metadata": {"thumbs": "down"},
        },
        [DOWN],
    ),
    "a turn of ShareGPT": (
        {
            "conversations": [
                {"from": "human", "value": ASKED},
                {"from": "gpt", "value": "A loan.", "feedback": "thumbs_up"},
                {"from": "human", "value": "To whom?"},
            ]
        },
        [UP],
    ),
    "chosen": (
        {"messages": CHAT, "response": body("A loan.", "A rope."), "chosen_index": 1},
        [("choice", ["A loan.", "A rope."], [0.0, 1.0])],
    ),
    "marked": (
        {"messages": CHAT, "response": text(body("A loan.", "A rope.", selected=[True, False]))},
        [("choice", ["A loan.", "A rope."], [1.0, 0.0])],
    ),
    "several, none chosen": ({"messages": CHAT, "response": body("A loan.", "A rope."), "rating": 3}, []),
    "each rated": (
        {"prompt": ASKED, "completions": ["A loan.", "A rope."], "ratings": [5, 2]},
        [("rating", ["A loan."], [5.0]), ("rating", ["A rope."], [2.0])],
    ),
    "side by side": (
        {"prompt": ASKED, "response_a": "A loan.", "response_b": "A rope.", "winner": "model_b"},
        [("choice", ["A loan.", "A rope."], [0.0, 1.0])],
    ),
    "arena": (
        {
            "conversation_a": [*CHAT, TOLD],
            "conversation_b": [*CHAT, {"role": "assistant", "content": "A rope."}],
            "winner": "model_a",
        },
        [("choice", ["A loan.", "A rope."], [1.0, 0.0])],
    ),
    "a tie": ({"prompt": ASKED, "response_a": "A loan.", "response_b": "A rope.", "winner": "tie"}, []),
    "pair": (
        {"prompt": ASKED, "chosen": [*CHAT, TOLD], "rejected": [*CHAT, {"role": "assistant", "content": "A rope."}]},
        [("choice", ["A loan.", "A rope."], [1.0, 0.0])],
    ),
    "preference tuning": (
        {
            "input": {"messages": CHAT},
            "preferred_output": [TOLD],
            "non_preferred_output": [{"role": "assistant", "content": "A rope."}],
        },
        [("choice", ["A loan.", "A rope."], [1.0, 0.0])],
    ),
    "edited": ({"prompt": ASKED, "response": "A loan.", "edited_response": EDITED[1][1]}, [EDITED]),
    "edited in place": (
        {"messages": [*CHAT, {"role": "assistant", "content": EDITED[1][1], "edited": True, "original": "A loan."}]},
        [EDITED],
    ),
    "thumbs down and edited": (
        {"prompt": ASKED, "response": "A loan.", "feedback": {"rating": "down", "correction": EDITED[1][1]}},
        [EDITED, DOWN],
    ),
    "regenerated": (
        {"messages": CHAT, "response": body("A loan.", "A rope."), "regenerated": True},
        [("regenerated", ["A loan.", "A rope."], [0.0, 1.0])],
    ),
    "regenerated twice": (
        {"prompt": ASKED, "response": "A loan.", "regenerated_from": ["A rope.", "A knot."]},
        [("regenerated", ["A rope.", "A knot.", "A loan."], [0.0, 0.0, 1.0])],
    ),
    "a turn made again": (
        {"messages": [*CHAT, {"role": "assistant", "content": "A rope."}, TOLD | {"id": 7, "regenerated": True}]},
        [("regenerated", ["A rope.", "A loan."], [0.0, 1.0])],
    ),
    "two answers, nothing said": ({"messages": [*CHAT, {"role": "assistant", "content": "A rope."}, TOLD]}, []),
    "mlflow": (
        mlflow(
            assessment("helpful", feedback={"value": True}),
            assessment("helpful", "LLM_JUDGE", feedback={"value": False}),
            assessment("expected_response", expectation={"value": EDITED[1][1]}),
            assessment("correctness", feedback={"value": "no"}, valid=False),
        ),
        [EDITED, UP],
    ),
    "langfuse": (
        langfuse(
            {"name": "user-feedback", "value": 1, "source": "API", "dataType": "NUMERIC"},
            {"name": "helpfulness", "value": 0.2, "source": "EVAL", "dataType": "NUMERIC"},
            {"name": "toxicity", "value": 0.9, "source": "ANNOTATION", "dataType": "NUMERIC"},
            {"name": "output", "stringValue": EDITED[1][1], "source": "ANNOTATION", "dataType": "CORRECTION"},
        ),
        [EDITED, UP],
    ),
    "langfuse generation": (
        {"traceId": "t", "input": text(CHAT), "output": text(TOLD), "scores": [{"name": "quality", "value": 3}]},
        [("rating", ["A loan."], [3.0])],
    ),
    "cells of a table": (
        {"prompt": ASKED, "response": EDITED[1][1], "edited": "True", "original": "A loan.", "regenerated": "false"},
        [EDITED],
    ),
    "an edit of a number": ({"prompt": ASKED, "response": "41", "edited": "42"}, [("edit", ["41", "42"], [0.0, 1.0])]),
    "langsmith": (
        {
            "inputs": ASKED,
            "outputs": {"output": "A loan."},
            "feedback": [{"key": "user_score", "score": 1.0}, {"key": "length", "score": 0.2}],
        },
        [("rating", ["A loan."], [1.0])],
    ),
    "nothing said": ({"prompt": ASKED, "response": "A loan.", "score": 0.7, "usage": {"tokens": 3}}, []),
}


def said(record, **named):
    turns = conversations.all_turns(record)
    return [(f.kind, f.answers, f.values) for f in feedback.feedback(record, turns, Fields(**named))]


@pytest.mark.parametrize("name", CASES)
def test_shapes_that_carry_what_users_said(name):
    record, expected = CASES[name]
    assert said(record) == expected


def anything(rng, depth):
    """A value of any shape under the names that are looked for."""
    keys = sorted({*feedback.TELLING, *feedback.PICKED, *feedback.ENVELOPES, *feedback.GENERIC, *ANSWER_KEYS, *ONE})
    kind = rng.randrange(9 if depth else 6)
    if kind < 6:
        return [
            None,
            rng.choice(["up", "true", "", "[", '{"choices": 3}', "\ud800"]),
            rng.random(),
            1e999,
            True,
            10**400,
        ][kind]
    if kind == 6:
        return [anything(rng, depth - 1) for _ in range(rng.randrange(4))]
    more = rng.choice([{}, {}, {"role": "assistant"}, {"role": "user", "content": "And then?"}, {"type": "text"}])
    return more | {rng.choice(keys): anything(rng, depth - 1) for _ in range(rng.randrange(5))}


def test_whatever_stands_there_nothing_crashes():
    rng, found = random.Random(0), 0
    for _ in range(4000):
        record = anything(rng, 4)
        shown = rng.choice(["A loan.", body("A loan.", "A rope."), [TOLD], {"content": "A loan."}])
        told = {key: anything(rng, 2) for key in rng.sample(sorted(feedback.TELLING), 3)}
        record = {"prompt": ASKED, "response": shown} | told | (record if isinstance(record, dict) else {})
        turns = conversations.all_turns(record)
        if isinstance(turns, str):
            continue
        for f in feedback.feedback(record, turns, Fields(answer="a.b", rating="metadata")):
            found += 1
            assert len(f.answers) == len(f.values) > 0 and 0 < f.turns <= len(turns)
            assert all(isinstance(a, str) for a in f.answers) and all(math.isfinite(v) for v in f.values)
    assert found > 1000


def test_fields_that_the_user_names():
    record = {"prompt": ASKED, "bot": {"says": ["A rope.", "A loan."]}, "took": "A loan.", "mine": EDITED[1][1], "n": 2}
    assert said(record) == []
    assert said(record, answer="bot.says", choice="took", edit="mine", rating="n") == [
        ("choice", ["A rope.", "A loan."], [0.0, 1.0]),
        EDITED,
        ("rating", ["A loan."], [2.0]),
    ]


def cleaned(tmp_path, *records, heldout=0.0, **settings):
    (tmp_path / "log.jsonl").write_text("".join(json.dumps(r) + "\n" for r in records))
    counts = clean_into(
        tmp_path,
        [tmp_path / "log.jsonl"],
        Prompts(heldout=heldout, **settings),
        count_tokens=lambda t: [len(t)] * len(t),
    )
    path = tmp_path / "picks.parquet"
    return counts, (pq.read_table(path).to_pylist() if path.exists() else [])


def rated(answer, value, prompt=ASKED, **more):
    return {"prompt": prompt, "response": answer, **more, "rating": value}


def test_ratings_of_rows_that_are_one_prompt_are_compared_on_their_own_scale(tmp_path):
    counts, picks = cleaned(
        tmp_path,
        rated("A loan.", 1),
        rated("A rope.", 4, "what is a bond"),
        rated("A loan.", 3),
        rated("A deed.", 5),
        {"prompt": ASKED, "response": "A knot.", "thumbs": "up"},
        rated("Alone.", 5, "What is a share?"),
    )
    assert counts.feedback == {"rating": 5, "thumbs": 1} and counts.picks == 1
    (pick,) = picks
    assert pick["messages"] == CHAT and pick["pick"] is None and pick["source"].endswith("log.jsonl:1")
    assert dict(zip(pick["completions"], pick["ratings"], strict=True)) == {
        "A loan.": 0.25,
        "A rope.": 0.75,
        "A deed.": 1.0,
    }
    (read,) = read_picks([str(tmp_path / "picks.parquet")])
    assert read.completions[read.pick] == "A deed." and read.shape == "ratings"


def test_zero_says_nothing_beside_plus_and_minus_one(tmp_path):
    rows = [{"prompt": ASKED, "response": a, "vote": v} for a, v in (("A loan.", 1), ("A rope.", 0), ("A knot.", -1))]
    assert [sorted(p["completions"]) for p in cleaned(tmp_path, *rows)[1]] == [["A knot.", "A loan."]]
    assert [sorted(p["completions"]) for p in cleaned(tmp_path, *rows[:2])[1]] == [["A loan.", "A rope."]]


def test_a_pick_stands_once_and_answers_that_are_alike_are_none(tmp_path):
    edit = {"prompt": ASKED, "response": "A loan.", "edited": "A debt."}
    counts, picks = cleaned(tmp_path, edit, edit, {"prompt": ASKED, "response": "A loan.", "edited": " A  loan. "})
    assert counts.feedback == {"edit": 3} and [p["completions"] for p in picks] == [["A loan.", "A debt."]]


def test_what_was_made_again_is_no_turn_and_earlier_turns_have_picks_of_their_own(tmp_path):
    again = [CHAT[0], {"role": "assistant", "content": "A rope."}, TOLD | {"id": 7, "regenerated": True}]
    _, picks = cleaned(tmp_path, {"messages": [*again, {"role": "user", "content": "To whom?"}]})
    assert [m.content for m in asked(feedback.standing(turns_of(again)))] == [ASKED]
    assert [(p["messages"], p["completions"], p["pick"], p["kind"]) for p in picks] == [
        (CHAT, ["A rope.", "A loan."], 1, "regenerated")
    ]
    kept = pq.read_table(tmp_path / "prompts.parquet")["messages"].to_pylist()
    assert [[m["content"] for m in turns] for turns in kept] == [[ASKED, "A loan.", "To whom?"]]


def test_answers_are_redacted_with_the_placeholders_of_their_prompt(tmp_path):
    row = {
        "prompt": "Is ann@example.com or bob@example.org the mail of Ann?",
        "response": "It is bob@example.org.",
        "edited": "It is ann@example.com, her key is sk-abcdefghijklmnopqrstuvwx.",
    }
    _, (pick,) = cleaned(tmp_path, row)
    assert pick["completions"] == ["It is [EMAIL_2].", "It is [EMAIL_1], her key is [KEY_1]."]
    for path in tmp_path.iterdir():
        assert path.name == "log.jsonl" or b"ann@" not in path.read_bytes()


def test_no_pick_of_a_held_out_prompt_is_learnt_from(tmp_path):
    things = ["apple", "river", "stone", "cloud", "horse", "train", "violin", "garden", "window", "bridge"]
    rows = [{"prompt": f"What is a {t}?", "response": "No.", "edited": f"It is a {t}."} for t in things]
    _, picks = cleaned(tmp_path, *rows, heldout=0.3)
    prompts = pq.read_table(tmp_path / "prompts.parquet").to_pylist()
    split = {p["messages"][0]["content"]: p["split"] for p in prompts}
    assert [p["split"] for p in picks] == [split[p["messages"][0]["content"]] for p in picks]
    assert len(picks) == 10 and len(known_picks(Run(tmp_path), Reward())) == 7
    _, picks = cleaned(tmp_path, {"prompt": ASKED})
    assert picks == [] and not (tmp_path / "picks.parquet").exists(), "none are left of an earlier log"
