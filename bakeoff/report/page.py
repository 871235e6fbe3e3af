"""The report: one HTML file that needs nothing else, made from a run's figures."""

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from bakeoff.math.statistics import Measured
from bakeoff.report import wording
from bakeoff.report.data import Data, share, template
from bakeoff.report.plots import curve_svg
from bakeoff.report.verdict import outcome, verdict

COMPARISON = {
    "reference_at_1": "Reference, first answer",
    "reference_best_of_n": "Reference, best of N picked by the scorer",
    "selection_gain": "Gain of that choice over the first answer",
    "tuned_at_1": "Tuned, first answer",
    "gain": "Gain, tuned over reference",
    "reference_greedy": "Reference, greedy answer",
    "tuned_greedy": "Tuned, greedy answer",
    "control_at_1": "Tuned on random picks, first answer",
    "greedy_gain": "Gain of the greedy answer",
    "gain_over_control": "Gain, tuned over tuned on random picks",
    "gap_closed": "Share of the way to best-of-N",
    "equivalent_n": "Worth this many reference tries",
    "k_eff": "Worth by wins",
}
OF_TASK = ("reference_at_1", "reference_best_of_n", "tuned_at_1", "gain", "control_at_1")
"""What is shown of each task, of `COMPARISON`."""
JUDGED = {
    "win_rate": "A tuned answer beats a reference answer",
    "k_eff": "Worth by wins",
    "kl_efficiency": "Of the divergence, share that such wins need",
}
STYLE = {
    "length": "Length, tokens",
    "distinct": "Different answers to a prompt",
    "entropy": "Entropy, nats per token",
    "repetition": "Repeats itself",
    "truncated": "Cut short",
}
SHARES = {"win_rate", "kl_efficiency", "distinct", "repetition", "truncated"}
REWARD_MODEL = {
    "pick_accuracy": "Agrees with the tester's pick",
    "chance": "A random choice would",
    "longest_wins": "“The longest wins” would",
    "pair_accuracy": "Ranks the pick above another answer",
}
FUNNEL = {"read": "Read", "kept": "Kept", "train": "To train on", "heldout": "Held out"}


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


@dataclass(frozen=True, slots=True)
class Curve:
    """The reference's value at each number of tries: picked by the scorer, and by an oracle (may be empty)."""

    ks: list[int]
    picked: list[Measured]
    oracle: list[Measured]

    @classmethod
    def of(cls, measure: Mapping[str, Any]) -> "Curve":
        """From the rows {k, value, low, high, n} under `curve` and `oracle`."""
        rows, oracle = measure["curve"], measure.get("oracle") or []
        return cls([row["k"] for row in rows], [Measured.of(row) for row in rows], [Measured.of(row) for row in oracle])


def render(  # noqa: PLR0913  (what a run has to show)
    summary: dict[str, Any],
    curve: Curve,
    examples: Sequence[Example] = (),
    settings: Mapping[str, Any] | None = None,
    *,
    title: str = "bakeoff report",
    notes: Sequence[str] = (),
    data: Data | None = None,
) -> str:
    """The page of a run: `summary` as in summary.json, the curve in the same measure, at most ten examples, settings.

    `data` is the data report, in place of the funnel alone. `notes` are sentences under the verdict (what is simulated
    or synthetic). Settings may nest.
    """
    measure = summary["quality"] or summary["reward"]
    scorer = f"the {measure.get('picker', 'reward model')}"
    return template("page.html").render(
        title=title,
        notes=notes,
        summary=summary,
        measure=measure,
        verdict=verdict(summary),
        outcome=outcome(summary),
        scorer=scorer,
        picture=_picture(measure, curve, scorer),
        examples=examples[:10],
        settings=list(_flat(settings or {})),
        **_tables(summary),
        **{form.__name__: form for form in (wording.number, wording.percent, wording.duration, wording.span)},
        count=lambda value: f"{value:,}",
        share=share,
        data=data,
    )


def _picture(measure: dict[str, Any], curve: Curve, scorer: str) -> Markup | None:
    """The picture, or nothing when the evaluation was too small to give a value everywhere."""
    tuned = Measured.of(measure["tuned_at_1"])
    if not all(math.isfinite(m.value) for m in (*curve.picked, *curve.oracle, tuned)):
        return None
    oracle = [] if measure["metric"] == "reward" else curve.oracle  # the scorer knows its own best
    return Markup(curve_svg(curve.ks, curve.picked, oracle, tuned, metric=measure["metric"], scorer=scorer))


def _tables(summary: dict[str, Any]) -> dict[str, Any]:
    """The rows of every table on the page."""
    prompts, quality, agreement = summary["prompts"], summary["quality"], summary["reward_model"] or {}
    return {
        "quality": {"title": _title(quality["metric"])} if quality else None,
        "comparison": [_row(summary, key, name) for key, name in COMPARISON.items()],
        "by_task": [_task(name, figures) for name, figures in (summary.get("tasks") or {}).items()],
        "task_columns": [COMPARISON[key] for key in OF_TASK],
        "drift": [
            ("KL to the reference, nats per answer", _measured(summary["kl"]["tuned"])),
            ("KL of a perfect best-of-N, at most", _measured(summary["kl"]["best_of_n"])),
            ("Forgotten: unrelated answers, nats per token", _measured(summary["forgotten"])),
        ],
        "judged": list(_side_by_side(JUDGED, *(summary["wins"][judge] or {} for judge in ("scorer", "outside")))),
        "kept": list(_kept(summary["wins"]["outside"] or {})),
        "style": list(_side_by_side(STYLE, _style(summary, "reference"), _style(summary, "tuned"))),
        "strategies": [
            (name, *(_measured(row[key]) for key in ("share", "best", "lift", "reward")))
            for name, row in summary["strategies"].items()
        ],
        "rounds": [
            (_measured(row["reward"]), _measured(row["kl"])) for row in (summary["rounds"] or {}).get("rounds", ())
        ],
        "reward_model": [(name, _measured(agreement.get(key))) for key, name in REWARD_MODEL.items() if agreement],
        "funnel": [(name, prompts[key]) for key, name in FUNNEL.items()],
        "dropped": sorted(prompts["dropped"].items(), key=lambda item: -item[1]),
        "seconds": [(stage, value) for stage, value in summary["seconds"].items() if stage != "total"],
        "totals": [
            ("Total", wording.duration(summary["seconds"]["total"])),
            *((f"tokens {kind}", f"{n:,}") for kind, n in summary["tokens"].items()),
            *((f"judge's {kind.replace('_', ' ')}", f"{n:,}") for kind, n in summary["scorer"]["used"].items()),
            ("peak memory", f"{summary['peak_memory_mb']:,.0f} MB"),
        ],
    }


def _task(name: str, figures: Mapping[str, Any]) -> dict[str, Any]:
    """One task's line: by true answers where it has any, else by its scorer."""
    measure = figures["quality"] or figures["reward"]
    return {
        "name": name,
        "n": measure["reference_at_1"]["n"],
        "measure": measure["measure"],
        "form": wording.number if measure["metric"] == "reward" else wording.percent,
        "cells": [_measured(measure.get(key)) for key in OF_TASK],
    }


def _side_by_side(
    names: Mapping[str, str], left: Mapping[str, Any], right: Mapping[str, Any]
) -> Iterator[tuple[str, Measured | None, Measured | None, Callable[[float], str]]]:
    """(name, left, right, how to write them) of each quantity that is known."""
    for key, name in names.items():
        if key in left or key in right:
            form = wording.percent if key in SHARES else wording.number
            yield name, _measured(left.get(key)), _measured(right.get(key)), form


def _style(summary: dict[str, Any], policy: str) -> dict[str, Any]:
    return summary["style"][policy] | {key: summary[key][policy] for key in ("length", "truncated")}


def _kept(outside: Mapping[str, Any]) -> Iterator[tuple[str, Measured | None, Measured | None]]:
    """What the judge from outside says of both policies beyond single wins."""
    if outside:
        names = {"coverage": f"Best of {outside['coverage']['k']} answers", "agreement": "The two judges agree"}
        for key, name in names.items():
            yield name, _measured(outside[key]["reference"]), _measured(outside[key]["tuned"])


def _row(summary: dict[str, Any], key: str, name: str) -> dict[str, Any]:
    """One line of the comparison: the quantity by quality and by reward, each with how to write it."""
    row: dict[str, Any] = {"name": name}
    for kind in ("quality", "reward"):
        measure = summary[kind] or {}
        row[kind] = _measured(measure.get(key))
        row[f"{kind}_form"] = _form(key, measure)
    return row


def _form(key: str, measure: dict[str, Any]) -> Callable[[float], str]:
    """How a quantity of a comparison is written; tries past the end of the curve are `≥ 16`."""
    if key == "equivalent_n" and measure.get("curve"):
        most = measure["curve"][-1]["k"]
        return lambda tries: f"≥\N{NO-BREAK SPACE}{most}" if tries >= most else wording.number(tries)
    if key in ("equivalent_n", "k_eff"):
        return wording.number
    if key == "gap_closed" or measure.get("metric") != "reward":
        return wording.points if key.startswith("gain") else wording.percent
    return wording.number


def _measured(value: Any) -> Measured | None:
    """A measured quantity, or a plain number as one without an interval; None stays None."""
    if isinstance(value, Mapping):
        return Measured.of(value)
    return None if value is None else Measured(value, value, value, 0)


def _title(metric: str) -> str:
    return "Right, by true answers" if metric == "correct" else f"Quality ({metric}), by true answers"


def _flat(settings: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """(section.key, value) of nested settings."""
    for key, value in settings.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
            yield f"{prefix}{key}", text
