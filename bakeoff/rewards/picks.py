"""Reading what people prefer."""

import csv
import dataclasses
import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from bakeoff.errors import UserError
from bakeoff.records import Pick, content_id, rows_of
from bakeoff.rewards.alike import clusters
from bakeoff.rewards.labels import messages as messages
from bakeoff.rewards.labels import pick_of
from bakeoff.run import Run
from bakeoff.settings import Reward


def read_picks(paths: Sequence[str]) -> list[Pick]:
    """What people prefer by JSONL, CSV and Parquet files of the shapes in `bakeoff.rewards.labels`.

    Rows that say nothing are left out. Raises UserError naming file and line when a file is missing or a row is of
    no such shape.
    """
    return [pick for path in paths for pick in _picks(Path(path))]


def passed_over(paths: Sequence[str]) -> int:
    """How many rows of the files say nothing."""
    return sum(pick is None for path in paths for pick in _rows(Path(path)))


def known(run: Run, settings: Reward) -> list[Pick]:
    """What testers prefer by the files of `reward.picks` and, unless turned off, what users preferred by the logs."""
    return read_picks(settings.picks) + (read_logged(run.table("picks")) if settings.feedback else [])


def read_logged(path: Path) -> list[Pick]:
    """What users preferred by the table `picks` of a run, where their prompts are not held out."""
    rows = pq.read_table(path, filters=[("split", "=", "train")]).to_pylist() if path.exists() else []
    found = [pick_of(row, row["source"]) for row in rows]
    return [pick for pick in found if pick is not None]


def _rows(path: Path) -> list[Pick | None]:
    """What each row says; None for one that says nothing."""
    if path.suffix not in READERS:
        raise UserError(f"{path}: picks are read from {', '.join(READERS)} files; found {path.suffix or 'no ending'!r}")
    try:
        return [pick_of(row, f"{path}:{number}") for number, row in READERS[path.suffix](path)]
    except FileNotFoundError:
        raise UserError(f"{path}: no such file of picks; check reward.picks") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not UTF-8 text ({error}); convert it") from None
    except (pa.ArrowException, csv.Error, IsADirectoryError) as error:
        raise UserError(f"{path}: cannot be read ({error}); give the file again") from None


def _picks(path: Path) -> list[Pick]:
    picks = [pick for pick in _rows(path) if pick is not None]
    if not picks:
        raise UserError(
            f"{path}: holds no picks, in no row is one completion preferred to another; give prompt, completions, pick"
        )
    return _asked(_in_units(picks))


def _asked(picks: list[Pick]) -> list[Pick]:
    """Where somebody in the file found none good, the others could have said so too, and did not."""
    if all(p.none is None for p in picks):
        return picks
    could = ("pick", "votes")
    return [dataclasses.replace(p, none=p.none or 0.0) if p.shape in could else p for p in picks]


def _in_units(picks: list[Pick]) -> list[Pick]:
    """Ratings of a file divided by their range, so that a margin of 1 is the largest there."""
    values = [v for p in picks if p.shape == "ratings" for v in p.values]
    if not values:
        return picks
    unit = max(values) - min(values)
    return [dataclasses.replace(p, values=[v / unit for v in p.values]) if p.shape == "ratings" else p for p in picks]


def _jsonl(path: Path) -> Iterator[tuple[int, Any]]:
    for number, line in enumerate(path.read_text(encoding="utf-8-sig").split("\n"), 1):
        if line.strip():
            try:
                yield number, json.loads(line)
            except json.JSONDecodeError as error:
                raise UserError(f"{path}:{number}: not JSON ({error.msg}); mend or remove the line") from None


def _csv(path: Path) -> Iterator[tuple[int, Any]]:
    """Records under a line of names; a cell that holds a JSON list, number or null is that."""
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.DictReader(file)
        for row in reader:
            yield reader.line_num, {k: _cell(k, v) for k, v in row.items() if k is not None and v is not None}


def _cell(name: str, text: str) -> Any:
    if name in ("prompt", "chosen", "rejected") and not text.startswith("[{"):
        return text
    try:
        return json.loads(text) if text else None
    except json.JSONDecodeError:
        return text


def _parquet(path: Path) -> Iterator[tuple[int, Any]]:
    yield from enumerate(rows_of(pq.read_table(path)), 1)


_WORD = re.compile(r"\w+")
READERS = {".jsonl": _jsonl, ".json": _jsonl, ".csv": _csv, ".parquet": _parquet}


def split(picks: Sequence[Pick], heldout: float, *, salt: str = "") -> tuple[list[Pick], list[Pick]]:
    """(train, held out) by a hash of the prompt, so that no prompt is on both sides, nor one that is nearly the same.

    Case, punctuation and white space make no other prompt; `salt` makes another split.
    """
    words = [" ".join(" ".join(_WORD.findall(m.content.casefold())) or m.content for m in p.messages) for p in picks]
    different = sorted(set(words))
    cluster = dict(zip(different, clusters(different), strict=True))
    sides: tuple[list[Pick], list[Pick]] = ([], [])
    for pick, own in zip(picks, words, strict=True):
        share = int(content_id(salt, different[cluster[own]]), 16) / 16**16
        sides[share < heldout].append(pick)
    return sides
