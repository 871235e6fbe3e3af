"""How far a reward model can be trusted, as a person reads it: text for a terminal and a page with plots."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from markupsafe import Markup

from bakeoff.math.statistics import Measured
from bakeoff.report import wording
from bakeoff.report.data import page_template
from bakeoff.report.plots import Line, dots_svg, lines_svg

AGREEMENT = {
    "pick_accuracy": "agrees with the pick",
    "chance": "a random choice would",
    "longest_wins": "“the longest wins” would",
    "over_chance": "more than chance",
    "over_longest_wins": "more than “the longest wins”",
    "pair_accuracy": "ranks the better of two above the other",
    "gap_closed": "of the way from a random completion to the best",
    "regret": "regret: best value less the chosen one's",
}
PEOPLE = {"people": "two people agree", "scorer": "the reward model agrees with a person", "difference": "difference"}
LENGTH_NAMES = {
    "reward_correlation": "correlation of reward with length, within groups",
    "value_correlation": "correlation of people's choice with length",
    "shorter_better": "pairs in which the shorter is better: right",
    "longer_better": "pairs in which the longer is better: right",
}
FORMS = dict.fromkeys(("over_chance", "over_longest_wins", "difference"), wording.points) | dict.fromkeys(
    ("regret", "temperature", "loss", "reward_correlation", "value_correlation"), wording.number
)
"""How a quantity is written that is no share."""
SHOWN_SLICES = 12


@dataclass(frozen=True, slots=True)
class Quantity:
    name: str
    measured: Measured
    form: Callable[[float], str]


@dataclass(frozen=True, slots=True)
class Section:
    title: str
    rows: list[Quantity]
    note: str = ""
    picture: Markup | None = None


def _verdict(figures: dict[str, Any]) -> str:
    """Whether to use the reward model, in a sentence."""
    agreement, new = figures["unseen"] or figures["agreement"], "new " if figures["unseen"] else ""
    right = Measured.of(agreement["pick_accuracy"])
    measured = (
        f"on {right.n:,} {new}groups it agrees with people in {wording.percent(right.value)} "
        f"({wording.span(right, wording.percent)}), chance in {wording.percent(agreement['chance']['value'])}, "
        f"“the longest wins” in {wording.percent(agreement['longest_wins']['value'])}."
    )
    return f"{'Not to be trusted yet' if figures['doubts'] else 'Better than chance and than length'}: {measured}"


def _seen(figures: dict[str, Any]) -> str:
    """How many of the groups it was trained on."""
    count, groups = figures["data"]["seen"], figures["data"]["groups"]
    if count is None:
        return "Whether it was trained on these prompts is not known: its folder does not say."
    if not count:
        return f"It was trained on none of the prompts of these {groups:,} groups."
    return (
        f"It was trained on the prompts of {count:,} of these {groups:,} groups: what is measured on them says nothing "
        "of others."
    )


def reward_text(figures: dict[str, Any]) -> str:
    """Everything on the page but its plots, for a terminal."""
    lines = [_verdict(figures), _seen(figures), *(f"Alarm: {doubt}" for doubt in figures["doubts"])]
    for section in _sections(figures):
        lines += ["", section.title, *([f"  {section.note}"] if section.note else [])]
        width = max((len(row.name) for row in section.rows), default=0)
        for row in section.rows:
            span = wording.span(row.measured, row.form)
            lines.append(f"  {row.name:<{width}}  {row.form(row.measured.value):>10}  {span}".rstrip())
    return "\n".join(lines)


def render_reward(figures: dict[str, Any], *, title: str) -> str:
    """The page: one HTML file that needs nothing else."""
    return page_template("reward.html").render(
        title=title,
        verdict=_verdict(figures),
        seen=_seen(figures),
        doubts=figures["doubts"],
        sections=_sections(figures),
    )


def _sections(figures: dict[str, Any]) -> list[Section]:
    """The parts of the page, in order; those that were not measured are left out."""
    return [section(figures[name]) for name, section in SECTIONS.items() if figures[name]]


def _rows(figures: dict[str, Any], names: dict[str, str]) -> list[Quantity]:
    """The quantities by their names, written by their keys: differences of shares in points, shares in per cent."""
    return [Quantity(name, Measured.of(figures[key]), FORMS.get(key, wording.percent)) for key, name in names.items()]


def _agreement(figures: dict[str, Any], title: str = "Agreement with people") -> Section:
    rows = _rows(figures, AGREEMENT)
    return Section(title, rows, "", _dots(rows[:3], "Share of groups"))


def _people(figures: dict[str, Any]) -> Section:
    rows = _rows(figures, PEOPLE)
    note = "No reward model can agree with people much better than they do with each other."
    return Section("People among themselves", rows, note, _dots(rows[:2], "Agreement"))


def _calibration(figures: dict[str, Any]) -> Section:
    rows, curves = _rows(figures, {"temperature": "temperature, fitted on the other half"}), []
    for name, kind, half in (("as it is", "tuned", "raw"), ("with the temperature", "curve", "fitted")):
        names = {"error": f"expected calibration error, {name}", "loss": f"loss in nats, {name}"}
        rows += _rows(figures[half], names)
        curves.append(_line(name, kind, figures[half]["curve"], "confidence"))
    if xs := [x for line in curves for x in line.xs]:
        ends = [min(xs), max(xs)]
        curves.append(Line("if it were perfect", "oracle", ends, [Measured(x, x, x, 0) for x in ends]))
    return Section(
        "Calibration",
        rows,
        "How often it is right when it is so sure (its share of the choice, softmax of reward over temperature). A "
        "temperature above 1 says that it is too sure of itself. The error is never 0: chance alone makes some.",
        _lines(curves, title="Right, by how sure it was", under="sure", form=wording.percent),
    )


def _length(figures: dict[str, Any]) -> Section:
    note = "A reward that follows length more than people do will be gamed by length."
    return Section("Length", _rows(figures, LENGTH_NAMES), note)


def _slices(slices: list[dict[str, Any]]) -> Section:
    rows = [
        Quantity(f"{s['by']}: {Path(s['name']).name}", Measured.of(s["lift"]), wording.percent)
        for s in slices[:SHOWN_SLICES]
    ]
    worst = slices[0]
    right, chance = (wording.percent(worst[key]["value"]) for key in ("pick_accuracy", "chance"))
    note = (
        f"The worst of {len(slices)} is {rows[0].name}, with {right} right of {worst['pick_accuracy']['n']} groups "
        f"where chance is {chance}. Shown is how far from chance (0) to always right (100 %)."
    )
    return Section("Slices, the worst first", rows, note, _dots(rows, "From chance to always right"))


def _gold(gold: dict[str, Any]) -> Section:
    values = [row["value"] for row in [*gold["curve"], *gold["oracle"]]]
    form = wording.percent if min(values) >= 0 and max(values) <= 1 else wording.number  # shares, or another scale
    last = gold["curve"][-1]["k"]
    shown = [row for row in gold["curve"] if row["k"].bit_count() == 1 < row["k"] or row["k"] == last]
    found = {"a random completion": gold["random"]}
    found |= {f"the best of {row['k']} by the reward model": row for row in shown}
    found |= {
        f"the best of {last} by an oracle": gold["oracle"][-1],
        f"right choice where there is one among {last}": gold["agreement"]["pick_accuracy"],
    }
    fall = (
        "more than that harm: the reward model is being gamed."
        if gold["turns_down"]
        else "no fall after that can be told from chance."
    )
    level = [gold["random"] | {"k": row["k"]} for row in gold["curve"]]
    lines = [
        _line("by the reward model", "curve", gold["curve"], "k"),
        _line("by an oracle", "oracle", gold["oracle"], "k"),
        _line("at random", "oracle", level, "k"),
    ]
    return Section(
        "The best of k, by true answers",
        [Quantity(name, Measured.of(row), form) for name, row in found.items()],
        f"It is highest at {gold['peak']} completions; {fall}",
        _lines(lines, title="True worth of the chosen one", under="completions", form=form),
    )


def _learning(learning: dict[str, Any]) -> Section:
    step = Measured.of(learning["per_doubling"])
    rows = [
        Quantity(f"trained on {row['picks']} picks", Measured.of(row), wording.percent) for row in learning["curve"]
    ]
    rows.append(Quantity("for each doubling", step, wording.points))
    note = (
        f"Label more: each doubling of the picks added {wording.points(step.value)}."
        if learning["label_more"]
        else "That more picks help cannot be told from chance here; mend what is measured above before labelling more."
    )
    line = _line("agrees with the pick", "curve", learning["curve"], "picks")
    return Section(
        "Learning curve",
        rows,
        note,
        _lines([line], title="Agreement by number of picks", under="picks to train on", form=wording.percent, log=True),
    )


def _line(name: str, kind: str, rows: list[dict[str, Any]], x: str) -> Line:
    return Line(name, kind, [row[x] for row in rows], [Measured.of(row) for row in rows])


def _dots(rows: list[Quantity], title: str) -> Markup | None:
    known = [(row.name, row.measured) for row in rows if math.isfinite(row.measured.value)]
    return Markup(dots_svg(known, title=title, form=wording.percent)) if known else None


def _lines(lines: list[Line], **settings: Any) -> Markup | None:
    if not all(line.points and all(math.isfinite(m.value) for m in line.points) for line in lines):
        return None
    return Markup(lines_svg(lines, **settings))


SECTIONS: dict[str, Callable[[Any], Section]] = {
    "unseen": lambda figures: _agreement(figures, "Agreement with people on prompts that it was not trained on"),
    "agreement": _agreement,
    "people": _people,
    "calibration": _calibration,
    "length": _length,
    "slices": _slices,
    "gold": _gold,
    "learning": _learning,
}
