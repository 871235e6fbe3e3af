"""From a file to its rows. A row that cannot be read is still a row: it says why."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import pyarrow as pa
import pyarrow.parquet as pq

from bakeoff.ingest.repair import decode
from bakeoff.ingest.sources import format_of, open_bytes

LINE_BYTES = 4 << 20
"""A longer line is no prompt; only its beginning is looked at, so that memory stays bounded."""
FILE_BYTES = 1 << 30
"""A JSON document (not JSON Lines) is read whole, so it must be smaller than this, decompressed."""


@dataclasses.dataclass(frozen=True, slots=True)
class Row:
    """One row of a source: what was found there, or the reason why nothing was."""

    source: str
    """`file:line`."""
    value: Any
    reason: str = ""


def rows(path: Path) -> Iterator[Row]:
    """Every row of a file; damage past which nothing can be read ends it with one row that says so."""
    number = 0
    try:
        for number, value, reason in READERS[format_of(path) or "text"](path):
            yield Row(f"{path}:{number}", value, reason)
    except (OSError, EOFError, zlib.error, pa.ArrowException, csv.Error) as error:
        yield Row(f"{path}:{number + 1}", "", f"damaged file: {type(error).__name__}")


Item = tuple[int, Any, str]


def lines(stream: IO[bytes]) -> Iterator[tuple[int, bytes, str]]:
    """Numbered lines; one that is too long is cut, and says so."""
    number = 0
    while line := stream.readline(LINE_BYTES):
        number += 1
        reason = ""
        while not line.endswith(b"\n") and (more := stream.readline(LINE_BYTES)):
            reason = "line too long"
            if more.endswith(b"\n"):
                break
        yield number, line.rstrip(b"\r\n"), reason


def _jsonl(path: Path) -> Iterator[Item]:
    with open_bytes(path) as stream:
        for number, line, reason in lines(stream):
            text = decode(line)
            if reason or not text.strip():
                yield number, text, reason or "empty"
            else:
                yield number, *parse(text)


def parse(text: str) -> tuple[Any, str]:
    """The JSON value of a text, or the text itself and what is wrong with it."""
    try:
        return json.loads(text), ""
    except RecursionError:
        return text, "nested too deeply"
    except ValueError:
        return text, "broken JSON"


def _json(path: Path) -> Iterator[Item]:
    """The items of a JSON array, or of the one array inside a JSON object; JSON Lines under a wrong name too."""
    with open_bytes(path) as stream:
        data = stream.read(FILE_BYTES + 1)
    if len(data) > FILE_BYTES:
        yield 1, "", "document too large: convert it to JSON Lines"
        return
    value, reason = parse(decode(data))
    if reason and b"\n" in data.strip():
        yield from _jsonl(path)
    elif reason:
        yield 1, value, reason
    else:
        yield from ((i, item, "") for i, item in enumerate(_items(value), 1))


def _items(value: Any) -> list[Any]:
    if isinstance(value, dict):
        for key in ("data", "rows", "records", "items", "examples", "traces", "train"):
            if isinstance(value.get(key), list):
                return value[key]
    return value if isinstance(value, list) else [value]


def _text(path: Path) -> Iterator[Item]:
    """Plain text holds one prompt a line."""
    with open_bytes(path) as stream:
        for number, line, reason in lines(stream):
            yield number, decode(line), reason


def _delimited(path: Path, delimiter: str = "") -> Iterator[Item]:
    with open_bytes(path) as stream:
        text = io.StringIO(decode(stream.read()), newline="")
    head = text.readline()
    text.seek(0)
    reader = csv.reader(text, delimiter=delimiter or max(",;\t|", key=head.count))
    names = next(reader, [])
    line = reader.line_num + 1
    for cells in reader:
        if cells:
            reason = "" if len(cells) == len(names) else f"{len(cells)} cells under {len(names)} columns"
            yield line, dict(zip(names, cells, strict=False)) if not reason else delimiter.join(cells), reason
        line = reader.line_num + 1


def _tsv(path: Path) -> Iterator[Item]:
    return _delimited(path, "\t")


def _parquet(path: Path) -> Iterator[Item]:
    number = 0
    with pq.ParquetFile(path) as table:
        for batch in table.iter_batches(batch_size=512):
            for row in batch.to_pylist():
                number += 1
                yield number, row, ""


csv.field_size_limit(LINE_BYTES)
READERS = {"jsonl": _jsonl, "json": _json, "csv": _delimited, "tsv": _tsv, "parquet": _parquet, "text": _text}
