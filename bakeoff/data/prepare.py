"""Raw logs in, trustworthy prompts out: every source row is kept, merged into one that is kept, or set aside."""

import dataclasses
import itertools
import json
import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np

from bakeoff import sandbox
from bakeoff.data.clean import decontaminate
from bakeoff.data.clean.language import LANGUAGES
from bakeoff.data.clean.steps import SKIPPABLE, CountTokens
from bakeoff.data.dedup import diversity, merge
from bakeoff.data.logged_picks import write_picks
from bakeoff.data.parts import Part, Work, batches, processes
from bakeoff.data.read import sources
from bakeoff.data.read.lines import UNKNOWN
from bakeoff.data.schema import conversations
from bakeoff.errors import UserError, hint
from bakeoff.records import Message, SetAside, atomic, content_id, read_table
from bakeoff.settings import PERSONAL, Prompts

__all__ = ["Counts", "check_prompts", "clean_into"]

STRATA = 50
"""Strata that are counted."""
Progress = Callable[[int], object]
MEND = {
    UNKNOWN: "convert the file to UTF-8",
    "broken JSON": "give one record a line, or an array of records",
    conversations.ONE_MESSAGE: (
        'give each row a conversation_id, or join the rows of a conversation as {"messages": [...]}'
    ),
    "unknown role": "rename it to system, user or assistant",
    "cut JSON": "raise the limit of length where the log is written",
    "Python repr": "write the messages as JSON",
}
"""What to do when a reason leaves no prompt; for others the settings may help."""


@dataclasses.dataclass(frozen=True, slots=True)
class Counts:
    """How many rows became what. `read` is the number of prompts and of all rows dropped."""

    read: int
    kept: int
    train: int
    heldout: int
    dropped: dict[str, int]
    """Rows that are no prompt of their own, by reason: those set aside, and `duplicate` and `near duplicate`."""
    redacted: dict[str, int]
    """Placeholders put into kept rows, by kind."""
    feedback: dict[str, int]
    """What users said of old answers to the prompts, by kind."""
    picks: int
    """Picks that came of it."""
    strata: dict[str, int]
    """Prompts by the value of `prompts.fields.stratify`, the commonest."""


def check_prompts(settings: Prompts) -> None:
    """Raise UserError for a setting that names something unknown, with the nearest known name, or no file."""
    sources.files(map(Path, settings.sources))
    sources.files(map(Path, settings.decontaminate))
    if settings.step:
        sandbox.check_function(settings.step, "step")
    for name, known in (("redact", PERSONAL), ("languages", LANGUAGES), ("skip", SKIPPABLE)):
        for value in getattr(settings, name):
            if value not in known:
                raise UserError(f"prompts.{name}: {value!r} is not known; {hint(value, known)}")
    if (stratify := settings.fields.stratify) and not settings.limit:
        raise UserError(f"prompts.limit: give the number of prompts that prompts.fields.stratify = {stratify!r} shares")


def clean_into(  # noqa: PLR0913  (what, where to and how: no two belong together)
    out: Path,
    paths: Sequence[Path],
    settings: Prompts,
    *,
    count_tokens: CountTokens,
    gold: Iterable[Sequence[Message]] = (),
    seed: int = 0,
    workers: int = 1,
    progress: Progress = lambda rows: None,
) -> Counts:
    """Read, clean, redact, merge duplicates and split; writes `prompts.parquet`, `set_aside.parquet`, `prompts.json`,
    and `picks.parquet` where users said which answers they prefer.

    Prompts that carry a question of `gold`, or of `prompts.decontaminate`, are set aside. `seed` decides which
    clusters are held out. `progress` is told the rows of each batch that is done. A run that was stopped goes on where
    it was. Raises UserError when a source is missing, a setting unknown or no prompt left.
    """
    check_prompts(settings)
    found = sources.files(paths)
    unwanted = decontaminate.unwanted_questions(settings, gold)
    stamps = list(map(sources.stamp, found))
    folder = _parts_folder(
        out, [stamps, dataclasses.asdict(settings), decontaminate.digest(unwanted), _function(settings)]
    )
    work = Work(folder, settings, count_tokens)
    if len(unwanted):
        decontaminate.save_questions(work.questions, unwanted)
    with processes(workers) as starmap:
        parts = []
        for number, rows in enumerate(starmap(work.make, enumerate(batches(found, settings)))):
            parts.append(work.part(number))
            progress(rows)
        read, reasons, redacted = _tally(parts)
        if read == reasons.total():
            raise UserError(_nothing(found, parts, reasons))
        fate = merge.fates(parts, folder, near="near_duplicates" not in settings.skip, starmap=starmap)
    fate = diversity.limited(parts, fate, settings, seed)
    held = _heldout(parts, fate, settings.heldout, seed)
    said, picks = write_picks(out / "picks.parquet", parts, fate, held)
    merge.write_aside(out / "set_aside.parquet", parts, fate)
    merge.write_prompts(out / "prompts.parquet", parts, fate, held)
    kept, heldout = int((fate.count > 0).sum()), int(held.sum())
    reasons.update(merged(fate))
    dropped, placeholders, kinds = (dict((+c).most_common()) for c in (reasons, redacted, said))
    strata = dict(Counter(itertools.compress(diversity.strata(parts, settings), fate.count > 0)).most_common(STRATA))
    counts = Counts(read, kept, kept - heldout, heldout, dropped, placeholders, kinds, picks, strata)
    with atomic(out / "prompts.json") as beside:
        beside.write_text(json.dumps(dataclasses.asdict(counts), indent=1) + "\n")
    shutil.rmtree(folder)
    return counts


def _tally(parts: Sequence[Part]) -> tuple[int, Counter[str], Counter[str]]:
    """Rows, reasons for which they were set aside, and placeholders put in by kind."""
    tally = [json.loads(p.counts.read_text()) for p in parts]
    reasons, redacted = (
        sum((Counter[str](t[name]) for t in tally), Counter[str]()) for name in ("reasons", "redacted")
    )
    return sum(t["rows"] for t in tally), reasons, redacted


def _function(settings: Prompts) -> str:
    """The file of the user's own step."""
    return Path(settings.step.rpartition(":")[0]).read_text(encoding="utf-8") if settings.step else ""


def _parts_folder(out: Path, key: list[object]) -> Path:
    """Where the parts of this very work go: another key (files, settings, questions), another folder."""
    name = f"parts-{content_id(key)}"
    for old in out.glob("parts-*"):
        if old.name != name:
            shutil.rmtree(old)
    folder = out / name
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def merged(fate: merge.Fate) -> dict[str, int]:
    """Rows that passed every step and are no prompt, by reason."""
    stands = fate.count[fate.head] > 0
    exact = int((stands & (fate.equal != np.arange(len(fate.equal)))).sum())
    kept = int((fate.count > 0).sum())
    return {"duplicate": exact, "near duplicate": int(stands.sum()) - exact - kept, merge.OVER: int((~stands).sum())}


def _heldout(parts: Sequence[Part], fate: merge.Fate, share: float, seed: int) -> np.ndarray:
    heads = np.flatnonzero(fate.count)
    names = merge.ids(parts)
    held = np.zeros(len(fate.count), bool)
    held[heads] = merge.heldout([names[i] for i in heads], fate.together[heads], share, seed)
    return held


def _nothing(found: Sequence[Path], parts: Sequence[Part], reasons: Counter[str]) -> str:
    names = ", ".join(str(p) for p in found[:3]) + (", ..." if len(found) > 3 else "")
    if not reasons:
        return f"{names}: no rows; expected one prompt or conversation a row"
    reason, n = reasons.most_common(1)[0]
    first = next(a for p in parts for a in read_table(p.aside, SetAside) if a.reason == reason)
    usual = "name the field that holds the prompt as prompts.fields.prompt, or relax prompts.*"
    mend = next((what for start, what in MEND.items() if reason.startswith(start)), usual)
    return (
        f"{names}: not one prompt in {reasons.total()} rows; {n} {reason!r}, as {first.source} ({first.text[:60]!r});"
        f" {mend}"
    )
