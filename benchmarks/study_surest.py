"""Surer groups: the bake from the half or the quarter of the groups in which most tries answer what the best one does.

They are passed over two and four times, so that all arms make as many steps; `any_quarter` is any quarter, by as many.
`taught_NAME` is the share of the baked groups whose best try is right, as the demo's maker knows.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import studies
import study_prompts

from bakeoff.math import statistics
from bakeoff.run import Run
from bakeoff.training import stage as bake

SHARES = {"half": 2, "quarter": 4}
"""What part of the groups is kept, and how often it is passed over."""


def study(seeds: Sequence[int], out: Path, overrides: Sequence[str]) -> None:
    """Every share on every seed, then the table."""
    found = studies.each_seed(arms, seeds, out, overrides)
    against = [*((name, "all") for name in SHARES), ("quarter", "any_quarter")]
    rows = studies.measured("surest", found, against)
    bases = [studies.base(out, seed, overrides) for seed in seeds]
    for name in ("all", *SHARES):
        told = [taught(in_as_many_steps(of, name) if name in SHARES else of) for of in bases]
        right, prompts = np.concatenate([r for r, _ in told]), [key for _, keys in told for key in keys]
        rows.append({"name": f"surest.taught_{name}"} | statistics.bootstrap(right, seed=0, owners=prompts).as_dict())
    studies.record("surest", rows, seeds, overrides)


def arms(of: studies.Base) -> dict[str, np.ndarray]:
    """The share of right first answers to each gold prompt, by which groups were baked."""
    found = {"reference": studies.right(of.arm("reference"), of.recipe, of.recipe.model)}
    runs = {"all": studies.whole(of), "any_quarter": study_prompts.baked(of, of.recipe.sample.prompts // 4)}
    runs |= {name: baked(of, name) for name in SHARES}
    for name, run in runs.items():
        found[name] = studies.right(run, of.recipe, str(run.policy))
        print(f"seed {of.recipe.seed}: {name}: {found[name].mean():.3f} right", flush=True)
    return found


def baked(of: studies.Base, name: str) -> Run:
    """The arm that is baked from this share of the groups."""
    return studies.bake_arm(in_as_many_steps(of, name), f"surest-{name}", lambda: studies.tables(of.run)[1:])


def in_as_many_steps(of: studies.Base, name: str) -> studies.Base:
    """The same tables, to be baked from this share of the groups in as many steps as all."""
    part = SHARES[name]
    return of.baking(
        dataclasses.replace(of.recipe.bake, agreement_quantile=1 / part, epochs=part * of.recipe.bake.epochs)
    )


def taught(of: studies.Base) -> tuple[np.ndarray, list[str]]:
    """([G] whether the best try is right, their prompts), of the groups baked whose true answer the maker knows."""
    prompts, completions, scores = studies.tables(of.run)
    made = {(c.prompt_id, *c.tokens): c for c in completions}
    groups, _ = bake.teaching(completions, scores, of.recipe)
    lesson = bake.Lesson(of.recipe.model, prompts, completions, scores, of.recipe.seed)
    taken = bake.surest(groups, lesson, of.recipe)
    truth = studies.filings_answers(prompts)
    best = [made[(g.prompt_id, *g.tokens[bake.best(g)])] for g in taken if g.prompt_id in truth]
    return studies.agrees(truth, best), [c.prompt_id for c in best]
