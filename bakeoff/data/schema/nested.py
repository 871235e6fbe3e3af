"""Records within texts: JSON, one value or several, or the form in which Python shows lists and dicts."""

import ast
import json
import re
from typing import Any

_KEYS = (
    "role|from|content|messages|conversations?|contents|parts|inputs?|prompt|question|query|instruction|system|model|args|"
    "kwargs|lc"
)
_RECORD = re.compile(rf'\s*(?:\[\s*)*\{{\s*"(?:{_KEYS})"\s*:')
_REPR = re.compile(rf"\s*(?:\[\s*)*\{{\s*'(?:{_KEYS})'\s*:|\s*\[?(?:Human|AI|System|Chat|Tool)Message\(")
_ROUNDS = re.compile(r"\s*\[\s*\[\s*'")
"""Records and lists of rounds as Python shows them."""
_JSON = re.compile(r'\s*(?:\[\s*)*(?:\{\s*"|\[\s*")')
_REPR_LENGTH, _MARK = 1 << 20, 48
"""Characters that are read of Python's own form; those that say at the end of a text that it was cut."""

DECODER = json.JSONDecoder(strict=False)
"""Takes control characters in strings for what they are."""
_BETWEEN = re.compile(r"[\s,\ufeff\0]*")


def parse(text: str) -> list[tuple[Any, str]]:
    """The JSON value of a text, or its values where a line end is missing; for what is none, its text and why."""
    found: list[tuple[Any, str]] = []
    at = following(text, 0)
    try:
        while at < len(text):
            value, end = DECODER.raw_decode(text, at)
            at = following(text, end)
            if not isinstance(value, dict | list) and (found or at < len(text)):
                return [(text, "broken JSON")]  # a line of text that begins with a number
            found.append((value, ""))
    except RecursionError:
        return [*found, (text[at:], "nested too deeply")]
    except ValueError:
        return [*found, (text[at:], "broken JSON")]
    return found or [(text, "empty")]


def following(text: str, at: int) -> int:
    """Where the next value begins: past white space and commas."""
    match = _BETWEEN.match(text, at)
    return match.end() if match else at


def parsed(text: str) -> Any | None:
    """The object or array that a text spells in JSON, or a record in Python's own form; None for any other text."""
    if text.lstrip()[:1] not in ("{", "["):
        return None
    try:
        inner = json.loads(text)
    except (ValueError, RecursionError):
        inner = _literal(text) if _REPR.match(text) or _ROUNDS.match(text) else None
    return inner if isinstance(inner, dict | list) else None


def _literal(text: str) -> Any:
    if len(text) > _REPR_LENGTH:
        return None
    try:
        return ast.literal_eval(text.strip())
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        return None


def unreadable(text: str, *, known: bool = False) -> str:
    """The reason why a text that begins as a record cannot be read; "" for any other text.

    `known` says that a record was expected, so that any JSON counts, not only a request's.
    """
    if _REPR.match(text):
        return "Python repr"
    if not (_JSON if known else _RECORD).match(text):
        return ""
    try:
        json.loads(text)
    except json.JSONDecodeError as error:
        end = text.rstrip()
        if error.msg.startswith("Unterminated"):
            return "cut JSON"
        if error.msg == "Extra data" or (end[-1] not in "]}" and error.pos < len(end) - _MARK):
            return ""
        return "broken JSON" if end[-1] in "]}" else "cut JSON"
    except RecursionError:
        return "nested too deeply"
    return ""
