"""The old answers that a record holds, in the shapes in which services and tracers write them."""

from collections.abc import Mapping
from typing import Any

from bakeoff.data.schema import traces
from bakeoff.data.schema.nested import parsed
from bakeoff.data.schema.turns import messages, text_of

Found = list[tuple[str, Mapping[str, Any]]]
"""Texts, each with what its log says of it alone."""

ANSWER_KEYS = (
    "response", "response_body", "output", "outputs", "completion", "completions", "choices", "candidates",
    "responses", "alternatives", "generations", "answer", "answers", "assistant", "reply", "generated_text", "result",
)  # fmt: skip
SEVERAL = ("choices", "candidates", "completions", "generations", "alternatives", "responses", "answers")
ONE = (
    "message", "content", "parts", "text", "output_text", "generated_text", "output", "messages", "response",
    "completion", "answer", "value", "body",
)  # fmt: skip
"""Where a record that is an answer keeps its text, the likeliest first."""
SIDES = (("_a", "_b"), ("_1", "_2"), ("_0", "_1"))
"""How two answers that were shown side by side are told apart (`response_a`, `response_b`)."""
DEPTH = 8


def answers(fields: Mapping[str, Any]) -> Found:
    """The answers under a record's keys: several where several were shown, none where none is found."""
    traced = traces.response(fields)
    if traced is not None:
        return alternatives(traced)
    for name in ("response", "answer", "output", "completion", "conversation"):
        for one, other in SIDES:
            first, second = fields.get(name + one), fields.get(name + other)
            if first and second and _before(first) == _before(second):
                return [*alternatives(first)[:1], *alternatives(second)[:1]]
    return next((found for key in ANSWER_KEYS if fields.get(key) and (found := alternatives(fields[key]))), [])


def alternatives(value: Any, depth: int = DEPTH) -> Found:
    """The answers in a value: a text, a message, a response body, or a list of any of these."""
    if isinstance(value, str):
        inner = parsed(value)
        if inner is None:
            return [(value, {})] if value.strip() else []
        return alternatives(inner, depth - 1) if depth else []
    if isinstance(value, list):
        turns = messages(value)
        if isinstance(turns, list):
            return [(turns[-1].content, {})] if turns[-1].role == "assistant" else []
        return [(text, _item(v)) for v in value if (text := _first(v, depth))]
    if not isinstance(value, dict) or not depth:
        return []
    several = next((value[key] for key in SEVERAL if isinstance(value.get(key), list)), None)
    if several is not None:
        return [(text, _item(v)) for v in several if (text := _first(v, depth - 1))]
    text = _first(value, depth)
    return [(text, value)] if text else []


def _first(value: Any, depth: int) -> str:
    """The text of one answer, "" where there is none."""
    if not isinstance(value, dict):
        found = alternatives(value, depth - 1) if depth else []
        return found[0][0] if found else ""
    for key in ONE:
        inner = value.get(key)
        if not inner:
            continue
        text = text_of(inner) if key in ("content", "parts") else None
        if text or (text := _first(inner, depth - 1) if depth else ""):
            return text
    return ""


def _before(side: Any) -> Any:
    """The turns that an answer follows, where it is the last of a whole dialogue."""
    return side[:-1] if isinstance(side, list) else None


def _item(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}
