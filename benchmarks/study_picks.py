"""More picks: reward models taught by 50 to 800 picks, on the same completions, baked and measured.

Those beyond the demo's are made as these were, of what the maker asks next.
"""

from __future__ import annotations

import functools
import random
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import studies

from bakeoff.run import Run, write_text

PICKS = (50, 100, 200, 800)
"""Beside all of the demo's."""


def study(seeds: Sequence[int], out: Path, overrides: Sequence[str]) -> None:
    """Every number of picks on every seed, then the table."""
    studies.grown("picks", studies.each_seed(arms, seeds, out, overrides), seeds, overrides)


def arms(of: studies.Base, sizes: Sequence[int] = PICKS) -> dict[str, np.ndarray]:
    """The share of right first answers to each gold prompt, by the number of picks; a fifth of them is held out."""
    rows = [line for path in of.recipe.reward.picks for line in Path(path).read_text("utf-8").splitlines()]
    own = len(rows)
    rows = random.Random(f"picks {of.recipe.seed}").sample(rows, own)
    if max(sizes) > own:
        file = of.run.folder.with_name(f"picks-{own}-{max(sizes)}.jsonl")
        rows += studies.picked(file, range(own, max(sizes)), of.recipe.model).read_text("utf-8").splitlines()
    taught: dict[int, Callable[[], Run]] = {own: lambda: studies.whole(of)}
    found = {"reference": studies.right(of.arm("reference"), of.recipe, of.recipe.model)}
    for size in sizes:
        file = of.arm(f"picks-{size}").folder / "some.jsonl"
        write_text(file, "".join(f"{row}\n" for row in rows[:size]))
        settings = [f'reward.picks=["{file.resolve()}"]', 'score.scorer="reward_model"']
        taught[size] = functools.partial(
            studies.again, of, f"picks-{size}", settings, tables=("prompts", "completions", "sample")
        )
    for size in sorted(taught):
        run = taught[size]()
        found[f"k{size}"] = studies.right(run, of.recipe, str(run.policy))
        print(f"seed {of.recipe.seed}: {size} picks: {found[f'k{size}'].mean():.3f} right", flush=True)
    return found
