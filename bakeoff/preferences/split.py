"""Which picks train, which are held out, and which a finished model has seen: no two that ask nearly the same part."""

import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from bakeoff.errors import UserError
from bakeoff.records import Message, Pick, content_id
from bakeoff.run import write_json

SIMILAR = 0.8
"""Jaccard similarity of the byte n-grams of two texts that are nearly the same."""
NGRAM = 5
"""Bytes of an n-gram."""
BANDS, BAND_ROWS = 12, 4
"""MinHash: pairs are compared that agree in all rows of a band; of those at the threshold, 99.8 % do."""
TRAINED_ON = "trained_on.json"
"""The file in a model's folder with the hashes of its training prompts."""
_NUMBER, _WORD = re.compile(r"\d+"), re.compile(r"\w+")
Ngrams = npt.NDArray[np.uint32]


def split(picks: Sequence[Pick], heldout: float) -> tuple[list[Pick], list[Pick]]:
    """(train, held out) by a hash of the prompt: prompts that are nearly the same come to one side."""
    sides: tuple[list[Pick], list[Pick]] = ([], [])
    for pick, prompt in zip(picks, near_duplicates([spelling(p.messages) for p in picks]), strict=True):
        sides[int(content_id("", prompt), 16) / 16**16 < heldout].append(pick)
    return sides


def remember(folder: Path, picks: Sequence[Pick]) -> None:
    """Write the hashes of the prompts into a model's folder."""
    write_json(folder / TRAINED_ON, {"prompts": sorted({content_id(spelling(p.messages)) for p in picks})})


def trained_on(name: str | Path, picks: Sequence[Pick]) -> list[bool | None]:
    """For each pick whether the model was trained on its prompt, or on one of the picks' that is nearly the same.

    None for all where the folder does not say, as that of a model from elsewhere.
    """
    file = Path(name) / TRAINED_ON
    if not file.exists():
        return [None] * len(picks)
    try:
        known = set(json.loads(file.read_text(encoding="utf-8"))["prompts"])
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{file}: damaged ({error!r}); remove it, or train the model again") from None
    words = [spelling(p.messages) for p in picks]
    first = near_duplicates(words)
    trained = {prompt for text, prompt in zip(words, first, strict=True) if content_id(text) in known}
    return [prompt in trained for prompt in first]


def spelling(messages: Sequence[Message]) -> str:
    """The words of a prompt: case, punctuation and white space make no other one."""
    return " ".join(" ".join(_WORD.findall(m.content.casefold())) or m.content for m in messages)


def near_duplicates(texts: Sequence[str]) -> list[str]:
    """For each text the first, in alphabetical order, of the cluster of nearly equal texts that it is in.

    Other numbers make another text, however long: prompts are often written to a pattern.
    """
    different = sorted(set(texts))
    ngrams, numbers = [_ngrams(text) for text in different], [_NUMBER.findall(text) for text in different]
    parent = list(range(len(different)))

    def root(i: int) -> int:
        while parent[i] != i:
            i = parent[i]
        return i

    for i, j in _candidates(ngrams):
        a, b = sorted((root(i), root(j)))
        if a != b and numbers[a] == numbers[b] and _jaccard(ngrams[a], ngrams[b]) >= SIMILAR:
            parent[b] = a
    first = {text: different[root(i)] for i, text in enumerate(different)}
    return [first[text] for text in texts]


def _ngrams(text: str) -> Ngrams:
    """Hashes of all runs of `NGRAM` bytes of a text, each once."""
    codes = np.frombuffer(text.encode().ljust(NGRAM), np.uint8).astype(np.uint32)
    windows = np.lib.stride_tricks.sliding_window_view(codes, NGRAM)
    powers = np.array([pow(0x01000193, k, 2**32) for k in range(NGRAM)], np.uint32)
    return np.unique((windows * powers).sum(1, dtype=np.uint32))


def _candidates(ngrams: Sequence[Ngrams]) -> Iterator[tuple[int, int]]:
    """Pairs that may be alike: each text with the one before it that agrees in a band."""
    rng = np.random.default_rng(0)
    factors, shifts = (rng.integers(1, 2**32, BANDS * BAND_ROWS, np.uint32) | np.uint32(1) for _ in range(2))
    minhashes = [((n[:, None] * factors + shifts) >> np.uint32(1)).min(0) for n in ngrams]
    for start in range(0, BANDS * BAND_ROWS, BAND_ROWS):
        last: dict[bytes, int] = {}
        for i, minhash in enumerate(minhashes):
            key = minhash[start : start + BAND_ROWS].tobytes()
            if key in last:
                yield last[key], i
            last[key] = i


def _jaccard(a: Ngrams, b: Ngrams) -> float:
    both = len(np.intersect1d(a, b, assume_unique=True))
    return both / (len(a) + len(b) - both)
