"""Rows that hold one message each, joined into conversations; the branches of a conversation that is a tree."""

import contextlib
import json
import re
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from bakeoff.data.read.lines import ROW_BYTES, Row, decode
from bakeoff.data.schema.nested import parse, parsed
from bakeoff.data.schema.turns import SPEAKERS, WORDS, name_of, parts, role_of
from bakeoff.errors import UserError

WHOLE = {
    "prompt", "question", "instruction", "query", "input", "inputs", "user_input", "user_message", "user_query",
    "user_prompt", "response", "response_body", "output", "outputs", "completion", "completions", "choices", "answer",
    "chosen", "rejected",
}  # fmt: skip
"""A record with one of these is more than a message."""
THREADS = {
    what + kind for what in ("conversation", "conv", "chat", "thread", "session", "dialog", "dialogue", "messagetree")
    for kind in ("id", "uuid")
}  # fmt: skip
"""What the id of a conversation is called, in small letters without `_`."""
_THREADED = re.compile(rb'"(?:conv|conversation|chat|thread|session|dialog|dialogue|message_?tree)_?(?:uu)?id"', re.I)
SPOKEN = {*SPEAKERS, "type", "iscreatedbyuser", "message", "payload", "data"}
"""A message has one of these, to say who spoke or to wrap one that does."""
OWN, PARENT = ("messageid", "id", "uuid"), ("parentmessageid", "parentid", "parentuuid", "parentmessageuuid", "parent")
PLACES = (
    "position", "turn", "turnindex", "messageindex", "sequence", "seq", "createdat", "createtime", "timestamp",
    "created", "sentat", "ts",
)  # fmt: skip
"""Fields that may tell the order of the messages of a conversation."""
CACHE = 32 << 10
"""Kibibytes of the waiting messages that are held in memory."""
BRANCHES = 100
"""The paths through a tree are together at most so many times as long as the tree has messages."""


def small(record: Mapping[Any, Any]) -> dict[str, Any]:
    """A record with its keys in small letters."""
    return {str(k).lower(): v for k, v in record.items()}


def lone(record: Any) -> dict[str, Any] | None:
    """The message that a record is, if it is one message and no more; its keys small, its words in `content`.

    The message may stand in an envelope (`message`, `payload`, `data`). A role that is not known makes a message only
    beside the id of a conversation.
    """
    if not isinstance(record, dict):
        return None
    item = small(record)
    if not item.keys() & SPOKEN:
        return None
    for key in ("message", "payload", "data"):
        if isinstance(item.get(key), dict) and name_of(inner := small(item[key])):
            item = {k: v for k, v in item.items() if k not in (key, "type")} | inner
            break
    if any(item[key] for key in WHOLE & item.keys()) or any(
        isinstance(item.get(k), list) for k in ("messages", "conversation")
    ):
        return None
    thread, role = thread_of(item), role_of(name_of(item))
    said = next((item[key] for key in (*WORDS, "body", "message_text") if item.get(key)), None)
    if (role is None and not (thread and item.get("role"))) or (said is None and not thread):
        return None
    inside = parsed(said) if isinstance(said, str) else None
    return item | {"content": inside if isinstance(inside, list) and parts(inside) else said}


def thread_of(item: Mapping[str, Any]) -> str:
    """The id of the conversation that a message belongs to, "" when it names none."""
    found = (v for k, v in item.items() if _bare(k) in THREADS and v == v)
    return next((str(v) for v in found if v not in (None, "")), "")


def joined(rows: Iterable[Row], prompt_field: str = "") -> Iterator[Row]:
    """The rows of a file; those that hold one message each come at the end, one row a conversation.

    With a prompt field, every row stands for itself.

    Conversations are found by their id, wherever their messages stand. The messages wait in a temporary database on
    disk, so memory holds one conversation at a time.
    """
    if prompt_field:
        yield from rows
        return
    with contextlib.closing(sqlite3.connect("")) as store:
        store.execute(f"PRAGMA cache_size = -{CACHE}")
        store.execute("CREATE TABLE message (n INTEGER PRIMARY KEY, thread TEXT, source TEXT, item TEXT)")
        store.execute("CREATE TABLE thread (thread TEXT PRIMARY KEY, first INTEGER) WITHOUT ROWID")
        try:
            for row in rows:
                thread, item = _threaded(row)
                if not thread:
                    yield row
                    continue
                waiting = (thread, row.source, item)
                n = store.execute("INSERT INTO message (thread, source, item) VALUES (?, ?, ?)", waiting).lastrowid
                store.execute("INSERT OR IGNORE INTO thread VALUES (?, ?)", (thread, n))
            yield from _conversations(store)
        except sqlite3.Error as error:
            raise UserError(
                f"the messages to join find no room on disk ({error}); set TMPDIR to a larger one"
            ) from error


def _threaded(row: Row) -> tuple[str, str]:
    """The conversation and the message of a row that says to which one it belongs, as JSON; "" for any other row."""
    value = row.value
    if row.reason or not isinstance(value, bytes | dict):
        return "", ""
    if isinstance(value, bytes):
        if not _THREADED.search(value):
            return "", ""
        found = parse(decode(value))
        value = found[0][0] if len(found) == 1 else None
    item = lone(value)
    thread = thread_of(item) if item else ""
    try:
        return (json.dumps(thread), json.dumps(item, default=str)) if thread else ("", "")
    except (RecursionError, ValueError):
        return "", ""


def _conversations(store: sqlite3.Connection) -> Iterator[Row]:
    """One row for each path through each conversation, in the order of the conversations' first messages."""
    found = store.execute("SELECT first, source, item FROM message JOIN thread USING (thread) ORDER BY first, n")
    row = found.fetchone()
    while row:
        first, source, size, items = row[0], row[1], 0, []
        while row and row[0] == first:
            size += len(row[2])
            items += [json.loads(row[2])] if size <= ROW_BYTES else []
            row = found.fetchone()
        if size > ROW_BYTES:
            yield Row(source, "", "row too long")
            continue
        shared = {k: v for k, v in items[0].items() if all(i.get(k) == v for i in items)}
        for key in (*WORDS, "role", "body", "message_text"):
            shared.pop(key, None)
        for path in branches(_ordered(items)):
            yield Row(source, shared | {"messages": path})


def _ordered(items: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Messages in the order that a field of theirs tells, or as they stand."""
    names = {_bare(key): key for key in items[0]}
    for key in filter(names.__contains__, PLACES):
        places: list[Any] = [_place(item.get(names[key])) for item in items]
        if len({type(p) for p in places}) == 1 and None not in places and len(set(places)) > 1:
            return [items[i] for i in sorted(range(len(items)), key=places.__getitem__)]
    return items


def _place(value: Any) -> float | str | None:
    """A number, or a date in ISO's form; None for anything else."""
    if isinstance(value, str) and re.match(r"\d{4}-\d\d-\d\d", value):
        return value
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return number if number == number else None


def branches(items: Sequence[Mapping[str, Any]]) -> list[list[Mapping[str, Any]]]:
    """The paths through messages that name their parents, one for each last question; the list itself if none does.

    Of several answers to one question the last stands. A tree with too many paths gives its latest alone.
    """
    owns = [_first(item, OWN) for item in items]
    tree = {str(own): (i, str(_first(items[i], PARENT))) for i, own in enumerate(owns) if own is not None}
    parents = {parent for _, parent in tree.values()}
    paths: dict[int, list[int]] = {}
    room = BRANCHES * len(items)
    for end in reversed([own for own in tree if own not in parents] if parents & tree.keys() else []):
        path: list[int] = []
        while end in tree and len(path) < len(items):
            path.append(tree[end][0])
            end = tree[end][1]
        asked = next((i for i in path if role_of(name_of(items[i])) == "user"), -1)
        if asked not in paths and (room := room - len(path)) >= 0:
            paths[asked] = path[::-1]
        if room < 0:
            return [[items[i] for i in next(iter(paths.values()))]]
    followed = {i for asked, path in paths.items() for i in path if i != asked}
    found = [[items[i] for i in paths[asked]] for asked in sorted(paths) if asked not in followed]
    return found or [list(items)]


def _first(item: Mapping[str, Any], names: Sequence[str]) -> Any:
    """The value under the first of some names that has one."""
    keys = {_bare(k): v for k, v in item.items()}
    return next((keys[name] for name in names if keys.get(name) not in (None, "")), None)


def _bare(key: str) -> str:
    return key.replace("_", "").lower()
