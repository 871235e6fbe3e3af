"""Rounds and strategies: the same number of tries spent on one round, on two, or shared with other ways to ask."""

from __future__ import annotations

import functools
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import studies

STRATEGIES = (
    '[{name="plain", share=3}, {name="examples", share=2, examples=2}, {name="quote", answer_after="Answer:", '
    "instruction=\"First quote the words that hold the answer, then write the answer after 'Answer:'.\"}]"
)


def study(seeds: Sequence[int], out: Path, overrides: Sequence[str]) -> None:
    """Every way on every seed, then the table."""
    found = studies.each_seed(arms, seeds, out, overrides)
    against = [(name, "one_round") for name in found if name not in ("one_round", "reference")]
    studies.record("rounds", studies.measured("rounds", found, against), seeds, overrides)


def ways(of: studies.Base) -> dict[str, list[str]]:
    """The settings of the other ways to spend the tries: two rounds of half the prompts draw as many as one round."""
    return {
        "two_rounds": ["bake.rounds=2", f"sample.prompts={of.recipe.sample.prompts // 2}"],
        "strategies": [f"sample.variants={STRATEGIES}", f"reward.picks={json.dumps(of.recipe.reward.picks)}"],
    }


def arms(of: studies.Base) -> dict[str, np.ndarray]:
    """The share of right first answers to each gold prompt, by how the tries were spent."""
    found = {"reference": studies.right(of.arm("reference"), of.recipe, of.recipe.model)}
    runs = {"one_round": lambda: studies.whole(of)}
    for name, settings in ways(of).items():
        runs[name] = functools.partial(studies.again, of, f"rounds-{name}", settings)
    for name, made in runs.items():
        run = made()
        found[name] = studies.right(run, of.recipe, str(run.policy))
        print(f"seed {of.recipe.seed}: {name}: {found[name].mean():.3f} right", flush=True)
    return found
