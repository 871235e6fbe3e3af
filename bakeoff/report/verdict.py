"""The result in two sentences that somebody who never trained a model understands."""

from __future__ import annotations

import math
from typing import Any, Literal

from bakeoff.report import wording
from bakeoff.stats import Measured

Outcome = Literal["better", "unclear", "worse", "unknown"]


def verdict(summary: dict[str, Any]) -> str:
    """Two sentences: what changed by the gold answers, or else by the scorer's reward; then what that is worth.

    The model is better only when the whole 95 % interval of the paired gain lies above zero.
    """
    measure = summary["quality"] or summary["reward"]
    ending = {"better": _worth, "unclear": _advice, "worse": _advice, "unknown": _more_prompts}
    first, second = _change(summary, measure), ending[outcome(summary)](measure)
    return f"{first} {second}"


def outcome(summary: dict[str, Any]) -> Outcome:
    """Whether the first answer got better, by the interval of its paired gain."""
    gain = Measured.of((summary["quality"] or summary["reward"])["gain"])
    if math.isinf(gain.low) or math.isnan(gain.value):
        return "unknown"
    if gain.low > 0:
        return "better"
    return "worse" if gain.high < 0 else "unclear"


def _change(summary: dict[str, Any], measure: dict[str, Any]) -> str:
    metric, gain = measure["metric"], Measured.of(measure["gain"])
    before, after = (
        wording.amount(Measured.of(measure[key]).value, metric) for key in ("reference_at_1", "tuned_at_1")
    )
    score = _scores(after, metric, _scorer(measure))
    difference = wording.span(gain, wording.number if metric == "reward" else wording.points)
    alarms = len(summary.get("alarms") or [])
    caution = f", but with {alarms} alarm{'s' if alarms > 1 else ''} to read first" if alarms else ""
    happened = {
        "better": f"Better{caution}: the tuned model's first answer {score}, the reference's {before}",
        "unclear": f"No better that can be told from chance: the tuned model's first answer {score}, "
        f"the reference's {before}",
        "worse": f"Worse: the tuned model's first answer {score}, the reference's {before}",
        "unknown": "Not known",
    }[outcome(summary)]
    if outcome(summary) == "unknown":
        return (
            f"Not known: with {gain.n} held-out prompt{'' if gain.n == 1 else 's'} no change can be told from chance."
        )
    return f"{happened} (a change of {difference} with 95 % confidence, {gain.n:,} held-out prompts)."


def _scorer(measure: dict[str, Any]) -> str:
    return f"the {measure.get('picker', 'reward model')}"


def _scores(after: str, metric: str, scorer: str) -> str:
    if metric == "correct":
        return f"is right {after} of the time"
    if metric == "reward":
        return f"earns a mean reward of {after} from {scorer}, with no true answers to check it against"
    return f"scores {after} ({metric})"


def _worth(measure: dict[str, Any]) -> str:
    """How the tuned model's one try compares with the reference's many."""
    metric, closed = measure["metric"], Measured.of(measure["gap_closed"])
    best = f"{_best_of(measure)} ({wording.amount(measure['reference_best_of_n']['value'], metric)})"
    if not _selects(measure):
        return (
            f"Choosing {best} would not have helped the reference, so do not credit {_scorer(measure)} with the gain."
        )
    if closed.low > 1:
        return f"One try of it now beats {best}."
    if closed.value >= 1:
        return f"One try of it is now as good as {best}."
    worth = wording.tries(Measured.of(measure["equivalent_n"]).value)
    return f"That is {wording.percent(closed.value)} of the way to {best}, and worth about {worth} of the reference."


def _advice(measure: dict[str, Any]) -> str:
    """What to do about a model that did not get better."""
    best = f"{_best_of(measure)} ({wording.amount(measure['reference_best_of_n']['value'], measure['metric'])})"
    if _selects(measure):
        return f"Keep the reference; since {best} is better, train longer, or with another learning rate or method."
    return (
        f"Keep the reference; since {best} is no better than its first answer, mend the scorer first "
        "(a reward model: begin with more or cleaner picks)."
    )


def _more_prompts(measure: dict[str, Any]) -> str:
    return "Hold out more prompts, a few hundred for a difference of ten points, and evaluate again."


def _selects(measure: dict[str, Any]) -> bool:
    """Whether picking by the scorer helps the reference, beyond the interval of its first answer."""
    return Measured.of(measure["reference_best_of_n"]).value > Measured.of(measure["reference_at_1"]).high


def _best_of(measure: dict[str, Any]) -> str:
    curve = measure.get("curve")
    number = f"the best of {curve[-1]['k']}" if curve else "the best of all"
    return f"{number} reference tries picked by {_scorer(measure)}"
