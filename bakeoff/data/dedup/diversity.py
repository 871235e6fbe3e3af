"""Sampling down: prompts as unlike each other as can be, without a model that embeds them.

A prompt is its words, rare ones weighing more (but numbers, and words of no other prompt, nothing), hashed into
DIMENSIONS signed sums. Farthest-first picks centres (Gonzalez, 1985); each other prompt joins its nearest; the room is
shared evenly among the centres' clusters, and within each the same again. All sums are of whole numbers below 2^24, so
that float32 is exact and the choice the same on every machine.
"""

import dataclasses
import hashlib
import itertools
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import numpy.typing as npt

from bakeoff.data.dedup import U32, Bools, Ints, merge
from bakeoff.data.dedup.minhash import hashed
from bakeoff.data.parts import Part
from bakeoff.settings import Prompts

Vectors = npt.NDArray[np.int8]
Floats = npt.NDArray[np.float32]

DIMENSIONS = 64
CENTRES = 128
"""Centres picked in one go."""
LENGTH = 100
"""Of a vector; its entries are rounded to whole numbers."""
_PAIRS = 100_000
"""Words of prompts summed up in one go, which bounds memory."""


def vectors(documents: Iterable[Sequence[str]], words: U32, counts: U32, total: int) -> Vectors:
    """The vectors of prompts, given as tokens; `words`, in order, occur in `counts` of the `total` prompts."""
    made, waiting, size = [np.zeros((0, DIMENSIONS), np.int8)], [], 0
    for document in documents:
        waiting.append(np.unique(hashed(document)))
        size += len(waiting[-1])
        if size >= _PAIRS:
            made.append(_summed(waiting, words, counts, total))
            waiting, size = [], 0
    return np.concatenate([*made, _summed(waiting, words, counts, total)] if waiting else made)


def _summed(documents: Sequence[U32], words: U32, counts: U32, total: int) -> Vectors:
    flat = np.concatenate(documents)
    starts = np.cumsum([0, *map(len, documents[:-1])])
    place = np.minimum(np.searchsorted(words, flat), max(0, len(words) - 1))
    seen = np.where(words[place] == flat, counts[place], 1) if len(words) else np.ones(len(flat))
    weights = np.where(seen > 1, np.rint(16 * np.log2(1 + total / seen)), 0).astype(np.int32)
    sums = np.add.reduceat(_signs(flat) * weights[:, None], starts).astype(np.int64)
    lengths = np.sqrt((sums * sums).sum(1))[:, None]
    return np.rint(LENGTH * sums / np.maximum(lengths, 1)).astype(np.int8)


def _signs(words: U32) -> npt.NDArray[np.int32]:
    """64 signs of each word, by the finaliser of SplitMix64."""
    mixed = words.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        mixed = (mixed ^ (mixed >> np.uint64(shift))) * np.uint64(factor)
    mixed ^= mixed >> np.uint64(31)
    bits = np.unpackbits(mixed.astype("<u8").view(np.uint8).reshape(-1, 8), axis=1)
    return bits.astype(np.int32) * 2 - 1


def most_diverse(found: Vectors, room: int, *, strata: Sequence[str], ids: Sequence[str], seed: int) -> Bools:
    """Which `room` prompts to keep: as many of each stratum as can be, and as unlike each other as can be."""
    order = np.array(sorted(range(len(ids)), key=lambda i: hashlib.sha256(f"{seed} {ids[i]}".encode()).digest()), int)
    names, index = np.unique(np.array(strata)[order], return_inverse=True)
    shares = shared(np.bincount(index, minlength=len(names)), room)
    chosen = np.zeros(len(ids), bool)
    for stratum, share in enumerate(shares.tolist()):
        chosen[_unlike(found, order[index == stratum], share)] = True
    return chosen


def shared(sizes: Ints, room: int) -> Ints:
    """The room of each, as even as can be, none more than its size; what cannot be split goes to the largest."""
    out = np.zeros(len(sizes), np.int64)
    for place, i in enumerate(np.argsort(sizes, kind="stable")):
        out[i] = min(int(sizes[i]), room // (len(sizes) - place))
        room -= int(out[i])
    return out


def _unlike(found: Vectors, rows: Ints, room: int) -> Ints:
    """`room` of the rows; the first of them comes first, and wins ties."""
    if room >= len(rows):
        return rows
    if room == 0:
        return rows[:0]
    centres, nearest = farthest_first(found[rows].astype(np.float32), min(room, CENTRES))
    if room <= CENTRES:
        return rows[centres]
    if not nearest.any():  # they are all alike
        return rows[:room]
    first = np.argsort(nearest, kind="stable")
    clusters = np.split(rows[first], np.flatnonzero(np.diff(nearest[first])) + 1)
    shares = shared(np.array([len(c) for c in clusters]), room)
    return np.concatenate([_unlike(found, c, s) for c, s in zip(clusters, shares.tolist(), strict=True)])


def farthest_first(found: Floats, count: int) -> tuple[Ints, Ints]:
    """(centres: the first row, then always the one farthest from those before; the place of each row's nearest)."""
    squares = np.einsum("nd,nd->n", found, found)
    distance = np.full(len(found), np.inf, np.float32)
    nearest = np.zeros(len(found), np.int64)
    centres = [0]
    while True:
        new = squares + squares[centres[-1]] - 2 * (found @ found[centres[-1]])
        nearer = new < distance
        distance[nearer] = new[nearer]
        nearest[nearer] = len(centres) - 1
        distance[centres[-1]] = -1  # never again, even among equals
        if len(centres) == count:
            return np.array(centres), nearest
        centres.append(int(np.argmax(distance)))


def limited(parts: Sequence[Part], fate: merge.Fate, settings: Prompts, seed: int) -> merge.Fate:
    """The fate with `prompts.limit` prompts at most; those that are not chosen stand for no rows."""
    heads = np.flatnonzero(fate.count)
    if not settings.limit or len(heads) <= settings.limit:
        return fate
    words, counts = merge.word_counts([np.load(part.fingerprints) for part in parts])
    documents = itertools.compress(_documents(parts), fate.count > 0)
    found = vectors(documents, words, counts, total=len(fate.count))
    names = merge.ids(parts)
    values = strata(parts, settings)
    kept = most_diverse(
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
    return (
        [v for part in parts for v in np.load(part.fingerprints)["strata"].tolist()] if settings.fields.stratify else []
    )


def _documents(parts: Sequence[Part]) -> Iterator[list[str]]:
    """The tokens of every kept row."""
    for part in parts:
        with part.words.open(encoding="utf-8", newline="\n") as file:
            yield from (line.split() for line in file)
