"""Stage: training prompts in, N completions of each out."""

from __future__ import annotations

from bakeoff import models
from bakeoff.config import Recipe
from bakeoff.engines import Sampling
from bakeoff.engines.local import LocalEngine
from bakeoff.engines.resume import complete_table
from bakeoff.records import Prompt, read_table
from bakeoff.run import Run


def sample(run: Run, recipe: Recipe) -> None:
    """Draw `sample.group_size` completions of every training prompt into the table `completions`."""
    training = [p for p in read_table(run.table("prompts"), Prompt) if p.split == "train"]
    prompts = sorted(training, key=lambda p: p.id)[: recipe.sample.prompts]
    sampling = Sampling.of(recipe.sample, recipe.seed)
    complete_table(
        run, "completions", prompts, sampling, lambda: LocalEngine(*models.load_policy(recipe.model, recipe))
    )
