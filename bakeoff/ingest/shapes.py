"""From one record, of whatever shape, to the conversation that somebody wanted answered."""

import dataclasses
import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from bakeoff import thoughts
from bakeoff.ingest import traces
from bakeoff.records import Message

Turns = list[Message]


@dataclasses.dataclass(frozen=True, slots=True)
class Said(Message):
    """A turn with all that its log says of it."""

    item: Mapping[str, Any] = dataclasses.field(default_factory=dict)


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
PROMPT_KEYS = (
    "prompt", "question", "instruction", "query", "input", "inputs", "user_input", "user_message", "user_query",
    "user_prompt", "message", "text", "args",
)  # fmt: skip
ANSWER_KEYS = {
    "response", "response_body", "output", "outputs", "completion", "completions", "choices", "answer", "usage",
    "metadata", "chosen", "rejected", "scores", "assessments",
}  # fmt: skip
WORDLESS = {
    "tool_use", "tool_result", "tool_call", "tool_call_response", "thinking", "redacted_thinking", "reasoning",
    "server_tool_use", "function_call", "function_call_output",
}  # fmt: skip
"""Parts and items of a conversation that nobody said: what a tool was asked and told, what a model thought."""
MEDIA = {
    "image", "image_url", "input_image", "audio", "input_audio", "audio_url", "video", "video_url", "media", "file",
    "input_file", "document", "blob", "uri",
}  # fmt: skip
"""Parts that a model of text cannot read, as OpenAI, Anthropic, LangChain, vLLM and OpenTelemetry call them."""
MEDIA_KEYS = ("inlineData", "inline_data", "fileData", "file_data")
SHOWN = "\ufffc"
"""Stands for a turn in which something was shown and nothing said."""
NAMES = (
    ("OTLP spans", {"resourcespans"}),
    ("OTLP spans", {"resource_spans"}),
    ("OTLP logs", {"resourcelogs"}),
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
DEPTH = 12
"""How deep a request may be nested: services wrap it in a few envelopes, each perhaps a JSON string."""


def conversation(value: Any, prompt_field: str = "") -> Turns | str:
    """The turns of a record up to its last user turn, or the reason why there are none."""
    turns = dialogue(value, prompt_field)
    return turns if isinstance(turns, str) else asked(turns) or "no user turn"


def asked(turns: Sequence[Message]) -> Turns:
    """The turns up to the last one of the user."""
    end = max((i for i, turn in enumerate(turns, 1) if turn.role == "user"), default=0)
    return [Message(turn.role, turn.content) for turn in turns[:end]]


def dialogue(value: Any, prompt_field: str = "") -> Turns | str:
    """All turns of a record, the answers that it holds among its turns included, or the reason why there are none."""
    if prompt_field:
        value = field(value, prompt_field)
        if value is None:
            return f"no field {prompt_field!r}"
        if "{" in prompt_field:
            return [Message("user", value)]
    turns = _turns(value) if isinstance(value, str) else _search(value, DEPTH)
    return "no prompt found" if turns is None else turns


def name(value: Any) -> str:
    """What a record is called in the list of what was recognised."""
    if isinstance(value, str):
        inner = parsed(value)
        return "plain text" if inner is None else name(inner)
    if isinstance(value, list):
        return "list of messages" if messages(value) else "list"
    keys = {str(k).lower() for k in value} if isinstance(value, dict) else set()
    known = next((known for known, wanted in NAMES if wanted <= keys), "")
    return known or "request within " + ", ".join(sorted(keys)[:4])


def _turns(text: str) -> Turns | None:
    """A text that is a whole JSON record is searched; any other text is the prompt."""
    inner = parsed(text)
    found = _search(inner, DEPTH) if inner is not None else None
    return found or [Message("user", text)]


def _search(value: Any, depth: int) -> Turns | None:
    """The first conversation in a nested value: recognised keys first, then envelopes, never answers."""
    if depth == 0:
        return None
    if isinstance(value, str):
        inner = parsed(value)
        return None if inner is None else _search(inner, depth - 1)
    if isinstance(value, list):
        return messages(value) or _first(value, lambda v: _search(v, depth - 1))
    if not isinstance(value, dict):
        return None
    if (traced := traces.request(value)) is not None:
        return _search(traced, depth - 1)
    questions = [v for k, v in value.items() if str(k).lower() not in ANSWER_KEYS]
    return _record(value) or _first(questions, lambda v: _search(v, depth - 1))


def _first(values: list[Any], find: Callable[[Any], Turns | None]) -> Turns | None:
    return next((turns for value in values if (turns := find(value))), None)


def parsed(text: str) -> Any | None:
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
    system = text_of(next((keys[k] for k in SYSTEM_KEYS if keys.get(k)), None))
    if turns and system and turns[0].role != "system":
        return [Message("system", system), *turns]
    return turns


def _listed(value: Any) -> Turns | None:
    if isinstance(value, str):
        value = parsed(value)
    return messages(value) if isinstance(value, list) else None


def _bare(keys: dict[str, Any]) -> Turns | None:
    """A prompt in a field of its own, with Alpaca's `input` or a question's `context` joined to it."""
    for key in PROMPT_KEYS:
        text = keys.get(key)
        if isinstance(text, list) and len(text) == 1:
            text = text[0]
        if not isinstance(text, str) or parsed(text) is not None:
            continue
        extra = keys.get("input") if key == "instruction" else keys.get("context") if key == "question" else None
        parts = [text, extra] if key == "instruction" else [extra, text]
        return [Message("user", "\n\n".join(p for p in parts if isinstance(p, str) and p.strip()))]
    return None


def messages(value: list[Any]) -> Turns | None:
    """OpenAI's, Anthropic's, Gemini's and ShareGPT's lists of turns; None when the list is of something else.

    What tools were asked and told is left out.
    """
    turns: Turns = []
    for item in value:
        if not isinstance(item, dict):
            return None
        named = str(item.get("role") or item.get("from") or item.get("author") or "").lower()
        if named in ("tool", "function", "observation", "function_call") or str(item.get("type")) in WORDLESS:
            continue
        role = ROLES.get(named)
        said = next((item[k] for k in ("content", "value", "parts", "text") if item.get(k) is not None), None)
        if said is None and role == "assistant" and (item.get("tool_calls") or item.get("function_call")):
            continue
        text = text_of(said)
        if role is None or text is None:
            return None
        if role == "assistant" and text and not (text := thoughts.answer(text)):
            continue
        if not text and isinstance(said, list) and any(map(_media, said)):
            text = SHOWN
        if text or not isinstance(said, list):
            turns.append(Said(role, text, item) if role == "assistant" else Message(role, text))
    return turns or None


def text_of(content: Any) -> str | None:
    """The text of a message's content: a string, or the text parts of a list; None for anything else."""
    if isinstance(content, str):
        return content
    if isinstance(content, dict):
        content = content.get("parts") or [content]
    if not isinstance(content, list):
        return None
    said = [p for p in content if not (isinstance(p, dict) and (str(p.get("type")) in WORDLESS or _media(p)))]
    parts = [p.get("text", p.get("content")) if isinstance(p, dict) else p for p in said]
    return "\n".join(filter(None, parts)) if all(isinstance(p, str) for p in parts) else None


def _media(part: Any) -> bool:
    """Whether a part of a message is an image, a sound, a film or a file; Gemini names those by a key."""
    return isinstance(part, dict) and (str(part.get("type")) in MEDIA or any(key in part for key in MEDIA_KEYS))


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
    if all(v is None or v == "" for v in found.values()):
        return None
    return _PLACE.sub(lambda m: "" if found[m[1]] is None else str(found[m[1]]), path)
