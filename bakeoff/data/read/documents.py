"""JSON as files hold it: a record a line, over several lines, several in a line, arrays, documents of any length."""

import contextlib
import io
import json
import re
from collections.abc import Iterable, Iterator
from typing import IO, Any

from bakeoff.data.read import containers
from bakeoff.data.read.lines import BYTEWISE, ROW_BYTES, UNKNOWN, WESTERN, Item, encoding, foreign, legacy
from bakeoff.data.schema.nested import DECODER, following, parse

PRINTED_LINES = 20_000
"""A JSON record over more lines was never closed."""
_ARRAY = re.compile(rf'[\s\ufeff]*(?:\{{\s*"(?:{"|".join(containers.KEYS)})"\s*:\s*)?\[')
_NEXT = re.compile(r"\n[ \t,]*\{")
_ESCAPED = re.compile("[\udc80-\udcff]")
"""A byte of an unknown encoding."""


def is_array(stream: IO[bytes]) -> bool:
    """Whether a stream begins with an array of records which goes on past its first line, or past what can be seen."""
    assert isinstance(stream, io.BufferedReader)
    head = stream.peek()
    text = head.decode(encoding(head[:64]), "replace")
    array = _ARRAY.match(text)
    if not array or (first := _peeked(text, array.end())) is None or containers.is_turn(first):
        return False
    line, end, _ = text.lstrip("\ufeff \t\r\n").partition("\n")
    return not end or any(reason for _, reason in parse(line))


def _peeked(text: str, at: int) -> Any | None:
    """The value that stands at a place of a text, if it ends there, too."""
    with contextlib.suppress(ValueError, RecursionError):
        return DECODER.raw_decode(text, following(text, at))[0]
    return None


_OPENS = re.compile(rb"[ \t]*[{\[]")


def joined_lines(source: Iterable[Item]) -> Iterator[Item]:
    """Lines; those over which a record was printed, up to the one that closes it under its beginning, as one."""
    held: list[Item] = []
    opens = closes = b""
    for number, line, reason in source:
        if held and line.startswith(closes):
            yield held[0][0], b"\n".join([*(text for _, text, _ in held), closes]), ""
            held, line = [], line[len(closes) :].strip(b" \t,")
            if not line:
                continue
        elif held and (reason or line.startswith(opens) or len(held) == PRINTED_LINES):
            yield from held
            held = []
        if held:
            held.append((number, line, reason))
        elif not reason and line.rstrip(b" \t").endswith((b"{", b"[", b",")) and (match := _OPENS.match(line)):
            held, opens = [(number, line, reason)], match[0]
            closes = opens.translate(bytes.maketrans(b"{[", b"}]"))
        else:
            yield number, line, reason
    yield from held


def values(stream: IO[bytes]) -> Iterator[Item]:
    """Values one after the other; for an array, or an object that begins with one, its items."""
    text = _More(stream)
    while text.fill():
        array = _ARRAY.match(text.buffer, text.at)
        if not array or _is_record(text, array):
            yield text.line, *text.value()
            continue
        text.drop(array.end())
        while text.fill() and text.buffer[text.at] != "]":
            yield text.line, *text.value()
        if "{" in array[0] and text.fill():
            line, value, reason = text.line, *text.rest()
            if reason or not containers.are_remarks(value):
                yield line, value, reason
        else:
            text.drop(text.at + 1)


def _is_record(text: "_More", array: re.Match[str]) -> bool:
    """Whether what begins like an array of records is a record: a conversation, or an object that holds more."""
    whole = _peeked(text.buffer, text.at) if "{" in array[0] else None
    return containers.is_turn(_peeked(text.buffer, array.end())) or bool(whole and not containers.nested_records(whole))


class _More:
    """A window on a text stream, moved along as values are taken from it."""

    def __init__(self, stream: IO[bytes]):
        assert isinstance(stream, io.BufferedReader)
        head = stream.peek()
        name, errors = encoding(head[:64]), BYTEWISE
        found = legacy(head) if name == "utf-8-sig" and foreign(head) else ""
        if found not in ("", WESTERN):
            name, errors = (name, "surrogateescape") if found == UNKNOWN else (found, "replace")
        self._stream = io.TextIOWrapper(stream, name, errors)
        self.buffer = self._stream.read(1 << 16)
        self.at, self.line = 0, 1

    def drop(self, end: int) -> None:
        self.line += self.buffer.count("\n", self.at, end)
        self.at = end

    def grow(self) -> bool:
        more = self._stream.read(max(1 << 16, len(self.buffer) - self.at))
        self.buffer, self.at = self.buffer[self.at :] + more, 0
        return bool(more)

    def fill(self) -> bool:
        """Move to the next value, and say whether there is any."""
        while True:
            self.drop(following(self.buffer, self.at))
            if self.at < len(self.buffer) or not self.grow():
                return self.at < len(self.buffer)

    def value(self) -> tuple[Any, str]:
        """The next JSON value; a broken one ends where the next record begins on a line of its own."""
        while True:
            try:
                value, end = json.JSONDecoder().raw_decode(self.buffer, self.at)
            except RecursionError:
                return self._broken("nested too deeply")
            except ValueError as error:
                unfinished = getattr(error, "pos", 0) > len(self.buffer) - 16 or str(error).startswith("Unterminated")
                long = len(self.buffer) - self.at > ROW_BYTES
                if not unfinished or long or not self.grow():
                    return self._broken("row too long" if unfinished and long else "broken JSON")
            else:
                if end < len(self.buffer) or not self.grow():  # a number may go on
                    odd = _ESCAPED.search(self.buffer, self.at, end)
                    found = (self.buffer[self.at : end], UNKNOWN) if odd else (value, "")
                    self.drop(end)
                    return found

    def rest(self) -> tuple[Any, str]:
        """What an object holds beside the array with which it began and that ends here."""
        self.buffer, self.at = '{"": 0' + self.buffer[self.at + 1 :], 0
        return self.value()

    def _broken(self, reason: str) -> tuple[str, str]:
        head = self.buffer[self.at : self.at + ROW_BYTES]
        self.at += 1
        while not (match := _NEXT.search(self.buffer, self.at)):
            self.drop(max(self.at, len(self.buffer) - 256))
            if not self.grow():
                self.drop(len(self.buffer))
                return head, reason
        self.drop(match.start())
        return head, reason
