"""Stage: the figures of all stages in, `summary.json` out: stable keys that people and programs read."""

from __future__ import annotations

from collections import defaultdict

from bakeoff.config import Recipe
from bakeoff.records import Completion, read_table
from bakeoff.rewards.picks import doubts
from bakeoff.run import Run, read_json, write_json

LENGTH_DRIFT = 1.5
"""Tuned answers longer, or shorter, than the reference's by this factor raise an alarm."""
MANY = 0.2
"""A share of cut-short answers, or of groups without spread, above this raises an alarm."""


def summarize(run: Run, recipe: Recipe) -> None:
    """Write `summary.json`; its keys are documented in docs/summary.md."""
    evaluation, baked = read_json(run.details("evaluation")), read_json(run.details("bake"))
    reward = read_json(run.details("reward_model"))
    seconds, peak = _costs(run)
    names = ("pick_accuracy", "chance", "longest_wins", "pair_accuracy")
    summary = {
        "prompts": read_json(run.details("prompts")),
        "failed": {"sample": read_json(run.details("sample"))["failed"], "evaluate": evaluation["failed"]},
        "reward_model": {name: reward[name] for name in names},
        **{name: evaluation[name] for name in ("quality", "reward", "kl", "length")},
        "seconds": seconds | {"total": round(sum(seconds.values()), 1)},
        "tokens": _tokens(run) | {"trained": reward["trained_tokens"] + baked["trained_tokens"]},
        "peak_memory_mb": peak,
    }
    summary["alarms"] = alarms(summary, reward, evaluation, baked)
    write_json(run.summary, summary)


def alarms(summary: dict, reward: dict, evaluation: dict, baked: dict) -> list[str]:
    """What a reader must know before believing the figures: one sentence each, with what to do."""
    found = [*doubts(reward), *_drift_alarms(summary, evaluation)]
    groups = sum(baked["groups"].values())
    flat = baked["groups"].get("no_spread", 0) + baked["groups"].get("unfinished", 0)
    if flat > MANY * groups:
        found.append(
            f"{flat} of {groups} groups taught nothing (no spread in reward, or no finished completion): "
            "raise sample.temperature or sample.max_tokens."
        )
    found += _failure_alarms(summary["failed"])
    if evaluation["leaked"]:
        found.append(
            f"{evaluation['leaked']} prompts with true answers were also trained on and were left out: "
            "take them out of the logs or the picks."
        )
    return found


def _failure_alarms(failed: dict[str, dict[str, int]]) -> list[str]:
    found = []
    for stage, tables in (("sample", "completions_failed.parquet"), ("evaluate", "*_failed.parquet")):
        kinds = ", ".join(f"{count} {reason}" for reason, count in failed[stage].items())
        if kinds:
            found.append(
                f"Prompts without completions in the stage {stage}: {kinds}; {tables} says why, prompt by prompt."
            )
    return found


def _drift_alarms(summary: dict, evaluation: dict) -> list[str]:
    found = []
    length, quality = summary["length"], summary["quality"]
    ratio = length["tuned"]["value"] / max(1e-9, length["reference"]["value"])
    if not 1 / LENGTH_DRIFT <= ratio <= LENGTH_DRIFT:
        found.append(
            f"Answers are now {ratio:.2f} times as long: read some, and if length is what the reward model "
            "likes, add picks in which the other kind wins."
        )
    if quality and summary["reward"]["gain"]["value"] > 0 > quality["gain"]["value"]:
        found.append("The reward rose while quality fell: the reward model is being gamed; bake less or add picks.")
    over_control = (quality or summary["reward"]).get("gain_over_control")
    if over_control and (over_control["low"] or 0.0) <= 0:
        found.append(
            "The same bake on random picks did as well, as far as can be told: the gain is not the reward model's; "
            "add picks, or take a smaller temperature instead of a bake."
        )
    if evaluation["truncated"]["tuned"] > MANY:
        found.append(
            f"{evaluation['truncated']['tuned']:.0%} of the tuned answers are cut short: raise sample.max_tokens."
        )
    return found


def _costs(run: Run) -> tuple[dict[str, float], int]:
    """(seconds by stage, most memory of any process in MB), over all the processes that worked on the run."""
    seconds: defaultdict[str, float] = defaultdict(float)
    peak = 0
    for line in run.logged():
        if "seconds" in line:
            seconds[line["stage"]] += line["seconds"]
            peak = max(peak, line["peak_memory_mb"])
    return {name: round(value, 1) for name, value in seconds.items()}, peak


def _tokens(run: Run) -> dict[str, int]:
    """Completion tokens drawn, and those of them that were rewarded (all)."""
    tables = [read_table(run.table(name), Completion) for name in ("completions", "reference", "tuned")]
    drawn = sum(len(c.tokens) for table in tables for c in table)
    return {"sampled": drawn, "scored": drawn}
