"""Which prompts are kept where there are more than `prompts.limit`."""

import dataclasses
import itertools
from collections.abc import Iterator, Sequence

import numpy as np

from bakeoff.data.dedup import merge
from bakeoff.data.dedup.diversity import spread, vectors
from bakeoff.data.parts import Part
from bakeoff.settings import Prompts


def limited(parts: Sequence[Part], fate: merge.Fate, settings: Prompts, seed: int) -> merge.Fate:
    """The fate with `prompts.limit` prompts at most; those that are not chosen stand for no rows."""
    heads = np.flatnonzero(fate.count)
    if not settings.limit or len(heads) <= settings.limit:
        return fate
    words, counts = merge.word_counts([np.load(part.marks) for part in parts])
    documents = itertools.compress(_documents(parts), fate.count > 0)
    found = vectors(documents, words, counts, total=len(fate.count))
    names = merge.ids(parts)
    values = strata(parts, settings)
    kept = spread(
        found,
        settings.limit,
        strata=[values[i] for i in heads] if values else [""] * len(heads),
        ids=[names[i] for i in heads],
        seed=seed,
    )
    count = fate.count.copy()
    count[heads[~kept]] = 0
    return dataclasses.replace(fate, count=count)


def strata(parts: Sequence[Part], settings: Prompts) -> list[str]:
    """The value of `prompts.fields.stratify` of every kept row; nothing where it is not set."""
    return [v for part in parts for v in np.load(part.marks)["strata"].tolist()] if settings.fields.stratify else []


def _documents(parts: Sequence[Part]) -> Iterator[list[str]]:
    """The tokens of every kept row."""
    for part in parts:
        with part.words.open(encoding="utf-8", newline="\n") as file:
            yield from (line.split() for line in file)
