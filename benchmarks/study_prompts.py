"""More prompts: 20 to 320 of the base's groups, each number baked for as many steps as all of them."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import studies

from bakeoff.records import Completion, Score
from bakeoff.run import Run

PROMPTS = (20, 40, 80, 160, 320)


def study(seeds: Sequence[int], out: Path, overrides: Sequence[str]) -> None:
    """Every number of prompts on every seed, then the table."""
    studies.grown("prompts", studies.each_seed(arms, seeds, out, overrides), seeds, overrides)


def arms(of: studies.Base, sizes: Sequence[int] = PROMPTS) -> dict[str, np.ndarray]:
    """The share of right first answers to each gold prompt, by the number of prompts; few are passed over again.

    `p40` takes eight passes over 40 prompts, as many steps as one over 320.
    """
    found = {"reference": studies.right(of.arm("reference"), of.recipe, of.recipe.model)}
    for size in sizes:
        if size == of.recipe.sample.prompts:
            run = studies.whole(of)
        else:
            bake = dataclasses.replace(of.recipe.bake, epochs=max(sizes) // size)
            run = studies.bake_arm(of.baking(bake), f"prompts-{size}", functools.partial(some, of.run, size))
        found[f"p{size}"] = studies.right(run, of.recipe, str(run.policy))
        print(f"seed {of.recipe.seed}: {size} prompts: {found[f'p{size}'].mean():.3f} right", flush=True)
    return found


def some(run: Run, size: int) -> tuple[list[Completion], list[Score]]:
    """The groups of the first prompts, in the order of their ids, which is random."""
    _, completions, scores = studies.tables(run)
    kept = set(sorted({c.prompt_id for c in completions})[:size])
    return [c for c in completions if c.prompt_id in kept], [s for s in scores if s.prompt_id in kept]
