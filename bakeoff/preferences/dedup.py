"""Prompts that are nearly the same text: what is learnt of one must not be measured on another."""

import re
from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from bakeoff.records import Message

ALIKE = 0.8
"""Two texts are nearly the same when they share so much of their pieces (Jaccard's index)."""
PIECE = 5
"""Letters of a piece."""
BANDS, ROWS = 12, 4
"""MinHash: pairs are compared that agree in all rows of a band; of those at the threshold, 99.8 % do."""
_NUMBER, _WORD = re.compile(r"\d+"), re.compile(r"\w+")
Pieces = npt.NDArray[np.uint32]


def spelling(messages: Sequence[Message]) -> str:
    """The words of a prompt: case, punctuation and white space make no other one."""
    return " ".join(" ".join(_WORD.findall(m.content.casefold())) or m.content for m in messages)


def clusters(texts: Sequence[str]) -> list[int]:
    """For each text the place of the one that it is nearly the same as, itself where there is none before it.

    Other numbers make another text, however long: prompts are often written to a pattern.
    """
    if not texts:
        return []
    pieces, numbers = [_pieces(text) for text in texts], [_NUMBER.findall(text) for text in texts]
    label = list(range(len(texts)))
    for i, j in _proposed(pieces):
        a, b = _root(label, i), _root(label, j)
        if a != b and numbers[a] == numbers[b] and _share(pieces[a], pieces[b]) >= ALIKE:
            label[max(a, b)] = min(a, b)
    return [_root(label, i) for i in range(len(texts))]


def _pieces(text: str) -> Pieces:
    """Hashes of all runs of `PIECE` bytes of a text, each once."""
    codes = np.frombuffer(text.encode().ljust(PIECE), np.uint8).astype(np.uint32)
    windows = np.lib.stride_tricks.sliding_window_view(codes, PIECE)
    powers = np.array([pow(0x01000193, k, 2**32) for k in range(PIECE)], np.uint32)
    return np.unique((windows * powers).sum(1, dtype=np.uint32))


def _proposed(pieces: Sequence[Pieces]) -> Iterator[tuple[int, int]]:
    """Pairs that may be alike: each text with the one before it that agrees in a band."""
    rng = np.random.default_rng(0)
    factors, shifts = (rng.integers(1, 2**32, BANDS * ROWS, np.uint32) | np.uint32(1) for _ in range(2))
    marks = np.stack([((p[:, None] * factors + shifts) >> np.uint32(1)).min(0) for p in pieces])
    for band in range(BANDS):
        last: dict[bytes, int] = {}
        for i, mark in enumerate(marks[:, band * ROWS : (band + 1) * ROWS]):
            key = mark.tobytes()
            if key in last:
                yield last[key], i
            last[key] = i


def _share(a: Pieces, b: Pieces) -> float:
    both = len(np.intersect1d(a, b, assume_unique=True))
    return both / (len(a) + len(b) - both)


def _root(label: list[int], i: int) -> int:
    while label[i] != i:
        i = label[i]
    return i
