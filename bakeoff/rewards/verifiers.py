"""Programs that check a completion against a true answer. No model, no judgement: the same verdict every time."""

from __future__ import annotations

import dataclasses
import math
import re
import string
import unicodedata
from collections.abc import Callable

_CONTAINS_EXTRA_WORDS = 20
"""A completion that contains the answer may say this many words more; beyond, it is a dump of the prompt."""

_ROUNDING = 1e-3
"""Relative difference allowed when a completion restates a number in another scale ("$45.2 million" for 45,214,000)."""


def exact(completion: str, answer: str) -> bool:
    """Whether the completion is the answer, but for case, spaces, punctuation at word edges, and articles."""
    return _words(completion) == _words(answer)


def contains(completion: str, answer: str) -> bool:
    """Whether the answer's words stand in the completion in a row, with at most 20 other words around them."""
    said, wanted = _words(completion), _words(answer)
    if not wanted or len(said) > len(wanted) + _CONTAINS_EXTRA_WORDS:
        return False
    return any(said[i : i + len(wanted)] == wanted for i in range(len(said) - len(wanted) + 1))


def number(completion: str, answer: str) -> bool:
    """Whether the completion states the answer's number and no other.

    - "$45.2 million", "45.2 million", "$45,200 thousand" and "45,200,000" are equal; a stated scale that is wrong is
      wrong; without a scale the face value ("45.2") is right too.
    - A percent, a dollar or a plain count that says so is not another of them; without a sign each is accepted.
    - "(3.4)" and "-3.4" are negative; "a loss of 3.4" may be for a negative answer.
    - Years, dates, "Note 7", "Q3" and "10-K" are context and do not count, unless the answer is a year.
    - Two different values are wrong, whichever stands first: listing earns nothing.

    Raises ValueError when the answer holds no number.
    """
    if _is_year(answer):
        years = {float(y) for y in re.findall(_YEAR, completion)}
        return years == {float(answer.strip())} and not _stated(_YEAR_RE.sub(" ", completion))
    truths = _stated(answer)
    if len(truths) != 1:
        raise ValueError(f"the answer {answer!r} must hold one number")
    stated = _stated(completion)
    loss = bool(_LOSS.search(completion))
    return bool(stated) and all(_equal(value, truths[0], loss=loss) for value in stated)


VERIFIERS: dict[str, Callable[[str, str], bool]] = {"exact": exact, "contains": contains, "number": number}
"""Name to program: (completion, answer) to right or wrong."""


def _words(text: str) -> list[str]:
    """The words of a text, in lower case, without accents, articles, or punctuation at their edges."""
    folded = unicodedata.normalize("NFKD", text.casefold())
    plain = "".join(c for c in folded if not unicodedata.combining(c))
    words = (w.strip(string.punctuation + "‘’“”–—…") for w in plain.split())
    return [w for w in words if w and w not in ("the", "a", "an")]


# Numbers


@dataclasses.dataclass(frozen=True, slots=True)
class _Value:
    """A number as written: its face value, its scale (None when not stated), and its unit ("" when not stated)."""

    face: float
    scale: float | None
    unit: str


_SCALES = {
    "k": 1e3,
    "thousand": 1e3,
    "m": 1e6,
    "mm": 1e6,
    "mn": 1e6,
    "million": 1e6,
    "b": 1e9,
    "bn": 1e9,
    "billion": 1e9,
}
_SCALES |= {"trillion": 1e12}

_YEAR = r"(?<![\w.,$€£-])(?:19|20)\d\d(?![\w%]|[.,]\d|\s*(?:percent|million|thousand|billion))"
_YEAR_RE = re.compile(_YEAR)
_MONTH = r"(?:jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)[a-z]*\.?"
_CONTEXT = re.compile(
    rf"\b{_MONTH}\s+\d{{1,2}}(?!\d)(?:st|nd|rd|th)?,?"  # December 31,
    rf"|\b\d{{1,2}}\s+{_MONTH}(?=\s+\d{{4}})"  # 31 December 2021
    r"|\b(?:note|item|page|table|section|exhibit|form|question|part|step)\s+\d+[a-z]?\b"
    r"|\b\d+-[kq]\b|\b\d{1,2}(?:st|nd|rd|th)\b"  # 10-K, 3rd
    r"|^\s*\d{1,2}[.)]\s+(?=[A-Za-z])",  # 1. a numbered line
    re.IGNORECASE | re.MULTILINE,
)
_NUMBER = re.compile(
    r"(?P<open>\()?\s*(?P<minus>[-−–]\s?)?(?P<money>us\$|\$|€|£|usd\s)?\s*(?P<open2>\()?(?P<minus2>[-−])?"
    r"(?<![A-Za-z_\d.])(?P<digits>\d{1,3}(?:,\d{3})+(?:\.\d+)?|\d+(?:\.\d+)?|\.\d+)(?!\d)"
    r"\s*(?P<percent>%|per\s?cent\b|percentage\b)?(?P<close>\))?"
    r"[\s-]*(?:\(?in\s+)?(?P<scale>thousands?|millions?|billions?|trillions?|mm|mn|bn|[kmb])?\b"
    r"(?P<dollars>\s*(?:us\s+)?dollars?\b)?",
    re.IGNORECASE,
)
_LOSS = re.compile(r"\b(?:loss|losses|negative|minus|deficit|used)\b", re.IGNORECASE)


def _is_year(answer: str) -> bool:
    return bool(_YEAR_RE.fullmatch(answer.strip()))


def _stated(text: str) -> list[_Value]:
    """The numbers that a text states, in order, without those that are only context."""
    text = _YEAR_RE.sub(" ", _CONTEXT.sub(" ", text.replace("*", "")))
    return [_value(m) for m in _NUMBER.finditer(text)]


def _value(match: re.Match[str]) -> _Value:
    face = float(match["digits"].replace(",", ""))
    bracketed = (match["open"] or match["open2"]) and match["close"]
    if bracketed or match["minus"] or match["minus2"]:
        face = -face
    word = (match["scale"] or "").lower()
    scale = _SCALES.get(word) or _SCALES.get(word.removesuffix("s"))
    unit = "percent" if match["percent"] else "money" if match["money"] or match["dollars"] else ""
    return _Value(face, scale, unit)


def _equal(said: _Value, true: _Value, *, loss: bool) -> bool:
    if said.unit and said.unit != true.unit:
        return False
    if true.unit == "percent" and said.scale:
        return False
    face = -abs(said.face) if loss and true.face < 0 else said.face
    full = true.face * (true.scale or 1)
    if said.scale is None and math.isclose(face, true.face, rel_tol=1e-9):
        return True
    tolerance = 1e-9 if said.scale == true.scale else _ROUNDING
    return math.isclose(face * (said.scale or 1), full, rel_tol=tolerance)
