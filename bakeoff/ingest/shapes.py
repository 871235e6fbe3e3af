"""From one record, of whatever shape, to the conversation that somebody wanted answered."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from bakeoff.records import Message

Turns = list[Message]

ROLES = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "human": "user",
    "prompter": "user",
    "assistant": "assistant",
    "ai": "assistant",
    "bot": "assistant",
    "chatbot": "assistant",
    "gpt": "assistant",
    "model": "assistant",
}
CONVERSATION_KEYS = ("messages", "conversations", "conversation", "turns", "contents", "input", "prompt", "chat")
PROMPT_KEYS = ("prompt", "question", "instruction", "query", "input", "inputs", "user_input", "user_message", "text")
ANSWER_KEYS = {"response", "response_body", "output", "outputs", "completion", "choices", "answer", "usage", "metadata"}
DEPTH = 12
"""How deep a request may be nested: services wrap it in a few envelopes, each perhaps a JSON string."""


def conversation(value: Any, prompt_field: str = "") -> Turns | str:
    """The turns of a record up to its last user turn, or the reason why there are none."""
    if prompt_field:
        value = _field(value, prompt_field)
        if value is None:
            return f"no field {prompt_field!r}"
    turns = _turns(value) if isinstance(value, str) else _search(value, DEPTH)
    if turns is None:
        return "no prompt found"
    while turns and turns[-1].role != "user":
        turns = turns[:-1]
    return turns or "no user turn"


def _turns(text: str) -> Turns | None:
    """A text that is a whole JSON record is searched; any other text is the prompt."""
    inner = _json(text)
    found = _search(inner, DEPTH) if inner is not None else None
    return found or [Message("user", text)]


def _search(value: Any, depth: int) -> Turns | None:
    """The first conversation in a nested value: recognised keys first, then envelopes, never answers."""
    if depth == 0:
        return None
    if isinstance(value, str):
        inner = _json(value)
        return None if inner is None else _search(inner, depth - 1)
    if isinstance(value, list):
        return _messages(value) or _first(value, lambda v: _search(v, depth - 1))
    if not isinstance(value, dict):
        return None
    return _record(value) or _first(
        [v for k, v in value.items() if str(k).lower() not in ANSWER_KEYS], lambda v: _search(v, depth - 1)
    )


def _first(values: list[Any], find: Callable[[Any], Turns | None]) -> Turns | None:
    return next((turns for value in values if (turns := find(value))), None)


def _json(text: str) -> Any | None:
    """The object or array that a text spells, or None."""
    if text.lstrip()[:1] not in ("{", "["):
        return None
    try:
        inner = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return inner if isinstance(inner, dict | list) else None


def _record(record: dict[str, Any]) -> Turns | None:
    """The conversation that a record's own keys hold, its system prompt first."""
    keys = {str(k).lower(): v for k, v in record.items()}
    turns = _first([keys.get(k) for k in CONVERSATION_KEYS], _listed) or _bare(keys)
    system = _text(keys.get("system") or keys.get("system_prompt") or keys.get("system_instruction"))
    if turns and system and turns[0].role != "system":
        return [Message("system", system), *turns]
    return turns


def _listed(value: Any) -> Turns | None:
    if isinstance(value, str):
        value = _json(value)
    return _messages(value) if isinstance(value, list) else None


def _bare(keys: dict[str, Any]) -> Turns | None:
    """A prompt in a field of its own, with Alpaca's `input` or a question's `context` joined to it."""
    for key in PROMPT_KEYS:
        text = keys.get(key)
        if isinstance(text, list) and len(text) == 1:
            text = text[0]
        if not isinstance(text, str) or _json(text) is not None:
            continue
        extra = keys.get("input") if key == "instruction" else keys.get("context") if key == "question" else None
        parts = [text, extra] if key == "instruction" else [extra, text]
        return [Message("user", "\n\n".join(p for p in parts if isinstance(p, str) and p.strip()))]
    return None


def _messages(value: list[Any]) -> Turns | None:
    """OpenAI's, Anthropic's, Gemini's and ShareGPT's lists of turns; None when the list is of something else."""
    turns = []
    for item in value:
        if not isinstance(item, dict):
            return None
        role = ROLES.get(str(item.get("role") or item.get("from") or item.get("author") or "").lower())
        text = _text(next((item[k] for k in ("content", "value", "parts", "text") if item.get(k) is not None), None))
        if role is None or text is None:
            return None
        turns.append(Message(role, text))
    return turns or None


def _text(content: Any) -> str | None:
    """The text of a message's content: a string, or the text parts of a list; None for anything else."""
    if isinstance(content, str):
        return content
    if isinstance(content, dict):
        content = content.get("parts") or [content]
    if not isinstance(content, list):
        return None
    parts = [p if isinstance(p, str) else p.get("text") if isinstance(p, dict) else None for p in content]
    return None if any(not isinstance(p, str) for p in parts) else "\n".join(p for p in parts if p)


def _field(value: Any, path: str) -> Any:
    """The value at `a.b.c`, through nested objects and JSON strings; None when it is not there."""
    for key in path.split("."):
        if isinstance(value, str):
            value = _json(value)
        value = value.get(key) if isinstance(value, dict) else None
    return value
