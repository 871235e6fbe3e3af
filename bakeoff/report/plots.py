"""Small plots in the manner of the report's picture: lines with their bands, and dots with their whiskers."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape

from bakeoff.math.statistics import Measured
from bakeoff.report import wording
from bakeoff.report.picture import LINE, Axis, apart, grid, step, svg

WIDTH, HEIGHT = 760, 340
LEFT, RIGHT, TOP, BOTTOM = 62, 196, 48, 56
NAMES = 300
"""Room for the names beside dots."""


@dataclass(frozen=True, slots=True)
class Line:
    """A named line; `kind` is a class of the picture's style: `curve` (with a band), `tuned` or `oracle`."""

    name: str
    kind: str
    xs: Sequence[float]
    points: Sequence[Measured]


def lines_svg(lines: Sequence[Line], *, title: str, under: str, form: Callable[[float], str], log: bool = False) -> str:
    """Lines over a shared axis named `under` (logarithmic when asked), values written by `form`."""
    bounds = [b for line in lines for m in line.points for b in (m.value, m.low, m.high) if math.isfinite(b)]
    ticks = _ticks(min(bounds), max(bounds))
    xs = [x for line in lines for x in line.xs]
    across = Axis(min(xs), max(xs), LEFT + 16, WIDTH - RIGHT - 10, math.log if log else float)
    up = Axis(ticks[0], ticks[-1], HEIGHT - BOTTOM, TOP)
    marks = sorted(set(xs)) if log else _ticks(min(xs), max(xs))[1:-1]
    parts = [*grid(up, ticks, form, WIDTH - RIGHT)]
    floor = HEIGHT - BOTTOM
    for x in marks:
        parts.append(f'<text x="{across(x)}" y="{floor + 18}" text-anchor="middle">{wording.number(x)}</text>')
    parts.append(f'<text x="{(LEFT + WIDTH - RIGHT) / 2}" y="{floor + 40}" text-anchor="middle">{escape(under)}</text>')
    parts += [_line(line, list(map(across, line.xs)), up) for line in lines]
    parts.append(_names(lines, up, form))
    return _svg(title, HEIGHT, parts)


def dots_svg(rows: Sequence[tuple[str, Measured]], *, title: str, form: Callable[[float], str]) -> str:
    """A dot with its interval for every (name, value), one under the other on a shared axis."""
    bounds = [b for _, m in rows for b in (m.value, m.low, m.high) if math.isfinite(b)]
    ticks = _ticks(min(0.0, *bounds), max(bounds))
    across = Axis(ticks[0], ticks[-1], NAMES, WIDTH - 70)
    floor = TOP + 26 * len(rows)
    parts = []
    for tick in ticks:
        x = across(tick)
        parts.append(f'<line class="grid" x1="{x}" x2="{x}" y1="{TOP - 8}" y2="{floor}"/>')
        parts.append(f'<text x="{x}" y="{floor + 18}" text-anchor="middle">{form(tick)}</text>')
    for i, (name, measured) in enumerate(rows):
        y = TOP + 26 * i + 8
        parts.append(f'<text x="{NAMES - 14}" y="{y + 4}" text-anchor="end">{escape(name)}</text>')
        parts.append(f'<path class="curve" d="M {across(measured.low)},{y} H {across(measured.high)}"/>')
        parts.append(f'<circle class="curve-dot" cx="{across(measured.value)}" cy="{y}" r="4.5"/>')
        parts.append(f'<text class="strong curve-text" x="{WIDTH - 62}" y="{y + 4}">{form(measured.value)}</text>')
    return _svg(title, floor + 32, parts)


def _ticks(low: float, high: float) -> list[float]:
    width = step((high - low) or abs(high) or 1.0)
    first = math.floor(low / width + 1e-9)
    last = max(math.ceil(high / width - 1e-9), first + 1)
    return [round(i * width, 10) for i in range(first, last + 1)]


def _line(line: Line, xs: Sequence[float], up: Axis) -> str:
    def path(values: Sequence[float]) -> list[str]:
        return [f"{x},{up(v)}" for x, v in zip(xs, values, strict=True)]

    values, found = [m.value for m in line.points], []
    if line.kind == "curve":
        band = path([m.low for m in line.points]) + path([m.high for m in line.points])[::-1]
        found.append(f'<polygon class="band" points="{" ".join(band)}"/>')
    found.append(f'<path class="{line.kind}" d="M {" ".join(path(values))}"/>')
    if line.kind != "oracle":
        dots = zip(xs, values, strict=True)
        found += [f'<circle class="{line.kind}-dot" cx="{x}" cy="{up(v)}" r="3.5"/>' for x, v in dots]
    return "\n".join(found)


def _names(lines: Sequence[Line], up: Axis, form: Callable[[float], str]) -> str:
    """What each line is, at its right end, moved apart where names would overlap."""
    ordered = sorted(lines, key=lambda line: -line.points[-1].value)
    places = apart([up(line.points[-1].value) for line in ordered], LINE + 4, TOP, HEIGHT - BOTTOM)
    found = []
    for line, y in zip(ordered, places, strict=True):
        amount = f'<tspan class="strong">{form(line.points[-1].value)}</tspan>'
        found.append(
            f'<text class="{line.kind}-text" x="{WIDTH - RIGHT + 8}" y="{y + 4}">{amount} {escape(line.name)}</text>'
        )
    return "\n".join(found)


def _svg(title: str, height: float, parts: Sequence[str]) -> str:
    return svg(title, height, [f'<text class="strong" x="22" y="26">{escape(title)}</text>', *parts])
