"""Values that hold many records: arrays, pages of an API, exports of a tracer."""

from typing import Any

from bakeoff.ingest import shapes, traces

KEYS = ("data", "rows", "records", "items", "examples", "traces", "train", "test", "validation", "results")
"""What the list of records is called in an object that holds nothing else but remarks on it."""
_SPEAKERS, _SAID = {"role", "from", "author", "sender", "speaker"}, {"content", "value", "parts", "text"}
_LINKS = ("conversation", "session", "thread", "parent", "chat")
"""What a message names when it stands in a table beside messages of other conversations."""


def unpacked(value: Any, prompt_field: str = "") -> list[Any]:
    """The records of a container; none for a record, which is what holds the prompt field."""
    if spans := traces.unpacked(value):
        return spans
    if not isinstance(value, dict):
        return value if _are_records(value) else []
    own = prompt_field and shapes.field(value, prompt_field) is not None
    named = [k for k, v in value.items() if str(k).lower() in KEYS and _are_records(v)]
    if own or not are_remarks({k: v for k, v in value.items() if k not in named}):
        return []
    return [record for k in named for record in value[k]]


def are_remarks(value: Any) -> bool:
    """Whether an object holds nothing to ask: no prompt, no list, no JSON in a text, nothing nested twice."""
    if not isinstance(value, dict) or any(str(k).lower() in shapes.PROMPT_KEYS for k in value):
        return False
    inner = [i for v in value.values() for i in (v.values() if isinstance(v, dict) else [v])]
    return not any(isinstance(i, dict | list) or isinstance(i, str) and shapes.parsed(i) is not None for i in inner)


def is_turn(value: Any) -> bool:
    """Whether a value is a turn of the conversation that it stands in."""
    keys = {str(k).lower() for k in value} if isinstance(value, dict) else set()
    return bool(keys & _SPEAKERS and keys & _SAID) and not any(link in key for key in keys for link in _LINKS)


def _are_records(value: Any) -> bool:
    """Whether a value is a list of records or of whole conversations."""
    if not isinstance(value, list) or not all(isinstance(v, dict | list) for v in value):
        return False
    return not any(map(is_turn, value)) and shapes.messages(value) is None
