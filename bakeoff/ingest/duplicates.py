"""Duplicates: prompts that ask the same thing in the same words, but for slips of the keyboard.

MinHash proposes pairs; the words that differ decide. Another number, year, name or content word makes another question,
however long the excerpt that both share; a typo, case, punctuation or white space does not.
"""

from __future__ import annotations

import difflib
import hashlib
import re
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import numpy.typing as npt

Hashes = npt.NDArray[np.uint32]
Keys = npt.NDArray[np.uint64]

BANDS, ROWS = 32, 3
"""Pairs with a share s of their one- and two-word shingles in common meet with probability 1 - (1 - s^3)^32,
0.98 at s = 0.5."""
NEIGHBOURS = 3
"""How many earlier prompts of a crowded bucket each one is compared with: work stays linear."""
SLIPS = 0.12
"""More than this share of words that differ is another text, whatever they are."""
VOCABULARY = 1 << 22
"""Buckets that count in how many prompts a word occurs."""
REAL = 3
"""A word that occurs in this many prompts is taken for a word and not for a slip."""

_MARKS = "\u0300-\u036f\u0591-\u05c7\u064b-\u065f\u0900-\u0dff"  # vowel signs and accents that `\\w` leaves out
_TOKEN = re.compile(
    r"\d+(?:[.,:]\d+)*"
    r"|[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af\u0e00-\u0e7f]"
    rf"|[^\W\d_](?:[^\W\d_]|[{_MARKS}])*"
    r"|(?<![\w)])-(?=[\d.$])|[<>=+*^%&|~$\u20ac\u00a3\u00a5]"
)
_APOSTROPHE = re.compile("(?<=\\w)['\u2019](?=\\w)")
_FILLER = frozenset(["a", "an", "the", "please", "kindly", "just", "hi", "hello", "hey", "thanks", "thank", "so"])
_RANDOM = np.random.Generator(np.random.PCG64(20240607))
_MULTIPLY = _RANDOM.integers(1, 1 << 32, BANDS * ROWS, np.uint32) | np.uint32(1)
_ADD = _RANDOM.integers(0, 1 << 32, BANDS * ROWS, np.uint32)


def tokens(text: str) -> list[str]:
    """The words, numbers and operators of a text, in small letters: what is left when form is taken away."""
    found = _TOKEN.findall(_APOSTROPHE.sub("", text.casefold())) or [text]
    return [t.replace(",", "") if t[0].isdigit() else t for t in found]


class _Hashes(dict[str, int]):
    """CRC-32 by word, remembered."""

    def __missing__(self, word: str) -> int:
        if len(self) > 1 << 20:
            self.clear()
        value = self[word] = zlib.crc32(word.encode())
        return value


_hash_of = _Hashes()


def hashes(words: Iterable[str]) -> Hashes:
    return np.fromiter(map(_hash_of.__getitem__, words), np.uint32)


def exact_key(words: Sequence[str]) -> int:
    """Equal for prompts whose words are equal, in order."""
    return int.from_bytes(hashlib.blake2b("\0".join(words).encode(), digest_size=8).digest(), "little")


def number_key(words: Iterable[str]) -> int:
    """Equal for prompts that hold the same numbers."""
    return zlib.crc32(" ".join(sorted(w for w in words if w[0].isdigit())).encode())


def band_keys(documents: Sequence[Hashes], numbers: Sequence[int]) -> Keys:
    """MinHash band keys [documents, BANDS] over one- and two-word shingles; other numbers, other keys."""
    sizes = np.array([max(1, 2 * len(d) - 1) for d in documents])
    shingles = np.concatenate([_shingles(d) for d in documents])
    starts = np.concatenate([[0], np.cumsum(sizes)[:-1]])
    least = np.stack([np.minimum.reduceat(shingles * m + a, starts) for m, a in zip(_MULTIPLY, _ADD, strict=True)], 1)
    keys = least.reshape(len(documents), BANDS, ROWS).astype(np.uint64)
    mixed = np.add.outer(np.array(numbers, np.uint64), np.arange(BANDS, dtype=np.uint64))
    for row in range(ROWS):
        mixed = (mixed ^ keys[:, :, row]) * np.uint64(0x9E3779B97F4A7C15)
        mixed ^= mixed >> np.uint64(29)
    return mixed


def _shingles(words: Hashes) -> Hashes:
    if not len(words):
        return np.zeros(1, np.uint32)
    return np.concatenate([words, words[:-1] * np.uint32(0x85EBCA6B) ^ words[1:]])


def candidates(keys: Keys) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Pairs (earlier, later) [pairs, 2] that share a band, and how many bands they share."""
    n = len(keys)
    found = [np.zeros(0, np.int64)]
    for band in range(BANDS):
        order = np.argsort(keys[:, band], kind="stable")
        ordered = keys[order, band]
        for step in range(1, NEIGHBOURS + 1):
            together = ordered[step:] == ordered[:-step]
            found.append(order[:-step][together] * n + order[step:][together])
    pairs, shared = np.unique(np.concatenate(found), return_counts=True)
    return np.stack([pairs // n, pairs % n], 1), shared


def word_counts(documents: Iterable[Hashes]) -> npt.NDArray[np.uint32]:
    """In how many documents each word occurs, by bucket."""
    counts = np.zeros(VOCABULARY, np.uint32)
    for document in documents:
        counts[np.unique(document % VOCABULARY)] += np.uint32(1)
    return counts


def same(a: Sequence[str], b: Sequence[str], counts: npt.NDArray[np.uint32]) -> bool:
    """Whether two prompts differ in slips only."""
    bags = Counter(a), Counter(b)
    apart = max(sum((bags[0] - bags[1]).values()), sum((bags[1] - bags[0]).values()))
    if apart > max(2, SLIPS * 2 * min(len(a), len(b))):
        return False
    pieces = list(_differences(a, b))
    return all(_slip(x, y, counts) for x, y in pieces)


def _differences(a: Sequence[str], b: Sequence[str]) -> Iterator[tuple[Sequence[str], Sequence[str]]]:
    """The stretches in which two token lists differ, filler words left out."""
    start = next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))
    a, b = a[start:], b[start:]
    back = next((i for i, (x, y) in enumerate(zip(a[::-1], b[::-1], strict=False)) if x != y), min(len(a), len(b)))
    a, b = a[: len(a) - back], b[: len(b) - back]
    for tag, i, j, k, m in difflib.SequenceMatcher(None, a, b, autojunk=False).get_opcodes():
        if tag != "equal":
            yield [w for w in a[i:j] if w not in _FILLER], [w for w in b[k:m] if w not in _FILLER]


def _slip(a: Sequence[str], b: Sequence[str], counts: npt.NDArray[np.uint32]) -> bool:
    """Whether one stretch of words is the other mistyped: word by word, or words run together or torn apart."""
    if "".join(a) == "".join(b):
        return True
    if len(a) == len(b):
        return all(x == y or _typo(x, y, counts) for x, y in zip(a, b, strict=True))
    return _typo("".join(a), "".join(b), counts)


def _typo(a: str, b: str, counts: npt.NDArray[np.uint32]) -> bool:
    """Whether one of two words is the other with a slip: no digits, few letters apart, and not both in use."""
    size = min(len(a), len(b))
    if size < 3 or not (a.isalpha() and b.isalpha()):
        return False
    if distance(a, b) > (1 if size < 7 else 2):
        return False
    rare, common = sorted(int(counts[h]) for h in hashes([a, b]) % VOCABULARY)
    return rare < REAL and (rare < common or a[0] == b[0])


def distance(a: str, b: str) -> int:
    """Edits between two words, a swap of neighbours being one (optimal string alignment); 3 stands for more than 2."""
    if abs(len(a) - len(b)) > 2:
        return 3
    before: list[int] = []
    last = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        row = [i]
        for j, y in enumerate(b, 1):
            cost = min(last[j] + 1, row[-1] + 1, last[j - 1] + (x != y))
            if i > 1 and j > 1 and x == b[j - 2] and a[i - 2] == y:
                cost = min(cost, before[j - 2] + 1)
            row.append(cost)
        before, last = last, row
    return min(last[-1], 3)
