"""What people prefer, as trainers, data sets and labelling tools keep it."""

import csv
import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import write_jsonl

from bakeoff.errors import UserError
from bakeoff.preferences.load import passed_over, read_picks
from bakeoff.records import Message

GOOD, BAD = "It rains, take a coat.", "No idea."
ASKED = [Message("user", "Weather?")]
SYSTEM, HELLO = Message("system", "Be brief."), [Message("user", "Hi."), Message("assistant", "Hello.")]


def say(role, text):
    return {"role": role, "content": text}


def gpt(role, text):
    return {"from": role, "value": text}


def read(tmp_path, rows, name="rows.jsonl"):
    path = tmp_path / name
    path.write_text("".join(json.dumps(row) + "\n" for row in rows) if name.endswith("l") else json.dumps(rows))
    return read_picks([str(path)])


TURNS = "\n\nHuman: Hi.\n\nAssistant: Hello.\n\nHuman: Weather?\n\nAssistant:"
PAIRS = {
    "text": ({"prompt": "Weather?", "chosen": GOOD, "rejected": BAD}, ASKED),
    "the prompt in both": (
        {
            "chosen": [say("system", "Be brief."), say("user", "Weather?"), say("assistant", GOOD)],
            "rejected": [say("system", "Be brief."), say("user", "Weather?"), say("assistant", BAD)],
        },
        [SYSTEM, *ASKED],
    ),
    "the prompt beside and in both": (
        {
            "prompt": [say("user", "Weather?")],
            "chosen": [say("user", "Weather?"), say("assistant", GOOD)],
            "rejected": [say("user", "Weather?"), say("assistant", BAD)],
        },
        ASKED,
    ),
    "more turns than the prompt": (
        {
            "prompt": [say("user", "Hi.")],
            "chosen": [say("assistant", "Hello."), say("user", "Weather?"), say("assistant", GOOD)],
            "rejected": [say("assistant", "Hello."), say("user", "Weather?"), say("assistant", BAD)],
        },
        [*HELLO, *ASKED],
    ),
    "UltraFeedback, binarized": (
        {
            "prompt": "Weather?",
            "messages": [say("user", "Weather?"), say("assistant", GOOD)],
            "chosen": [say("user", "Weather?"), say("assistant", GOOD)],
            "rejected": [say("user", "Weather?"), say("assistant", BAD)],
        },
        ASKED,
    ),
    "HH": ({"chosen": f"{TURNS} {GOOD}", "rejected": f"{TURNS} {BAD}"}, [*HELLO, *ASKED]),
    "HH beside its prompt": ({"prompt": TURNS, "chosen": GOOD, "rejected": BAD}, [*HELLO, *ASKED]),
    "ShareGPT": (
        {
            "conversations": [gpt("human", "Hi."), gpt("gpt", "Hello."), gpt("human", "Weather?")],
            "chosen": gpt("gpt", GOOD),
            "rejected": gpt("gpt", BAD),
        },
        [*HELLO, *ASKED],
    ),
    "Alpaca": (
        {
            "system": "Be brief.",
            "history": [["Hi.", "Hello."]],
            "instruction": "Weather?",
            "input": "In Oslo.",
            "chosen": GOOD,
            "rejected": BAD,
        },
        [SYSTEM, *HELLO, Message("user", "Weather?\n\nIn Oslo.")],
    ),
    "Orca": ({"system": "Be brief.", "question": "Weather?", "chosen": GOOD, "rejected": BAD}, [SYSTEM, *ASKED]),
    "Orca without system": ({"system": "", "question": "Weather?", "chosen": GOOD, "rejected": BAD}, ASKED),
    "Axolotl": ({"instruction": "Weather?", "chosen_response": GOOD, "rejected_response": BAD}, ASKED),
    "OpenAI": (
        {
            "input": {"messages": [say("user", "Weather?")], "tools": []},
            "preferred_output": [say("assistant", GOOD)],
            "non_preferred_output": [say("assistant", BAD)],
        },
        ASKED,
    ),
    "PKU": ({"prompt": "Weather?", "response_0": BAD, "response_1": GOOD, "better_response_id": 1}, ASKED),
    "SHP": ({"history": "Weather?", "human_ref_A": GOOD, "human_ref_B": BAD, "labels": 1}, ASKED),
    "SHP, the other": ({"history": "Weather?", "human_ref_A": BAD, "human_ref_B": GOOD, "labels": 0.0}, ASKED),
    "an arena": (
        {
            "conversation_a": [say("user", "Weather?"), say("assistant", BAD)],
            "conversation_b": [say("user", "Weather?"), say("assistant", GOOD)],
            "winner": "model_b",
        },
        ASKED,
    ),
    "summaries": ({"info": {"post": "Weather?"}, "summaries": [{"text": BAD}, {"text": GOOD}], "choice": 1}, ASKED),
    "parts and tools": (
        {
            "prompt": [
                {"role": "user", "content": [{"type": "text", "text": "Weather?"}]},
                {"role": "assistant", "content": None, "tool_calls": [{"id": "1"}]},
                {"role": "tool", "content": "rain"},
            ],
            "chosen": [say("assistant", GOOD)],
            "rejected": [say("assistant", BAD)],
        },
        ASKED,
    ),
}


@pytest.mark.parametrize("name", PAIRS)
def test_pairs(tmp_path, name):
    row, asked = PAIRS[name]
    for file in ("rows.jsonl", "rows.json"):
        (found,) = read(tmp_path, [row], file)
        assert (found.messages, found.shape, found.completions[found.pick]) == (asked, "pick", GOOD)
        assert sorted(found.completions) == [GOOD, BAD]


@pytest.mark.parametrize(
    "nothing",
    [
        {"prompt": "p", "response_0": GOOD, "response_1": BAD, "better_response_id": None},
        {"prompt": "p", "response_0": GOOD, "response_1": BAD, "better_response_id": float("nan")},
        {"prompt": "p", "response_a": GOOD, "response_b": BAD, "winner": "tie (bothbad)"},
        {"prompt": "p", "chosen": GOOD, "rejected": None},
        {"prompt": "p", "completion": GOOD, "label": True},
        {"prompt": "p", "completions": [GOOD, BAD], "pick": float("nan")},
        {"prompt": "p", "completions": [GOOD, BAD], "picks": [float("nan"), None]},
        {"prompt": "p", "answers": [{"answer": GOOD, "rank": 1}, {"answer": BAD, "rank": 1}]},
    ],
)
def test_what_says_nothing_is_passed_over_and_counted(tmp_path, nothing):
    path = write_jsonl(tmp_path / "rows.jsonl", [nothing, PAIRS["text"][0]])
    assert len(read_picks([str(path)])) == 1 and passed_over([str(path)]) == 1


def test_a_score_that_contradicts_the_choice_does_not_turn_it_round(tmp_path):
    (found,) = read(tmp_path, [PAIRS["text"][0] | {"score_chosen": 2.0, "score_rejected": 7.0}])
    assert (found.shape, found.completions[found.pick]) == ("pick", GOOD)


def test_ranks_may_be_tied(tmp_path):
    answers = [{"answer": text, "model": "m", "rank": rank} for text, rank in ((BAD, 3.0), (GOOD, 1.0), ("Sun.", 1.0))]
    (found,) = read(tmp_path, [{"prompt": "\n\nHuman: Weather?\n\nAssistant: ", "answers": answers}])
    assert (found.messages, found.shape, found.values) == (ASKED, "ranking", [1, 0, 0])


def test_completions_that_were_rated_alone_are_compared_with_the_others_of_their_prompt(tmp_path):
    alone = [("Weather?", GOOD, True), ("Else?", GOOD, True), ("Weather?", BAD, False), ("Weather?", GOOD, False)]
    rows = [{"prompt": p, "completion": c, "label": label} for p, c, label in alone]
    (found,) = read(tmp_path, rows)
    assert (found.messages, found.completions) == (ASKED, [GOOD, BAD])
    assert found.values == [1, 0] and passed_over([str(tmp_path / "rows.jsonl")]) == 1
    turns = [gpt("human", "Weather?"), gpt("gpt", GOOD)]
    other = {"messages": [say("user", "Weather?"), say("assistant", BAD)], "kto_tag": False}
    (found,) = read(tmp_path, [{"conversations": turns, "kto_tag": True}, other])
    assert (found.messages, found.completions[found.pick]) == (ASKED, GOOD)
    with pytest.raises(UserError, match="a rating alone needs another of the same prompt"):
        read(tmp_path, rows[:2])


def argilla(best=(), ranking=(), **more):
    fields = {"prompt": "Weather?", "response1": BAD, "response2": GOOD}
    return {"id": "1", "fields": fields, "responses": {"best": list(best), "ranking": list(ranking)}} | more


def test_argilla(tmp_path):
    two = [{"value": "response2", "user_id": "a"}, {"value": "response1", "user_id": "b"}]
    rows = [
        argilla(best=two, status="completed"),
        argilla(best=two[:1], ranking=[{"value": ["response2", "response1"], "user_id": "a"}], status="completed"),
        argilla(best=two, status="pending"),  # drafts
        argilla(best=[two[0] | {"status": "submitted"}, two[1] | {"status": "discarded"}], status="pending"),
        argilla(status="completed"),
    ]
    votes, pick, ranking, submitted = read(tmp_path, rows, "records.json")
    assert (votes.shape, votes.values, votes.messages) == ("votes", [1, 1], ASKED)
    assert (pick.shape, pick.pick, ranking.shape, ranking.values) == ("pick", 1, "ranking", [1, 0])
    assert (submitted.shape, submitted.pick) == ("pick", 1)
    assert passed_over([str(tmp_path / "records.json")]) == 2


def test_argilla_flattened(tmp_path):
    row = {"prompt": "Weather?", "response1": BAD, "response2": GOOD, "id": "1", "status": "pending", "source": "web"}
    said = {"best.responses": ["response1", "response2"], "best.responses.users": ["a", "b"]}
    rows = [
        row | said | {"best.responses.status": ["draft", "submitted"]},
        row | said | {"best.responses.status": ["draft", "discarded"]},
        row | dict.fromkeys([*said, "best.responses.status"]),
    ]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "flat.parquet")
    (found,) = read_picks([str(tmp_path / "flat.parquet")])
    assert (found.completions, found.pick, found.messages) == ([BAD, GOOD], 1, ASKED)
    assert passed_over([str(tmp_path / "flat.parquet")]) == 2


def test_argilla_ratings_of_one_answer(tmp_path):
    rated = [({"instruction": "Weather?", "response": text}, value) for text, value in ((GOOD, 5), (BAD, 2))]
    rows = [
        {"fields": f, "responses": {"quality": [{"value": v}], "why": [{"value": "so"}]}, "status": "completed"}
        for f, v in rated
    ]
    (found,) = read(tmp_path, rows)
    assert (found.messages, found.completions[found.pick], found.shape) == (ASKED, GOOD, "ratings")


def studio(value, kind, to_name="answer1,answer2", **annotation):
    data = {"prompt": "Weather?", "answer1": BAD, "answer2": GOOD}
    if kind == "ranker":
        items = [{"id": f"c{i}", "title": str(i), "body": t} for i, t in enumerate((BAD, GOOD, "Sun."))]
        data = {"prompt": "Weather?", "items": items}
    result = [{"from_name": "rank", "to_name": to_name, "type": kind, "value": value}]
    return {"id": 1, "data": data, "annotations": [{"result": result} | annotation], "predictions": []}


@pytest.mark.parametrize(
    ("task", "shape", "values"),
    [
        (studio({"selected": "right"}, "pairwise"), "pick", []),
        (studio({"selected": "right"}, "pairwise", "txt-1,txt-2"), "pick", []),
        (studio({"choices": ["answer2"]}, "choices"), "pick", []),
        (studio({"ranker": {"rank": ["c1", "c2"]}}, "ranker"), "ranking", [2, 0, 1]),
        (studio({"ranker": ["c1", "c2", "c0"]}, "ranker"), "ranking", [2, 0, 1]),
        (studio({"ranker": {"_": ["c0"], "best": ["c1"]}}, "ranker"), "ranking", [1, 0, 1]),
        (studio({"ranker": {"relevant_results": ["c1"], "other": ["c0"], "_": []}}, "ranker"), "ranking", [1, 0, 1]),
    ],
)
def test_label_studio(tmp_path, task, shape, values):
    cancelled = task | {"annotations": [task["annotations"][0] | {"was_cancelled": True}]}
    (found,) = read(tmp_path, [task, cancelled, task | {"annotations": []}], "tasks.json")
    assert (found.messages, found.shape, found.values) == (ASKED, shape, values)
    assert found.completions[found.pick] == GOOD and passed_over([str(tmp_path / "tasks.json")]) == 2


def webui(rating, siblings=1, message="a0"):
    turns = {"q": say("user", "Weather?") | {"parentId": None, "childrenIds": ["a0"]}}
    turns["a0"] = say("assistant", GOOD) | {"parentId": "q", "model": "m"}
    turns |= {f"a{i}": say("assistant", f"{BAD}{i}") | {"parentId": "q", "model": "n"} for i in range(1, siblings + 1)}
    chat = {"id": "1", "chat": {"history": {"messages": turns, "currentId": "a0"}, "messages": []}}
    meta = {"arena": siblings > 0, "chat_id": "1", "message_id": message}
    data = {"rating": rating, "model_id": "m", "sibling_model_ids": ["n"] * siblings}
    return {"id": "f", "type": "rating", "version": 0, "data": data, "meta": meta, "snapshot": {"chat": chat}}


def test_open_webui(tmp_path):
    won, lost, lost_to_two = read(tmp_path, [webui(1), webui("-1"), webui(-1, 2), webui(None)], "feedback.json")
    assert (won.messages, won.completions, won.pick, won.shape) == (ASKED, [GOOD, BAD + "1"], 0, "pick")
    assert (lost.completions[lost.pick], lost_to_two.values) == (BAD + "1", [1, 0, 0])
    other = webui(-1, 0)
    other["snapshot"]["chat"]["chat"]["history"]["messages"]["a0"]["content"] = BAD
    (thumbs,) = read(tmp_path, [webui(1, 0), other], "thumbs.json")
    assert (thumbs.completions[thumbs.pick], thumbs.values) == (GOOD, [0.5, -0.5])


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({"question": "Weather?", "a": 1}, r":1: a row needs .*found the columns question, a; known: completions"),
        ({"history": "p", "human_ref_A": "a", "human_ref_B": "b", "labels": "A"}, "labels must be 1 or 0; found 'A'"),
        ({"prompt": "p", "completion": "c", "label": "good"}, "label must be true or false; found 'good'"),
        ({"chosen": [say("user", "p")] * 2, "rejected": [say("user", "p")] * 2}, "messages that end with an answer"),
        (argilla(best=[{"value": "A"}]), "the answers name no text among prompt, response1, response2; found"),
        (studio({"ranker": {"x": ["c1"], "y": ["c0"]}}, "ranker"), "which bucket is the best"),
        (studio({"ranker": ["gone"]}, "ranker"), "ranking must be an index"),
        (webui(1, message="gone"), "no message 'gone'"),
        ({"fields": "f", "responses": {"best": [{"value": "A"}]}}, "are not as Argilla has them"),
        ({"info": {"post": "p"}, "summaries": 7, "choice": 0}, "are not as OpenAI's summaries has them"),
        ({"prompt": "p", "completions": ["a", "b"], "pick": 0.5}, "pick must be an index from 0 to 1; found 0.5"),
        ({"prompt": "p", "completions": ["a", "b"], "ratings": [1, float("inf")]}, "ratings must be finite numbers"),
        ({"prompt": "p", "completions": ["a", "b"], "votes": [1e300, 1]}, "votes must be finite numbers"),
        ({"prompt": "p", "chosen": "a", "rejected": "b", "margin": float("-inf")}, "margin, must be finite"),
        ({"prompt": "p", "chosen": "a", "rejected": "b", "score_chosen": "9", "score_rejected": 1}, "hold a number"),
    ],
)
def test_what_cannot_be_read_is_one_line_that_says_where(tmp_path, row, words):
    with pytest.raises(UserError, match=words) as error:
        read(tmp_path, [row])
    assert "\n" not in str(error.value) and "rows.jsonl:1" in str(error.value)


def test_a_column_of_numbers_with_a_gap(tmp_path):
    both = {"prompt": "Weather?", "completions": [BAD, GOOD]}
    rows = [both | {"pick": 1.0}, both | {"pick": float("nan")}, both | {"picks": [1.0, 0.0, float("nan"), 1.0]}]
    found = [(p.shape, p.pick, p.values) for p in read(tmp_path, rows)]
    assert found == [("pick", 1, []), ("votes", 1, [1, 2])]
    table = pa.table({"prompt": ["p", "q"], "completions": [[BAD, GOOD]] * 2, "pick": pa.array([1.0, None])})
    pq.write_table(table, tmp_path / "rows.parquet")
    with (tmp_path / "rows.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("prompt", "completions", "pick"), ("p", [BAD, GOOD], 1.0), ("q", [BAD, GOOD], "")])
    for name in ("rows.parquet", "rows.csv"):  # pandas writes lists to CSV as Python does
        (pick,) = read_picks([str(tmp_path / name)])
        assert (pick.completions, pick.pick, passed_over([str(tmp_path / name)])) == ([BAD, GOOD], 1, 1)


def test_half_a_character_is_no_obstacle(tmp_path):
    (found,) = read(
        tmp_path, [{"prompt": "Weather?\ud83c", "completions": [BAD, GOOD + "\ud83c\udf27\ud83c"], "pick": 1}]
    )
    assert found.messages[0].content == "Weather?\ufffd" and found.completions[1] == GOOD + "\U0001f327\ufffd"


def test_numbers_in_a_column_of_texts_stay_texts(tmp_path):
    (tmp_path / "rows.csv").write_text("question,response_0,response_1,better_response_id\n7 x 6?,42,41,0\n")
    (found,) = read_picks([str(tmp_path / "rows.csv")])
    assert (found.messages[0].content, found.completions, found.pick) == ("7 x 6?", ["42", "41"], 0)


def test_ratings_that_a_model_cannot_tell_apart_say_nothing(tmp_path):
    """In float32 they are equal: no pair would be left, and the mean of no pairs is NaN."""
    both = {"prompt": "Weather?", "completions": [BAD, GOOD]}
    rows = [both | {"ratings": [0.3, 0.1 + 0.2]}, both | {"ratings": [0, 1e9]}, both | {"ratings": [1, 1.01]}]
    found = read(tmp_path, rows)
    assert len(found) == 2 and passed_over([str(tmp_path / "rows.jsonl")]) == 1
    assert all(len(np.unique(np.float32(p.values))) == 2 for p in found)
