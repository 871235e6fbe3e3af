"""The result in two sentences that somebody who never trained a model understands."""

import math
from typing import Literal

from bakeoff.evaluation.figures import Comparison, Summary, measure_of
from bakeoff.report import wording

Outcome = Literal["better", "unclear", "worse", "unknown"]
FEWEST = 10
"""Of fewer prompts no interval is believed: where all changes have one sign, it leaves out zero too often."""

NOTHING = 1e-9
"""A best of all tries that is no better than the first, however it is picked."""


def verdict(summary: Summary) -> str:
    """Two sentences: what changed by the gold answers, or else by the scorer's reward; then what that is worth.

    The model is better only when the whole 95 % interval of the paired gain lies above zero.
    """
    measure, found = measure_of(summary), outcome(summary)
    if found == "unknown":
        number = measure["gain"].n
        return (
            f"Not known: with {number} held-out prompt{'' if number == 1 else 's'} no change can be told from chance. "
            "Hold out more prompts, a few hundred for a difference of ten points, and evaluate again."
        )
    return f"{_change(summary, measure)} {_worth(measure) if found == 'better' else _advice(measure)}"


def outcome(summary: Summary) -> Outcome:
    """Whether the first answer got better, by the interval of its paired gain."""
    gain = measure_of(summary)["gain"]
    if gain.n < FEWEST or math.isinf(gain.low) or math.isnan(gain.value):
        return "unknown"
    if gain.low > 0:
        return "better"
    return "worse" if gain.high < 0 else "unclear"


def picker(measure: Comparison) -> str:
    """The scorer that picks."""
    return f"the {measure.get('picker', 'reward model')}"


def _change(summary: Summary, measure: Comparison) -> str:
    metric, gain = measure["metric"], measure["gain"]
    before, after = (wording.amount(measure[key].value, metric) for key in ("reference_at_1", "tuned_at_1"))  # type: ignore
    scores = {"correct": f"is right {after} of the time", "reward": f"earns a mean reward of {after} from "}
    score = scores.get(metric, f"scores {after} ({metric})")
    if metric == "reward":
        unchecked = "" if picker(measure) == "the verifier" else ", with no true answers to check it against"
        score += picker(measure) + unchecked
    difference = wording.span(gain, wording.number if metric == "reward" else wording.points)
    alarms = len(summary.get("alarms") or [])
    caution = f", but with {alarms} alarm{'s' if alarms > 1 else ''} to read first" if alarms else ""
    happened = {
        "better": f"Better{caution}",
        "unclear": "No better that can be told from chance",
        "worse": "Worse",
    }[outcome(summary)]
    return (
        f"{happened}: the tuned model's first answer {score}, the reference's {before} (a change of {difference} with "
        f"95 % confidence, {gain.n:,} held-out prompts)."
    )


def _worth(measure: Comparison) -> str:
    """How the tuned model's one try compares with the reference's many."""
    closed, best = measure["gap_closed"], _best_of(measure)
    if not measure["selection_gain"].n:
        return f"No answer here has a reward, so that {best} could not be chosen."
    if measure["selection_gain"].low <= 0:  # picking by the scorer does not help the reference
        return f"Choosing {best} would not have helped the reference, so do not credit {picker(measure)} with the gain."
    if closed.low > 1:
        return f"One try of it now beats {best}."
    if closed.value >= 1:
        return f"One try of it is now as good as {best}."
    worth = wording.tries(measure["equivalent_n"].value)
    return f"That is {wording.percent(closed.value)} of the way to {best}, and worth about {worth} of the reference."


def _advice(measure: Comparison) -> str:
    """What to do about a model that did not get better."""
    most = measure["oracle"][-1]["value"]
    if most is not None and most - measure["reference_at_1"].value < NOTHING:
        return "Keep the reference; none of its tries is better than its first: more tries, or a better model."
    if not measure["selection_gain"].n:
        return "Keep the reference; train longer, or with another learning rate or method."
    if measure["selection_gain"].low > 0:
        better = f"since {_best_of(measure)} is better"
        return f"Keep the reference; {better}, train longer, or with another learning rate or method."
    return (
        f"Keep the reference; since {_best_of(measure)} is no better than its first answer, mend the scorer first "
        "(a reward model: begin with more or cleaner picks)."
    )


def _best_of(measure: Comparison) -> str:
    curve, value = measure.get("curve"), measure["reference_best_of_n"].value
    number = f"the best of {curve[-1]['k']}" if curve else "the best of all"
    amount = "" if math.isnan(value) else f" ({wording.amount(value, measure['metric'])})"
    return f"{number} reference tries picked by {picker(measure)}{amount}"
