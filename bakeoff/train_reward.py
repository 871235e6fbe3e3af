"""Stage: testers' picks in, a reward model and its figures on held-out picks out."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from bakeoff import models
from bakeoff.config import Recipe
from bakeoff.errors import UserError
from bakeoff.optimizer import follow
from bakeoff.rewards import model as reward_model
from bakeoff.rewards import picks as people
from bakeoff.rewards import trust
from bakeoff.run import Run, write_json


def train_reward(run: Run, recipe: Recipe) -> None:
    """Train on the picks of most prompts, measure on those of the others; writes `reward_model/` and its figures."""
    settings = recipe.reward
    training, heldout = people.split(people.read_picks(settings.picks), settings.heldout)
    if not training or not heldout:
        raise UserError(f"reward.picks: {len(training)} picks to train on and {len(heldout)} held out; give more picks")
    _train_and_measure(run, recipe, "reward", (training, heldout), run.reward_model)


def referee(run: Run, recipe: Recipe) -> None:
    """A judge of the result that took no part in it: trained on the picks held out above; writes `referee/`.

    Other picks, another seed: it shares neither the slips of the training picks nor the chances of the first training.
    """
    training, heldout = people.split(people.read_picks(recipe.reward.picks), recipe.reward.heldout)
    other = dataclasses.replace(recipe, seed=recipe.seed + 1)
    _train_and_measure(run, other, "referee", (heldout, training), run.referee)


def _train_and_measure(
    run: Run, recipe: Recipe, stage: str, picks: tuple[list[people.Pick], list[people.Pick]], folder: Path
) -> None:
    training, heldout = picks
    if not folder.exists():
        _train(run, recipe, stage, training, folder)
    scorer = reward_model.load(folder, recipe)
    rewards = scorer.rewards([(pick.messages, pick.completions) for pick in heldout])
    figures = trust.agreement(trust.judged(heldout, rewards), seed=recipe.seed)
    tokens = sum(int(line["tokens"]) for line in run.steps(stage))
    write_json(
        run.details(folder.name),
        {name: value.as_dict() for name, value in figures.items()}
        | {"picks": {"train": len(training), "heldout": len(heldout)}, "trained_tokens": tokens},
    )


def _train(run: Run, recipe: Recipe, stage: str, picks: list[people.Pick], folder: Path) -> None:
    scorer = reward_model.load(recipe.reward.base or recipe.model, recipe)
    training = reward_model.Training(scorer, picks, recipe.reward, seed=recipe.seed)
    follow(run, stage, training.optimizer, training.steps())
    models.save(scorer.model, scorer.tokenizer, folder)
    run.checkpoint(stage).unlink(missing_ok=True)
