"""From a file to its rows, never the whole file at once. A row that cannot be read is still a row: it says why."""

import csv
import functools
import io
import itertools
import re
import sqlite3
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from bakeoff.data.read import documents, sources
from bakeoff.data.read.lines import ROW_BYTES, Item, Row, decode, lines
from bakeoff.data.read.sources import format_of, open_bytes
from bakeoff.records import rows_of

DECODED_ROWS = 32
"""Decoded in one go: a value that is stored once may stand in every row."""
RECORD_LINES = 500
"""A CSV record over more lines has a quote that was never closed."""


def rows(path: Path) -> Iterator[Row]:
    """Every row of a file; damage past which nothing can be read ends it with one row that says so."""
    number = 0
    try:
        for number, value, reason in READERS[format_of(path) or "text"](path):
            long = isinstance(value, dict) and any(isinstance(v, str) and len(v) > ROW_BYTES for v in value.values())
            yield Row(f"{path}:{number}", "", "row too long") if long else Row(f"{path}:{number}", value, reason)
    except (OSError, EOFError, pa.ArrowException, sqlite3.Error) as error:
        yield Row(f"{path}:{number + 1}", "", f"damaged file: {type(error).__name__}")


def _jsonl(path: Path) -> Iterator[Item]:
    """The lines of a file, or the records of the array that it is."""
    with open_bytes(path) as stream:
        yield from documents.values(stream) if documents.is_array(stream) else documents.joined_lines(lines(stream))


def _text(path: Path) -> Iterator[Item]:
    """Plain text holds one prompt a line."""
    with open_bytes(path) as stream:
        for number, line, reason in lines(stream):
            yield number, decode(line), reason


def _json(path: Path) -> Iterator[Item]:
    """The values of a JSON document, one by one."""
    with open_bytes(path) as stream:
        yield from documents.values(stream)


_SEPARATOR = re.compile('"?sep=(.)"?', re.I)


def _delimited(path: Path, delimiter: str = "") -> Iterator[Item]:
    """Records under a line of column names; a quote that is never closed costs its own line only."""
    with open_bytes(path) as stream:
        waiting = ((n, decode(line).replace("\r", " "), reason) for n, line, reason in lines(stream))
        _, head, _ = next(waiting, (0, "", ""))
        if named := _SEPARATOR.fullmatch(head):  # a line for Excel
            delimiter, (_, head, _) = named[1], next(waiting, (0, "", ""))
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
        yield from _numbered(table.iter_batches(batch_size=DECODED_ROWS))


def _arrow(path: Path) -> Iterator[Item]:
    """Arrow's stream, or its file (Feather, too), which is a stream behind a mark."""
    with open_bytes(path) as stream:
        assert isinstance(stream, io.BufferedReader)
        if stream.peek().startswith(b"ARROW1"):
            stream.read(8)
        large = iter(pa.ipc.open_stream(stream))
        yield from _numbered(
            batch.slice(at, DECODED_ROWS) for batch in large for at in range(0, batch.num_rows, DECODED_ROWS)
        )


def _numbered(batches: Iterable[pa.RecordBatch]) -> Iterator[Item]:
    for number, row in enumerate(itertools.chain.from_iterable(map(rows_of, batches)), 1):
        yield number, row, ""


def _sqlite(path: Path) -> Iterator[Item]:
    """The rows of every table, table after table, in the order of their ids."""
    with sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True) as database:
        database.text_factory = decode
        names = database.execute("SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'")
        yield from sources.query_rows(database, [sources.select_all(name) for (name,) in sorted(names.fetchall())])


csv.field_size_limit(1 << 30)  # a row is bounded by ROW_BYTES and RECORD_LINES before it gets here
READERS: dict[str, Callable[[Path], Iterator[Item]]] = {
    "jsonl": _jsonl,
    "json": _json,
    "csv": _delimited,
    "tsv": functools.partial(_delimited, delimiter="\t"),
    "parquet": _parquet,
    "arrow": _arrow,
    "text": _text,
    "sqlite": _sqlite,
    "duckdb": sources.duckdb_rows,
    "hub": sources.hub_rows,
}
