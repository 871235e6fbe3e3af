"""How far a reward model can be trusted, as a person reads it: text for a terminal and a page with plots."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from bakeoff.report import wording
from bakeoff.report.plots import Line, dots_svg, lines_svg
from bakeoff.stats import Measured

AGREEMENT = {
    "pick_accuracy": "agrees with the pick",
    "chance": "a random choice would",
    "longest_wins": "“the longest wins” would",
    "over_chance": "more than chance",
    "over_longest_wins": "more than “the longest wins”",
    "pair_accuracy": "ranks the better of two above the other",
    "gap_closed": "of the way from a random completion to the best",
}
SHOWN_SLICES = 12


@dataclass(frozen=True, slots=True)
class Row:
    name: str
    measured: Measured
    form: Callable[[float], str]


@dataclass(frozen=True, slots=True)
class Section:
    title: str
    rows: list[Row]
    note: str = ""
    picture: Markup | None = None


def verdict(figures: dict[str, Any]) -> str:
    """Whether to use the reward model, in a sentence."""
    agreement = figures["agreement"]
    right = Measured.of(agreement["pick_accuracy"])
    measured = (
        f"on {right.n:,} groups it agrees with people in {wording.percent(right.value)} "
        f"({wording.span(right, wording.percent)}), chance in {wording.percent(agreement['chance']['value'])}, "
        f"“the longest wins” in {wording.percent(agreement['longest_wins']['value'])}."
    )
    return f"{'Not to be trusted yet' if figures['doubts'] else 'Better than chance and than length'}: {measured}"


def text(figures: dict[str, Any]) -> str:
    """Everything on the page but its plots, for a terminal."""
    lines = [verdict(figures), *(f"Alarm: {doubt}" for doubt in figures["doubts"])]
    for section in sections(figures):
        lines += ["", section.title, *([f"  {section.note}"] if section.note else [])]
        width = max((len(row.name) for row in section.rows), default=0)
        for row in section.rows:
            span = wording.span(row.measured, row.form)
            lines.append(f"  {row.name:<{width}}  {row.form(row.measured.value):>10}  {span}".rstrip())
    return "\n".join(lines)


def render(figures: dict[str, Any], *, title: str) -> str:
    """The page: one HTML file that needs nothing else."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=jinja2.StrictUndefined
    )
    return environment.get_template("reward.html").render(
        title=title,
        verdict=verdict(figures),
        doubts=figures["doubts"],
        sections=list(sections(figures)),
        span=wording.span,
    )


def sections(figures: dict[str, Any]) -> Iterator[Section]:
    """The parts of the page, in order; those that were not measured are left out."""
    yield _agreement(figures["agreement"])
    if figures["people"]:
        yield _people(figures["people"])
    yield _calibration(figures["calibration"])
    yield _length(figures["length"])
    if figures["slices"]:
        yield _slices(figures["slices"])
    if figures["gold"]:
        yield _gold(figures["gold"])
    if figures["learning"]:
        yield _learning(figures["learning"])


def _agreement(figures: dict[str, Any]) -> Section:
    rows = [Row(name, Measured.of(figures[key]), _share(key)) for key, name in AGREEMENT.items()]
    rows.append(Row("regret: best value less the chosen one's", Measured.of(figures["regret"]), wording.number))
    shown = [(row.name, row.measured) for row in rows[:3]]
    return Section("Agreement with people", rows, "", _dots(shown, "Share of groups"))


def _people(figures: dict[str, Any]) -> Section:
    names = {
        "people": "two people agree",
        "scorer": "the reward model agrees with a person",
        "difference": "difference",
    }
    form = {"difference": wording.points}
    rows = [Row(name, Measured.of(figures[key]), form.get(key, wording.percent)) for key, name in names.items()]
    note = "No reward model can agree with people much better than they do with each other."
    return Section("People among themselves", rows, note, _dots([(r.name, r.measured) for r in rows[:2]], "Agreement"))


def _calibration(figures: dict[str, Any]) -> Section:
    raw, fitted = figures["raw"], figures["fitted"]
    rows = [Row("temperature, fitted on the other half", Measured.of(figures["temperature"]), wording.number)]
    for name, half in (("as it is", raw), ("with the temperature", fitted)):
        rows.append(Row(f"expected calibration error, {name}", Measured.of(half["error"]), wording.percent))
        rows.append(Row(f"loss in nats, {name}", Measured.of(half["loss"]), wording.number))
    curves = [
        Line("with the temperature", "curve", *_curve(fitted["curve"], "confidence")),
        Line("as it is", "tuned", *_curve(raw["curve"], "confidence")),
    ]
    ends = [x for line in curves for x in line.xs]
    perfect = [Measured(x, x, x, 0) for x in (min(ends), max(ends))] if ends else []
    if perfect:
        curves.append(Line("if it were perfect", "oracle", [p.value for p in perfect], perfect))
    return Section(
        "Calibration",
        rows,
        "How often it is right when it is so sure (its share of the choice, softmax of reward over temperature). A "
        "temperature above 1 says that it is too sure of itself. The error is never 0: chance alone makes some.",
        _lines(curves, title="Right, by how sure it was", under="sure", form=wording.percent),
    )


def _length(figures: dict[str, Any]) -> Section:
    names = {
        "reward_correlation": ("correlation of reward with length, within groups", wording.number),
        "value_correlation": ("correlation of people's choice with length", wording.number),
        "shorter_better": ("pairs in which the shorter is better: right", wording.percent),
        "longer_better": ("pairs in which the longer is better: right", wording.percent),
    }
    rows = [Row(name, Measured.of(figures[key]), form) for key, (name, form) in names.items()]
    return Section("Length", rows, "A reward that follows length more than people do will be gamed by length.")


def _slices(slices: list[dict[str, Any]]) -> Section:
    rows = [
        Row(f"{s['by']}: {Path(s['name']).name}", Measured.of(s["lift"]), wording.percent)
        for s in slices[:SHOWN_SLICES]
    ]
    worst = slices[0]
    right, chance = (wording.percent(worst[key]["value"]) for key in ("pick_accuracy", "chance"))
    note = (
        f"The worst of {len(slices)} is {rows[0].name}, with {right} right of {worst['pick_accuracy']['n']} groups "
        f"where chance is {chance}. Shown is how far from chance (0) to always right (100 %)."
    )
    shown = [(row.name, row.measured) for row in rows]
    return Section("Slices, the worst first", rows, note, _dots(shown, "From chance to always right"))


def _gold(gold: dict[str, Any]) -> Section:
    form = _amount(gold)
    last = gold["curve"][-1]["k"]
    rows = [
        Row("a random completion", Measured.of(gold["random"]), form),
        *(Row(f"the best of {row['k']} by the reward model", Measured.of(row), form) for row in _powers(gold["curve"])),
        Row(f"the best of {last} by an oracle", Measured.of(gold["oracle"][-1]), form),
        Row(f"right choice where there is one among {last}", Measured.of(gold["agreement"]["pick_accuracy"]), form),
    ]
    curve = f"It is highest at {gold['peak']} completions; "
    note = (
        f"{curve}more than that harm: the reward model is being gamed."
        if gold["turns_down"]
        else f"{curve}no fall after that can be told from chance."
    )
    level = [Measured.of(gold["random"])] * len(gold["curve"])
    lines = [
        Line("by the reward model", "curve", *_curve(gold["curve"], "k")),
        Line("by an oracle", "oracle", *_curve(gold["oracle"], "k")),
        Line("at random", "oracle", [row["k"] for row in gold["curve"]], level),
    ]
    return Section(
        "The best of k, by true answers",
        rows,
        note,
        _lines(lines, title="True worth of the chosen one", under="completions", form=form),
    )


def _learning(learning: dict[str, Any]) -> Section:
    step = Measured.of(learning["per_doubling"])
    rows = [Row(f"trained on {row['picks']} picks", Measured.of(row), wording.percent) for row in learning["curve"]]
    rows.append(Row("for each doubling", step, wording.points))
    note = (
        f"Label more: each doubling of the picks added {wording.points(step.value)}."
        if learning["label_more"]
        else "That more picks help cannot be told from chance here; mend what is measured above before labelling more."
    )
    line = Line("agrees with the pick", "curve", *_curve(learning["curve"], "picks"))
    return Section(
        "Learning curve",
        rows,
        note,
        _lines([line], title="Agreement by number of picks", under="picks to train on", form=wording.percent, log=True),
    )


def _share(key: str) -> Callable[[float], str]:
    return wording.points if key.startswith("over_") else wording.percent


def _amount(gold: dict[str, Any]) -> Callable[[float], str]:
    """Shares in per cent, other scales as numbers."""
    values = [row["value"] for row in [*gold["curve"], *gold["oracle"]]]
    return wording.percent if min(values) >= 0 and max(values) <= 1 else wording.number


def _powers(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [row for row in rows if row["k"] & (row["k"] - 1) == 0 and row["k"] > 1 or row is rows[-1]]


def _curve(rows: list[dict[str, Any]], x: str) -> tuple[list[float], list[Measured]]:
    return [row[x] for row in rows], [Measured.of(row) for row in rows]


def _dots(rows: list[tuple[str, Measured]], title: str) -> Markup | None:
    known = [(name, m) for name, m in rows if math.isfinite(m.value)]
    return Markup(dots_svg(known, title=title, form=wording.percent)) if known else None


def _lines(lines: list[Line], **settings: Any) -> Markup | None:
    if not all(line.points and all(math.isfinite(m.value) for m in line.points) for line in lines):
        return None
    return Markup(lines_svg(lines, **settings))
