"""The whole recipe on one screen: stages that meet on disk, in order, each done once."""

import dataclasses
import functools
import importlib.util
from collections.abc import Callable, Collection, Iterable, Iterator
from pathlib import Path

from bakeoff import tasks
from bakeoff.data import prepare
from bakeoff.data.read import sources
from bakeoff.data.seal import sealed
from bakeoff.data.stage import prompts
from bakeoff.errors import Missing, UserError
from bakeoff.evaluation.stage import evaluate, read_gold
from bakeoff.evaluation.summary import summarize
from bakeoff.models import checkpoint
from bakeoff.models.load import (
    NO_PEFT,
    give_back_memory,
    load_config,
    load_policy,
    model_folder,
    torch_device,
    torch_dtype,
    wants_lora,
)
from bakeoff.preferences import ENOUGH_PROMPTS, doubts, known_picks, read_picks, split
from bakeoff.preferences.stage import referee, train_reward
from bakeoff.run import Run, read_json
from bakeoff.sampling import choose, variants
from bakeoff.sampling.stage import sample
from bakeoff.sampling.stop import end_tokens
from bakeoff.scorer import finished_reward_model
from bakeoff.scoring import choose as scorers
from bakeoff.scoring.stage import score
from bakeoff.settings import Recipe
from bakeoff.training.methods import FORMER_METHODS, METHODS
from bakeoff.training.rounds import bake, control


@dataclasses.dataclass(frozen=True, slots=True)
class Stage:
    name: str
    work: Callable[[Run, Recipe], None]
    made: Callable[[Run], Path]
    """What the stage writes last: when it exists, the stage is done."""
    opens_gold: bool = False
    wanted: Callable[[Recipe], bool] = lambda recipe: True
    reads: Callable[[Recipe], Iterable[str]] = lambda recipe: ()
    """The user's files that it is made from, as the recipe names them."""
    doubted: Callable[[Run, Recipe], Iterable[str]] = lambda run, recipe: ()
    """Why the loop had better end after the stage; raises UserError where it has to."""


NO_PICKS = (
    "reward.picks: a reward model is trained on picks (score.scorer names scorers that need none); "
    "no file of testers' picks is given"
)


def has_referee(recipe: Recipe) -> bool:
    """Whether a second reward model judges the result: true answers are the better judge where a task has them."""
    picks = bool(recipe.reward.picks) or (tasks.learns_from_logs(recipe) and scorers.trains_reward_model(recipe))
    return picks and tasks.gold_files(recipe).keys() != tasks.each(recipe).keys()


def _has_reward_model(recipe: Recipe) -> bool:
    """Whether there is a reward model to train on picks, or a finished one that picks can be held against."""
    return scorers.trains_reward_model(recipe) or bool(finished_reward_model(recipe.score) and recipe.reward.picks)


def _logs(recipe: Recipe) -> list[str]:
    return [source for alone in tasks.each(recipe).values() for source in alone.prompts.sources]


def _gold(recipe: Recipe) -> Collection[str]:
    return tasks.gold_files(recipe).values()


def _sample(run: Run, recipe: Recipe) -> None:
    sample(run, recipe, functools.partial(known_picks, run, recipe.reward))


def _too_few(run: Run, recipe: Recipe) -> Iterable[str]:
    had = read_json(run.details("prompts"))["heldout"]
    needed = (recipe.bake.rounds > 1) + (not tasks.gold_files(recipe))
    if had < needed:
        raise UserError(
            f"prompts.heldout: {had} prompts are held out, {needed} needed; raise it or give evaluate.holdout"
        )
    if scorers.trains_reward_model(recipe):
        if not (picks := known_picks(run, recipe.reward)):
            raise UserError(f"{NO_PICKS} and the logs hold none")
        heldout = len(split(picks, recipe.reward.heldout)[1])
        if heldout < ENOUGH_PROMPTS:
            return doubts({"pick_accuracy": {"n": heldout}})
    return ()


def _bad_judge(run: Run, recipe: Recipe) -> Iterable[str]:
    # the combined choice gives a bad reward model no weight
    alone = scorers.relies_on_reward_model(recipe) or not scorers.trains_reward_model(recipe)
    return doubts(read_json(run.details("reward_model"))) if alone else ()


STAGES = (
    Stage("prompts", prompts, lambda run: run.details("prompts"), reads=_logs, doubted=_too_few),
    Stage("sample", _sample, lambda run: run.details("sample")),
    Stage(
        "reward",
        train_reward,
        lambda run: run.details("reward_model"),
        wanted=_has_reward_model,
        reads=lambda recipe: recipe.reward.picks,
        doubted=_bad_judge,
    ),
    Stage("score", score, lambda run: run.table("scores")),
    Stage("bake", bake, lambda run: run.details("bake")),
    Stage("control", control, lambda run: run.details("control"), wanted=lambda recipe: recipe.bake.control),
    Stage("referee", referee, lambda run: run.details("referee"), wanted=has_referee),
    Stage("evaluate", evaluate, lambda run: run.details("evaluation"), opens_gold=True, reads=_gold),
    Stage("summary", summarize, lambda run: run.summary),
)


def run_all(run: Run, recipe: Recipe, *, anyway: bool = False) -> None:
    """Run every stage that is not done yet; `anyway` goes on with a reward model that the gate refuses.

    Raises UserError unless the reward model beats both chance and the longest answer on held-out picks.
    """
    check_recipe(recipe)
    if not run.details("sample").exists():
        check_models(recipe)
    for stage in STAGES:
        if stage.wanted(recipe):
            if not stage.made(run).exists():
                run_stage(run, recipe, stage)
            if (found := " ".join(stage.doubted(run, recipe))) and not anyway:
                raise UserError(
                    f"{found} With more picks: take another --out, or remove reward_model.json first. To go on all the "
                    "same, with a warning in the report: --anyway"
                )


def outdated_stages(run: Run, recipe: Recipe) -> Iterator[str]:
    """A sentence for each of the user's files that is newer than what a finished stage made from it."""
    for stage in STAGES:
        yield from sources.outdated(stage.reads(recipe), stage.made(run))


def run_stage(run: Run, recipe: Recipe, stage: Stage) -> None:
    """Run one stage; the file of true answers is sealed unless the stage is the evaluation.

    Raises UserError naming the stage to run first when an earlier one is not done.
    """
    for earlier in STAGES[: STAGES.index(stage)]:
        if earlier.wanted(recipe) and not earlier.made(run).exists():
            raise UserError(
                f"{run.folder}: {stage.name} needs {earlier.made(run).name}; first run: bakeoff {earlier.name}"
            )
    with run.timed(stage.name), sealed(() if stage.opens_gold else _gold(recipe)):
        stage.work(run, recipe)
    give_back_memory()


def check_recipe(recipe: Recipe, *, with_gold: bool = True) -> None:
    """Raise UserError for what a late stage would stumble over, before any long work."""
    tasks.check_tasks(recipe)
    gold = [("evaluate.holdout", path) for path in _gold(recipe) if with_gold]
    for setting, path in [*(("reward.picks", p) for p in recipe.reward.picks), *gold]:
        if not Path(path).is_file():
            raise UserError(f"{setting}: {path}: no such file; correct the setting")
    if with_gold:
        check_holdout(recipe)
    if scorers.trains_reward_model(recipe) and not recipe.reward.picks and not tasks.learns_from_logs(recipe):
        raise UserError(NO_PICKS)
    read_picks(recipe.reward.picks)
    for alone in tasks.each(recipe).values():
        scorers.check_scorers(alone.score)
        prepare.check_prompts(alone.prompts)
        if not alone.prompts.sources:
            raise UserError("prompts.sources: names no log; give files, folders or globs")
    torch_dtype(recipe.dtype, torch_device(recipe.device))
    model_folder(recipe.model)  # converts a packaged model, before several processes ask for it
    choose.engine_kind(recipe.sample.engine)
    variants.check_variants(recipe)
    checkpoint.check_not_quantized(recipe.model, load_config(recipe.model))
    if not importlib.util.find_spec("peft") and wants_lora(recipe):
        raise Missing(NO_PEFT)
    _check_settings(recipe)


def _check_settings(recipe: Recipe) -> None:
    if not tasks.gold_files(recipe) and not any(one.prompts.heldout for one in tasks.each(recipe).values()):
        raise UserError("evaluate.holdout: nothing to evaluate; give it, or prompts.heldout above 0")
    if not (recipe.sample.temperature or recipe.sample.variants):
        raise UserError("sample.temperature: at 0 all tries are alike; give more than 0")
    if (method := recipe.bake.method) in FORMER_METHODS:
        raise UserError(f"bake.method: {method!r} {FORMER_METHODS[method]}")
    if method not in METHODS:
        raise UserError(f"bake.method: unknown method {method!r}; known: {', '.join(METHODS)}")


def check_holdout(recipe: Recipe) -> None:
    """Raise UserError for a true answer that its verifier cannot use; the stages before the evaluation see none."""
    for path in _gold(recipe):
        read_gold(Path(path))


def check_models(recipe: Recipe) -> None:
    """Load every model that the recipe names, once: raises UserError for what is wrong with one, before the work."""
    ends = end_tokens(*load_policy(recipe.model, recipe))
    if not ends and not recipe.sample.stop:
        raise UserError(
            f"model {recipe.model!r}: its tokenizer and generation_config.json name no end token, so no completion "
            "ends; set eos_token in tokenizer_config.json, or give sample.stop"
        )
    scorers.load_scorers(recipe)
