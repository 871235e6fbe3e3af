"""What the surest groups teach, as the demo's maker knows."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence

import numpy as np

from bakeoff.math import statistics
from bakeoff.settings import Bake
from bakeoff.training import stage as bake
from benchmarks import answers, study

SHARES = {"all": 1.0, "half": 0.5, "quarter": 0.25}


def taught(bases: Sequence[study.Base]) -> Iterator[study.Row]:
    """The share of the baked groups whose best try is right, with its interval over prompts."""
    for name, share in SHARES.items():
        found = [best_tries(of, dataclasses.replace(of.recipe.bake, agreement_quantile=share)) for of in bases]
        right, prompts = np.concatenate([right for right, _ in found]), [key for _, keys in found for key in keys]
        yield {"name": f"surest.taught_{name}"} | statistics.bootstrap(right, seed=0, owners=prompts).as_dict()


def best_tries(of: study.Base, settings: Bake) -> tuple[np.ndarray, list[str]]:
    """([G] whether the best try is right, their prompts), of the groups baked whose true answer the maker knows."""
    recipe = dataclasses.replace(of.recipe, bake=settings)
    prompts, completions, scores = study.tables(of.run)
    made = {(c.prompt_id, *c.tokens): c for c in completions}
    groups, _ = bake.teaching(completions, scores, recipe)
    taken = bake.surest(groups, bake.Lesson(recipe.model, prompts, completions, scores, recipe.seed), recipe)
    truth = answers.of_the_maker(prompts)
    best = [made[(g.prompt_id, *g.tokens[bake.best(g)])] for g in taken if g.prompt_id in truth]
    return answers.agrees(truth, best), [c.prompt_id for c in best]
