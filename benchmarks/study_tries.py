"""More test-time compute: the first 2, 4, ... 64 of the same tries, with one reward model, baked and measured."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import studies

from bakeoff.records import Completion, Score
from bakeoff.run import Run

TRIES = (2, 4, 8, 16, 32, 64)


def study(seeds: Sequence[int], out: Path, overrides: Sequence[str]) -> None:
    """Every number of tries on every seed, then the table."""
    studies.grown("tries", studies.each_seed(arms, seeds, out, overrides), seeds, overrides)


def arms(of: studies.Base, tries: Sequence[int] = TRIES) -> dict[str, np.ndarray]:
    """The share of right first answers to each gold prompt, by the number of tries that were baked.

    Each number takes the first of the same tries; more than the base has are drawn once more, as many as the most.
    """
    found = {"reference": studies.right(of.arm("reference"), of.recipe, of.recipe.model)}
    size, most = of.recipe.sample.group_size, max(tries)
    for count in tries:
        if count == size:
            run = studies.whole(of)
        else:
            drawn = of.run
            if count > size:
                drawn = studies.again(of, f"tries-of-{most}", [f"sample.group_size={most}"], "score")
            bake = dataclasses.replace(of.recipe.bake, n=max(count, of.recipe.bake.n))
            run = studies.bake_arm(of.baking(bake), f"tries-{count}", functools.partial(first, drawn, count))
        found[f"n{count}"] = studies.right(run, of.recipe, str(run.policy))
        print(f"seed {of.recipe.seed}: {count} tries: {found[f'n{count}'].mean():.3f} right", flush=True)
    return found


def first(run: Run, count: int) -> tuple[list[Completion], list[Score]]:
    """The first so many completions of every group, and their rewards."""
    _, completions, scores = studies.tables(run)
    rows = [c for c in completions if c.index < count]
    kept = {c.id for c in rows}
    return rows, [s for s in scores if s.completion_id in kept]
