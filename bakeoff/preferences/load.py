"""Reading what people prefer."""

import csv
import dataclasses
import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from bakeoff.data.schema.prompt_columns import spelled
from bakeoff.errors import UserError
from bakeoff.preferences import formats
from bakeoff.preferences.native_format import SHAPES, distinct, pick_of, rated_of
from bakeoff.records import Pick, prompt_id, rows_of
from bakeoff.run import Run
from bakeoff.settings import Reward


def read_picks(paths: Sequence[str]) -> list[Pick]:
    """What people prefer by JSON, JSONL, CSV and Parquet files of the formats in `bakeoff.preferences.formats`.

    Rows that say nothing are left out. Raises UserError naming file and line when a file is missing or a row is of
    no such format.
    """
    return [pick for path in paths for pick in _picks(Path(path))]


def passed_over(paths: Sequence[str]) -> int:
    """How many rows of the files say nothing."""
    return sum(pick is None for path in paths for pick in _rows(Path(path)))


def known_picks(run: Run, settings: Reward) -> list[Pick]:
    """What testers prefer by the files of `reward.picks`, and users by the logs of prompts that are not held out."""
    logged = run.table("picks")
    rows = pq.read_table(logged, filters=[("split", "=", "train")]).to_pylist() if logged.exists() else []
    by_users = (pick_of(row, row["source"]) for row in rows)
    return read_picks(settings.picks) + [pick for pick in by_users if pick is not None]


def _picks(path: Path) -> list[Pick]:
    picks = [pick for pick in _rows(path) if pick is not None]
    if not picks:
        raise UserError(
            f"{path}: holds no picks, in no row is one completion preferred to another (a rating alone needs another "
            "of the same prompt); give prompt, completions, pick"
        )
    if all(p.none is None for p in picks):
        return picks
    could = ("pick", "votes")  # where somebody in the file found none good, the others could have said so too
    return [dataclasses.replace(p, none=p.none or 0.0) if p.shape in could else p for p in picks]


def _rows(path: Path) -> list[Pick | None]:
    """What the rows say; None for each that says nothing."""
    if path.suffix not in ROWS_OF:
        raise UserError(f"{path}: picks are read from {', '.join(ROWS_OF)} files; found {path.suffix or 'no ending'!r}")
    try:
        return _in_units([*_said(path)])
    except FileNotFoundError:
        raise UserError(f"{path}: no such file of picks; check reward.picks") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not UTF-8 text ({error}); convert it") from None
    except (pa.ArrowException, csv.Error, IsADirectoryError) as error:
        raise UserError(f"{path}: cannot be read ({error}); give the file again") from None


def _said(path: Path) -> Iterator[Pick | None]:
    """What each row says, then each prompt's ratings that stood in rows of their own."""
    alone: dict[str, list[Pick]] = {}
    for number, row in ROWS_OF[path.suffix](path):
        source, empty = f"{path}:{number}", True
        for one in formats.own_rows(row, source):
            if "rated" in one:
                rated = rated_of(one, source)
                alone.setdefault(prompt_id(rated.messages), []).append(rated)
            elif pick := pick_of(one, source):
                yield pick
            else:
                continue
            empty = False
        if empty:
            yield None
    for ratings in alone.values():
        yield from _together(ratings)


def _together(ratings: Sequence[Pick]) -> Iterable[Pick | None]:
    """One pick of all the ratings of a prompt, equal completions by their mean; None for each where all are alike."""
    by_text: dict[str, list[float]] = {}
    for rated in ratings:
        by_text.setdefault(rated.completions[0], []).extend(rated.values)
    means = [float(np.mean(values)) for values in by_text.values()]
    if not distinct(means):
        return [None] * len(ratings)
    return [Pick(ratings[0].messages, [*by_text], int(np.argmax(means)), ratings[0].source, "ratings", means)]


def _in_units(picks: list[Pick | None]) -> list[Pick | None]:
    """Ratings of a file divided by their range, so that a margin of 1 is the largest there.

    Those that are alike then say nothing.
    """
    values = [v for p in picks if p and p.shape == "ratings" for v in p.values]
    unit = max(values) - min(values) if values else 1.0

    def scaled(pick: Pick | None) -> Pick | None:
        if pick is None or pick.shape != "ratings":
            return pick
        pick = dataclasses.replace(pick, values=[v / unit for v in pick.values])
        return pick if distinct(pick.values) else None

    return [scaled(pick) for pick in picks]


def _jsonl(path: Path) -> Iterator[tuple[int, Any]]:
    """The lines, or the items of the one list (or the one record) that the file holds."""
    text = path.read_text(encoding="utf-8-sig")
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        yield from _lines(path, text)
        return
    is_list = isinstance(found, list) and all(isinstance(item, dict) for item in found)
    yield from enumerate(found if is_list else [found], 1)


def _lines(path: Path, text: str) -> Iterator[tuple[int, Any]]:
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            try:
                yield number, json.loads(line)
            except (ValueError, RecursionError) as error:
                raise UserError(f"{path}:{number}: not JSON ({error}); mend or remove the line") from None


def _csv(path: Path) -> Iterator[tuple[int, Any]]:
    """Records under a line of names; a cell that holds a JSON list, number or null is that."""
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.DictReader(file)
        for row in reader:
            yield reader.line_num, {k: _cell(k, v) for k, v in row.items() if k is not None and v is not None}


def _cell(name: str, text: str) -> Any:
    if name in ("prompt", "chosen", "rejected") and text[:2] != "[{":
        return text
    try:
        return json.loads(text) if name in NUMBERS and text else spelled(text) or None
    except ValueError:
        return spelled(text)


NUMBERS = {*SHAPES, *(better for _, _, better in formats.BETTER), "score_chosen", "score_rejected", "margin"}
NUMBERS |= {"label", "kto_tag", "choice"}
"""Columns of CSV whose cells may be numbers; in the others "42" is a text."""
ROWS_OF = {
    ".jsonl": _jsonl,
    ".json": _jsonl,
    ".csv": _csv,
    ".parquet": lambda path: enumerate(rows_of(pq.read_table(path)), 1),
}
"""Ending of a file to what reads its rows with their numbers."""
