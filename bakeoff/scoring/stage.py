"""Stage: completions in, rewards out."""

import functools
from collections.abc import Sequence

from bakeoff.records import Completion, Prompt, Score, read_table
from bakeoff.run import Run
from bakeoff.scorer import Peers, score_table
from bakeoff.scoring.choose import make_scorer
from bakeoff.settings import Recipe

TO_BAKE = "scores"
"""The table of rewards that a bake learns from."""


def score(run: Run, recipe: Recipe) -> None:
    """Reward the completions of the table `completions` into the table `scores`, to bake from."""
    prompts = read_table(run.table("prompts"), Prompt)
    completions = read_table(run.table("completions"), Completion)
    reward(run, recipe, TO_BAKE, prompts, completions)


def reward(
    run: Run,
    recipe: Recipe,
    name: str,
    prompts: Sequence[Prompt],
    completions: Sequence[Completion],
    peers: Peers | None = None,
) -> list[Score]:
    """The rewards of completions by the recipe's scorer, in the run's table `name`.

    In the table `scores`, incomplete answers may have none: see `make_scorer`. Some must have one; else UserError
    says why.
    """
    to_bake = name == TO_BAKE
    scorer = functools.partial(make_scorer, run.whole(), recipe, prompts, peers, to_bake=to_bake)
    return score_table(run, name, prompts, completions, scorer, needed=to_bake)
