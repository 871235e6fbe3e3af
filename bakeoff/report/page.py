"""The report: one HTML file that needs nothing else, made from a run's figures."""

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from bakeoff.evaluation.figures import Comparison, Summary, measure_of
from bakeoff.math.statistics import Measured
from bakeoff.report import wording
from bakeoff.report.data import Data, page_template
from bakeoff.report.plots import curve_svg
from bakeoff.report.verdict import outcome, picker, verdict

EXAMPLES = 10


@dataclass(frozen=True, slots=True)
class Shown:
    """An answer in a side-by-side example, with what is known about it."""

    text: str
    reward: float | None = None
    right: bool | None = None


@dataclass(frozen=True, slots=True)
class Example:
    """A held-out prompt with the reference's first answer, its best-of-N pick and the tuned model's first answer."""

    prompt: str
    reference: Shown
    picked: Shown
    tuned: Shown
    gold: str | None = None


def render_report(
    summary: Summary,
    data: Data,
    examples: Sequence[Example] = (),
    settings: Mapping[str, Any] | None = None,
    *,
    title: str = "bakeoff report",
    notes: Sequence[str] = (),
) -> str:
    """The page of a run: its summary, its data report, at most ten examples, its settings, which may nest.

    `notes` are sentences under the verdict (what is simulated or synthetic).
    """
    measure = measure_of(summary)
    return page_template("page.html").render(
        title=title,
        notes=notes,
        summary=summary,
        measure=measure,
        verdict=verdict(summary),
        outcome=outcome(summary),
        scorer=picker(measure),
        picture=best_of_n_picture(measure),
        examples=examples[:EXAMPLES],
        settings=list(_flat(settings or {})),
        form=_form,
        exactly=lambda value: Measured(value, value, value, 0),
        data=data,
    )


def best_of_n_picture(measure: Comparison) -> Markup | None:
    """The picture, or nothing when the evaluation was too small to give a value everywhere."""
    curve, oracle = ([Measured.of(row) for row in measure[name]] for name in ("curve", "oracle"))  # type: ignore
    tuned = measure["tuned_at_1"]
    if not all(math.isfinite(m.value) for m in (*curve, *oracle, tuned)):
        return None
    if measure["metric"] == "reward":
        oracle = []  # the scorer knows its own best
    ks = [row["k"] for row in measure["curve"]]
    return Markup(curve_svg(ks, curve, oracle, tuned, metric=measure["metric"], scorer=picker(measure)))


def _form(key: str, measure: Comparison) -> Callable[[float], str]:
    """How a quantity of a comparison is written; tries past the end of the curve are `≥ 16`."""
    if key == "equivalent_n" and measure.get("curve"):
        most = measure["curve"][-1]["k"]
        return lambda tries: f"≥\N{NO-BREAK SPACE}{most}" if tries >= most else wording.number(tries)
    if key in ("equivalent_n", "k_eff"):
        return wording.number
    if key == "gap_closed" or measure.get("metric") != "reward":
        return wording.points if key.startswith("gain") else wording.percent
    return wording.number


def _flat(settings: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """(section.key, value) of nested settings."""
    for key, value in settings.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
            yield f"{prefix}{key}", text
