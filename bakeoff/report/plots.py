"""Plots as SVG: lines with their bands, dots with their whiskers, and the picture that sums up a run."""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

from bakeoff.math.best_of_n import equivalent_n
from bakeoff.math.statistics import Measured
from bakeoff.report import wording

WIDTH, LEFT, RIGHT, TOP, BOTTOM = 760, 62, 222, 48, 62
EDGE = WIDTH - RIGHT
NAMES_WIDTH = 300
"""Room for the names beside dots."""
LINE = 16
"""Height of a line of text."""
STYLE = Path(__file__).with_suffix(".css").read_text(encoding="utf-8")


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
class Line:
    """A named line; `kind` is a class of the style: `curve` (with a band), `tuned` or `oracle`."""

    name: str
    """May hold a line break."""
    kind: str
    xs: Sequence[float]
    points: Sequence[Measured]


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
    form = wording.number if metric == "reward" else wording.percent
    lines = [Line(f"reference, the best\npicked by {scorer}", "curve", ks, curve)]
    if oracle:
        lines.append(Line("reference, if one\nalways knew the best", "oracle", ks, oracle))
    lines.append(Line("tuned model,\nfirst answer", "tuned", [1], [tuned]))
    first, last, now = (form(m.value) for m in (curve[0], curve[-1], tuned))
    story = f"Reference: {first} at the first try, {last} with the best of {ks[-1]} picked by {scorer}. "
    return lines_svg(
        lines,
        title=f"{ {'correct': 'Correct answers', 'reward': 'Mean reward'}.get(metric, metric) } on held-out prompts",
        story=f"{story}Tuned model: {now} at the first try.",
        under="tries per prompt",
        form=form,
        log=True,
        zero=metric != "reward",
        height=420,
        marks=lambda across, up: _meeting(ks, curve, tuned, form, across, up),
    )


def lines_svg(  # noqa: PLR0913  (a plot is what it shows, and how)
    lines: Sequence[Line],
    *,
    title: str,
    under: str,
    form: Callable[[float], str],
    story: str = "",
    log: bool = False,
    zero: bool = False,
    height: float = 340,
    marks: Callable[[Axis, Axis], Iterable[str]] = lambda across, up: (),
) -> str:
    """Lines over a shared axis named `under` (logarithmic when asked), values written by `form` (from `zero` on).

    A line of one point is a dot with its whisker. `marks` draws what is special between the lines and their names.
    """
    ticks = _ticks([m for line in lines for m in line.points], zero=zero)
    xs, floor = sorted({x for line in lines for x in line.xs}), height - BOTTOM
    across = Axis(xs[0], xs[-1], LEFT + 22, EDGE - (0 if log else 10), math.log if log else float)
    up = Axis(ticks[0], ticks[-1], floor, TOP)
    parts = [f'<line class="axis" x1="{LEFT}" x2="{EDGE}" y1="{floor}" y2="{floor}"/>']
    for tick in ticks:
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{EDGE}" y1="{up(tick)}" y2="{up(tick)}"/>')
        parts.append(f'<text x="{LEFT - 8}" y="{up(tick) + 4.5}" text-anchor="end">{form(tick)}</text>')
    for x in xs if log else _ticks([Measured(x, x, x, 0) for x in xs])[1:-1]:
        parts.append(f'<line class="axis" x1="{across(x)}" x2="{across(x)}" y1="{floor}" y2="{floor + 5}"/>')
        parts.append(f'<text x="{across(x)}" y="{floor + 20}" text-anchor="middle">{wording.number(x)}</text>')
    parts.append(f'<text x="{(LEFT + EDGE) / 2}" y="{floor + 44}" text-anchor="middle">{escape(under)}</text>')
    for line in lines:
        parts += _line(line, across, up)
    return _svg(title, story, height, [*parts, *marks(across, up), *_names(lines, up, form)])


def dots_svg(rows: Sequence[tuple[str, Measured]], *, title: str, form: Callable[[float], str]) -> str:
    """A dot with its interval for every (name, value), one under the other on a shared axis."""
    ticks = _ticks([measured for _, measured in rows], zero=True)
    across, floor = Axis(ticks[0], ticks[-1], NAMES_WIDTH, WIDTH - 70), TOP + 26 * len(rows)
    parts = []
    for x, tick in ((across(tick), tick) for tick in ticks):
        parts.append(f'<line class="grid" x1="{x}" x2="{x}" y1="{TOP - 8}" y2="{floor}"/>')
        parts.append(f'<text x="{x}" y="{floor + 18}" text-anchor="middle">{form(tick)}</text>')
    for number, (name, measured) in enumerate(rows):
        y = TOP + 26 * number + 8
        parts.append(f'<text x="{NAMES_WIDTH - 14}" y="{y + 4}" text-anchor="end">{escape(name)}</text>')
        parts.append(f'<path class="curve" d="M {across(measured.low)},{y} H {across(measured.high)}"/>')
        parts.append(f'<circle class="curve-dot" cx="{across(measured.value)}" cy="{y}" r="4.5"/>')
        parts.append(f'<text class="strong curve-text" x="{WIDTH - 62}" y="{y + 4}">{form(measured.value)}</text>')
    return _svg(title, "", floor + 32, parts)


def _svg(title: str, story: str, height: float, parts: Iterable[str]) -> str:
    """A whole plot; `story` says what it shows in words, for those who do not see it."""
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" class="bakeoff" viewBox="0 0 {WIDTH} {height}" role="img" '
        f'aria-label="{escape(story or title)}">\n<title>{escape(story or title)}</title>\n<style>\n{STYLE}</style>\n'
        f'<rect class="paper" width="{WIDTH}" height="{height}" rx="8"/>\n'
        f'<text class="strong" x="22" y="26">{escape(title)}</text>\n' + "\n".join(parts) + "\n</svg>\n"
    )


def _ticks(points: Sequence[Measured], *, zero: bool = False) -> list[float]:
    """Four to eight round values that hold every point and interval."""
    bounds = [b for m in points for b in (m.value, m.low, m.high) if math.isfinite(b)]
    low, high = min(bounds + [0.0] * zero), max(bounds)
    width = (high - low) or abs(high) or 1.0
    power = 10 ** math.floor(math.log10(width / 4))
    step = power * max(m for m in (1, 2, 5) if m * power <= width / 4)
    first = math.floor(low / step + 1e-9)
    last = max(math.ceil(high / step - 1e-9), first + 1)
    return [round(i * step, 10) for i in range(first, last + 1)]


def _line(line: Line, across: Axis, up: Axis) -> list[str]:
    xs, values = [across(x) for x in line.xs], [up(m.value) for m in line.points]
    low, high = ([up(getattr(m, end)) for m in line.points] for end in ("low", "high"))
    if len(xs) == 1:
        caps = "".join(f" M {xs[0] - 5},{y} H {xs[0] + 5}" for y in (*low, *high))
        whisker = f'<path class="{line.kind}" d="M {xs[0]},{low[0]} V {high[0]}{caps}"/>'
        return [whisker, f'<circle class="{line.kind}-dot" cx="{xs[0]}" cy="{values[0]}" r="6"/>']

    def path(ys: Sequence[float]) -> str:
        return " ".join(f"{x},{y}" for x, y in zip(xs, ys, strict=True))

    there_and_back = " ".join([path(low), *path(high).split()[::-1]])
    band = [f'<polygon class="band" points="{there_and_back}"/>'] if line.kind == "curve" else []
    dots = [f'<circle class="{line.kind}-dot" cx="{x}" cy="{y}" r="3.5"/>' for x, y in zip(xs, values, strict=True)]
    return [*band, f'<path class="{line.kind}" d="M {path(values)}"/>', *(dots if line.kind != "oracle" else ())]


def _meeting(
    ks: Sequence[int],
    curve: Sequence[Measured],
    tuned: Measured,
    form: Callable[[float], str],
    across: Axis,
    up: Axis,
) -> Iterable[str]:
    """Both first answers' values, and the line to where the reference's curve is as high as the tuned model, if any."""
    x, y, floor, values = across(1), up(tuned.value), up.start, [m.value for m in curve]
    yield f'<line class="tuned level" x1="{x}" x2="{EDGE}" y1="{y}" y2="{y}"/>'
    worth = equivalent_n(values, ks, tuned.value)
    if tuned.value <= max(values) and worth > 1.05:
        at = across(worth)
        yield f'<line class="tuned level" x1="{at}" x2="{at}" y1="{y}" y2="{floor}"/>'
        yield f'<circle class="meet" cx="{at}" cy="{y}" r="4.5"/>'
        tries = wording.tries(worth)
        yield f'<text class="halo tuned-text" x="{at - 6}" y="{floor - 8}" text-anchor="end">= {tries}</text>'
    above = tuned.value >= values[0]
    for value, kind, over in ((tuned.value, "tuned", above), (values[0], "curve", not above)):
        beside = up(value) + (-10 if over else 20)
        yield f'<text class="halo strong {kind}-text" x="{x + 10}" y="{beside}">{form(value)}</text>'


def _names(lines: Sequence[Line], up: Axis, form: Callable[[float], str]) -> Iterable[str]:
    """What each line is, at its right end, moved apart where names would overlap."""
    ordered = sorted(lines, key=lambda line: -line.points[-1].value)
    height = LINE * max(line.name.count("\n") + 1 for line in lines)
    places = _apart([up(line.points[-1].value) for line in ordered], height + 8, TOP + height / 2 - 8, up.start - 4)
    for line, place in zip(ordered, places, strict=True):
        value = line.points[-1].value
        yield f'<line class="axis" x1="{EDGE + 3}" x2="{EDGE + 14}" y1="{up(value)}" y2="{place:.1f}"/>'
        rows = f'<tspan class="strong">{form(value)}</tspan> {escape(line.name)}'.split("\n")
        for y, words in enumerate(rows, start=-len(rows)):
            at = round(place + 13 + LINE * (y + len(rows) / 2), 1)
            yield f'<text class="{line.kind}-text" x="{EDGE + 19}" y="{at}">{words}</text>'


def _apart(wanted: Sequence[float], gap: float, top: float, bottom: float) -> list[float]:
    """Ascending places near the wanted ones, at least `gap` from each other, between top and bottom."""
    places: list[float] = []
    for y in wanted:
        places.append(max(y, places[-1] + gap if places else top))
    return [min(y, bottom - gap * (len(places) - number)) for number, y in enumerate(places, 1)]
