"""The result in two sentences that somebody who never trained a model understands."""

import math
from typing import Any, Literal

from bakeoff.math.statistics import Measured
from bakeoff.report import wording

Outcome = Literal["better", "unclear", "worse", "unknown"]
FEW = 10
"""Of fewer prompts no interval is believed: where all changes have one sign, it leaves out zero too often."""

NOTHING = 1e-9
"""A best of all tries that is no better than the first, however it is picked."""


def verdict(summary: dict[str, Any]) -> str:
    """Two sentences: what changed by the gold answers, or else by the scorer's reward; then what that is worth.

    The model is better only when the whole 95 % interval of the paired gain lies above zero.
    """
    measure, found = summary["quality"] or summary["reward"], outcome(summary)
    if found == "unknown":
        number = measure["gain"]["n"]
        return (
            f"Not known: with {number} held-out prompt{'' if number == 1 else 's'} no change can be told from chance. "
            "Hold out more prompts, a few hundred for a difference of ten points, and evaluate again."
        )
    return f"{_change(summary, measure)} {_worth(measure) if found == 'better' else _advice(measure)}"


def outcome(summary: dict[str, Any]) -> Outcome:
    """Whether the first answer got better, by the interval of its paired gain."""
    gain = Measured.of((summary["quality"] or summary["reward"])["gain"])
    if gain.n < FEW or math.isinf(gain.low) or math.isnan(gain.value):
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
    }[outcome(summary)]
    return f"{happened} (a change of {difference} with 95 % confidence, {gain.n:,} held-out prompts)."


def _scorer(measure: dict[str, Any]) -> str:
    return f"the {measure.get('picker', 'reward model')}"


def _scores(after: str, metric: str, scorer: str) -> str:
    if metric == "correct":
        return f"is right {after} of the time"
    if metric == "reward":
        unchecked = "" if scorer == "the verifier" else ", with no true answers to check it against"
        return f"earns a mean reward of {after} from {scorer}{unchecked}"
    return f"scores {after} ({metric})"


def _worth(measure: dict[str, Any]) -> str:
    """How the tuned model's one try compares with the reference's many."""
    closed, best = Measured.of(measure["gap_closed"]), _best_of(measure)
    if not measure["selection_gain"]["n"]:
        return f"No answer here has a reward, so that {best} could not be chosen."
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
    reason = f"since {_best_of(measure)} is better, " if _selects(measure) else ""
    if measure["oracle"][-1]["value"] - measure["reference_at_1"]["value"] < NOTHING:
        return "Keep the reference; none of its tries is better than its first: more tries, or a better model."
    if reason or not measure["selection_gain"]["n"]:
        return f"Keep the reference; {reason}train longer, or with another learning rate or method."
    return (
        f"Keep the reference; since {_best_of(measure)} is no better than its first answer, mend the scorer first "
        "(a reward model: begin with more or cleaner picks)."
    )


def _selects(measure: dict[str, Any]) -> bool:
    """Whether picking by the scorer helps the reference: a paired difference."""
    return Measured.of(measure["selection_gain"]).low > 0


def _best_of(measure: dict[str, Any]) -> str:
    curve, value = measure.get("curve"), measure["reference_best_of_n"]["value"]
    number = f"the best of {curve[-1]['k']}" if curve else "the best of all"
    amount = "" if value is None else f" ({wording.amount(value, measure['metric'])})"
    return f"{number} reference tries picked by {_scorer(measure)}{amount}"
