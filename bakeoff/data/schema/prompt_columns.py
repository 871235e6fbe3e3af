"""From the columns of a row, in the ways that people keep prompts, to the conversation that is answered."""

import ast
import json
import re
from typing import Any

from bakeoff.data.schema.turns import Turns, text_of
from bakeoff.errors import UserError
from bakeoff.records import Message

PROMPT = (
    "messages", "conversations", "conversation", "chat", "prompt", "instruction", "question", "query", "input",
    "history",
)  # fmt: skip
"""Columns that hold what was asked; the first that a row has counts."""
SYSTEM = ("system", "system_prompt")
_ROLES = {"human": "user", "prompter": "user", "developer": "system"}
_ROLES |= dict.fromkeys(("gpt", "ai", "bot", "model", "chatbot"), "assistant")
TOOLS = ("tool", "function", "observation", "function_call", "tool_call")
"""Turns that nobody said are left out, as they are of the logs."""
_TURN = re.compile(r"(?:^|\n\n)(Human|Assistant):[ \t]?")


def asked_in(row: dict) -> dict:
    """The columns of a row that hold what was asked."""
    return {k: row[k] for k in (*PROMPT, *SYSTEM) if row.get(k)}


def messages(row: dict, source: str) -> Turns:
    """The conversation of a row: `messages`, or `prompt` (text or messages), or another column of `PROMPT`.

    Raises UserError naming the source when there is none.
    """
    key = next((k for k in PROMPT if row.get(k)), "prompt")
    value, more = row.get(key), row.get("input")
    if key == "instruction" and isinstance(more, str) and more.strip():
        value = f"{value}\n\n{more}"
    if isinstance(value, dict):  # OpenAI's fine-tuning keeps them in `input`
        value = value.get("messages")
    if isinstance(value, str) and key not in PROMPT[:4]:
        turns = dialogue(value) if _TURN.match(value) else [Message("user", value)]
        if len(turns) > 1 and turns[-1].role == "assistant" and not turns[-1].content.strip():
            turns.pop()  # "Assistant:", to be gone on with
    else:
        turns = listed(value or [], source)
    if key in PROMPT[4:7] and isinstance(row.get("history"), list):
        turns = [m for pair in row["history"] for m in _asked_and_answered(pair, source)] + turns
    system = next((row[k] for k in SYSTEM if isinstance(row.get(k), str) and row[k].strip()), None)
    if system and turns and turns[0].role != "system":
        turns = [Message("system", system), *turns]
    if not turns or not all(m.content for m in turns):
        raise UserError(f"{source}: prompt or messages hold no text; found {value!r:.80}")
    return [Message(m.role, mended(m.content)) for m in turns]


def mended(content: str) -> str:
    """Halves of surrogate pairs joined; a half alone, which no file can hold and no tokenizer reads, becomes U+FFFD."""
    return content.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def listed(value: Any, source: str) -> Turns:
    """A list of messages, of `role` and `content` or of `from` and `value`; what tools were asked and said is left out.

    Raises UserError naming the source when it is not one.
    """
    try:
        return [
            _turn(item)
            for item in value
            if _role(item) not in TOOLS and not (item.get("tool_calls") and not _text(item))
        ]
    except (TypeError, AttributeError, KeyError):
        raise UserError(f"{source}: messages must be a list of role and content; found {value!r:.80}") from None


def _turn(item: dict) -> Message:
    """One message; raises KeyError when it has no role, or no text."""
    said = _text(item)
    if said is None:
        raise KeyError("content")
    return Message(_ROLES.get(_role(item).lower(), _role(item)), said)


def _text(item: dict) -> str | None:
    return text_of(item.get("content", item.get("value")))


def _role(item: dict) -> str:
    role = item.get("role") or item["from"]
    if not isinstance(role, str):
        raise KeyError("role")
    return role


def _asked_and_answered(pair: Any, source: str) -> Turns:
    if not isinstance(pair, list) or len(pair) != 2 or not all(isinstance(t, str) for t in pair):
        raise UserError(f"{source}: history must be a list of pairs of texts; found {pair!r:.80}")
    return [Message("user", pair[0]), Message("assistant", pair[1])]


def dialogue(content: str) -> Turns:
    """A text with "Human:" and "Assistant:", as HH keeps them; what comes before is the system's."""
    before, *parts = _TURN.split(content)
    found = [Message(_ROLES.get(r.lower(), "assistant"), t) for r, t in zip(parts[::2], parts[1::2], strict=True)]
    return [Message("system", before.strip()), *found] if before.strip() and found else found


def spelled(cell: str) -> Any:
    """The list or record that a text spells, in JSON or as pandas writes it to CSV; any other text itself."""
    for read in (json.loads, ast.literal_eval) if cell[:1] in ("[", "{") else ():
        try:
            return read(cell)
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            pass
    return cell
