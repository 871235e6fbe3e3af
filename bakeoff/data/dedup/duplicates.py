"""Duplicates: prompts that ask the same thing in the same words, but for slips of the keyboard.

MinHash proposes pairs; the words that differ decide. Another number, year, name or content word makes another question,
however long the excerpt that both share; a typo, case, punctuation or white space does not.
"""

import dataclasses
import difflib
import re
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from os.path import commonprefix

import numpy as np
from rapidfuzz.distance import OSA

from bakeoff.data.dedup import U32

SLIPS = 0.24
"""Two texts with more than this share of differing words are two texts, whatever the words are."""
REAL, TIMES = 3, 30
"""A word is in use, and no slip, when it occurs in REAL prompts and the other is not TIMES as frequent."""
LONG = 30
"""In a prompt of so many words, one letter in a word seen nowhere else is a slip; in a shorter one it may be a name."""
SURE = 3
"""In a long prompt, a slip that made another word in use counts as one beside so many that made no word at all."""

_MARKS = "\u0300-\u036f\u0591-\u05c7\u064b-\u065f\u0900-\u0dff"  # vowel signs and accents, which `\w` leaves out
_TOKEN = re.compile(
    r"\d+(?:[.,:]\d+)*"
    r"|[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af\u0e00-\u0e7f]"
    rf"|[^\W\d_](?:[^\W\d_]|[{_MARKS}])*"
    r"|(?<![\w)])-(?=[\d.$])|[<>=+*^%&|~$\u20ac\u00a3\u00a5]"
)
_ASCII_TOKEN = re.compile(r"[a-z]+|\d+(?:[.,:]\d+)*|(?<![\w)])-(?=[\d.$])|[<>=+*^%&|~$]")
_APOSTROPHE = re.compile("(?<=\\w)['\u2019](?=\\w)")
_FILLER = frozenset(["a", "an", "the", "please", "kindly", "just", "hi", "hello", "hey", "thanks", "thank", "so"])
_OPPOSITES = re.compile(r"([mbtr]+illion|(in|de)creas|(in|out)flow|(im|ex)port|(in|ex)clu|(in|ex)tern|m[ia]cro)")


def tokens(text: str) -> list[str]:
    """The words, numbers and operators of a text, in small letters: what is left when form is taken away."""
    text = text.casefold()
    if "'" in text or "\u2019" in text:
        text = _APOSTROPHE.sub("", text)
    found = (_ASCII_TOKEN if text.isascii() else _TOKEN).findall(text) or ["".join(text.split())]
    return [t.replace(",", "") if "," in t else t for t in found]


def word_hash(word: str) -> int:
    """32 bits of a word: odd for words, even for numbers."""
    return zlib.crc32(word.encode()) & ~1 | (word[0] not in "0123456789")


@dataclasses.dataclass(frozen=True, slots=True)
class WordCounts:
    """In how many prompts each word occurs."""

    hashes: U32
    """Of the words, in order."""
    counts: U32

    def of(self, word: str) -> int:
        place = int(np.searchsorted(self.hashes, np.uint32(word_hash(word))))
        return int(self.counts[place]) if place < len(self.hashes) and self.hashes[place] == word_hash(word) else 0


def same(a: list[str], b: list[str], counts: WordCounts) -> bool:
    """Whether two prompts, as tokens, differ in slips only; `counts` says in how many prompts a word occurs."""
    long, room = min(len(a), len(b)) >= LONG, max(2, SLIPS * min(len(a), len(b)))
    start = len(commonprefix([a, b]))
    a, b = a[start:], b[start:]
    end = len(commonprefix([a[::-1], b[::-1]]))
    a, b = a[: len(a) - end], b[: len(b) - end]
    bags = Counter(a), Counter(b)
    if max((bags[0] - bags[1]).total(), (bags[1] - bags[0]).total()) > room:
        return False
    doubtful = slips = 0
    for x, y in _differences(a, b):
        for one, other in _aligned(x, y):
            if not _typo(one, other, counts, long):
                if not (long and _real_word_slip(one, other)):
                    return False
                doubtful += 1
            slips += 1
    return SURE * doubtful <= slips - doubtful


def _differences(a: Sequence[str], b: Sequence[str]) -> Iterator[tuple[list[str], list[str]]]:
    """The stretches in which two token lists differ, filler words left out."""
    for tag, i, j, k, m in difflib.SequenceMatcher(None, a, b, autojunk=False).get_opcodes():
        if tag != "equal":
            yield [w for w in a[i:j] if w not in _FILLER], [w for w in b[k:m] if w not in _FILLER]


def _aligned(a: Sequence[str], b: Sequence[str]) -> Iterator[tuple[str, str]]:
    """The words of one stretch beside those of the other, or both run together where their numbers differ."""
    if len(a) != len(b):
        a, b = ["".join(a)], ["".join(b)]
    return ((x, y) for x, y in zip(a, b, strict=True) if x != y)


def _real_word_slip(a: str, b: str) -> bool:
    """Whether a slip may have made one word of another that is in use, too."""
    opposite = _OPPOSITES.match(a) and _OPPOSITES.match(b)
    return (
        min(len(a), len(b)) >= 3
        and a.isalpha()
        and b.isalpha()
        and not opposite
        and OSA.distance(a, b, score_cutoff=2) == 1
    )


def _typo(a: str, b: str, counts: WordCounts, long: bool) -> bool:  # noqa: FBT001
    """Whether one of two words is the other with a slip: no digits, few letters apart, and not both in use."""
    size = min(len(a), len(b))
    if size < 3 or not (a.isalpha() and b.isalpha()) or OSA.distance(a, b, score_cutoff=2) > (1 if size < 7 else 2):
        return False
    if _OPPOSITES.match(a) and _OPPOSITES.match(b):
        return False
    rare, common = sorted((counts.of(a), counts.of(b)))
    if rare >= REAL and rare * TIMES > common:
        return False
    return rare < common if long and a[0] != b[0] else long or rare < common
