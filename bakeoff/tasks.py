"""Several jobs in one run: whose prompts, scorer and true answers are whose.

A run without `[[tasks]]` is one job, whose name is empty.
"""

import dataclasses
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence

import numpy as np

from bakeoff.errors import UserError
from bakeoff.records import Prompt
from bakeoff.settings import Recipe, Scoring


def each(recipe: Recipe) -> dict[str, Recipe]:
    """By name, the recipe that a task would have alone: its prompts, scorer and true answers."""
    if not recipe.tasks:
        return {"": recipe}
    return {
        task.name: dataclasses.replace(
            recipe,
            prompts=task.prompts,
            score=task.score,
            evaluate=dataclasses.replace(recipe.evaluate, holdout=task.holdout),
            tasks=[],
        )
        for task in recipe.tasks
    }


def scorings(recipe: Recipe) -> list[Scoring]:
    """How the completions of each task are rewarded; what only says where an answer ends makes no other scorer."""
    found = (alone.score for alone in each(recipe).values())
    return [s if "majority" in str(s.scorer) else dataclasses.replace(s, extract="") for s in found]


def gold_files(recipe: Recipe) -> dict[str, str]:
    """The file of true answers of each task that has one."""
    return {name: alone.evaluate.holdout for name, alone in each(recipe).items() if alone.evaluate.holdout}


def learns_from_logs(recipe: Recipe) -> bool:
    """Whether what users said of old answers is read from the logs of any task."""
    return any("feedback" not in alone.prompts.skip for alone in each(recipe).values())


def mixed(prompts: Sequence[Prompt], recipe: Recipe, number: int) -> list[Prompt]:
    """The `sample.prompts` of a round by the weights of their tasks, in the order of their ids.

    A task takes its next prompts each round and begins again at its end, but has none twice in one round: what it
    cannot fill falls to the others.
    """
    pools: dict[str, list[Prompt]] = {name: [] for name in each(recipe)}
    for prompt in sorted(prompts, key=lambda p: p.id):
        pools[prompt.task].append(prompt)
    if recipe.tasks and (empty := [name for name, pool in pools.items() if not pool]):
        raise UserError(f"tasks: {', '.join(empty)}: no prompt to train on is left; prompts.html says why")
    weights = {task.name: task.weight for task in recipe.tasks} or {"": 1.0}
    sizes = task_shares({name: len(pool) for name, pool in pools.items()}, weights, recipe.sample.prompts)
    taken = [
        pool[(i + (number - 1) * sizes[name]) % len(pool)] for name, pool in pools.items() for i in range(sizes[name])
    ]
    return sorted(taken, key=lambda p: p.id) if recipe.tasks else taken


def task_shares(pools: Mapping[str, int], weights: Mapping[str, float], total: int) -> dict[str, int]:
    """How many prompts each task gives to a total, by weight, where it has so many; sums to what there is at most."""
    sizes = dict.fromkeys(pools, 0)
    for _ in range(min(total, sum(pools.values()))):
        room = [name for name, size in sizes.items() if size < pools[name]]
        sizes[min(room, key=lambda name: (sizes[name] + 0.5) / weights[name])] += 1
    return sizes


def standardised_by_task(
    rewards: Mapping[str, np.ndarray], tasks: Sequence[str], reference: np.ndarray
) -> dict[str, np.ndarray]:
    """Rewards [P, M] of several policies on one scale for tasks that are scored differently: by each task's mean and
    standard deviation over `reference` [P, N], the reference's rewards of the same prompts. Missing ones are NaN.
    """
    scaled = {name: np.array(values, float) for name, values in rewards.items()}
    for task in dict.fromkeys(tasks):
        rows = np.array([name == task for name in tasks])
        known = reference[rows][~np.isnan(reference[rows])]
        centre, width = (known.mean(), known.std() or 1.0) if known.size else (0.0, 1.0)
        for values in scaled.values():
            values[rows] = (values[rows] - centre) / width
    return scaled


def limited_by_task(prompts: Sequence[Prompt], most: int) -> list[Prompt]:
    """So many of the prompts at most, the first of each task, as many of one task as of another where it has them."""
    room = task_shares(Counter(p.task for p in prompts), defaultdict(lambda: 1.0), most)
    kept = []
    for prompt in prompts:
        if room[prompt.task]:
            room[prompt.task] -= 1
            kept.append(prompt)
    return kept


def scored_differently(recipe: Recipe) -> bool:
    """Whether the rewards of one task are on another scale than those of another."""
    settings = scorings(recipe)
    return any(other != settings[0] for other in settings)


def check_tasks(recipe: Recipe) -> None:
    """Raise UserError for tasks that have one name, lack what they need, or share what they may not."""
    names = [task.name for task in recipe.tasks]
    for number, task in enumerate(recipe.tasks, 1):
        if not task.name or names.count(task.name) > 1 or "/" in task.name or task.name.startswith("."):
            raise UserError(
                f"tasks: task {number} is named {task.name!r}; give each its own name, without / or . first"
            )
        if not task.prompts.sources:
            raise UserError(f"tasks: {task.name} has no prompts; give [tasks.prompts] sources")
    if recipe.tasks and recipe.evaluate.holdout:
        raise UserError("evaluate.holdout: with [[tasks]], each task names its true answers itself, as `holdout`")
    if recipe.tasks and recipe.prompts.sources:
        raise UserError("prompts.sources: with [[tasks]], each task names its own under [tasks.prompts]")
