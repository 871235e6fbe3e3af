"""Stage: testers' picks in, a reward model and its figures on held-out picks out."""

from __future__ import annotations

from bakeoff import models
from bakeoff.config import Recipe
from bakeoff.errors import UserError
from bakeoff.optimizer import follow
from bakeoff.rewards import model as reward_model
from bakeoff.rewards import picks as people
from bakeoff.run import Run, write_json


def train_reward(run: Run, recipe: Recipe) -> None:
    """Train on the picks of most prompts, measure on those of the others; writes `reward_model/` and its figures."""
    settings = recipe.reward
    training, heldout = people.split(people.read_picks(settings.picks), settings.heldout)
    if not training or not heldout:
        raise UserError(f"reward.picks: {len(training)} picks to train on and {len(heldout)} held out; give more picks")
    if not run.reward_model.exists():
        _train(run, recipe, training)
    scorer = reward_model.load(run.reward_model, recipe)
    rewards = scorer.rewards([(pick.messages, pick.completions) for pick in heldout])
    figures = people.agreement(heldout, rewards, seed=recipe.seed)
    tokens = sum(int(line["tokens"]) for line in run.steps("reward"))
    write_json(
        run.details("reward_model"),
        {name: value.as_dict() for name, value in figures.items()}
        | {"picks": {"train": len(training), "heldout": len(heldout)}, "trained_tokens": tokens},
    )


def _train(run: Run, recipe: Recipe, picks: list[people.Pick]) -> None:
    scorer = reward_model.load(recipe.reward.base or recipe.model, recipe)
    training = reward_model.Training(scorer, picks, recipe.reward, seed=recipe.seed)
    follow(run, "reward", training.optimizer, training.steps())
    models.save(scorer.model, scorer.tokenizer, run.reward_model)
    run.checkpoint("reward").unlink(missing_ok=True)
