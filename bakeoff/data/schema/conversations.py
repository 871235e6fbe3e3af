"""From one record, of whatever shape, to the conversation that somebody wanted answered."""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from bakeoff.data.schema import traces
from bakeoff.data.schema.nested import parsed, unreadable
from bakeoff.data.schema.threads import lone
from bakeoff.data.schema.turns import (
    NO_ROLE,
    NO_USER,
    WORDS,
    Turns,
    name_of,
    parts,
    role_of,
    rounds,
    text_of,
    turns_of,
)
from bakeoff.records import Message

CHAT_KEYS = (
    "messages", "conversations", "conversation", "turns", "contents", "chat", "chat_messages", "dialog", "dialogue",
)  # fmt: skip
CONVERSATION_KEYS = (*CHAT_KEYS, "input", "prompt")
PROMPT_KEYS = (
    "prompt", "question", "instruction", "query", "input", "inputs", "user_input", "user_message", "user_query",
    "user_prompt", "message", "text", "args",
)  # fmt: skip
ANSWER_KEYS = {
    "response", "response_body", "output", "outputs", "completion", "completions", "choices", "answer", "usage",
    "metadata", "chosen", "rejected", "scores", "assessments",
}  # fmt: skip
_NAMES = (
    ("OpenTelemetry span", {"attributes", "name"}),
    ("MLflow trace", {"info", "data"}),
    ("Databricks inference table", {"databricks_request_id", "request"}),
    ("Langfuse trace", {"input", "observations"}),
    ("Langfuse observation", {"input", "traceid"}),
    ("Langfuse observation", {"input", "trace_id", "type"}),
    ("Anthropic messages", {"messages", "system"}),
    ("chat messages", {"messages"}),
    ("ShareGPT", {"conversations"}),
    ("Gemini contents", {"contents"}),
    ("OpenAI responses", {"input", "model"}),
    ("Alpaca", {"instruction"}),
    *[(f"field {key!r}", {key}) for key in PROMPT_KEYS],
)
"""A record is called after the first line whose keys it has."""
SYSTEM_KEYS = ("system", "system_prompt", "system_instruction", "systeminstruction", "instructions")
HISTORY_KEYS = ("history", "chat_history", "conversation_history")
"""Earlier rounds beside a prompt."""
PASSAGE_KEYS = ("context", "contexts", "passage")
"""What a prompt beside them asks about."""
LABEL = 30
"""A `context` without a space that is shorter is a label, not a passage."""
ONE_MESSAGE = "one message of a conversation"
"""Why a row is set aside that does not say to which conversation it belongs."""
NO_PROMPT, SEVERAL = "no prompt found", "several prompts in one record"
_NOTHING = re.compile(r"\s*(?:<?\s*no[ _-]?input\s*>?|<?(?:nan|none|null|undefined)>?|n/?a)?\s*", re.I)
_DEPTH = 12
"""How deep a request may be nested: services wrap it in a few envelopes, each perhaps a JSON string."""


def all_turns(value: Any, prompt_field: str = "") -> Turns | str:
    """All turns of a record, the answers that it holds among its turns included, or the reason why there are none."""
    message = lone(value)
    if prompt_field:
        if message and role_of(name_of(message)) != "user":
            return NO_USER
        value = field(value, prompt_field)
        if value is None:
            return f"no field {prompt_field!r}"
        if "{" in prompt_field:
            return [Message("user", value)]
    elif message:
        return ONE_MESSAGE
    turns = _turns(value) if isinstance(value, str) else _search(value, _DEPTH)
    return NO_PROMPT if turns is None else turns


def name(value: Any) -> str:
    """What a record is called in the list of what was recognised."""
    if isinstance(value, str):
        inner = parsed(value)
        return "plain text" if inner is None else name(inner)
    if isinstance(value, list):
        return "list of messages" if turns_of(value) else "list"
    keys = {str(k).lower() for k in value} if isinstance(value, dict) else set()
    known = next((known for known, wanted in _NAMES if wanted <= keys), "")
    return known or "request within " + ", ".join(sorted(keys)[:4])


def nothing(text: str) -> bool:
    """Whether a field is blank, or holds what tables and data sets write for nothing."""
    return bool(_NOTHING.fullmatch(text))


def _turns(text: str) -> Turns | str | None:
    """A text that is a whole JSON record is searched; any other text is the prompt."""
    inner = parsed(text)
    found = _search(inner, _DEPTH) if inner is not None else unreadable(text)
    return found or [Message("user", "" if nothing(text) else text)]


def _search(value: Any, depth: int) -> Turns | str | None:
    """The conversation in a nested value, or the reason why the one that is there is not known; None: none is there.

    Recognised keys go first, then envelopes; answers are not looked at. What is recognised is not dug into.
    """
    if depth == 0:
        return None
    if isinstance(value, str):
        inner = parsed(value)
        return unreadable(value) or None if inner is None else _search(inner, depth - 1)
    if isinstance(value, list):
        found = turns_of(value)
        return _only([_search(v, depth - 1) for v in value]) if found is None else found
    if not isinstance(value, dict):
        return None
    if (traced := traces.request(value)) is not None:
        return _search(traced, depth - 1)
    if (found := _record(value)) is not None:
        return found
    if message := lone(value):
        return turns_of([message])
    return _first((_search(v, depth - 1) for k, v in value.items() if str(k).lower() not in ANSWER_KEYS))


def _only(found: Sequence[Turns | str | None]) -> Turns | str | None:
    """What the one item of a list holds that holds a prompt."""
    turns = [one for one in found if isinstance(one, list)]
    return SEVERAL if len(turns) > 1 else next((one for one in [*turns, *found] if one), None)


def _first(found: Iterable[Turns | str | None]) -> Turns | str | None:
    """The first conversation or reason; that a list holds several prompts says nothing of what stands beside it."""
    several = None
    for one in found:
        if one and one != SEVERAL:
            return one
        several = several or one
    return several


def _record(record: dict[str, Any]) -> Turns | str | None:
    """The conversation that a record's own keys hold, its system prompt first."""
    keys = {str(k).lower(): v for k, v in record.items()}
    turns = _first(turns_in(keys[k], k) for k in CONVERSATION_KEYS if keys.get(k)) or _bare(keys)
    system = text_of(next((keys[k] for k in SYSTEM_KEYS if keys.get(k)), None))
    if turns and system and not nothing(system) and not isinstance(turns, str) and turns[0].role != "system":
        return [Message("system", system), *turns]
    return turns


def turns_in(value: Any, key: str) -> Turns | str | None:
    """The conversation in a list that stands under `key`; None for a list of something else."""
    chat = key in CHAT_KEYS
    if isinstance(value, str) and value:
        text, value = value, parsed(value)
        if value is None:
            return unreadable(text, known=chat and key != "conversation") or None
    if not isinstance(value, list) or not value:
        return None
    if (found := turns_of(value)) is not None:
        return found
    if len(value) == 1 and isinstance(value[0], list):
        return turns_in(value[0], key) or rounds(value)
    if not chat:
        return parts(value)
    worded = any(isinstance(item, dict) and set(WORDS) & item.keys() for item in value)
    return rounds(value) or (
        NO_ROLE if worded and not any(isinstance(item, dict) and "messages" in item for item in value) else None
    )


def _bare(keys: dict[str, Any]) -> Turns | str | None:
    """A prompt in a field of its own, after its earlier rounds, and with the passage that it asks about."""
    blank = False
    for key in PROMPT_KEYS:
        text = keys.get(key)
        if isinstance(text, list) and len(text) == 1:
            text = text[0]
        if not isinstance(text, str) or parsed(text) is not None:
            continue
        if nothing(text):
            blank = True
            continue
        earlier = _history(keys, text)
        if why := unreadable(text) or (earlier if isinstance(earlier, str) else ""):
            return why
        beside = [p for p in _passages(keys, key) if p not in text]
        whole = [text, *beside] if key == "instruction" else [*beside, text]
        return [*earlier, Message("user", "\n\n".join(whole))]
    return [Message("user", "")] if blank else None


def _passages(keys: Mapping[str, Any], prompt: str) -> list[str]:
    """Alpaca's `input`, and the passages in a `context`, which may be a list of them."""
    found: list[Any] = [keys.get("input")] if prompt == "instruction" else []
    for key in PASSAGE_KEYS:
        value = keys.get(key)
        inner = parsed(value) if isinstance(value, str) else value
        several = inner if isinstance(inner, list) else [value] if inner is None else []
        found += [v for v in several if isinstance(v, str) and (" " in v.strip() or len(v) > LABEL)]
    return [v for v in found if isinstance(v, str) and not nothing(v)]


def _history(keys: Mapping[str, Any], prompt: str) -> Turns | str:
    """The turns before a prompt; the prompt itself does not stand twice."""
    for key in HISTORY_KEYS:
        value = keys.get(key)
        value = parsed(value) if isinstance(value, str) else value
        if not isinstance(value, list) or not value:
            continue
        turns = turns_of(value)
        turns = rounds(value) if turns is None else turns
        if isinstance(turns, list) and turns[-1].role == "user" and turns[-1].content == prompt:
            return turns[:-1]
        if turns is not None or not all(isinstance(item, dict) for item in value):
            return f"unknown form of {key}" if turns is None else turns
    return []


_PLACE = re.compile(r"\{([\w. -]+)\}")


def field(value: Any, path: str) -> Any:
    """The value at `a.b.c`, through nested objects and JSON strings, or of a template `{title} {a.b}`; None: not there.

    A template is filled with texts and numbers; a place that is empty stays empty, all of them empty is None.
    """
    if "{" not in path:
        for key in path.split("."):
            if isinstance(value, str):
                value = parsed(value)
            value = value.get(key) if isinstance(value, dict) else None
        return value
    found = {key: field(value, key) for key in _PLACE.findall(path)}
    texts = {key: "" if v is None or nothing(str(v)) else str(v) for key, v in found.items()}
    return _PLACE.sub(lambda m: texts[m[1]], path) if any(texts.values()) else None
