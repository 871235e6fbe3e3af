"""Rows of one message each become conversations, records within records are counted, and trees give their branches."""

from __future__ import annotations

import csv
import json
import sqlite3
import tracemalloc
from pathlib import Path

import pytest
from ingested import clean

from bakeoff.data.read.readers import ROW_BYTES, Row, rows
from bakeoff.data.schema import threads
from bakeoff.data.stage import preview
from bakeoff.errors import UserError
from bakeoff.settings import Fields, Prompts

TALKS = {
    "a": [
        ("user", "Where does the tram stop?"),
        ("assistant", "At the old bridge."),
        ("user", "And when does it leave?"),
    ],
    "b": [
        ("system", "Be brief."),
        ("user", "Who keeps bees in town?"),
        ("assistant", "The beekeepers."),
        ("user", "How many are there?"),
    ],
}
MIXED = [("a", 0), ("b", 0), ("b", 1), ("a", 1), ("b", 2), ("a", 2), ("b", 3)]
"""The messages as they come in, two people talking at once."""


def table(**extra):
    return [
        {"conversation_id": t, "role": TALKS[t][i][0], "content": TALKS[t][i][1], **{k: v[n] for k, v in extra.items()}}
        for n, (t, i) in enumerate(MIXED)
    ]


def lines(path: Path, records) -> Path:
    path.write_text("".join(json.dumps(r) + "\n" for r in records))
    return path


def talks(result):
    return [[(m.role, m.content) for m in p.messages] for p in result.prompts]


def read(path: Path, **settings):
    return clean([path], Prompts(**settings))


def test_messages_are_joined_by_their_conversation_whatever_the_format(tmp_path):
    lines(tmp_path / "m.jsonl", table())
    (tmp_path / "m.json").write_text(json.dumps({"data": table()}))
    (tmp_path / "line.jsonl").write_text(json.dumps({"entries": table()}) + "\n")
    with (tmp_path / "m.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, ["id", "Conversation_ID", "Role", "Content"])
        writer.writeheader()
        for n, r in enumerate(table()):
            writer.writerow(dict(zip(writer.fieldnames, [n, *r.values()], strict=True)))
    with sqlite3.connect(tmp_path / "m.db") as database:
        database.execute("CREATE TABLE chats (id TEXT, title TEXT)")
        database.execute("INSERT INTO chats VALUES ('a', 'Trams')")
        database.execute("CREATE TABLE messages (id INTEGER PRIMARY KEY, chat_id TEXT, role TEXT, body TEXT)")
        database.executemany("INSERT INTO messages VALUES (NULL, ?, ?, ?)", [tuple(r.values()) for r in table()])
    database.close()
    for path in sorted(tmp_path.iterdir()):
        result = read(path)
        assert talks(result) == list(TALKS.values()), path
        assert [s.reason for s in result.set_aside] == (["no prompt found"] if path.suffix == ".db" else []), path
    assert read(tmp_path / "m.jsonl").prompts[1].source == f"{tmp_path}/m.jsonl:2"
    assert next(preview([tmp_path / "m.csv"], Prompts())).endswith('chat messages (2), "And when does it leave?"')


def test_fields_that_tell_the_order_count_and_not_the_place_in_the_file(tmp_path):
    at = [f"2025-03-0{n}T10:00:00Z" for n in range(1, 8)]
    for extra in ({"created_at": at}, {"position": list(map(str, range(4, 11)))}, {"createTime": list(range(7))}):
        result = read(lines(tmp_path / "m.jsonl", reversed(table(**extra))))
        assert sorted(talks(result)) == sorted(TALKS.values())


def test_messages_in_envelopes_and_what_is_said_of_answers(tmp_path):
    records = [
        {
            "type": role,
            "sessionId": t,
            "message": {"role": role, "content": [{"type": "text", "text": said}]},
            "team": "x",
        }
        for t in TALKS
        for role, said in TALKS[t]
    ]
    records.insert(
        1, {"type": "user", "sessionId": "a", "message": {"role": "user", "content": [{"type": "tool_result"}]}}
    )
    assert talks(read(lines(tmp_path / "m.jsonl", [*records, {"type": "summary", "summary": "Trams."}]))) == [
        *TALKS.values()
    ]
    rated = table(rating=[None, None, None, 1, None, None, None])
    (row,) = (r for r in threads.joined([Row("f:1", r) for r in rated]) if len(r.value["messages"]) == 3)
    assert row.value["messages"][1]["rating"] == 1 and "rating" not in row.value


def test_no_answer_becomes_a_prompt_where_no_conversation_is_named(tmp_path):
    records = [{"role": role, "text": said} for role, said in TALKS["a"]]
    path = lines(tmp_path / "m.jsonl", [*records, {"prompt": "Who feeds the swans?"}])
    result = read(path)
    assert talks(result) == [[("user", "Who feeds the swans?")]]
    assert [s.reason for s in result.set_aside] == ["one message of a conversation"] * 3
    with pytest.raises(UserError, match="3 'one message of a conversation'.*give each row a conversation_id"):
        read(lines(path, records))
    named = read(lines(path, records), fields=Fields(prompt="text"))
    assert [m.role for p in named.prompts for m in p.messages] == ["user", "user"]
    assert [s.reason for s in named.set_aside] == ["no user turn"]


def test_an_unknown_role_is_named_and_its_words_are_no_prompt(tmp_path):
    records = table()
    records[3]["role"] = "zorblax"
    result = read(lines(tmp_path / "m.jsonl", records))
    assert talks(result) == [TALKS["b"]]
    assert [s.reason for s in result.set_aside] == ["unknown role 'zorblax'"]


def tree(own, parent):
    nodes = [
        (0, None, "user", "Where does the tram stop?"),
        (1, 0, "assistant", "At the bridge."),
        (2, 0, "assistant", "At the old bridge."),
        (3, 2, "user", "And when does it leave?"),
        (4, 3, "assistant", "At nine."),
        (5, 2, "user", "And what does it cost?"),
    ]
    return [{own: f"m{i}", parent: f"m{p}", "role": role, "content": said} for i, p, role, said in nodes]


BRANCHES = [
    [*TALKS["a"]],
    [*TALKS["a"][:2], ("user", "And what does it cost?")],
]


def test_a_tree_of_messages_gives_each_last_question_with_what_led_to_it(tmp_path):
    found = tree("message_id", "parent_id")
    shown = [
        r | {"sender": r["role"], "isCreatedByUser": r["role"] == "user"} for r in tree("messageId", "parentMessageId")
    ]
    nodes = {
        r["id"]: {
            "id": r["id"],
            "parent": r["parent"],
            "message": {"author": {"role": r["role"]}, "content": {"content_type": "text", "parts": [r["content"]]}},
        }
        for r in tree("id", "parent")
    } | {"root": {"id": "root", "parent": None, "message": None}}
    for name, record in {
        "flat": [r | {"message_tree_id": "t"} for r in found],
        "list": [{"messages": [{k: v for k, v in r.items() if k != "role"} for r in shown]}],
        "mapping": [{"title": "Tram", "mapping": nodes, "current_node": "m5"}],
    }.items():
        assert talks(read(lines(tmp_path / f"{name}.jsonl", record))) == BRANCHES, name


def test_parents_in_a_circle_end(tmp_path):
    records = [{"id": i, "parent": 1 - i, "role": "user", "content": "Who is first?"} for i in (0, 1)]
    assert threads.branches(records) == [records]


def test_every_record_of_a_container_is_in_one_place(tmp_path):
    held = [
        {"prompt": "Who feeds the swans?"},
        {"id": 7},
        {"messages": [{"role": "zorblax", "content": "Hm."}]},
        [{"prompt": "Why?"}],
    ]
    for record in (held, {"object": "list", "data": held}, {"status": 200, "data": {"items": held}}):
        result = read(lines(tmp_path / "c.jsonl", [record, {"prompt": "How tall is the tower?"}]), skip=["short"])
        assert talks(result) == [[("user", q)] for q in ("Who feeds the swans?", "Why?", "How tall is the tower?")]
        assert [(s.source[-6:], s.reason) for s in result.set_aside] == [
            ("nl:1:2", "no prompt found"),
            ("nl:1:3", "unknown role 'zorblax'"),
        ]


def test_a_conversation_without_end_is_one_long_row_and_memory_stays_bounded():
    text = "x" * 1000

    def many(n):
        for i in range(n):
            thread = "one" if i % 2 else f"t{i // 4}"
            yield Row(f"f:{i}", json.dumps({"thread_id": thread, "role": "user", "content": text}).encode())

    tracemalloc.start()
    found = [(r.reason, len(r.value and r.value["messages"])) for r in threads.joined(many(3 * ROW_BYTES // 1000))]
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert found.count(("row too long", 0)) == 1 and found.count(("", 2)) > 3000
    assert peak < 3 * ROW_BYTES


def test_rows_that_are_no_messages_pass_as_they_are(tmp_path):
    path = lines(
        tmp_path / "m.jsonl", [{"session_id": "s", "prompt": "Who is there?", "role": "user"}, {"messages": []}]
    )
    assert list(threads.joined(rows(path))) == list(rows(path))


def test_odd_ids_and_values_are_joined_too():
    ids = ["\ud800", 7, None, "", float("nan"), ["x"]]
    given = [
        Row(f"f:{i}", {"chat_id": t, "role": "user", "content": "Who is there?", "at": {1: b"x"}})
        for i, t in enumerate(ids * 2)
    ]
    found = list(threads.joined(given))
    assert sorted(len(r.value["messages"]) for r in found if "messages" in r.value) == [2, 2, 2]
    assert sum("messages" not in r.value for r in found) == 6
