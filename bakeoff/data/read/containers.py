"""From a value to its records: arrays, pages of an API, exports of a tracer, trees of messages."""

import re
from typing import Any

from bakeoff.data.schema import conversations, traces
from bakeoff.data.schema.threads import WHOLE, branches, small, thread_of
from bakeoff.data.schema.turns import turns_of

KEYS = (
    "data", "rows", "records", "items", "examples", "traces", "train", "test", "validation", "results", "chats",
    "threads", "entries", "logs",
)  # fmt: skip
"""What the list of records is called in an object that holds nothing else but remarks on it."""
_LINKS = re.compile("conversation|session|thread|parent|chat")
"""What a message names when it stands in a table beside messages of other conversations."""
_DEPTH = 5
"""How deep containers are looked for in each other."""


def nested_records(value: Any, prompt_field: str = "", depth: int = _DEPTH) -> list[Any]:
    """The records of a container, or the branches of a tree of messages; none for a record.

    What holds the prompt field is a record.
    """
    if not depth or (prompt_field and conversations.field(value, prompt_field) is not None):
        return []
    if found := traces.exported_spans(value) or _branches(value):
        return found
    if isinstance(value, list):
        items = [item for v in value for item in (v if isinstance(v, list) else [v])]
        whole = not all(isinstance(item, dict) for item in items) or any(map(is_turn, value))
        return [] if whole else [record for v in value for record in nested_records(v, prompt_field, depth - 1) or [v]]
    if not isinstance(value, dict):
        return []
    if _mixed(value.get("messages")):
        return value["messages"]
    named = {
        k: found
        for k, v in value.items()
        if ((key := str(k).lower()) in KEYS or (key == "conversations" and conversations.turns_in(v, key) is None))
        and (found := nested_records(v, prompt_field, depth - 1))
    }
    if not named or not are_remarks({k: v for k, v in value.items() if k not in named}):
        return []
    return [record for records in named.values() for record in records]


def are_remarks(value: Any) -> bool:
    """Whether an object holds nothing to ask."""
    return isinstance(value, dict) and conversations.all_turns(value) == conversations.NO_PROMPT


def is_turn(value: Any) -> bool:
    """Whether a value is a turn of the conversation that it stands in."""
    if not isinstance(value, dict):
        return turns_of([value]) is not None
    keys = {str(key).lower() for key in value}
    return turns_of([value]) is not None and not keys & WHOLE and not any(map(_LINKS.search, keys))


def _mixed(value: Any) -> bool:
    """Whether a list holds messages of several conversations."""
    return isinstance(value, list) and len({thread_of(m) for m in value if isinstance(m, dict)} - {""}) > 1


def _branches(value: Any) -> list[Any]:
    """A conversation whose messages name their parents as one record a branch; none for any other record."""
    if not isinstance(value, dict):
        return []
    nodes, items = value.get("mapping"), value.get("messages", value.get("chat_messages"))
    if isinstance(nodes, dict):  # ChatGPT's export
        whole = [n for n in nodes.values() if isinstance(n, dict) and isinstance(n.get("message"), dict)]
        items = [n["message"] | {"id": n.get("id"), "parent": n.get("parent")} for n in whole]
    if not isinstance(items, list) or not items or not all(isinstance(item, dict) for item in items):
        return []
    paths = branches(list(map(small, items)))
    rest = {k: v for k, v in value.items() if k not in ("mapping", "chat_messages")}
    return [rest | {"messages": path} for path in paths] if isinstance(nodes, dict) or len(paths) > 1 else []
