"""From a file to its rows, never the whole file at once. A row that cannot be read is still a row: it says why."""

import csv
import dataclasses
import functools
import io
import itertools
import json
import re
import sqlite3
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import IO, Any

import pyarrow as pa
import pyarrow.parquet as pq

from bakeoff.ingest import databases
from bakeoff.ingest.repair import BYTEWISE, decode, encoding
from bakeoff.ingest.sources import format_of, open_bytes

ROW_BYTES = 4 << 20
"""A longer row is no prompt; only its beginning is looked at, so that memory stays bounded."""
PARQUET_ROWS = 32
"""Decoded in one go: a value that is stored once may stand in every row."""
RECORD_LINES = 500
"""A CSV record over more lines has a quote that was never closed."""


@dataclasses.dataclass(frozen=True, slots=True)
class Row:
    """One row of a source: what was found there, or the reason why nothing was."""

    source: str
    """`file:line` (`file:row` where a format has no lines)."""
    value: Any
    """A record; or the bytes of a JSON line that is not parsed yet."""
    reason: str = ""


Item = tuple[int, Any, str]


def rows(path: Path) -> Iterator[Row]:
    """Every row of a file; damage past which nothing can be read ends it with one row that says so."""
    number = 0
    try:
        for number, value, reason in READERS[format_of(path) or "text"](path):
            long = isinstance(value, dict) and any(isinstance(v, str) and len(v) > ROW_BYTES for v in value.values())
            yield Row(f"{path}:{number}", "", "row too long") if long else Row(f"{path}:{number}", value, reason)
    except (OSError, EOFError, pa.ArrowException, sqlite3.Error) as error:
        yield Row(f"{path}:{number + 1}", "", f"damaged file: {type(error).__name__}")


def lines(stream: IO[bytes]) -> Iterator[tuple[int, bytes, str]]:
    """Numbered lines; one that is too long is cut, and says so."""
    for number, line in enumerate(_pieces(stream), 1):
        yield number, line[:ROW_BYTES].rstrip(b"\r\n"), "row too long" if len(line) > ROW_BYTES else ""


def _pieces(stream: IO[bytes]) -> Iterator[bytes]:
    """Lines of at most ROW_BYTES + 1 bytes: what follows in a longer one is read and forgotten."""
    readline = _line_of(stream)
    while piece := readline(ROW_BYTES + 1):
        yield piece
        while piece and not piece.endswith(b"\n"):
            piece = readline(ROW_BYTES)


def _line_of(stream: IO[bytes]) -> Callable[[int], bytes]:
    """The stream's `readline`, in UTF-8 when the file is in UTF-16."""
    name = _encoding(stream)
    if not name.startswith("utf-16"):
        return stream.readline
    text = io.TextIOWrapper(stream, name, "replace")
    return lambda size: text.readline(size).encode("utf-8", "replace")


def _encoding(stream: IO[bytes]) -> str:
    assert isinstance(stream, io.BufferedReader)
    return encoding(stream.peek(64)[:64])


def parse(text: str) -> tuple[Any, str]:
    """The JSON value of a text, or the text itself and what is wrong with it."""
    try:
        return json.loads(text), ""
    except RecursionError:
        return text, "nested too deeply"
    except ValueError:
        return text, "broken JSON"


def _jsonl(path: Path) -> Iterator[Item]:
    with open_bytes(path) as stream:
        yield from lines(stream)


def _text(path: Path) -> Iterator[Item]:
    """Plain text holds one prompt a line."""
    with open_bytes(path) as stream:
        for number, line, reason in lines(stream):
            yield number, decode(line), reason


_ARRAY = re.compile(r'[\s\ufeff]*(?:\{\s*"(?:data|rows|records|items|examples|traces|train)"\s*:\s*)?\[')
_BETWEEN = re.compile(r"[\s,\ufeff]*")
_NEXT = re.compile(r"\n[ \t,]*\{")


def _json(path: Path) -> Iterator[Item]:
    """The values of a JSON document, one by one: the items of its array, or records one after the other."""
    with open_bytes(path) as stream:
        text = _More(stream)
        array = _ARRAY.match(text.buffer)
        text.drop(array.end() if array else 0)
        while text.fill() and not (array and text.buffer.startswith("]")):
            line = text.line
            yield line, *text.value()


class _More:
    """A window on a text stream, moved along as values are taken from it."""

    def __init__(self, stream: IO[bytes]):
        self._stream = io.TextIOWrapper(stream, _encoding(stream), BYTEWISE)
        self.buffer = self._stream.read(1 << 16)
        self.line = 1

    def drop(self, n: int) -> None:
        self.line += self.buffer.count("\n", 0, n)
        self.buffer = self.buffer[n:]

    def grow(self) -> bool:
        more = self._stream.read(max(1 << 16, len(self.buffer)))
        self.buffer += more
        return bool(more)

    def fill(self) -> bool:
        """Move to the next value, and say whether there is any."""
        while (gap := len(self.buffer) - len(_BETWEEN.sub("", self.buffer, count=1))) == len(self.buffer):
            self.drop(gap)
            if not self.grow():
                return False
        self.drop(gap)
        return True

    def value(self) -> tuple[Any, str]:
        """The next JSON value; a broken one ends where the next record begins on a line of its own."""
        while True:
            try:
                value, end = json.JSONDecoder().raw_decode(self.buffer)
            except RecursionError:
                return self._broken("nested too deeply")
            except json.JSONDecodeError as error:
                unfinished = error.pos > len(self.buffer) - 16 or error.msg.startswith("Unterminated")
                if not unfinished or len(self.buffer) > ROW_BYTES or not self.grow():
                    return self._broken("broken JSON")
            else:
                if end < len(self.buffer) or not self.grow():  # a number may go on
                    self.drop(end)
                    return value, ""

    def _broken(self, reason: str) -> tuple[str, str]:
        head = self.buffer[:ROW_BYTES]
        while not (match := _NEXT.search(self.buffer, 1)):
            self.drop(max(0, len(self.buffer) - 256))
            if not self.grow():
                self.drop(len(self.buffer))
                return head, reason
        self.drop(match.start())
        return head, reason


def _delimited(path: Path, delimiter: str = "") -> Iterator[Item]:
    """Records under a line of column names; a quote that is never closed costs its own line only."""
    with open_bytes(path) as stream:
        waiting = ((n, decode(line).replace("\r", " "), reason) for n, line, reason in lines(stream))
        _, head, _ = next(waiting, (0, "", ""))
        cut = delimiter or max(",;\t|", key=head.count)
        names = _cells(head, cut)
        for number, record, reason in _records(waiting, len(names), cut):
            if not reason and record:
                yield number, dict(zip(names, record, strict=True)), ""
            else:
                yield number, cut.join(record), reason or "empty"


def _records(
    source: Iterable[tuple[int, str, str]], columns: int, delimiter: str
) -> Iterator[tuple[int, list[str], str]]:
    """Records of `columns` cells, which quotes may carry over several lines; any other line by itself, and why."""
    more = iter(source)
    ahead = deque(itertools.islice(more, 1))
    while ahead:
        taken, quotes = 1, ahead[0][1].count('"')
        while quotes % 2 and taken < RECORD_LINES:
            if taken == len(ahead):
                ahead.extend(itertools.islice(more, 1))
            if taken == len(ahead):
                break
            quotes += ahead[taken][1].count('"')
            taken += 1
        number, first, reason = ahead[0]
        cells = _cells("\n".join(text for _, text, _ in itertools.islice(ahead, taken)), delimiter, strict=taken > 1)
        if len(cells) != columns:
            taken, cells = 1, _cells(first, delimiter)
        if len(cells) != columns:
            cells, reason = [first], reason or f"not {columns} cells in a row"
        yield number, cells, reason
        for _ in range(taken):
            ahead.popleft()
        ahead.extend(itertools.islice(more, 0 if ahead else 1))


def _cells(text: str, delimiter: str, *, strict: bool = False) -> list[str]:
    """The cells of one record; none to speak of when it is not one, or, if strict, when a quote is out of place."""
    try:
        records = list(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=strict))
    except csv.Error:
        return [""]
    return records[0] if len(records) == 1 else [""]


def _parquet(path: Path) -> Iterator[Item]:
    with pq.ParquetFile(path) as table:
        batches = (batch.to_pylist() for batch in table.iter_batches(batch_size=PARQUET_ROWS))
        for number, row in enumerate(itertools.chain.from_iterable(batches), 1):
            yield number, row, ""


def _sqlite(path: Path) -> Iterator[Item]:
    """The rows of every table, table after table, in the order of their ids."""
    with sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True) as database:
        database.text_factory = decode
        names = database.execute("SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'")
        yield from databases.records(database, [databases.whole(name) for (name,) in sorted(names.fetchall())])


csv.field_size_limit(1 << 30)  # a row is bounded by ROW_BYTES and RECORD_LINES before it gets here
READERS: dict[str, Callable[[Path], Iterator[Item]]] = {
    "jsonl": _jsonl,
    "json": _json,
    "csv": _delimited,
    "tsv": functools.partial(_delimited, delimiter="\t"),
    "parquet": _parquet,
    "text": _text,
    "sqlite": _sqlite,
    "duckdb": databases.duckdb_rows,
    "hub": databases.hub_rows,
}
