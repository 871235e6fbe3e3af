"""Stage: testers' picks in, a reward model and its figures on held-out picks out."""

import dataclasses
import random
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bakeoff import config
from bakeoff.errors import UserError
from bakeoff.models.load import context_window, load_config, load_tokenizer, lora_rank, merge_lora, save_model
from bakeoff.models.optimizer import follow
from bakeoff.preferences.gate import judged, pick_agreement
from bakeoff.preferences.load import known_picks, passed_over, read_picks
from bakeoff.preferences.reward_model import RewardModel, answer_tree, load_scorer
from bakeoff.preferences.reward_training import RewardTraining
from bakeoff.preferences.split import remember, split, trained_on
from bakeoff.records import Pick, prompt_id
from bakeoff.run import Run, open_run, read_json, write_json
from bakeoff.sampling import seed_of
from bakeoff.scorer import finished_reward_model
from bakeoff.settings import Recipe


def train_reward(run: Run, recipe: Recipe) -> None:
    """Train on the picks of most prompts, measure on those of the others; writes `reward_model/` and its figures.

    A finished reward model that the recipe names is only measured, on those of the same picks that are new to it.
    """
    settings = recipe.reward
    training, heldout = split(known_picks(run, settings), settings.heldout)
    if (name := finished_reward_model(recipe.score)) and heldout:
        fresh = [pick for pick, known in zip(heldout, trained_on(name, heldout), strict=True) if not known]
        seen = {"seen": len(heldout) - len(fresh)} if len(fresh) < len(heldout) else {}
        counts = {"picks": {"train": 0, "heldout": len(fresh)} | seen, "trained_tokens": 0}
        figures = measured(load_scorer([Path(name)], recipe), fresh, seed=recipe.seed)
        return write_json(run.details(run.reward_model.name), figures | counts)
    if not training or not heldout:
        raise UserError(
            f"reward.picks: {len(training)} picks to train on and {len(heldout)} held out, with those that the logs "
            "hold; give more picks"
        )
    for number, folder in enumerate(run.members(settings.ensemble)[1:], 2):
        if not folder.exists():
            other = dataclasses.replace(recipe, seed=seed_of(recipe.seed, "member", number))
            again = bootstrap_prompts(training, seed=recipe.seed, number=number)
            train_reward_model(run, other, f"reward_{number}", again, folder)
    _train_and_measure(run, recipe, "reward", (training, heldout), run.reward_model)


def referee(run: Run, recipe: Recipe) -> None:
    """A judge of the result that took no part in it: trained on the picks held out above; writes `referee/`.

    Other picks, another seed: it shares neither the slips of the training picks nor the chances of the first training.
    """
    training, heldout = split(known_picks(run, recipe.reward), recipe.reward.heldout)
    other = dataclasses.replace(recipe, seed=recipe.seed + 1)
    _train_and_measure(run, other, "referee", (heldout, training), run.referee)


def train_alone(recipe: Recipe, out: Path) -> dict[str, Any]:
    """Train on the files of `reward.picks` into the folder `out`; returns the figures, which it holds as training.json.

    The folder appears when it is whole; what a stopped training leaves stands hidden beside it.
    """
    record, settings = out / "training.json", dataclasses.asdict(recipe)
    if recipe.reward.ensemble > 1:
        raise UserError("reward.ensemble: one folder holds one model; train each with a seed of its own")
    if not out.exists():
        picks = split(read_picks(recipe.reward.picks), recipe.reward.heldout)
        if not picks[0]:
            raise UserError(f"reward.heldout: {recipe.reward.heldout} leaves no picks to train on; lower it")
        run = open_run(out.with_name(f".{out.name}.training"), recipe)
        _train_and_measure(run, recipe, "reward", picks, run.reward_model)
        figures = read_json(run.details(run.reward_model.name))
        write_json(run.reward_model / record.name, {"settings": settings, "figures": figures})
        run.reward_model.rename(out)
        shutil.rmtree(run.folder)
    if not record.exists() or config.overridden(read_json(record)["settings"], (), str(record)) != recipe:
        raise UserError(f"{out}: exists and was made otherwise; give another --out")
    return read_json(record)["figures"]


def bootstrap_prompts(picks: Sequence[Pick], *, seed: int, number: int) -> list[Pick]:
    """As many prompts as there are, drawn with replacement, each with all its picks: what a further member learns."""
    by_prompt: dict[str, list[Pick]] = {}
    for pick in picks:
        by_prompt.setdefault(prompt_id(pick.messages), []).append(pick)
    drawn = random.Random(f"member {seed} {number}").choices(list(by_prompt.values()), k=len(by_prompt))
    return [pick for group in drawn for pick in group]


def measured(scorer: RewardModel, heldout: Sequence[Pick], *, seed: int) -> dict[str, Any]:
    """The figures of `pick_agreement` as JSON; null where nothing is held out."""
    groups = judged(heldout, scorer.rewards([(pick.messages, pick.completions) for pick in heldout]))
    return {name: value.as_dict() for name, value in pick_agreement(groups, seed=seed).items()}


def _train_and_measure(
    run: Run, recipe: Recipe, stage: str, picks: tuple[list[Pick], list[Pick]], folder: Path
) -> None:
    training, heldout = picks
    if not folder.exists():
        _check_readable(recipe, [*training, *heldout])
        train_reward_model(run, recipe, stage, training, folder)
    folders = run.members(recipe.reward.ensemble) if stage == "reward" else [folder]
    stages = [stage, *(f"reward_{number}" for number in range(2, len(folders) + 1))]
    write_json(
        run.details(folder.name),
        measured(load_scorer(folders, recipe), heldout, seed=recipe.seed)
        | {
            "picks": {"train": len(training), "heldout": len(heldout)},
            "trained_tokens": sum(int(line["tokens"]) for name in stages for line in run.steps(name)),
            "passed_over": passed_over(recipe.reward.picks),
        },
    )


def _check_readable(recipe: Recipe, picks: Sequence[Pick]) -> None:
    """Raise UserError naming the first pick with a text that the reward model to be trained cannot read."""
    name = recipe.reward.base or recipe.model
    tokenizer, limit = load_tokenizer(name), context_window(load_config(name).get_text_config())
    for pick in picks:
        try:
            answer_tree(tokenizer, 0, pick.messages, pick.completions, limit)
        except UserError as error:
            raise UserError(f"{pick.source}: {error}; leave the row out, or give another base") from None


def train_reward_model(run: Run, recipe: Recipe, stage: str, picks: Sequence[Pick], folder: Path) -> None:
    """Train on all of the picks; the folder appears when the model is whole. `stage` names its lines of metrics."""
    scorer = RewardModel.fresh(recipe.reward.base or recipe.model, recipe)
    rank = lora_rank(scorer.model, recipe.lora)
    training = RewardTraining(scorer, picks, recipe.reward, seed=recipe.seed, lora=rank)
    follow(run, stage, training.optimizer, training.steps())
    merge_lora(scorer.model)
    beside = folder.with_name(f".{folder.name}.whole.tmp")
    save_model(scorer.model, scorer.tokenizer, beside)
    remember(beside, picks)
    beside.rename(folder)
    run.checkpoint(stage).unlink(missing_ok=True)
