"""Sources that are no files of ours: what DuckDB can read, and data sets of the hub. Each needs its library."""

import contextlib
import importlib
import itertools
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from bakeoff.errors import UserError
from bakeoff.records import as_text

SCHEMES = {"duckdb:": "duckdb", "hf:": "hub"}
"""How such a source begins, and the format that is read."""
MEMORY = "512MB"
"""What DuckDB may hold; it spills to disk past that."""

Item = tuple[int, Any, str]


def scheme_of(source: Path | str) -> str | None:
    """The format of a source that is no file of ours; None for a path."""
    return next((kind for start, kind in SCHEMES.items() if str(source).startswith(start)), None)


def parts_of(source: Path | str) -> tuple[str, str]:
    """`duckdb:FILE?QUERY` or `hf:NAME?SPLIT` as (file or name, query or split), the second perhaps empty."""
    name, _, rest = str(source).partition(":")[2].partition("?")
    return name, rest.strip()


def check(source: Path | str) -> None:
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
            connection.execute(f"SET threads = 1; SET memory_limit = '{MEMORY}'")
            names = [rest] if rest else [name for (name,) in connection.execute("SHOW TABLES").fetchall()]
            yield from records(connection, [rest] if " " in rest else map(whole, names))
    except duckdb.Error as error:
        raise UserError(f"{source}: DuckDB cannot read it: {str(error).splitlines()[0]}") from error


def whole(table: str) -> str:
    """The query of all rows of a table."""
    return 'SELECT * FROM "{}"'.format(table.replace('"', '""'))


def records(connection: Any, queries: Iterable[str]) -> Iterator[Item]:
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
