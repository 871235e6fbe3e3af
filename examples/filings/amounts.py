"""Amounts as filings print them: drawn at random, said in prose, set in a table cell."""

from __future__ import annotations

import dataclasses
import math
import random


@dataclasses.dataclass(frozen=True, slots=True)
class Amount:
    """A number with its unit, a key of `_RANGES`."""

    value: float
    unit: str

    @property
    def cell(self) -> str:
        """The number alone, negative in parentheses, as a table prints it."""
        digits = {"pershare": 2, "millions": 1, "percent": 1, "rate": 2, "shares": 1}.get(self.unit, 0)
        text = f"{abs(self.value):,.{digits}f}" + ("%" if self.unit in ("percent", "rate") else "")
        return f"({text})" if self.value < 0 else text

    @property
    def said(self) -> str:
        """The number with its unit in words, as prose prints it and as the gold answer states it."""
        text, sign = self.cell.strip("()"), "-" if self.value < 0 else ""
        if self.unit in ("millions", "thousands"):
            return f"{sign}${text} {self.unit.removesuffix('s')}"
        if self.unit in ("dollars", "pershare"):
            return f"{sign}${text}"
        return sign + text + (" million" if self.unit == "shares" else "")

    def part(self, share: float) -> Amount:
        """A share of this amount, in the same unit."""
        return Amount(round(self.value * share, _RANGES[self.unit][2]), self.unit)


_RANGES = {
    "millions": (3, 900, 1),
    "thousands": (2_000, 900_000, 0),
    "dollars": (150_000, 90_000_000, -3),
    "percent": (4, 70, 1),
    "rate": (1.5, 9, 2),
    "count": (40, 20_000, 0),
    "shares": (12, 400, 1),
    "pershare": (0.4, 9, 2),
}


def amount(rng: random.Random, unit: str) -> Amount:
    """A fresh amount, spread evenly over orders of magnitude."""
    low, high, digits = _RANGES[unit]
    return Amount(round(math.exp(rng.uniform(math.log(low), math.log(high))), digits), unit)


def next_year(rng: random.Random, before: Amount) -> Amount:
    """The amount a year later: between 3 % and 30 % up or, less often, down."""
    digits = _RANGES[before.unit][2]
    change = rng.uniform(0.03, 0.30) * rng.choice([1, 1, -1])
    return Amount(round(before.value * (1 + change), digits), before.unit)
