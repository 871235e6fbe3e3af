"""What a user names: files, folders and globs, what DuckDB can read, and data sets of the hub."""

import contextlib
import glob
import importlib
import io
import itertools
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, Any

import pyarrow as pa

from bakeoff.data.read.lines import Item
from bakeoff.errors import UserError
from bakeoff.records import as_text

FORMATS = {
    ".jsonl": "jsonl", ".ndjson": "jsonl", ".log": "jsonl", ".json": "json", ".csv": "csv", ".tsv": "tsv",
    ".tab": "tsv", ".parquet": "parquet", ".arrow": "arrow", ".feather": "arrow", ".txt": "text", ".db": "sqlite",
    ".sqlite": "sqlite", ".sqlite3": "sqlite",
}  # fmt: skip
_SAVED = {"dataset_dict.json", "dataset_info.json", "state.json"}
"""What the library datasets writes beside the Arrow files of a data set."""
COMPRESSED = {".gz": "gzip", ".bz2": "bz2", ".zst": "zstd"}
_MAGIC = {b"\x1f\x8b": "gzip", b"BZh": "bz2", b"\x28\xb5\x2f\xfd": "zstd"}
EXPANSION = 400
"""A compressed file that grows more than this many-fold (and past 256 MB) is a bomb, not a log."""


def format_of(path: Path) -> str | None:
    """The format that a file's name stands for, compressed or not; None when it is no format that is read."""
    if scheme := scheme_of(path):
        return scheme
    name = path.with_suffix("") if path.suffix.lower() in COMPRESSED else path
    return FORMATS.get(name.suffix.lower())


def files(sources: Iterable[Path]) -> list[Path]:
    """The files that the sources stand for, each once, folders and globs in name order.

    Raises UserError for a source that names no file, or none of a format that is read.
    """
    return list(dict.fromkeys(path for source in sources for path in _expand(Path(source))))


def _expand(source: Path) -> list[Path]:
    if scheme_of(source):
        check_database(source)
        return [source]
    known = " ".join(FORMATS)
    if source.is_file():
        if format_of(source) is None:
            raise UserError(f"{source}: {source.suffix!r} is no format that is read; use one of {known}")
        return [source]
    if source.is_dir():
        every = [p for p in sorted(source.rglob("*")) if p.is_file()]
        inside = [p for p in every if not any(x.startswith((".", "_")) for x in p.relative_to(source).parts)]
        saved = any(format_of(p) == "arrow" for p in inside)
        readable = [p for p in inside if format_of(p) and not (saved and p.name in _SAVED)]
        if not readable:
            raise UserError(f"{source}: no file to read among the {len(inside)} in this folder; expected {known}")
        return readable
    matches = map(Path, sorted(glob.glob(str(source), recursive=True)))
    readable = [p for p in matches if p.is_file() and format_of(p)]
    if not readable:
        raise UserError(f"{source}: no such file; check the path")
    return readable


def stamp(source: Path) -> list[object]:
    """What tells a source from another, or from itself after a change, as far as a file shows it."""
    return [str(source), *_size_and_time(source)]


def _size_and_time(source: Path) -> tuple[int, int]:
    """Bytes, and nanoseconds since 1970 at the last change; zeros when there is no file to look at."""
    path = Path(parts_of(source)[0]) if scheme_of(source) else source
    known = path.stat() if path.is_file() else None
    return (known.st_size, known.st_mtime_ns) if known else (0, 0)


def outdated(sources: Iterable[str], made: Path) -> Iterator[str]:
    """A sentence for each source of which a file is newer than what was made from it, if that is there."""
    for source in sources if made.exists() else ():
        with contextlib.suppress(UserError):  # what is made needs no source any more
            newest = max(files([Path(source)]), key=lambda path: _size_and_time(path)[1])
            if _size_and_time(newest)[1] > made.stat().st_mtime_ns:
                yield f"{newest} is newer than {made}, which stays as it was; for what is new, take another --out"


def open_bytes(path: Path) -> IO[bytes]:
    """The file's bytes, decompressed when they begin like a compressed file, whatever its name."""
    with path.open("rb") as file:
        head = file.read(4)
    kind = next((name for magic, name in _MAGIC.items() if head.startswith(magic)), None)
    if kind is None:
        return path.open("rb", buffering=1 << 20)
    return io.BufferedReader(_Unpacked(path, kind), 1 << 20)


class _Unpacked(io.RawIOBase):
    """A compressed file's content; raises OSError when there is too much of it."""

    def __init__(self, path: Path, kind: str):
        self._stream = pa.input_stream(str(path), compression=kind)
        self._room = max(256 << 20, EXPANSION * path.stat().st_size)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        n = self._stream.readinto(buffer)
        self._room -= n
        if self._room < 0:
            raise OSError(f"it unpacks to more than {EXPANSION} times its size")
        return n

    def close(self) -> None:
        self._stream.close()
        super().close()


SCHEMES = {"duckdb:": "duckdb", "hf:": "hub"}
"""How such a source begins, and the format that is read."""
_MEMORY = "512MB"
"""What DuckDB may hold; it spills to disk past that."""


def scheme_of(source: Path | str) -> str | None:
    """The format of a source that is no file of ours; None for a path."""
    return next((kind for start, kind in SCHEMES.items() if str(source).startswith(start)), None)


def parts_of(source: Path | str) -> tuple[str, str]:
    """`duckdb:FILE?QUERY` or `hf:NAME?SPLIT` as (file or name, query or split), the second perhaps empty."""
    name, _, rest = str(source).partition(":")[2].partition("?")
    return name, rest.strip()


def check_database(source: Path | str) -> None:
    """Raise UserError for a source that cannot be meant as it stands."""
    name, rest = parts_of(source)
    if scheme_of(source) == "duckdb":
        if name and not Path(name).is_file():
            raise UserError(
                f"{source}: {name!r} is no file; use duckdb:FILE?TABLE, duckdb:FILE?SELECT ..., or duckdb:?SELECT ..."
            )
        if not name and not rest:
            raise UserError(f"{source}: names neither a file nor a query; use duckdb:FILE?TABLE or duckdb:?SELECT ...")
        if "//" in rest:
            raise UserError(f"{source}: '//' cannot be written here; put the query into a view and name that")
    elif not name:
        raise UserError(f"{source}: names no data set; use hf:OWNER/NAME or hf:OWNER/NAME?SPLIT")


def duckdb_rows(source: Path) -> Iterator[Item]:
    """The rows of a table or query, in its order; without one, of every table, table after table."""
    duckdb = _library("duckdb", source, extra="duckdb")
    name, rest = parts_of(source)
    try:
        with contextlib.closing(duckdb.connect(name or ":memory:", read_only=bool(name))) as connection:
            connection.execute(f"SET threads = 1; SET memory_limit = '{_MEMORY}'")
            names = [rest] if rest else [name for (name,) in connection.execute("SHOW TABLES").fetchall()]
            yield from query_rows(connection, [rest] if " " in rest else map(select_all, names))
    except duckdb.Error as error:
        raise UserError(f"{source}: DuckDB cannot read it: {str(error).splitlines()[0]}") from error


def select_all(table: str) -> str:
    """The query of all rows of a table."""
    return 'SELECT * FROM "{}"'.format(table.replace('"', '""'))


def query_rows(connection: Any, queries: Iterable[str]) -> Iterator[Item]:
    """The rows of one query after the other."""
    number = itertools.count(1)
    for query in queries:
        found = connection.execute(query)
        columns = [column[0] for column in found.description]
        for row in iter(found.fetchone, None):
            yield next(number), dict(zip(columns, map(as_text, row), strict=True)), ""


def hub_rows(source: Path) -> Iterator[Item]:
    """The rows of a hub data set (or a folder of that form), streamed; the split is `train` unless named."""
    datasets = _library("datasets", source, extra="hub")
    name, split = parts_of(source)
    try:
        rows = datasets.load_dataset(name, split=split or "train", streaming=True)
        for number, row in enumerate(rows, 1):
            yield number, row, ""
    except (OSError, ValueError, datasets.exceptions.DatasetsError) as error:
        why = f"{type(error).__name__}: {error}".splitlines()[0]
        raise UserError(
            f"{source}: the data set cannot be loaded ({why}); check name, split and network, or name local files"
        ) from error


def _library(name: str, source: Path, *, extra: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise UserError(f"{source}: needs the library {name}; pip install 'bakeoff[{extra}]'") from error
