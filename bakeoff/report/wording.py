"""Numbers as a person reads them. A metric is a share, shown in per cent, unless it is the scorer's reward."""

import math
from collections.abc import Callable

from bakeoff.math.statistics import Measured


def amount(value: float, metric: str) -> str:
    """A value of the metric: `63 %`, or three significant digits of a reward."""
    return number(value) if metric == "reward" else percent(value)


def points(value: float) -> str:
    """A difference of two shares in percentage points: `36 points`."""
    return f"{_short(100 * value)} points" if math.isfinite(value) else "–"


def span(measured: Measured, form: Callable[[float], str]) -> str:
    """The interval in the form of its value; empty for an exact number, and honest about what has no bound."""
    if measured.low == measured.high and not measured.n:
        return ""
    if math.isinf(measured.low) and math.isinf(measured.high):
        return "not known"
    low, high = (form(b) if math.isfinite(b) else "anything" for b in (measured.low, measured.high))
    if low == high:
        return low
    for unit in (" points", "\N{NO-BREAK SPACE}%"):  # said once
        if low.endswith(unit) and high.endswith(unit):
            low = low.removesuffix(unit)
    return f"{low} to {high}"


def percent(value: float) -> str:
    """A share in per cent, with a decimal below ten; a dash when there is none."""
    return f"{_short(100 * value)}\N{NO-BREAK SPACE}%" if math.isfinite(value) else "–"


def number(value: float) -> str:
    """Three significant digits, large numbers in full, 0 for what rounding left; a dash when there is none."""
    if not math.isfinite(value):
        return "–"
    text = f"{value:,.0f}" if abs(value) >= 100 else "0" if abs(value) < 1e-12 else f"{value:.3g}"
    return text.replace("-", "\N{MINUS SIGN}")


def tries(value: float) -> str:
    """A number of tries: `less than one try`, `2.8 tries`, `11 tries`."""
    if value < 1:
        return "less than one try"
    text = f"{value:.0f}" if value >= 9.95 or value == int(value) else f"{value:.1f}"
    return "1 try" if text == "1" else f"{text} tries"


def duration(seconds: float) -> str:
    """`48 s`, `3 min 20 s`, `2 h 5 min`."""
    whole = round(seconds)
    if whole < 60:
        return f"{seconds:.1f} s" if seconds < 9.95 else f"{whole} s"
    hours, minutes = divmod(whole // 60, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {whole % 60} s"


def _short(value: float) -> str:
    text = f"{value:.0f}" if abs(value) >= 9.95 or value == 0 else f"{value:.1f}"
    return text.replace("-", "\N{MINUS SIGN}")
