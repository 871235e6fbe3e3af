"""What is remembered of each prompt so that alike ones find each other: a few hundred bytes, whatever its length."""

import dataclasses
import hashlib
import itertools
import zlib
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from bakeoff.data.dedup import U32, U64
from bakeoff.data.dedup.duplicates import word_hash

BANDS, ROWS = 32, 3
"""Pairs with a share s of their one- and two-word shingles in common meet with probability 1 - (1 - s^3)^32,
0.98 at s = 0.5."""
PASSAGE, WINDOW = 8, 12
"""Two prompts that share PASSAGE + WINDOW - 1 = 19 words in a row are sure to share a fingerprint (winnowing,
Schleimer, Wilkerson and Aiken, 2003)."""

_RANDOM = np.random.Generator(np.random.PCG64(20240607))
_MULTIPLY = _RANDOM.integers(1, 1 << 32, BANDS * ROWS, np.uint32) | np.uint32(1)
_ADD = _RANDOM.integers(0, 1 << 32, BANDS * ROWS, np.uint32)


@dataclasses.dataclass(frozen=True, slots=True)
class Fingerprints:
    """Of a batch of prompts; one row each, but for the last four."""

    exact: U64
    """Equal for prompts whose words are equal, in order."""
    bands: U32
    """MinHash band keys [prompts, BANDS]; other numbers in the prompt, other keys."""
    passages: U64
    """Fingerprints of passages, prompt after prompt..."""
    owners: U32
    """...and whose they are."""
    words: U32
    """The hash of each word that occurs, in order..."""
    counts: U32
    """...and in how many of the prompts."""


def arrays(record: Any) -> dict[str, Any]:
    """The fields of a dataclass, by name, as `np.savez` takes them."""
    return {f.name: getattr(record, f.name) for f in dataclasses.fields(record)}


class _Hashes(dict[str, int]):
    """`word_hash`, remembered."""

    def __missing__(self, word: str) -> int:
        if len(self) > 1 << 18:
            self.clear()
        value = self[word] = word_hash(word)
        return value


_hash_of = _Hashes()


def hashed(words: Iterable[str], count: int = -1) -> U32:
    """`word_hash` of each word; `count` of them, where that is known."""
    return np.fromiter(map(_hash_of.__getitem__, words), np.uint32, count)


def fingerprints(documents: Sequence[Sequence[str]]) -> Fingerprints:
    """The fingerprints of prompts, given as tokens (at least one each)."""
    owner = np.repeat(np.arange(len(documents), dtype=np.uint32), [len(d) for d in documents])
    words = hashed(itertools.chain.from_iterable(documents), len(owner))
    numbers = np.array([_number_key(d) for d in documents], np.uint32)
    exact = np.array([_exact_key(d) for d in documents], np.uint64)
    passages, owners = _passages(words, owner)
    return Fingerprints(exact, _bands(words, owner, numbers), passages, owners, *_counts(words, owner))


def _exact_key(words: Sequence[str]) -> int:
    return int.from_bytes(hashlib.blake2b("\0".join(words).encode(), digest_size=8).digest(), "little")


def _number_key(words: Sequence[str]) -> int:
    return zlib.crc32(" ".join(sorted([w for w in words if w[0] in "0123456789"])).encode())


def _bands(words: U32, owner: U32, numbers: U32) -> U32:
    pairs = words.copy()  # the last word of a prompt stands for itself
    inside = owner[:-1] == owner[1:]
    pairs[:-1][inside] = (words[:-1] * np.uint32(0x85EBCA6B) ^ words[1:])[inside]
    starts = np.flatnonzero(np.r_[True, ~inside]) if len(words) else np.zeros(0, int)
    least = [
        np.minimum(*(np.minimum.reduceat(grams * multiply + add, starts) for grams in (words, pairs)))
        for multiply, add in zip(_MULTIPLY, _ADD, strict=True)
    ]
    keys = np.add.outer(numbers, np.arange(BANDS, dtype=np.uint32)).astype(np.uint64)
    for row in range(ROWS):
        keys = (keys ^ np.stack(least[row::ROWS], 1)) * np.uint64(0x9E3779B97F4A7C15)
        keys ^= keys >> np.uint64(31)
    return keys.astype(np.uint32)


def runs(words: U32, size: int) -> U64:
    """A hash of the `size` words from each word on."""
    n = max(0, len(words) - size + 1)
    mixed = np.zeros(n, np.uint64)
    for i in range(size):
        mixed = (mixed ^ words[i : i + n]) * np.uint64(0x9E3779B97F4A7C15)
        mixed ^= mixed >> np.uint64(32)
    return mixed


def _passages(words: U32, owner: U32) -> tuple[U64, U32]:
    """The least shingle of each window, or of the whole prompt where it is shorter; and the prompt each is of."""
    mixed = runs(words, PASSAGE)
    whole = owner[: len(mixed)] == owner[len(owner) - len(mixed) :]
    if not whole.any():
        return np.zeros(0, np.uint64), np.zeros(0, np.uint32)
    least = mixed
    for step in (1, 2, 4, 4):  # the least of 2, 4, 8, 12 neighbours
        least = np.minimum(least[:-step], least[step:])
    first = owner[: len(least)]
    full = first == owner[len(owner) - len(least) :]
    long = np.bincount(first[full], minlength=int(owner[-1]) + 1) > 0
    short = whole & ~long[owner[: len(whole)]]
    starts = np.flatnonzero(short & np.r_[True, owner[1 : len(short)] != owner[: len(short) - 1]])
    masked = np.where(short, mixed, np.uint64(2**64 - 1))
    rest = np.minimum.reduceat(masked, starts) if len(starts) else masked[:0]
    found, owners = np.r_[least[full], rest], np.r_[first[full], owner[starts]]
    fresh = np.r_[True, (found[1:] != found[:-1]) | (owners[1:] != owners[:-1])]
    return found[fresh], owners[fresh]


def _counts(words: U32, owner: U32) -> tuple[U32, U32]:
    odd = (words & np.uint32(1)).astype(bool)
    ordered = np.sort(words[odd].astype(np.uint64) << np.uint64(32) | owner[odd])
    once = ordered[np.r_[True, ordered[1:] != ordered[:-1]][: len(ordered)]] >> np.uint64(32)
    return summed(once.astype(np.uint32), np.ones(len(once), np.uint32))


def summed(keys: U32, counts: U32) -> tuple[U32, U32]:
    """The keys, each once and in order, and the sum of the counts of each."""
    order = np.argsort(keys, kind="stable")
    keys, counts = keys[order], counts[order]
    starts = np.flatnonzero(np.r_[True, keys[1:] != keys[:-1]][: len(keys)])
    return keys[starts], np.add.reduceat(counts, starts) if len(starts) else counts
