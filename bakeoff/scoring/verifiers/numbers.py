"""Numbers that a text states: with scale, unit and sign, without years, dates and other context. Imports no bakeoff."""

import dataclasses
import math
import re

_ROUNDING = 1e-3
"""Relative difference allowed when a completion restates a number in another scale ("$45.2 million" for 45,214,000)."""


def number(completion: str, answer: str) -> bool:
    """Whether the completion states the answer's number and no other.

    - "$45.2 million", "45.2 million", "$45,200 thousand" and "45,200,000" are equal; a stated scale that is wrong is
      wrong; without a scale the face value ("45.2") is right too.
    - A stated unit that differs (percent, a currency) is wrong; a number without one is accepted for any.
    - "(3.4)" and "-3.4" are negative; "a loss of 3.4" and "(3.4 million)" may be.
    - Years, dates, "Note 7", "Q3" and "10-K" are context and do not count. When the answer is a year, only years count.
    - Two different values are wrong, whichever stands first: listing earns nothing.

    Raises ValueError when the answer holds no number.
    """
    if _YEAR.fullmatch(answer.strip()):
        return {m[1] for m in _YEAR.finditer(completion)} == {answer.strip()}
    truths = numbers_in(answer)
    if len(truths) != 1:
        raise ValueError(f"the answer {answer!r} must hold one number")
    stated = numbers_in(completion, keep=truths[0].face)
    loss = bool(_LOSS.search(completion))
    return bool(stated) and all(_equal(value, truths[0], loss=loss) for value in stated)


@dataclasses.dataclass(frozen=True, slots=True)
class Value:
    """A number as written: face value, scale (None when not stated), unit (`percent`, a currency sign or none)."""

    face: float
    scale: float | None
    unit: str


_SCALES = {"k": 1e3, "thousand": 1e3, "m": 1e6, "mm": 1e6, "mn": 1e6, "million": 1e6}
_CURRENCIES = dict.fromkeys(("$", "us$", "usd", "dollar"), "$") | dict.fromkeys(("€", "eur", "euro"), "€")
_CURRENCIES |= dict.fromkeys(("£", "gbp", "pound"), "£") | dict.fromkeys(("¥", "yen"), "¥")
_SCALES |= {"b": 1e9, "bn": 1e9, "billion": 1e9, "trillion": 1e12}

_YEAR = re.compile(r"(?<![\w.,$€£])(?:FY\s?)?((?:19|20)\d\d)(?!\w|%|[.,]\d|\s*(?:percent|thousand|million|billion))")
_MONTH = r"(?:jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)[a-z]*\.?"
_CONTEXT = re.compile(
    rf"\b{_MONTH}\s+\d{{1,2}}(?!\d)(?:st|nd|rd|th)?,?"  # December 31,
    rf"|\b\d{{1,2}}\s+{_MONTH}(?=\s+\d{{4}})"  # 31 December 2021
    r"|\b(?:note|item|page|table|section|exhibit|form|question|part|step)\s+\d+[a-z]?\b"
    r"|\b\d+-[kq]\b|\b\d{1,2}(?:st|nd|rd|th)\b"  # 10-K, 3rd
    r"|^\s*\d{1,2}[.)]\s+(?=[A-Za-z])",  # 1. a numbered line
    re.IGNORECASE | re.MULTILINE,
)
_DIGITS = re.compile(r"(?<![A-Za-z_\d])(?<!\d[.,])(?:\d{1,3}(?:,\d{3})+(?:\.\d+)?|\d+(?:\.\d+)?|\.\d+)(?!\d)")
_BEFORE = re.compile(
    r"(?P<open>\()?(?P<minus>(?<!\w)[-−–])?(?P<money>(?:us)?[$€£¥]|(?:usd|eur|gbp) )?\s*(?P<inner>[-−(])?$",
    re.IGNORECASE,
)
_AFTER = re.compile(
    r"\s*(?P<percent>%|per\s?cent\b)?(?P<close>\))?"
    r"[\s-]*(?:\(?in\s+)?(?P<scale>(?:thousand|million|billion|trillion)s?\b|(?:mm|mn|bn|[kmb])\b)?"
    r"\s*(?P<money>(?:us )?dollars?\b|euros?\b|pounds?\b|yen\b|usd\b|eur\b|gbp\b)?",
    re.IGNORECASE,
)
_LOSS = re.compile(
    r"\b(?:loss|losses|negative|minus|deficit)\b"
    r"|\(\$?[\d.,]+ (?:thousand|million|billion)\)",  # a negative amount, or only an aside
    re.IGNORECASE,
)


def numbers_in(text: str, keep: float | None = None) -> list[Value]:
    """The numbers that a text states, in order, without those that are only context; a year equal to `keep` is kept."""
    text = _CONTEXT.sub(" ", text.replace("*", ""))
    text = _YEAR.sub(lambda m: m[0] if float(m[1]) == keep else " ", text)
    return [_value(text[max(0, m.start() - 8) : m.start()], m[0], text[m.end() :]) for m in _DIGITS.finditer(text)]


def _value(before: str, digits: str, after: str) -> Value:
    left, right = _BEFORE.search(before), _AFTER.match(after)
    assert left and right, "every part of both patterns is optional"
    face = float(digits.replace(",", ""))
    bracketed = (left["open"] or left["inner"] == "(") and right["close"]
    if bracketed or left["minus"] or left["inner"] in ("-", "−"):
        face = -face
    word = (right["scale"] or "").lower()
    scale = _SCALES.get(word) or _SCALES.get(word.removesuffix("s"))
    money = (left["money"] or right["money"] or "").lower().removeprefix("us ").strip()
    unit = "percent" if right["percent"] else _CURRENCIES.get(money.rstrip("s"), "")
    return Value(face, scale, unit)


def _equal(said: Value, true: Value, *, loss: bool) -> bool:
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
