"""Stage: completions in, rewards out."""

from __future__ import annotations

from collections.abc import Sequence

from bakeoff.records import Completion, Prompt, Score, read_table
from bakeoff.rewards import choose
from bakeoff.rewards.resume import score_table
from bakeoff.run import Run
from bakeoff.settings import Recipe


def score(run: Run, recipe: Recipe) -> None:
    """Reward every completion of the table `completions` into the table `scores`."""
    prompts = read_table(run.table("prompts"), Prompt)
    completions = read_table(run.table("completions"), Completion)
    reward(run, recipe, "scores", prompts, completions)


def reward(
    run: Run,
    recipe: Recipe,
    name: str,
    prompts: Sequence[Prompt],
    completions: Sequence[Completion],
    peers: choose.Peers | None = None,
) -> list[Score]:
    """The rewards of completions by the recipe's scorer, in the run's table `name`."""
    return score_table(run, name, prompts, completions, lambda: choose.scorer(run.whole(), recipe, prompts, peers))
