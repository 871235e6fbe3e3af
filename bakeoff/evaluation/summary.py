"""Stage: the figures of all stages in, `summary.json` out: stable keys that people and programs read."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import cast

from bakeoff.evaluation.alarms import alarms
from bakeoff.evaluation.figures import Summary
from bakeoff.models.load import NOTES
from bakeoff.records import Completion, Score, read_table
from bakeoff.run import Run, read_json, write_json
from bakeoff.sampling.resume import TURNED_AWAY, failures
from bakeoff.scorer import SCORER_USAGE, missing_rewards
from bakeoff.scoring import choose as scorers
from bakeoff.settings import Recipe
from bakeoff.training.figures import Baked, read_figures

EVALUATION = ("quality", "reward", "wins", "kl", "forgotten", "length", "truncated", "style", "leaked", "tasks")
"""What the summary takes over from the evaluation as it is."""

DRAWN = ("completions", "reference", "tuned", "control", "reference_greedy", "tuned_greedy", "unrelated", "validation")
"""Tables of completions, of the run and of its rounds."""
SCORED = ("scores", "validation_scores")
"""Tables of rewards before the evaluation's, of the run and of its rounds."""


def summarize(run: Run, recipe: Recipe) -> None:
    """Write `summary.json`; its keys are documented in docs/summary.md."""
    evaluation = read_figures(run.details("evaluation"))
    baked: Baked = read_figures(run.details("bake"))
    reward, referee, control = (
        read_json(file) if (file := run.details(stage)).exists() else None
        for stage in ("reward_model", "referee", "control")
    )
    trainings = [stage for stage in (reward, referee, baked, control) if stage]
    seconds, peak = _costs(run)
    names = ("pick_accuracy", "chance", "longest_wins", "pair_accuracy")
    each = [run, *map(Run, sorted(run.folder.glob("rounds/*")))]
    sampled = [read_json(one.details("sample"))["failed"] for one in each if one.details("sample").exists()]
    sampled += [Counter(failure.reason for failure in failures(one, "validation")) for one in each]
    scored = [missing_rewards(one, [n for n in SCORED if one.table(n).exists()]) for one in each]
    summary = {
        "prompts": read_json(run.details("prompts")),
        "failed": {"sample": _added(sampled), "evaluate": evaluation["failed"]},
        "reward_model": {name: reward[name] for name in names} if reward else None,
        "scorer": {
            "name": scorers.scorer_noun(recipe),
            "used": judging(run),
            "missing": {"score": _added(scored), "evaluate": evaluation["missing"]},
        },
        "referee": {name: referee[name] for name in names} if referee else None,
        **{name: evaluation[name] for name in EVALUATION},
        "unverified": evaluation.get("unverified", {}),
        "turned_away": _added([line["kinds"] for line in run.logged() if line["stage"] == TURNED_AWAY]),
        "model_note": NOTES.get(recipe.model),
        "completions": {"drawn": baked["completions"], "distinct": baked["distinct"]} | baked["faults"],
        "strategies": baked["strategies"],
        "rounds": {key: baked[key] for key in ("rounds", "kept")} if "rounds" in baked else None,
        "seconds": seconds | {"total": round(sum(seconds.values()), 1)},
        "tokens": _tokens(run) | {"trained": sum(stage["trained_tokens"] for stage in trainings)},
        "peak_memory_mb": peak,
    }
    write_json(run.summary, summary | {"alarms": alarms(cast(Summary, summary), reward, referee, baked)})


def judging(run: Run) -> dict[str, int]:
    """What a judge used in all: `calls`, `prompt_tokens`, `completion_tokens`; empty without one."""
    lines = [line for line in run.logged() if line["stage"] == SCORER_USAGE]
    return _added([{k: v for k, v in row.items() if isinstance(v, int)} for row in lines])


def _added(counts: Sequence[dict[str, int]]) -> dict[str, int]:
    return dict(sum(map(Counter, counts), Counter[str]()))


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
    """Completion tokens drawn in all stages and rounds, and those of them that were rewarded."""
    drawn, scored = 0, 0
    for file in [*(run.table(name) for name in DRAWN), *sorted(run.folder.glob("rounds/*/*.parquet"))]:
        if not file.exists() or file.stem not in DRAWN:
            continue
        size = {c.id: len(c.tokens) for c in read_table(file, Completion)}
        drawn += sum(size.values())
        rewards = file.with_name("scores.parquet" if file.stem == "completions" else f"{file.stem}_scores.parquet")
        if rewards.exists():
            scored += sum(size[s.completion_id] for s in read_table(rewards, Score) if s.reward is not None)
    return {"sampled": drawn, "scored": scored}
