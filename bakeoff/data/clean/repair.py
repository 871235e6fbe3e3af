"""Text made sound: cut records, control characters, white space, chat-template tokens."""

import json
import re
import unicodedata
from collections.abc import Container
from typing import Any

import ftfy

from bakeoff.data.schema.prompt_columns import mended

_MOJIBAKE = re.compile(
    "[\u00c2\u00c3\u00e2\u00c5\u00c4\u00d0\u00d1][\u0080-\u00bf\u0152-\u017e\u2018-\u203a\u20ac\u2122]"
)
_CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u200b\u200e\u200f\u202a-\u202e\u2060\ufeff\ufffe\uffff]")
_JSON = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*(?P<end>"|\\?\Z)|[{}\[\],:]', re.S)
_CONTROL_BYTES = bytes([*range(9), 11, 12, *range(14, 32), 127])
_SPACES = re.compile("[\u00a0\u1680\u2000-\u200a\u202f\u205f\u3000]")
_TEMPLATE = re.compile(
    r"<[|\uff5c]([\w \u2581./-]{1,64})[|\uff5c]>"  # ChatML, Llama 3, Phi, GPT, DeepSeek
    r"|\[(/?(?:INST|SYSTEM_PROMPT|AVAILABLE_TOOLS|TOOL_CALLS|TOOL_RESULTS|gMASK))\]"  # Mistral, GLM
    r"|<{1,2}(/?SYS)>{1,2}"  # Llama 2
    r"|<(/?s|bos|eos|pad|unk|start_of_turn|end_of_turn|turn\|?|\|turn|sop)>"  # SentencePiece, Gemma
)


def completed_json(text: str, answers: Container[str]) -> Any | None:
    """The record of a JSON text that was cut off inside of a value whose key is one of `answers`; None for any other.

    What is unfinished is left out, so nothing that stands before it, as the prompt does, is cut.
    """
    path: list[list[str]] = []  # of each open object or array, what closes it and the key that is being filled
    word, safe = "", (0, "")
    for token in _JSON.finditer(text):
        sign = token[0]
        if sign[0] == '"':
            if token["end"] != '"':
                break
            word = sign[1:-1].lower()
        elif sign in "{[":
            path.append(["}" if sign == "{" else "]", ""])
        elif not path:
            return None
        elif sign == ":":
            path[-1][1] = word
        elif sign == ",":
            path[-1][1] = ""
            safe = token.start(), "".join(closing for closing, _ in path[::-1])
        else:
            path.pop()
            safe = token.end(), "".join(closing for closing, _ in path[::-1])
    if not safe[0] or not any(key in answers for _, key in path):
        return None
    try:
        return json.loads(text[: safe[0]] + safe[1])
    except (ValueError, RecursionError):
        return None


def tidy(text: str) -> str:
    """Text without mojibake, control characters, odd spaces, or blank lines at its ends; tables keep their columns."""
    if text.isascii():
        text = text.encode().translate(None, _CONTROL_BYTES).decode()
    else:
        text = _SPACES.sub(" ", _CONTROL.sub("", unicodedata.normalize("NFC", _unmojibake(mended(text)))))
    text = text.replace("\r\n", "\n").replace("\r", "\n").replace("\t", "    ").strip("\n").rstrip()
    if "\n" not in text:
        return re.sub(" {2,}", " ", text.strip()) if "  " in text else text.strip()
    if " \n" in text:
        text = re.sub(" +\n", "\n", text)
    return re.sub("\n{3,}", "\n\n", text) if "\n\n\n" in text else text


def _unmojibake(text: str) -> str:
    """UTF-8 that somebody read in another encoding, read again, also where it is part of a text."""
    return ftfy.fix_encoding(text) if _MOJIBAKE.search(text) else text


def neutral(text: str) -> str:
    """Text in which no chat template finds a token of its own: `<|im_end|>` becomes `(im_end)`."""
    if "<" not in text and "[" not in text:
        return text
    return _TEMPLATE.sub(lambda m: f"({next(g for g in m.groups() if g)})", text)
