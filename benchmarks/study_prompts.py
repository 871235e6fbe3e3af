"""More prompts: 20 to 320 of the base's groups, others for each seed, each number baked for as many steps as all."""

from __future__ import annotations

import dataclasses
import functools
import math
import random
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import studies

from bakeoff.records import Completion, Score
from bakeoff.run import Run
from bakeoff.settings import Bake

PROMPTS = (20, 40, 80, 160, 320)


def study(seeds: Sequence[int], out: Path, overrides: Sequence[str]) -> None:
    """Every number of prompts on every seed, then the table."""
    studies.grown("prompts", studies.each_seed(arms, seeds, out, overrides), seeds, overrides)


def arms(of: studies.Base, sizes: Sequence[int] = PROMPTS) -> dict[str, np.ndarray]:
    """The share of right first answers to each gold prompt, by the number of prompts; few are passed over again.

    All make as many steps, of as many prompts as the recipe says or, where a pass would not divide into such, a few
    more: `p40` takes ten passes over 40 prompts in steps of 20, as many steps as one pass over 320 in steps of 16.
    """
    found = {"reference": studies.right(of.arm("reference"), of.recipe, of.recipe.model)}
    for size in sizes:
        run = baked(of, size)
        found[f"p{size}"] = studies.right(run, of.recipe, str(run.policy))
        print(f"seed {of.recipe.seed}: {size} prompts: {found[f'p{size}'].mean():.3f} right", flush=True)
    return found


def baked(of: studies.Base, size: int) -> Run:
    """The arm that is baked from so many prompts."""
    most = of.recipe.sample.prompts
    if size == most:
        return studies.whole(of)
    settings = in_as_many_steps(of.recipe.bake, size, most)
    return studies.bake_arm(of.baking(settings), f"prompts-{size}", functools.partial(some, of, size))


def in_as_many_steps(settings: Bake, size: int, most: int) -> Bake:
    """The settings with which `size` prompts make as many steps, all equal, as `most` in one pass."""
    steps = max(1, size // settings.batch_size)
    passes = math.ceil(most / settings.batch_size) // steps
    return dataclasses.replace(settings, epochs=passes, batch_size=math.ceil(size / steps))


def some(of: studies.Base, size: int) -> tuple[list[Completion], list[Score]]:
    """The groups of so many prompts, a random order of them for each seed: fewer are the first of more."""
    _, completions, scores = studies.tables(of.run)
    order = sorted({c.prompt_id for c in completions})
    random.Random(f"prompts {of.recipe.seed}").shuffle(order)
    kept = set(order[:size])
    return [c for c in completions if c.prompt_id in kept], [s for s in scores if s.prompt_id in kept]
