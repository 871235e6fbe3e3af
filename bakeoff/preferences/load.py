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

from bakeoff.data.schema.prompt_columns import messages as messages
from bakeoff.data.schema.prompt_columns import spelled
from bakeoff.errors import UserError
from bakeoff.preferences import formats
from bakeoff.preferences.dedup import clusters, spelling
from bakeoff.preferences.labels import SHAPES, differ, pick_of, rated_of
from bakeoff.records import Pick, content_id, prompt_id, rows_of
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


def known(run: Run, settings: Reward) -> list[Pick]:
    """What testers prefer by the files of `reward.picks` and what users preferred by the logs."""
    return read_picks(settings.picks) + read_logged(run.table("picks"))


def read_logged(path: Path) -> list[Pick]:
    """What users preferred by the table `picks` of a run, where their prompts are not held out."""
    rows = pq.read_table(path, filters=[("split", "=", "train")]).to_pylist() if path.exists() else []
    found = [pick_of(row, row["source"]) for row in rows]
    return [pick for pick in found if pick is not None]


def _rows(path: Path) -> list[Pick | None]:
    """What the rows say; None for each that says nothing."""
    if path.suffix not in READERS:
        raise UserError(f"{path}: picks are read from {', '.join(READERS)} files; found {path.suffix or 'no ending'!r}")
    try:
        return _in_units(_said(path))
    except FileNotFoundError:
        raise UserError(f"{path}: no such file of picks; check reward.picks") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not UTF-8 text ({error}); convert it") from None
    except (pa.ArrowException, csv.Error, IsADirectoryError) as error:
        raise UserError(f"{path}: cannot be read ({error}); give the file again") from None


def _said(path: Path) -> Iterator[Pick | None]:
    """What each row says, then each prompt's ratings that stood in rows of their own."""
    alone: dict[str, list[Pick]] = {}
    for number, row in READERS[path.suffix](path):
        found, source = 0, f"{path}:{number}"
        for one in formats.rows(row, source):
            if "rated" in one:
                rated = rated_of(one, source)
                alone.setdefault(prompt_id(rated.messages), []).append(rated)
                found += 1
            elif pick := pick_of(one, source):
                yield pick
                found += 1
        if not found:
            yield None
    for ratings in alone.values():
        yield from _together(ratings)


def _together(ratings: Sequence[Pick]) -> Iterator[Pick | None]:
    """One pick of all the ratings of a prompt, equal completions by their mean; None for each where all are alike."""
    by_text: dict[str, list[float]] = {}
    for rated in ratings:
        by_text.setdefault(rated.completions[0], []).extend(rated.values)
    means = [float(np.mean(values)) for values in by_text.values()]
    if not differ(means):
        yield from [None] * len(ratings)
    else:
        yield Pick(ratings[0].messages, [*by_text], int(np.argmax(means)), ratings[0].source, "ratings", means)


def _picks(path: Path) -> list[Pick]:
    picks = [pick for pick in _rows(path) if pick is not None]
    if not picks:
        raise UserError(
            f"{path}: holds no picks, in no row is one completion preferred to another (a rating alone needs another "
            "of the same prompt); give prompt, completions, pick"
        )
    return _asked(picks)


def _asked(picks: list[Pick]) -> list[Pick]:
    """Where somebody in the file found none good, the others could have said so too, and did not."""
    if all(p.none is None for p in picks):
        return picks
    could = ("pick", "votes")
    return [dataclasses.replace(p, none=p.none or 0.0) if p.shape in could else p for p in picks]


def _in_units(said: Iterable[Pick | None]) -> list[Pick | None]:
    """Ratings of a file divided by their range, so that a margin of 1 is the largest there.

    Those that then are alike say nothing.
    """
    picks = list(said)
    values = [v for p in picks if p and p.shape == "ratings" for v in p.values]
    if not values:
        return picks
    unit = max(values) - min(values)
    scaled = [
        dataclasses.replace(p, values=[v / unit for v in p.values]) if p and p.shape == "ratings" else p for p in picks
    ]
    return [None if p and p.shape == "ratings" and not differ(p.values) else p for p in scaled]


def _jsonl(path: Path) -> Iterator[tuple[int, Any]]:
    """The lines, or the items of the one list (or the one record) that the file holds."""
    text = path.read_text(encoding="utf-8-sig")
    whole = _whole(text)
    if whole is not None:
        yield from enumerate(whole, 1)
        return
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            try:
                yield number, json.loads(line)
            except (ValueError, RecursionError) as error:
                raise UserError(f"{path}:{number}: not JSON ({error}); mend or remove the line") from None


def _whole(text: str) -> list | None:
    """The items of a JSON file of one list or one record; None where it is of lines."""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, list) and all(isinstance(item, dict) for item in found) else [found]


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


def _parquet(path: Path) -> Iterator[tuple[int, Any]]:
    yield from enumerate(rows_of(pq.read_table(path)), 1)


NUMBERS = {*SHAPES, *(names[2] for names in formats.EITHER), "score_chosen", "score_rejected", "margin", "label"}
NUMBERS |= {"kto_tag", "choice"}
"""Columns of CSV whose cells may be numbers; in the others "42" is a text."""
READERS = {".jsonl": _jsonl, ".json": _jsonl, ".csv": _csv, ".parquet": _parquet}


def split(picks: Sequence[Pick], heldout: float) -> tuple[list[Pick], list[Pick]]:
    """(train, held out) by a hash of the prompt, so that no prompt is on both sides, nor one that is nearly the same.

    Case, punctuation and white space make no other prompt.
    """
    words = [spelling(p.messages) for p in picks]
    different = sorted(set(words))
    cluster = dict(zip(different, clusters(different), strict=True))
    sides: tuple[list[Pick], list[Pick]] = ([], [])
    for pick, own in zip(picks, words, strict=True):
        share = int(content_id("", different[cluster[own]]), 16) / 16**16
        sides[share < heldout].append(pick)
    return sides
