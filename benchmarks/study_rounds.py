"""Rounds and strategies: the same number of tries spent on one round, on two, or shared with other ways to ask."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import studies

STRATEGIES = (
    '[{name="plain", share=3}, {name="examples", share=2, examples=2}, {name="quote", answer_after="Answer:", '
    "instruction=\"First quote the words that hold the answer, then write the answer after 'Answer:'.\"}]"
)
ARMS = {
    "one_round": [],
    "two_rounds": ["bake.rounds=2", "sample.prompts=160"],
    "strategies": [f"sample.strategies={STRATEGIES}"],
}
"""Two rounds of half the prompts each draw as many tries as one."""


def study(seeds: Sequence[int], out: Path, overrides: Sequence[str]) -> None:
    """Every way on every seed, then the table."""
    found = studies.each_seed(arms, seeds, out, overrides)
    against = [(name, "one_round") for name in ARMS if name != "one_round"]
    studies.record("rounds", studies.measured("rounds", found, against), seeds, overrides)


def arms(of: studies.Base) -> dict[str, np.ndarray]:
    """The share of right first answers to each gold prompt, by how the tries were spent."""
    found = {"reference": studies.right(of.arm("reference"), of.recipe, of.recipe.model)}
    for name, settings in ARMS.items():
        if name == "strategies":  # the examples come from the picks
            settings = [*settings, f"reward.picks={json.dumps(of.recipe.reward.picks)}", studies.judged(of)]
        run = studies.again(of, f"rounds-{name}", settings)
        found[name] = studies.right(run, of.recipe, str(run.policy))
        print(f"seed {of.recipe.seed}: {name}: {found[name].mean():.3f} right", flush=True)
    return found
