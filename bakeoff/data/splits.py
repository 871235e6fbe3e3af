"""Which prompts are whose: those a round trains on, those that choose among rounds, those that only the end sees."""

from collections.abc import Sequence

from bakeoff import tasks
from bakeoff.records import Prompt
from bakeoff.settings import Recipe

_MOST = 100
"""Prompts that choose among rounds, at most: the others held out are for the evaluation."""


def training(prompts: Sequence[Prompt], recipe: Recipe, number: int = 1) -> list[Prompt]:
    """The `sample.prompts` of a round, in the order of their ids: each round takes the next ones, and begins again.

    Several tasks are mixed by their weights.
    """
    return tasks.mixed([p for p in prompts if p.split == "train"], recipe, number)


def validation(prompts: Sequence[Prompt], recipe: Recipe) -> list[Prompt]:
    """Every second prompt held out of the log, at most `_MOST`, where there are rounds to choose among."""
    held_out = sorted((p for p in prompts if p.split == "heldout"), key=lambda p: p.id)
    return held_out[::2][:_MOST] if recipe.bake.rounds > 1 else []


def evaluation(prompts: Sequence[Prompt], recipe: Recipe) -> list[Prompt]:
    """The prompts held out of the log that nothing was chosen by, in the order of the log."""
    chosen_by = {p.id for p in validation(prompts, recipe)}
    return [p for p in prompts if p.split == "heldout" and p.id not in chosen_by]
