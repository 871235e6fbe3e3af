"""More test-time compute: the first 2, 4, ... 64 of the same tries at 80 prompts, with one reward model, baked."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import studies
import study_prompts

from bakeoff.records import Completion, Score
from bakeoff.run import Run

TRIES = (2, 4, 8, 16, 32, 64)
PROMPTS = 80


def study(seeds: Sequence[int], out: Path, overrides: Sequence[str]) -> None:
    """Every number of tries on every seed, then the table."""
    studies.grown("tries", studies.each_seed(arms, seeds, out, overrides), seeds, overrides)


def arms(of: studies.Base, tries: Sequence[int] = TRIES, prompts: int = PROMPTS) -> dict[str, np.ndarray]:
    """The share of right first answers to each gold prompt, by the number of tries that were baked.

    All are baked in as many steps as one pass over the base's prompts makes.
    """
    found = {"reference": studies.right(of.arm("reference"), of.recipe, of.recipe.model)}
    most = [f"sample.group_size={max(tries)}", f"sample.prompts={prompts}"]
    drawn = studies.again(of, f"tries-of-{max(tries)}", most, "score")
    settings = study_prompts.in_as_many_steps(of.recipe.bake, prompts, of.recipe.sample.prompts)
    for count in tries:
        alone = of.baking(dataclasses.replace(settings, n=count))
        run = studies.bake_arm(alone, f"tries-{count}", functools.partial(first, drawn, count))
        found[f"n{count}"] = studies.right(run, of.recipe, str(run.policy))
        print(f"seed {of.recipe.seed}: {count} tries: {found[f'n{count}'].mean():.3f} right", flush=True)
    return found


def first(run: Run, count: int) -> tuple[list[Completion], list[Score]]:
    """The first so many completions of every group, and their rewards."""
    _, completions, scores = studies.tables(run)
    rows = [c for c in completions if c.index < count]
    kept = {c.id for c in rows}
    return rows, [s for s in scores if s.completion_id in kept]
