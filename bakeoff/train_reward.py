"""Stage: testers' picks in, a reward model and its figures on held-out picks out."""

from __future__ import annotations

from tqdm import tqdm

from bakeoff import models
from bakeoff.config import Recipe
from bakeoff.errors import UserError
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
    tokens = {
        line["step"]: int(line["tokens"]) for line in run.logged() if line["stage"] == "reward" and "step" in line
    }
    write_json(
        run.details("reward_model"),
        {name: value.as_dict() for name, value in figures.items()}
        | {"picks": {"train": len(training), "heldout": len(heldout)}, "trained_tokens": sum(tokens.values())},
    )


def _train(run: Run, recipe: Recipe, picks: list[people.Pick]) -> None:
    settings = recipe.reward
    scorer = reward_model.load(settings.base or recipe.model, recipe)
    metrics = reward_model.train(scorer, picks, settings, seed=recipe.seed)
    total = reward_model.steps(picks, settings.epochs)
    for step, values in enumerate(tqdm(metrics, desc="reward model", total=total, unit="step")):
        run.log("reward", step=step, **values)
    models.save(scorer.model, scorer.tokenizer, run.reward_model)
