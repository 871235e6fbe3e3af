"""Stage: completions in, rewards out."""

import functools
from collections.abc import Sequence

from bakeoff.records import Completion, Prompt, Score, read_table
from bakeoff.run import Run
from bakeoff.scorer import score_table
from bakeoff.scoring.choose import make_scorer
from bakeoff.settings import Recipe


def score(run: Run, recipe: Recipe) -> None:
    """Reward the completions of the table `completions` into the table `scores`, to bake from."""
    completions = read_table(run.table("completions"), Completion)
    reward(run, recipe, read_table(run.table("prompts"), Prompt), completions)


def reward(run: Run, recipe: Recipe, prompts: Sequence[Prompt], completions: Sequence[Completion]) -> list[Score]:
    """The rewards that a bake learns from, by the recipe's scorer, in the run's table `scores`.

    Completions that are no whole answers may have none: see `make_scorer`. Some must have one; else UserError tells
    why.
    """
    scorer = functools.partial(make_scorer, run.whole(), recipe, prompts, to_bake=True)
    return score_table(run, "scores", prompts, completions, scorer, needed=True)
