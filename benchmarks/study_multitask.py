"""Two tasks in one run against each alone: what does a task lose by sharing the model?

The recipe `recipes/tasks.toml` is sampled and rewarded once, the filings by the reward model of the base, the messages
by their program. One policy is baked from all groups, and one from the groups of each task alone, in as many steps: a
step of all holds as many prompts of each task as one of it alone. Right first answers on the gold of each task.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import studies

from bakeoff import config, tasks
from bakeoff.records import Completion, Score
from bakeoff.run import Run
from bakeoff.settings import Task

RECIPE = studies.RECIPE.with_name("tasks.toml")
TOGETHER = "together"


def study(seeds: Sequence[int], out: Path, overrides: Sequence[str]) -> None:
    """The three bakes on every seed, each measured on both tasks; then the table."""
    found: dict[str, list[np.ndarray]] = {}
    for seed in seeds:
        for name, values in arms(both(out, seed, overrides)).items():
            print(f"seed {seed}: {name}: {values.mean():.3f} right", flush=True)
            found.setdefault(name, []).append(values)
    names = tasks.each(config.load(RECIPE))
    against = [(f"{name}_{TOGETHER}", f"{name}_alone") for name in names]
    rows = studies.measured("multitask", found, against)
    apart = dict(zip(names, rows[-len(names) :], strict=True))
    studies.record("multitask", [*rows, worst(apart)], seeds, overrides)


def worst(apart: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """The row of the task that loses most, or gains least."""
    name = min(apart, key=lambda task: apart[task]["value"])
    return apart[name] | {"name": "multitask.worst_task_minus_alone"}


def both(out: Path, seed: int, overrides: Sequence[str]) -> studies.Base:
    """The recipe of two tasks up to its rewards, with the reward model that the other studies use."""
    judge = studies.base(out, seed, overrides, last="reward").run.reward_model.resolve()
    recipe = config.load(RECIPE, [f"seed={seed}", "reward.picks=[]", "bake.control=false", *overrides])
    recipe = dataclasses.replace(recipe, tasks=[_judged(task, judge) for task in recipe.tasks])
    return studies.Base(studies.upto(out / f"tasks-{seed}", recipe, "score"), recipe)


def _judged(task: Task, judge: Path) -> Task:
    if task.score.scorer != "reward_model":
        return task
    return dataclasses.replace(task, score=dataclasses.replace(task.score, scorer=f"reward_model:{judge}"))


def arms(of: studies.Base) -> dict[str, np.ndarray]:
    """The share of right first answers to each gold prompt, by task and by what the policy learnt."""
    prompts, completions, scores = studies.tables(of.run)
    task = {p.id: p.task for p in prompts}
    drawn = Counter(task[key] for key in {c.prompt_id for c in completions})
    alone = tasks.each(of.recipe)
    found = {}
    for name in alone:
        found[f"{name}_reference"] = _right(of, of.arm("reference"), name, of.recipe.model)
    for learnt in (*alone, TOGETHER):

        def lesson(learnt: str = learnt) -> tuple[list[Completion], list[Score]]:
            wanted = set(alone) if learnt == TOGETHER else {learnt}
            mine = [c for c in completions if task[c.prompt_id] in wanted]
            return mine, [s for s in scores if task[s.prompt_id] in wanted]

        share = 1.0 if learnt == TOGETHER else drawn[learnt] / drawn.total()
        batch = round(share * of.recipe.bake.batch_size)
        run = studies.bake_arm(of.baking(dataclasses.replace(of.recipe.bake, batch_size=batch)), learnt, lesson)
        for name in alone if learnt == TOGETHER else [learnt]:
            arm = TOGETHER if learnt == TOGETHER else "alone"
            found[f"{name}_{arm}"] = _right(of, run, name, str(run.policy))
    return found


def _right(of: studies.Base, run: Run, name: str, model: str) -> np.ndarray:
    """The right first answers of a model to one task."""
    here = Run(run.folder / name)
    here.folder.mkdir(parents=True, exist_ok=True)
    return studies.right(here, tasks.each(of.recipe)[name], model)
