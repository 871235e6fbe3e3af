"""Raw logs in, trustworthy prompts out: every source row is kept, merged into one that is kept, or set aside."""

from __future__ import annotations

import dataclasses
import itertools
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from bakeoff.errors import UserError
from bakeoff.ingest import duplicates, readers, sources, split, steps
from bakeoff.ingest.settings import Cleaning
from bakeoff.ingest.steps import CountTokens, Draft
from bakeoff.records import Message, Prompt, SetAside, prompt_id

__all__ = ["Cleaning", "Ingested", "clean"]

Ints = npt.NDArray[np.int64]

BATCH = 1000
ALIKE = 12
"""Prompts that share this many of 32 bands (about three quarters of their shingles) stay on one side of the split."""


@dataclasses.dataclass(frozen=True, slots=True)
class Ingested:
    """What became of a log. `read` is the sum of the prompts' counts and the rows set aside."""

    prompts: list[Prompt]
    set_aside: list[SetAside]
    read: int
    dropped: dict[str, int]
    """Rows that are not a prompt of their own, by reason: those set aside, and `duplicate` and `near duplicate`."""
    redacted: dict[str, int]
    """Placeholders put into kept rows, by kind."""


def clean(
    paths: Sequence[Path],
    settings: Cleaning,
    *,
    count_tokens: CountTokens,
    progress: Callable[[int], object] = lambda rows: None,
) -> Ingested:
    """Read, clean, redact, merge duplicates, and split off held-out prompts; `progress` is told of each batch's rows.

    Raises UserError when a source is missing or no prompt is left.
    """
    found = sources.files(paths)
    kept: list[Draft] = []
    aside: list[SetAside] = []
    for batch in _batches(found):
        done = steps.too_long(steps.cleaned(batch, settings), settings, count_tokens)
        kept += [d for d in done if not d.reason]
        aside += [steps.set_aside(d, settings) for d in done if d.reason]
        progress(len(batch))
    if not kept:
        raise UserError(_nothing(found, aside))
    prompts, merged = _prompts(kept, settings)
    dropped = Counter(a.reason for a in aside) + merged
    redacted = Counter(kind for d in kept for kind in d.redacted)
    return Ingested(prompts, aside, len(kept) + len(aside), dict(dropped.most_common()), dict(redacted.most_common()))


def _batches(found: Iterable[Path]) -> Iterator[list[readers.Row]]:
    rows = itertools.chain.from_iterable(map(readers.rows, found))
    while batch := list(itertools.islice(rows, BATCH)):
        yield batch


def _nothing(found: Sequence[Path], aside: Sequence[SetAside]) -> str:
    names = ", ".join(str(p) for p in found[:3]) + (", ..." if len(found) > 3 else "")
    if not aside:
        return f"{names}: no rows; expected one prompt or conversation a row"
    reason, n = Counter(a.reason for a in aside).most_common(1)[0]
    first = next(a for a in aside if a.reason == reason)
    return (
        f"{names}: not one prompt in {len(aside)} rows; {n} {reason!r}, first at {first.source} ({first.text[:60]!r});"
        " name the field that holds the prompt with prompts.prompt_field, or relax prompts.*"
    )


def _text(messages: Iterable[Message]) -> str:
    return "\n".join(m.content if m.role == "user" else f"{m.role}: {m.content}" for m in messages)


def _prompts(kept: Sequence[Draft], settings: Cleaning) -> tuple[list[Prompt], Counter[str]]:
    """One prompt for each cluster of duplicates, and how many rows were merged by being equal or nearly so."""
    words = [duplicates.tokens(_text(d.messages)) for d in kept]
    firsts: dict[int, int] = {}
    exact = np.array([firsts.setdefault(duplicates.exact_key(w), i) for i, w in enumerate(words)])
    unique = list(firsts.values())
    hashed = [duplicates.hashes(words[i]) for i in unique]
    pairs, shared = duplicates.candidates(
        duplicates.band_keys(hashed, [duplicates.number_key(words[i]) for i in unique])
    )
    counts = duplicates.word_counts(hashed)
    same = np.array([duplicates.same(words[unique[i]], words[unique[j]], counts) for i, j in pairs], bool)
    same &= "near_duplicates" not in settings.skip
    near = split.clusters(len(unique), pairs[same])
    documents = split.shared_passages([split.passages(h) for h in hashed])
    together = split.clusters(len(unique), np.concatenate([pairs[same | (shared >= ALIKE)], documents]))
    return _assembled(kept, exact, unique, near, together, settings)


def _assembled(
    kept: Sequence[Draft],
    exact: Ints,
    unique: Sequence[int],
    near: Ints,
    together: Ints,
    settings: Cleaning,
) -> tuple[list[Prompt], Counter[str]]:
    """The first of each cluster as a prompt that counts them all."""
    rows = np.bincount(exact, minlength=len(kept))[list(unique)]
    total = np.bincount(near, weights=rows, minlength=len(unique)).astype(int)
    heads = np.flatnonzero(near == np.arange(len(unique))).tolist()
    ids = [prompt_id(kept[unique[h]].messages) for h in heads]
    held = split.heldout(ids, together[heads], settings.heldout, settings.seed)
    prompts = [
        Prompt(i, d.messages, d.source, int(total[h]), "heldout" if out else "train")
        for i, h, out in zip(ids, heads, held, strict=True)
        for d in [kept[unique[h]]]
    ]
    near_rows = int(rows.sum() - rows[heads].sum())
    merged = Counter({"duplicate": len(kept) - len(prompts) - near_rows, "near duplicate": near_rows})
    return prompts, +merged
