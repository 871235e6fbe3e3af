"""SQL checked by what it returns, on a SQLite database that nothing can change. Imports no bakeoff."""

import math
import re
import sqlite3
import time
from collections import Counter
from pathlib import Path

SECONDS = 5.0
"""A query may run so long."""
MOST_ROWS = 10_000
"""A query may return so many rows."""
LONGEST = 10_000_000
"""Bytes that one value, row or query may have."""
CLOCK_STEPS = 10_000
"""Instructions of SQLite's machine between two looks at the clock."""
READS = {sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ, sqlite3.SQLITE_FUNCTION, sqlite3.SQLITE_RECURSIVE}
"""What a query may do; all else (attaching a file, a pragma, a change) is refused."""
DATABASE = "-- database: "
"""What the first line of an answer begins with; the path of the database follows."""

_BLOCK = re.compile(r"```(?:sql|sqlite)?\s*\n(.*?)```", re.DOTALL | re.IGNORECASE)
_ORDERED = re.compile(r"\border\s+by\b", re.IGNORECASE)


def sql(completion: str, answer: str) -> bool:
    """Whether the completion's query returns what the answer's returns, as a bag of rows; in order if that one orders.

    The answer is SQL below a line `-- database: PATH`. Column names do not matter, their order does. A query that
    fails, takes longer than 5 s or returns more than 10,000 rows is wrong.
    Raises ValueError when the answer itself does so or names no database.
    """
    first, _, wanted = answer.partition("\n")
    path = Path(first.removeprefix(DATABASE).strip())
    if not first.startswith(DATABASE) or not path.is_file():
        raise ValueError(f"the answer's first line must be {DATABASE!r} and the path of a file; found {first[:100]!r}")
    try:
        truth = result(path, wanted)
    except (sqlite3.Error, sqlite3.Warning, TooMuch) as error:
        raise ValueError(f"the answer's own query fails ({error}): {wanted[:100]!r}") from None
    try:
        found = result(path, query(completion))
    except (sqlite3.Error, sqlite3.Warning, TooMuch):
        return False
    return found == truth if _ORDERED.search(wanted) else Counter(found) == Counter(truth)


class TooMuch(Exception):
    """A query took too long or returned too much."""


def query(completion: str) -> str:
    """The SQL of a completion: its last code block, or all of it."""
    blocks = _BLOCK.findall(completion)
    return blocks[-1] if blocks else completion


def result(path: Path, text: str) -> list[tuple]:
    """The rows that one read-only query returns, numbers to nine significant digits.

    Raises TooMuch, or sqlite3.Error for what is no query or does more than read.
    """
    connection = sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)
    try:
        connection.set_authorizer(lambda action, *_: sqlite3.SQLITE_OK if action in READS else sqlite3.SQLITE_DENY)
        until = time.monotonic() + SECONDS
        connection.set_progress_handler(lambda: time.monotonic() > until, CLOCK_STEPS)
        connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, LONGEST)
        cursor = connection.execute(text)
        if cursor.description is None:
            raise sqlite3.ProgrammingError("no query")
        rows = cursor.fetchmany(MOST_ROWS + 1)
    except sqlite3.OperationalError as error:
        raise TooMuch(f"longer than {SECONDS:g} s") if "interrupted" in str(error) else error from None
    finally:
        connection.close()
    if len(rows) > MOST_ROWS:
        raise TooMuch(f"more than {MOST_ROWS:,} rows")
    return [tuple(map(_plain, row)) for row in rows]


def _plain(value: object) -> object:
    """Equal for equal values: 2 and 2.0, and numbers that differ only by rounding."""
    if isinstance(value, int | float):
        return float(f"{value:.9g}") if math.isfinite(value) else str(value)
    return value
