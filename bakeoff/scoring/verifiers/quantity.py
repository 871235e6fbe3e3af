"""Quantities: a number with a unit, converted within its dimension, and a tolerance. Imports no bakeoff."""

import re

ROUNDING = 1e-3
"""Relative difference allowed where the answer states no tolerance: a conversion is rounded."""

_FAMILIES = {
    "length": {"mm": 1e-3, "cm": 1e-2, "m": 1, "km": 1e3, "in": 0.0254, "inch": 0.0254, "ft": 0.3048, "foot": 0.3048}
    | {"feet": 0.3048, "yd": 0.9144, "yard": 0.9144, "mi": 1609.344, "mile": 1609.344}
    | {"millimetre": 1e-3, "centimetre": 1e-2, "metre": 1, "kilometre": 1e3}
    | {"millimeter": 1e-3, "centimeter": 1e-2, "meter": 1, "kilometer": 1e3},
    "mass": {"mg": 1e-6, "g": 1e-3, "kg": 1, "t": 1e3, "lb": 0.45359237, "oz": 0.028349523, "pound": 0.45359237}
    | {"ounce": 0.028349523, "gram": 1e-3, "kilogram": 1, "tonne": 1e3, "milligram": 1e-6},
    "time": {"ms": 1e-3, "s": 1, "sec": 1, "second": 1, "min": 60, "minute": 60, "h": 3600, "hr": 3600, "hour": 3600}
    | {"day": 86400, "week": 604800, "millisecond": 1e-3},
    "volume": {"ml": 1e-3, "l": 1, "litre": 1, "liter": 1, "gal": 3.785411784, "gallon": 3.785411784}
    | {"millilitre": 1e-3, "milliliter": 1e-3},
    "energy": {"j": 1, "kj": 1e3, "mj": 1e6, "wh": 3600, "kwh": 3.6e6, "cal": 4.184, "kcal": 4184, "joule": 1},
    "power": {"w": 1, "kw": 1e3, "mw": 1e6, "gw": 1e9, "hp": 745.699872, "watt": 1},
    "data": {"b": 1, "kb": 1e3, "mb": 1e6, "gb": 1e9, "tb": 1e12, "byte": 1},
    "speed": {"m/s": 1, "km/h": 1 / 3.6, "kmh": 1 / 3.6, "mph": 0.44704},
    "share": {"%": 1e-2, "percent": 1e-2, "per cent": 1e-2},
}
UNITS = {unit: (family, factor) for family, units in _FAMILIES.items() for unit, factor in units.items()}
"""Unit in lower case to what it measures and how much of it it is; the plurals in "s" are known too."""

_WORDS = "|".join(re.escape(u) for u in sorted(UNITS, key=len, reverse=True))
_STATED = re.compile(
    rf"(?<![\w.,])(?P<number>[-−]?(?:\d{{1,3}}(?:,\d{{3}})+|\d+)(?:\.\d+)?(?:e[-+]?\d+)?)[\s-]*(?P<unit>{_WORDS})s?(?![\w/])",
    re.IGNORECASE,
)
_TOLERANCE = re.compile(r"(?:±|\+/?-)\s*(?P<number>\d+(?:\.\d+)?)\s*(?P<percent>%?)")


def quantity(completion: str, answer: str) -> bool:
    """Whether the completion states the answer's quantity, in any unit of its dimension, and no other of it.

    An answer such as "12.5 km ± 0.1" (in its unit) or "70 kg ± 2%" allows so much; without, one part in a thousand.
    Raises ValueError when the answer is not one number with a known unit.
    """
    tolerance = _TOLERANCE.search(answer)
    truths = _quantities(_TOLERANCE.sub("", answer))
    if len(truths) != 1:
        raise ValueError(f"the answer {answer!r} must be one number with a unit, perhaps with ± a tolerance")
    family, value, factor = truths[0]
    allowed = abs(value) * ROUNDING
    if tolerance:
        number = float(tolerance["number"])
        allowed = abs(value) * number / 100 if tolerance["percent"] else number * factor
    stated = [said for of, said, _ in _quantities(completion) if of == family]
    return bool(stated) and all(abs(said - value) <= allowed * (1 + 1e-9) for said in stated)


def _quantities(text: str) -> list[tuple[str, float, float]]:
    """(dimension, value in its base unit, the unit in it) of every number with a known unit."""
    found = []
    for match in _STATED.finditer(text):
        family, factor = UNITS[match["unit"].lower()]
        found.append((family, float(match["number"].replace(",", "").replace("−", "-")) * factor, factor))
    return found
