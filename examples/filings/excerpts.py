"""Excerpts of invented filings, each with the facts that can be read off it."""

from __future__ import annotations

import dataclasses
import random
import re

from amounts import Amount, amount, next_year
from companies import auditor, person
from wording import WORDING, spin

_NAMES, _ITEMS, _TEXTS = WORDING["names"], WORDING["items"], WORDING["excerpts"]


@dataclasses.dataclass(frozen=True, slots=True)
class Fact:
    """Something to ask: `what` (a noun phrase), of which `year` ("" when it has none), and the true answer."""

    what: str
    year: str
    answer: str
    kind: str
    """`series` (a line item of a year), `growth`, `when`, `note`, or the kind of a text fact, such as `auditor`."""

    @property
    def verifier(self) -> str:
        return "number" if self.kind in ("series", "growth", "when", "note") else "contains"


@dataclasses.dataclass(frozen=True, slots=True)
class Excerpt:
    """The text of one excerpt and the facts that can be read off it."""

    company: str
    year: int
    text: str
    facts: list[Fact]


@dataclasses.dataclass(frozen=True, slots=True)
class Row:
    """A line item and its amounts, newest year first."""

    item: str
    amounts: list[Amount]


def excerpt(rng: random.Random, company: str) -> Excerpt:
    """A random excerpt: prose, a table, a list of key figures, a footnote, or a mix of two."""
    make = rng.choices([prose, table, figures, note, mixed], [20, 8, 38, 30, 4])[0]
    return make(rng, company, rng.randint(2012, 2024))


def prose(rng: random.Random, company: str, year: int, size: int = 0) -> Excerpt:
    """A paragraph of management's discussion: two or three line items over two years."""
    rows = _rows(rng, rng.choices(["millions", "dollars"], [9, 1])[0], size or rng.choice([2, 2, 2, 3]), 2)
    sentences = [_sentence(rng, row, company, year) for row in rows]
    facts = _facts(rng, rows, year)
    for row, sentence in zip(rows, sentences, strict=True):
        if f" {_growth(row)} " in sentence and row.amounts[0].unit != "percent":
            facts.append(Fact(row.item, str(year), _growth(row), "growth"))
    return Excerpt(company, year, " ".join(sentences), facts)


def table(rng: random.Random, company: str, year: int, size: int = 0) -> Excerpt:
    """A small table over two or three years, with bars or aligned."""
    unit = rng.choices(["millions", "thousands"], [5, 2])[0]
    years = rng.choice([2, 2, 2, 2, 3])
    rows = _rows(rng, unit, size or rng.choice([2, 2, 3]), years)
    head = [f"({unit})" if rng.random() < 0.5 else "", *(str(year - i) for i in range(years))]
    lines = [head, *([_capital(row.item), *(a.cell for a in row.amounts)] for row in rows)]
    title = rng.choice(_TEXTS["table_titles"]).format(c=company, y=year)
    title += "" if head[0] else rng.choice([f" (in {unit})", f", {unit}", f" ($ in {unit})"])
    body = _bars(lines) if rng.random() < 0.6 else _aligned(lines)
    return Excerpt(company, year, f"{title}\n{body}", _facts(rng, rows, year))


def figures(rng: random.Random, company: str, year: int) -> Excerpt:
    """A list of key figures, one line item per line, for one year or for two after each other."""
    unit = rng.choices(["millions", "dollars"], [9, 1])[0]
    years = rng.choice([1, 1, 1, 2])
    rows = _rows(rng, unit, rng.choice([3, 4, 5]) if years == 1 else rng.choice([2, 3]), years)
    mark = rng.choice(["- ", "* ", ""])
    blocks = [
        "\n".join([f"{title}:", *(f"{mark}{_capital(row.item)}: {row.amounts[i].said}" for row in rows)])
        for i, title in enumerate([f"{company}, fiscal {year}", f"Fiscal {year - 1}"][:years])
    ]
    return Excerpt(company, year, "\n".join(blocks), _facts(rng, rows, year))


def note(rng: random.Random, company: str, year: int) -> Excerpt:
    """A footnote or a paragraph of the business section: a heading and two or three sentences on one subject."""
    template = rng.choice(_TEXTS["notes"])
    picked = sorted(rng.sample(range(len(template["sentences"])), rng.choice([2, 2, 3])))
    text = " ".join([template["heading"], *(template["sentences"][i] for i in picked)])
    text = spin(rng, text).format(c=company, y=year, p=year - 1, q=year - 2, n=year + rng.randint(1, 7))
    slots = _Slots(rng, rng.choices(["millions", "thousands", "dollars"], [10, 1, 1])[0])
    text = re.sub(r"\[([^\[\]]+)\]", slots.fill, text)
    return Excerpt(company, year, text, slots.facts) if slots.facts else note(rng, company, year)


def mixed(rng: random.Random, company: str, year: int) -> Excerpt:
    """A short table and a short text of the same filing that have no line item in common."""
    parts = [table(rng, company, year, 2), rng.choice([prose(rng, company, year, 1), note(rng, company, year)])]
    if _overlap(*parts) or _overlap(*reversed(parts)):
        return mixed(rng, company, year)
    rng.shuffle(parts)
    return Excerpt(company, year, "\n\n".join(p.text for p in parts), parts[0].facts + parts[1].facts)


def _overlap(one: Excerpt, other: Excerpt) -> bool:
    items = {f.what.partition("|")[0].removeprefix("the ") for f in one.facts}
    return any(item and item.lower() in other.text.lower() for item in items)


def _rows(rng: random.Random, unit: str, size: int, years: int) -> list[Row]:
    """`size` different line items: money mostly, one of another unit now and then."""
    items = [(item, unit) for item in rng.sample(_ITEMS["money"], size)]
    if rng.random() < 0.45:
        other = rng.choices(["percent", "count", "pershare", "shares"], [4, 4, 2, 1])[0]
        items[rng.randrange(size)] = (rng.choice(_ITEMS[other]), other)
    return [Row(item, _series(rng, item, unit, years)) for item, unit in items]


def _series(rng: random.Random, item: str, unit: str, years: int) -> list[Amount]:
    amounts = [amount(rng, unit)]
    while len(amounts) < years:
        amounts.insert(0, next_year(rng, amounts[0]))
    loss = item == "comprehensive income (loss)" and rng.random() < 0.6
    return [Amount(-a.value, a.unit) if loss else a for a in amounts]


def _sentence(rng: random.Random, row: Row, company: str, year: int) -> str:
    new, old = row.amounts
    words = {
        "i": row.item,
        "I": _capital(row.item),
        "a": new.said,
        "b": old.said,
        "y": year,
        "p": year - 1,
        "c": company,
        "moved": "increased" if new.value > old.value else "decreased",
        "g": _growth(row),
    }
    plain = new.unit in ("percent", "pershare") or new.value < 0
    return spin(rng, rng.choice(_TEXTS["prose"] + ([] if plain else _TEXTS["prose_growth"]))).format(**words)


def _growth(row: Row) -> str:
    """By how many percent the newest amount differs from the one before, without a sign."""
    return f"{abs(100 * (row.amounts[0].value / row.amounts[1].value - 1)):.1f}%"


def _facts(rng: random.Random, rows: list[Row], year: int) -> list[Fact]:
    """Every cell as a fact, those of the newest year three times, and now and then the year of one amount."""
    facts = [Fact(r.item, str(year - i), a.said, "series") for r in rows for i, a in enumerate(r.amounts)]
    asked = rng.choice(facts)
    newest = [f for f in facts if f.year == str(year)]
    return facts + newest * 2 + [Fact(f"{asked.what}|{asked.answer}", "", asked.year, "when")] * (rng.random() < 0.3)


class _Slots:
    """Fills the slots of one note, and keeps the facts among them."""

    def __init__(self, rng: random.Random, unit: str) -> None:
        self.facts: list[Fact] = []
        self._rng, self._unit = rng, unit
        self._last = amount(rng, unit)
        self._texts = {kind: rng.sample(_NAMES[kind], 3) for kind in ("city", "state", "country", "segment")}
        self._texts |= {"auditor": [auditor(rng) for _ in range(2)], "person": [person(rng) for _ in range(2)]}

    def fill(self, slot: re.Match[str]) -> str:
        """The words for a slot: fresh text, or a number (`part`: a share of the number before)."""
        kind, asked, what = slot[1].partition(":")
        text = self._texts[kind].pop() if kind in self._texts else self._number(kind)
        if asked:
            self.facts.append(Fact(what, "", text, kind if kind in self._texts else "note"))
        return text

    def _number(self, kind: str) -> str:
        if kind == "years":
            return str(self._rng.randint(2, 15))
        self._last = (
            self._last.part(self._rng.uniform(0.1, 0.7))
            if kind == "part"
            else amount(self._rng, self._unit if kind == "money" else kind)
        )
        return self._last.said


def _capital(text: str) -> str:
    return text[0].upper() + text[1:]


def _bars(lines: list[list[str]]) -> str:
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


def _aligned(lines: list[list[str]]) -> str:
    widths = [max(len(cells[i]) for cells in lines) for i in range(len(lines[0]))]
    return "\n".join(
        "  ".join(c.rjust(w) if i else c.ljust(w) for i, (c, w) in enumerate(zip(cells, widths, strict=True)))
        for cells in lines
    )
