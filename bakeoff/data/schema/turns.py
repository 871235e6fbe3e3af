"""From the items of a conversation, as services and tools write them, to its turns."""

import dataclasses
import functools
import re
from collections.abc import Mapping, Sequence
from typing import Any

from bakeoff.models import thoughts
from bakeoff.records import Message

Turns = list[Message]


@dataclasses.dataclass(frozen=True, slots=True)
class Said(Message):
    """A turn of the assistant with all that its log says of it."""

    item: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    goes_on: bool = False
    """Whether something that nobody said, as the call of a tool, stood between this turn and the one before."""


ROLES = {
    **dict.fromkeys(("system", "developer"), "system"),
    **dict.fromkeys(("user", "human", "prompter", "customer", "client", "end_user"), "user"),
    **dict.fromkeys(("assistant", "ai", "bot", "chatbot", "model", "agent", "llm", "ai_assistant"), "assistant"),
    **dict.fromkeys(("observation", "ipython", "environment"), ""),
}
"""Names of roles; "" is nobody's."""
_MODEL = re.compile(
    r"(?:chat)?gpt|claude|gemini|gemma|bard|bing|copilot|(?:code)?llama|mi[sx]tral|qwen|deepseek|grok(?![a-z])"
)
WORDLESS = re.compile(r"tool|function|_call|reason|think|thought|_result|_use$|approval|reference|execut|compact", re.I)
"""Roles, items and parts that nobody said: what a tool was asked and told, what a model thought."""
_OUTCOME = re.compile(r"_(?:call|output|result|use|reference)$")
MEDIA = {
    "image", "image_url", "input_image", "audio", "input_audio", "audio_url", "video", "video_url", "media", "file",
    "input_file", "document", "blob", "uri", "image_asset_pointer", "audio_asset_pointer",
    "video_container_asset_pointer",
}  # fmt: skip
"""Parts that a model of text cannot read, as OpenAI, Anthropic, LangChain, vLLM and OpenTelemetry call them."""
MEDIA_KEYS = ("inlineData", "inline_data", "fileData", "file_data")
SHOWN = "\ufffc"
"""Stands for a turn in which something was shown and nothing said."""
TEXT_TYPES = {"text", "input_text", "output_text"}
SPEAKERS = ("role", "from", "author", "sender", "speaker")
WORDS = ("content", "value", "parts", "text", "message", "refusal", "audio")
"""Where an item keeps what was said, the likeliest first."""
ASKS = ("user", "human", "input", "question", "query", "prompt", "instruction")
REPLIES = ("assistant", "bot", "gpt", "ai", "output", "answer", "response", "reply")
"""Keys of a round, which is a question and its answer."""
NO_ROLE, NO_USER, UNKNOWN = "turn without a role", "no user turn", "unknown content of a turn"


def name_of(item: Mapping[str, Any]) -> str:
    """What an item (its keys in small letters) calls its speaker; "" when it does not say."""
    if (mine := item.get("iscreatedbyuser")) is not None:
        return "user" if str(mine).lower() in ("true", "1") else "assistant"
    for key in SPEAKERS:
        value = item.get(key)
        value = value.get("role") if isinstance(value, dict) else value
        if isinstance(value, str) and (name := _plain(value)):
            return name
    kind = _plain(str(item.get("type") or ""))
    return kind if kind in ROLES or _OUTCOME.search(kind) else ""


@functools.lru_cache(1 << 10)
def _plain(name: str) -> str:
    """`AIMessage` and `end-user` as `ai` and `end_user`."""
    name = name.strip().lower().removesuffix("chunk").removesuffix("message")
    return re.sub(r"[\s-]+", "_", name).strip("_")


def role_of(name: str) -> str | None:
    """The role that a name means, "" when nobody spoke, None when it is not known."""
    if name in ROLES:
        return ROLES[name]
    return "assistant" if _MODEL.match(name) else "" if WORDLESS.search(name) else None


def turns_of(value: Sequence[Any]) -> Turns | str | None:
    """The turns of a list of messages, or the reason why they are not known; None when it is a list of something else.

    What nobody said is left out: what tools were asked and told, thoughts, turns without words.
    """
    items = [_item(v) for v in value]
    if not any(map(_speaks, items)):
        return None
    turns: Turns = []
    gap = False
    for item in items:
        role = "" if _unsaid(item) else role_of(name_of(item))
        if role is None:
            return _unknown(name_of(item))
        text = _text(item) if role else ""
        if text is None and role == "user":
            return UNKNOWN
        if role == "assistant" and text:
            text = thoughts.answer(text)
        if not text and (role != "user" or _results(item)):
            gap = True
            continue
        turns.append(Said(role, text or "", item, gap) if role == "assistant" else Message(role, text or ""))
        gap = False
    return turns or NO_USER


def _item(value: Any) -> dict[str, Any]:
    """An item with its keys in small letters; LangChain's objects and its pairs of role and text alike."""
    if isinstance(value, list | tuple) and len(value) == 2 and isinstance(value[0], str):
        return {"role": value[0], "content": value[1]} if role_of(_plain(value[0])) is not None else {}
    if not isinstance(value, dict):
        return {}
    item = {str(k).lower(): v for k, v in value.items()}
    inner = item.get("kwargs") or item.get("data")
    if isinstance(inner, dict) and "content" in inner:
        kind = item.get("id") if item.get("type") == "constructor" else None
        return item | inner | ({"role": str(kind[-1])} if isinstance(kind, list) and kind else {})
    if "parts" in item and not name_of(item):
        return item | {"role": "user"}  # Gemini's own API wants no role for one turn
    return item


def _speaks(item: Mapping[str, Any]) -> bool:
    """Whether an item is a turn, of a known role or of one that it names."""
    name = name_of(item)
    if not name or role_of(name) is not None:
        return bool(name)
    return bool(item.get("role") or item.get("from")) and any(key in item for key in WORDS)


def _unsaid(item: Mapping[str, Any]) -> bool:
    """Whether nobody said an item: its type is of something else, it is for a tool, or it was not shown."""
    kind = str(item.get("type") or "")
    meta = item.get("metadata")
    return (
        bool(WORDLESS.search(kind))
        or (kind not in ("", "message", *TEXT_TYPES) and not name_of(item))
        or item.get("recipient") not in (None, "", "all")
        or (isinstance(meta, dict) and meta.get("is_visually_hidden_from_conversation") is True)
    )


def _unknown(name: str) -> str:
    """The reason, with the role where it is a word and cannot be personal data."""
    shown = re.fullmatch(r"[^\W\d]{1,20}", name)
    return f"unknown role {name!r}" if shown else "unknown role" if name else NO_ROLE


def _text(item: Mapping[str, Any]) -> str | None:
    """What an item says: "" for nothing, None for what is not understood."""
    said = next((item[key] for key in WORDS if item.get(key) not in (None, "", [])), "")
    text = text_of(said)
    return SHOWN if not text and isinstance(said, list) and any(map(_media, said)) else text


def _results(item: Mapping[str, Any]) -> bool:
    """Whether a turn without words has parts, which are then a tool's."""
    return any(isinstance(item.get(key), list) and item[key] for key in WORDS)


def text_of(content: Any) -> str | None:
    """The text of a message's content: a string, or the text parts of a list; None for what is not understood."""
    if isinstance(content, str):
        return content
    if isinstance(content, dict):
        content = content.get("parts") or [content]
    if not isinstance(content, list):
        return None
    parts = list(map(_words, content))
    text = "\n".join(filter(None, parts))
    return text if text or None not in parts else None


def _words(part: Any) -> str | None:
    """The text of a part: "" when nobody said it, None when it is not understood."""
    if not isinstance(part, dict):
        return part if isinstance(part, str) else None
    if part.get("thought") is True or WORDLESS.search(_kind(part)):
        return ""
    if isinstance(part.get("transcript"), str):
        return part["transcript"]
    if _media(part):
        return ""
    for key in ("text", "content", "refusal"):
        found = part.get(key)
        found = found.get("value") if isinstance(found, dict) else found
        if isinstance(found, str):
            return found
    return "" if any(WORDLESS.search(str(key)) for key in part) else None


def _kind(part: Mapping[str, Any]) -> str:
    return str(part.get("type") or part.get("content_type") or "")


def _media(part: Any) -> bool:
    """Whether a part of a message is an image, a sound, a film or a file; Gemini names those by a key."""
    return isinstance(part, dict) and (_kind(part) in MEDIA or any(key in part for key in MEDIA_KEYS))


def parts(value: Sequence[Any]) -> Turns | None:
    """A question given as the parts of one message (text, images) without a role; None for any other list."""
    if not all(isinstance(v, dict) and (_kind(v) in TEXT_TYPES or _media(v)) for v in value):
        return None
    return [Message("user", text_of(list(value)) or SHOWN)]


def rounds(value: Sequence[Any]) -> Turns | None:
    """The turns of a list of questions with their answers, as pairs or as objects; None for any other list."""
    turns: Turns = []
    for item in value:
        if isinstance(item, dict):
            keys = {str(k).lower(): v for k, v in item.items()}
            item = [next((keys[k] for k in names if k in keys), None) for names in (ASKS, REPLIES)]
            turns += [Message("system", system)] if isinstance(system := keys.get("system"), str) and system else []
        if not (isinstance(item, list | tuple) and len(item) == 2 and isinstance(item[0], str)):
            return None
        turns.append(Message("user", item[0]))
        if isinstance(item[1], str) and (said := thoughts.answer(item[1])) and said.strip():
            turns.append(Said("assistant", said))
    return turns if any(turn.role == "assistant" for turn in turns) else None


def asked(turns: Sequence[Message]) -> Turns:
    """The turns up to the last one of the user; what the assistant said around a tool's turns is one turn."""
    end = max((i for i, turn in enumerate(turns, 1) if turn.role == "user"), default=0)
    joined: Turns = []
    for turn in turns[:end]:
        if isinstance(turn, Said) and turn.goes_on and joined and joined[-1].role == "assistant":
            joined[-1] = Message("assistant", f"{joined[-1].content}\n\n{turn.content}")
        else:
            joined.append(Message(turn.role, turn.content))
    return joined
