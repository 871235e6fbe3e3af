"""More test-time compute: the first 2, 4, 8 and all 16 of the same tries, with one reward model, baked and measured."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import studies

TRIES = (2, 4, 8, 16)


def study(seeds: Sequence[int], out: Path, overrides: Sequence[str]) -> None:
    """Every number of tries on every seed, then the table."""
    found = studies.each_seed(arms, seeds, out, overrides)
    names = list(found)
    studies.record("tries", studies.measured("tries", found, [(names[-1], n) for n in names[:-1]]), seeds, overrides)


def arms(of: studies.Base) -> dict[str, np.ndarray]:
    """The share of right first answers to each gold prompt, by the number of tries that were baked."""
    _, completions, scores = studies.tables(of.run)
    size = of.recipe.sample.group_size
    found = {"reference": studies.right(of.arm("reference"), of.recipe, of.recipe.model)}
    for count in sorted({min(n, size) for n in TRIES}):
        rows = [c for c in completions if c.index < count]
        kept = {c.id for c in rows}
        run = studies.bake_arm(
            of, f"tries-{count}", lambda rows=rows, kept=kept: (rows, [s for s in scores if s.completion_id in kept])
        )
        found[f"n{count}"] = studies.right(run, of.recipe, str(run.policy))
        print(f"seed {of.recipe.seed}: {count} tries: {found[f'n{count}'].mean():.3f} right", flush=True)
    return found
