"""Alarms: what a reader must know before believing the figures, one sentence each, with what to do.

All are on by default. They read the summary of a run (docs/summary.md).
"""

from collections.abc import Iterator, Mapping
from typing import Any

from bakeoff.math.statistics import Measured
from bakeoff.preferences import doubts
from bakeoff.training.groups import IDLE, idle

LENGTH_DRIFT = 1.5
"""Tuned answers longer, or shorter, than the reference's by this factor raise an alarm."""
MANY = 0.2
"""A share of cut-short answers, or of groups without spread, above this raises an alarm."""
REPETITION_DRIFT = 0.1
"""So much more of an answer repeated than before raises an alarm."""
FORGOTTEN = 0.1
"""Nats per token by which answers to unrelated prompts may become less likely."""
STILL = 0.01
"""Nats per sequence below which the policy is still the reference."""
COLLAPSED = 0.5
"""Fewer different answers than this share of the reference's raise an alarm when coverage is not known to be kept."""

Figures = Mapping[str, Any]


def alarms(summary: Figures, reward: Figures | None, referee: Figures | None, baked: Figures) -> list[str]:
    """Every alarm of a finished run; `reward`, `referee` and `baked` are the figures of those stages."""
    policies = {f"Task {name}: ": of for name, of in (summary.get("tasks") or {}).items()} or {"": summary}
    return [
        *(doubts(reward) if reward else ()),
        *(f"Of the judge from outside: {sentence}" for sentence in (doubts(referee) if referee else ())),
        *(f"{task}{sentence}" for task, of in policies.items() for fault in POLICY for sentence in fault(of)),
        *_tasks(summary),
        *_moved(summary, baked),
        *_lost(summary),
        *_rounds(baked),
        *_groups(baked),
        *_strategies(baked),
        *_data(summary),
    ]


def _gamed(summary: Figures) -> Iterator[str]:
    """The reward rose; did anything that the training did not see?"""
    outside = summary["wins"]["outside"]
    if not summary["reward"] or Measured.of(summary["reward"]["gain"]).low <= 0:
        return
    if not outside:
        if (picker := summary["reward"]["picker"]) != "verifier":  # which compares with true answers
            yield f"Nothing but the {picker} measured its own gain: give evaluate.holdout, or picks for a second judge."
        return
    judge, gain = outside["judge"], Measured.of(outside["gain"])
    if gain.high < 0:
        yield (
            f"The reward rose while the judge from outside ({judge}) sees a loss of {-gain.value:.3g}: the scorer "
            "is being gamed; bake less (a smaller bake.n, fewer rounds), or teach it (picks of tuned answers)."
        )
    before, change = (Measured.of(outside["agreement"][key]) for key in ("reference", "change"))
    if change.high < 0:
        yield (
            f"The scorer orders the tuned model's answers worse than the reference's ({before.value:.0%} of "
            f"pairs as {judge} do before, {-change.value:.0%} fewer now): it no longer knows what it judges; add picks "
            "of the tuned model's answers before another round."
        )


def _tasks(summary: Figures) -> Iterator[str]:
    """One task may lose what another gains."""
    for name, figures in (summary.get("tasks") or {}).items():
        gain = Measured.of((figures["quality"] or figures["reward"])["gain"])
        if gain.high < 0:
            yield (
                f"The task {name} got worse ({gain.value:.3g}), whatever the others gained: give it more weight, mend "
                "its scorer, or bake it apart."
            )


def _control(summary: Figures) -> Iterator[str]:
    measure = summary["quality"] or summary["reward"]
    over_control = measure.get("gain_over_control")
    if over_control and Measured.of(over_control).low <= 0 < Measured.of(measure["gain"]).low:
        yield (
            "The same bake on random picks did as well, as far as can be told: the gain is not the scorer's; "
            "mend it (a reward model: add picks), or take a smaller temperature instead of a bake."
        )


def _greedy(summary: Figures) -> Iterator[str]:
    """A sharper policy is right more often when sampled, and no better than the reference at temperature 0."""
    measure = summary["quality"] or summary["reward"]
    gain = measure.get("greedy_gain")
    if gain and Measured.of(gain).low <= 0 < Measured.of(measure["gain"]).low:
        yield (
            "At temperature 0 the tuned model is no better than the reference, as far as can be told: what it gained "
            "is sharpness, which serving the reference at temperature 0 gives without a bake."
        )


def _drift(summary: Figures) -> Iterator[str]:
    """Answers that look otherwise than before."""
    length, style = summary["length"], summary["style"]
    ratio = length["tuned"]["value"] / max(1e-9, length["reference"]["value"])
    if not 1 / LENGTH_DRIFT <= ratio <= LENGTH_DRIFT:
        yield (
            f"Answers are now {ratio:.2f} times as long: read some, and if length is what the scorer likes, "
            "teach it otherwise (picks in which the other kind wins, another rubric)."
        )
    before, after = (style[name]["repetition"]["value"] for name in ("reference", "tuned"))
    if after - before > REPETITION_DRIFT:
        yield (
            f"{after:.0%} of a tuned answer repeats itself ({before:.0%} before): read some; bake less, or add picks "
            "in which the answer that repeats itself loses."
        )
    if summary["truncated"]["tuned"] > MANY:
        yield f"{summary['truncated']['tuned']:.0%} of the tuned answers are cut short: raise sample.max_tokens."


POLICY = (_gamed, _control, _greedy, _drift)
"""What may be wrong with the tuned policy on each task."""


def _moved(summary: Figures, baked: Figures) -> Iterator[str]:
    """A bake that did nothing, or more than it was allowed."""
    spent, budget = Measured.of(summary["kl"]["tuned"]), baked.get("kl_budget", 0.0)
    if spent.high < STILL:
        yield (
            f"The bake changed next to nothing ({spent.value:.2g} nats a sequence), so any difference is chance: raise "
            "bake.learning_rate or bake.epochs."
        )
    elif 0 < budget < spent.low:
        yield (
            f"The tuned model is {spent.value:.3g} nats a sequence from the reference, bake.kl_budget is {budget:g}: "
            "lower bake.learning_rate, so that the training is looked at before it is spent."
        )


def _lost(summary: Figures) -> Iterator[str]:
    """What the tuned policy can no longer do."""
    forgotten = Measured.of(summary["forgotten"])
    if forgotten.value > FORGOTTEN:
        yield (
            f"Answers to unrelated prompts became less likely by {forgotten.value:.2g} nats per token (up to "
            f"{FORGOTTEN} is normal): the model forgets; lower bake.learning_rate or bake.n."
        )
    outside = summary["wins"]["outside"]
    distinct = [summary["style"][name]["distinct"]["value"] for name in ("reference", "tuned")]
    if outside and Measured.of(outside["coverage"]["change"]).high < 0:
        kept = outside["coverage"]
        yield (
            f"The best of {kept['k']} tuned answers is worse than the best of {kept['k']} before "
            f"({kept['tuned']['value']:.3g} against {kept['reference']['value']:.3g}): do not sample from it again to "
            "choose; bake less if you mean to."
        )
    elif not outside and distinct[1] < COLLAPSED * distinct[0]:
        yield (
            f"Only {distinct[1]:.0%} of a prompt's tuned answers differ ({distinct[0]:.0%} before): sampling it again "
            "shows little new; bake less if another round or best-of-N is to follow."
        )


def _strategies(baked: Figures) -> Iterator[str]:
    """Ways to ask that cost draws and give none of the best, and completions that are no answers."""
    for name, row in baked["strategies"].items():
        if Measured.of(row["lift"]).high < 1 / 2:
            yield (
                f"The prompt variant {name!r} gave {row['share']['value']:.0%} of the completions and "
                f"{row['best']['value']:.0%} of the best: reword it, or leave it out of sample.variants."
            )
    kinds = {kind: count / baked["completions"] for kind, count in baked["faults"].items()}
    if sum(kinds.values()) > MANY:
        said = ", ".join(f"{share:.0%} {kind}" for kind, share in kinds.items())
        yield f"Many completions to learn from are no whole answers ({said}): {idle(baked['faults'])[1]}."


def _rounds(baked: Figures) -> Iterator[str]:
    """A round is kept even if none of them helped."""
    if "rounds" in baked:
        reward = [row["reward"]["value"] for row in baked["rounds"]]
        if reward[baked["kept"]] <= reward[0]:
            yield (
                f"No round raised the reward on the validation prompts ({reward[0]:.3g} before, "
                f"{reward[baked['kept']]:.3g} in the round that was kept): lower bake.learning_rate, or keep the model "
                "as it is."
            )


def _groups(baked: Figures) -> Iterator[str]:
    groups = sum(baked["groups"].values())
    flat = sum(baked["groups"].get(kind, 0) for kind in IDLE)
    if flat > MANY * groups:
        said, advice = idle(baked["groups"])
        yield f"{flat} of {groups} groups taught nothing ({said}): {advice}."


def _data(summary: Figures) -> Iterator[str]:
    """Prompts that are missing from a stage, or were where they should not be."""
    for stage, tables in (("sample", "completions_failed.parquet"), ("evaluate", "*_failed.parquet")):
        kinds = ", ".join(f"{count} {reason}" for reason, count in summary["failed"][stage].items())
        if kinds:
            yield f"Prompts without completions in the stage {stage}: {kinds}; {tables} says why, prompt by prompt."
    for stage, tables in (("score", "scores.parquet"), ("evaluate", "*_scores.parquet")):
        kinds = ", ".join(f"{count} {reason}" for reason, count in summary["scorer"]["missing"][stage].items())
        if kinds:
            yield f"Completions without a reward in the stage {stage}: {kinds}; {tables} says why, one by one."
    if away := summary["turned_away"]:
        said = ", ".join(f"{count} {kind}" for kind, count in away.items())
        yield (
            f"In place of completions the endpoint gave {said}, and was asked again: raise sample.max_tokens where "
            "they were cut short, for such prompts lose their longest answers."
        )
    if summary["unverified"]:
        count, (row, *_) = sum(summary["unverified"].values()), summary["unverified"]
        yield f"{count} answers could not be verified and count as wrong; the first by {row}; mend evaluate.holdout."
    if summary["leaked"]:
        yield (
            f"{summary['leaked']} prompts with true answers were also trained on and were left out: "
            "take them out of the logs or the picks."
        )
