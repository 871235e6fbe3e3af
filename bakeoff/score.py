"""Stage: completions in, rewards out."""

from __future__ import annotations

from bakeoff.config import Recipe
from bakeoff.records import Completion, Prompt, read_table
from bakeoff.rewards import model as reward_model
from bakeoff.rewards.resume import score_table
from bakeoff.run import Run


def score(run: Run, recipe: Recipe) -> None:
    """Reward every completion of the table `completions` into the table `scores`."""
    prompts = read_table(run.table("prompts"), Prompt)
    completions = read_table(run.table("completions"), Completion)
    score_table(run, "scores", prompts, completions, lambda: reward_model.load(run.reward_model, recipe))
