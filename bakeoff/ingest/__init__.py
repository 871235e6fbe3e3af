"""Raw logs in, trustworthy prompts out: every source row is kept, merged into one that is kept, or set aside."""

from __future__ import annotations

import dataclasses
import json
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from bakeoff.errors import UserError
from bakeoff.ingest import merge, sources, split
from bakeoff.ingest.parts import Part, Work, batches, processes
from bakeoff.ingest.settings import Cleaning
from bakeoff.ingest.steps import CountTokens
from bakeoff.records import Prompt, SetAside, atomic, content_id, read_table

__all__ = ["Cleaning", "Counts", "Ingested", "clean", "clean_into"]

Progress = Callable[[int], object]


@dataclasses.dataclass(frozen=True, slots=True)
class Counts:
    """How many rows became what. `read` is the number of prompts and of all rows dropped."""

    read: int
    train: int
    heldout: int
    dropped: dict[str, int]
    """Rows that are no prompt of their own, by reason: those set aside, and `duplicate` and `near duplicate`."""
    redacted: dict[str, int]
    """Placeholders put into kept rows, by kind."""


@dataclasses.dataclass(frozen=True, slots=True)
class Ingested:
    """What became of a log. `read` is the sum of the prompts' counts and the rows set aside."""

    prompts: list[Prompt]
    set_aside: list[SetAside]
    read: int
    dropped: dict[str, int]
    """As in `Counts`."""
    redacted: dict[str, int]


def clean(
    paths: Sequence[Path], settings: Cleaning, *, count_tokens: CountTokens, progress: Progress = lambda rows: None
) -> Ingested:
    """`clean_into`, for a log that fits into memory."""
    with tempfile.TemporaryDirectory() as name:
        out = Path(name)
        counts = clean_into(out, paths, settings, count_tokens=count_tokens, progress=progress)
        prompts = read_table(out / "prompts.parquet", Prompt)
        aside = read_table(out / "set_aside.parquet", SetAside)
        return Ingested(prompts, aside, counts.read, counts.dropped, counts.redacted)


def clean_into(
    out: Path,
    paths: Sequence[Path],
    settings: Cleaning,
    *,
    count_tokens: CountTokens,
    workers: int = 1,
    progress: Progress = lambda rows: None,
) -> Counts:
    """Read, clean, redact, merge duplicates and split; writes `prompts.parquet`, `set_aside.parquet`, `prompts.json`.

    `progress` is told the rows of each batch that is done. A run that was stopped goes on where it was.
    Raises UserError when a source is missing or no prompt is left.
    """
    found = sources.files(paths)
    folder = _parts_folder(out, found, settings)
    work = Work(folder, settings, count_tokens)
    with processes(workers) as starmap:
        made = 0
        for rows in starmap(work.make, enumerate(batches(found))):
            made += 1
            progress(rows)
        parts = [work.part(i) for i in range(made)]
        tally = [json.loads(p.counts.read_text()) for p in parts]
        reasons = Counter[str]()
        redacted = Counter[str]()
        for counts in tally:
            reasons.update(counts["reasons"])
            redacted.update(counts["redacted"])
        read = sum(c["rows"] for c in tally)
        if read == reasons.total():
            raise UserError(_nothing(found, parts, reasons))
        fate = merge.fates(parts, folder, near="near_duplicates" not in settings.skip, starmap=starmap)
    held = _heldout(parts, fate, settings)
    merge.write_aside(out / "set_aside.parquet", parts)
    merge.write_prompts(out / "prompts.parquet", parts, fate, held)
    kept = int((fate.count > 0).sum())
    reasons.update({"duplicate": fate.exact, "near duplicate": len(fate.head) - fate.exact - kept})
    counts = Counts(
        read, kept - int(held.sum()), int(held.sum()), dict((+reasons).most_common()), dict(redacted.most_common())
    )
    with atomic(out / "prompts.json") as beside:
        beside.write_text(json.dumps(dataclasses.asdict(counts), indent=1) + "\n")
    shutil.rmtree(folder)
    return counts


def _parts_folder(out: Path, found: Sequence[Path], settings: Cleaning) -> Path:
    """Where the parts of this very work go: other files or settings, another folder."""
    stats = [[str(p), p.stat().st_size, p.stat().st_mtime_ns] for p in found]
    name = f"parts-{content_id(stats, dataclasses.asdict(settings))}"
    for old in out.glob("parts-*"):
        if old.name != name:
            shutil.rmtree(old)
    folder = out / name
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _heldout(parts: Sequence[Part], fate: merge.Fate, settings: Cleaning) -> np.ndarray:
    heads = np.flatnonzero(fate.count)
    names = merge.ids(parts)
    held = np.zeros(len(fate.count), bool)
    held[heads] = split.heldout([names[i] for i in heads], fate.together[heads], settings.heldout, settings.seed)
    return held


def _nothing(found: Sequence[Path], parts: Sequence[Part], reasons: Counter[str]) -> str:
    names = ", ".join(str(p) for p in found[:3]) + (", ..." if len(found) > 3 else "")
    if not reasons:
        return f"{names}: no rows; expected one prompt or conversation a row"
    reason, n = reasons.most_common(1)[0]
    first = next(a for p in parts for a in read_table(p.aside, SetAside) if a.reason == reason)
    return (
        f"{names}: not one prompt in {reasons.total()} rows; {n} {reason!r}, as {first.source} ({first.text[:60]!r});"
        " name the field that holds the prompt with prompts.prompt_field, or relax prompts.*"
    )
