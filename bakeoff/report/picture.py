"""The one picture: what the reference reaches with ever more tries, and the tuned model with one, as an SVG."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

from bakeoff.math.best_of_n import equivalent_n
from bakeoff.math.statistics import Measured
from bakeoff.report import wording

WIDTH, HEIGHT = 760, 420
LEFT, RIGHT, TOP, BOTTOM = 62, 222, 48, 62
LINE = 16
"""Height of a line of text."""

STYLE = "\n" + Path(__file__).with_suffix(".css").read_text(encoding="utf-8")


@dataclass(frozen=True, slots=True)
class Axis:
    """Where a value lies on the paper, at an end when it is beyond."""

    low: float
    high: float
    start: float
    end: float
    scale: Callable[[float], float] = float

    def __call__(self, value: float) -> float:
        low, high, here = map(self.scale, (self.low, self.high, min(max(value, self.low), self.high)))
        return round(self.start + (here - low) / (high - low or 1.0) * (self.end - self.start), 1)


@dataclass(frozen=True, slots=True)
class Plane:
    """Where tries (in log scale) and values lie on the paper."""

    x: Axis
    y: Axis


def curve_svg(
    ks: Sequence[int],
    curve: Sequence[Measured],
    oracle: Sequence[Measured],
    tuned: Measured,
    *,
    metric: str,
    scorer: str = "the reward model",
) -> str:
    """The reference's curve over tries with its 95 % band, the oracle's (may be empty), and the tuned model's point.

    A dashed line leads from the point to where the curve is as high. Raises ValueError when a point has no value.
    """
    if len(curve) != len(ks) or not all(math.isfinite(m.value) for m in (*curve, *oracle, tuned)):
        raise ValueError(f"the picture needs a value at each of the tries {list(ks)!r} and for the tuned model")
    plane, ticks = _plane(ks[-1], [*curve, *oracle, tuned], metric)
    parts = [
        _frame(plane, ks, ticks, metric),
        _reference(plane, ks, curve, oracle),
        _tuned(plane, ks, curve, tuned, metric),
        _labels(plane, curve, oracle, tuned, metric, scorer),
    ]
    story = (
        f"Reference: {wording.amount(curve[0].value, metric)} at the first try, "
        f"{wording.amount(curve[-1].value, metric)} with the best of {ks[-1]} picked by {scorer}. "
        f"Tuned model: {wording.amount(tuned.value, metric)} at the first try."
    )
    return svg(story, HEIGHT, parts)


def svg(story: str, height: float, parts: Sequence[str]) -> str:
    """A whole picture, with what it shows in words for those who do not see it."""
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" class="bakeoff" viewBox="0 0 {WIDTH} {height}" role="img" '
        f'aria-label="{escape(story)}">\n<title>{escape(story)}</title>\n<style>{STYLE}</style>\n'
        f'<rect class="paper" width="{WIDTH}" height="{height}" rx="8"/>\n' + "\n".join(parts) + "\n</svg>\n"
    )


def _plane(most: int, points: Sequence[Measured], metric: str) -> tuple[Plane, list[float]]:
    """The plane that holds every point and interval, and the values marked on its axis; shares start at zero."""
    bounds = [b for m in points for b in (m.value, m.low, m.high) if math.isfinite(b)]
    low, high = (min(bounds), max(bounds)) if metric == "reward" else (0.0, max(bounds))
    width = step((high - low) or abs(high) or 1.0)
    first, last = math.floor(low / width), max(math.ceil(high / width), math.floor(low / width) + 1)
    ticks = [i * width for i in range(first, last + 1)]
    across = Axis(1, most, LEFT + 22, WIDTH - RIGHT, math.log)
    return Plane(across, Axis(ticks[0], ticks[-1], HEIGHT - BOTTOM, TOP)), ticks


def step(width: float) -> float:
    """A round step that divides the width into four to eight parts."""
    power = 10 ** math.floor(math.log10(width / 4))
    return power * max(m for m in (1, 2, 5) if m * power <= width / 4)


def _frame(plane: Plane, ks: Sequence[int], ticks: Sequence[float], metric: str) -> str:
    right, floor = WIDTH - RIGHT, HEIGHT - BOTTOM
    name = {"correct": "Correct answers", "reward": "Mean reward"}.get(metric, metric)
    lines = [f'<text class="strong" x="{LEFT - 40}" y="26">{escape(name)} on held-out prompts</text>']
    lines += grid(plane.y, ticks, lambda tick: _tick(tick, metric), right)
    lines.append(f'<line class="axis" x1="{LEFT}" x2="{right}" y1="{floor}" y2="{floor}"/>')
    for k in ks:
        lines.append(f'<line class="axis" x1="{plane.x(k)}" x2="{plane.x(k)}" y1="{floor}" y2="{floor + 5}"/>')
        lines.append(f'<text x="{plane.x(k)}" y="{floor + 20}" text-anchor="middle">{k}</text>')
    middle = (LEFT + right) / 2
    lines.append(f'<text x="{middle}" y="{floor + 44}" text-anchor="middle">tries per prompt</text>')
    return "\n".join(lines)


def grid(up: Axis, ticks: Sequence[float], form: Callable[[float], str], right: float) -> Iterator[str]:
    """A line at each tick of the axis of values, which `form` writes beside it."""
    for tick in ticks:
        y = up(tick)
        yield f'<line class="grid" x1="{LEFT}" x2="{right}" y1="{y}" y2="{y}"/>'
        yield f'<text x="{LEFT - 8}" y="{y + 4.5}" text-anchor="end">{form(tick)}</text>'


def _tick(value: float, metric: str) -> str:
    return wording.number(round(value, 10)) if metric == "reward" else f"{100 * value:.4g}\N{NO-BREAK SPACE}%"


def _reference(plane: Plane, ks: Sequence[int], curve: Sequence[Measured], oracle: Sequence[Measured]) -> str:
    def line(values: Sequence[float]) -> list[str]:
        return [f"{plane.x(k)},{plane.y(v)}" for k, v in zip(ks, values, strict=True)]

    band = " ".join(line([m.low for m in curve]) + line([m.high for m in curve])[::-1])
    lines = [f'<polygon class="band" points="{band}"/>']
    if oracle:
        lines.append(f'<path class="oracle" d="M {" ".join(line([m.value for m in oracle]))}"/>')
    lines.append(f'<path class="curve" d="M {" ".join(line([m.value for m in curve]))}"/>')
    dots = zip(ks, curve, strict=True)
    lines += [f'<circle class="curve-dot" cx="{plane.x(k)}" cy="{plane.y(m.value)}" r="3.5"/>' for k, m in dots]
    return "\n".join(lines)


def _tuned(plane: Plane, ks: Sequence[int], curve: Sequence[Measured], tuned: Measured, metric: str) -> str:
    """The tuned model's point with its interval, the line to the curve, and both first answers' values."""
    x, y, right = plane.x(1), plane.y(tuned.value), WIDTH - RIGHT
    lines = [f'<line class="tuned level" x1="{x}" x2="{right}" y1="{y}" y2="{y}"/>', _meeting(plane, ks, curve, tuned)]
    low, high = plane.y(tuned.low), plane.y(tuned.high)
    caps = "".join(f" M {x - 5},{at} H {x + 5}" for at in (low, high))
    lines.append(f'<path class="tuned" d="M {x},{low} V {high}{caps}"/>')
    lines.append(f'<circle class="tuned-dot" cx="{x}" cy="{y}" r="6"/>')
    above = tuned.value >= curve[0].value
    for value, kind, up in ((tuned.value, "tuned", above), (curve[0].value, "curve", not above)):
        at = plane.y(value) + (-10 if up else 20)
        text = wording.amount(value, metric)
        lines.append(f'<text class="halo strong {kind}-text" x="{x + 10}" y="{at}">{text}</text>')
    return "\n".join(lines)


def _meeting(plane: Plane, ks: Sequence[int], curve: Sequence[Measured], tuned: Measured) -> str:
    """The mark where the reference's curve is as high as the tuned model; nothing when that is nowhere inside."""
    values = [m.value for m in curve]
    worth = equivalent_n(values, ks, tuned.value)
    if tuned.value > max(values) or worth <= 1.05:
        return ""
    x, y, floor = plane.x(worth), plane.y(tuned.value), HEIGHT - BOTTOM
    return (
        f'<line class="tuned level" x1="{x}" x2="{x}" y1="{y}" y2="{floor}"/>'
        f'<circle class="meet" cx="{x}" cy="{y}" r="4.5"/>'
        f'<text class="halo tuned-text" x="{x - 6}" y="{floor - 8}" text-anchor="end">= {wording.tries(worth)}</text>'
    )


def _labels(
    plane: Plane,
    curve: Sequence[Measured],
    oracle: Sequence[Measured],
    tuned: Measured,
    metric: str,
    scorer: str,
) -> str:
    """What each line is, at its right end, moved apart where they would overlap."""
    labels = [
        (curve[-1].value, "curve", "reference, the best", f"picked by {scorer}"),
        (tuned.value, "tuned", "tuned model,", "first answer"),
    ]
    if oracle:
        labels.append((oracle[-1].value, "oracle", "reference, if one", "always knew the best"))
    labels.sort(key=lambda label: -label[0])
    edge, lines = WIDTH - RIGHT, []
    places = apart([plane.y(label[0]) for label in labels], 2 * LINE + 8, TOP + LINE - 8, HEIGHT - BOTTOM - 4)
    for (value, kind, first, second), place in zip(labels, places, strict=True):
        lines.append(f'<path class="axis" d="M {edge + 3},{plane.y(value)} L {edge + 14},{place}"/>')
        amount = f'<tspan class="strong">{wording.amount(value, metric)}</tspan>'
        lines.append(f'<text class="{kind}-text" x="{edge + 19}" y="{place - 3}">{amount} {first}</text>')
        lines.append(f'<text class="{kind}-text" x="{edge + 19}" y="{place - 3 + LINE}">{second}</text>')
    return "\n".join(lines)


def apart(wanted: Sequence[float], gap: float, top: float, bottom: float) -> list[float]:
    """Ascending places near the wanted ones, at least `gap` from each other, between top and bottom."""
    places: list[float] = []
    for y in wanted:
        places.append(max(y, places[-1] + gap if places else top))
    limit = bottom
    for i in reversed(range(len(places))):
        places[i] = min(places[i], limit)
        limit = places[i] - gap
    return places
