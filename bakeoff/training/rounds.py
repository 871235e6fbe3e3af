"""Rounds: sample from the current policy, reward, bake, validate; the best policy by a rule stated beforehand is kept.

The rule: the highest mean reward of sampled first answers on prompts held out of the log, the earlier among equals. A
round that does not beat all before it has not helped; after the method's patience of such rounds the bake ends.
True answers play no part in it, and the prompts that chose are not evaluated.

The first round learns from the tables in the run folder; all else of a round is in `rounds/bake-NUMBER/`.
"""

import dataclasses
import functools
import random
import shutil
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from bakeoff import tasks
from bakeoff.data import splits
from bakeoff.errors import UserError
from bakeoff.math import best_of_n, statistics
from bakeoff.models import kl, packing
from bakeoff.models.chat import render
from bakeoff.models.load import load_policy
from bakeoff.preferences import known_picks
from bakeoff.records import Completion, Prompt, Score, read_table
from bakeoff.run import Run, read_json, write_json
from bakeoff.sampling import Sampling, choose, seed_of
from bakeoff.sampling.resume import complete_table
from bakeoff.sampling.stage import draw_groups
from bakeoff.scorer import by_prompt
from bakeoff.scoring.stage import TO_BAKE, reward
from bakeoff.settings import Recipe
from bakeoff.training import stage as once
from bakeoff.training.methods import METHODS

SAMPLES = 4
"""First answers to each validation prompt."""
KL_PROMPTS = 32
Dealt = Callable[[Sequence[Completion], Sequence[Score], int], list[Score] | None]
"""(completions, their rewards, number of the round) -> the rewards trained on in their place, if any."""


def bake(run: Run, recipe: Recipe) -> None:
    """Bake once, or in rounds; writes `policy/` and `bake.json`."""
    if recipe.bake.rounds == 1:
        return once.bake(run, recipe)
    prompts = splits.validation(read_table(run.table("prompts"), Prompt), recipe)
    if not prompts:
        raise UserError("bake.rounds: no prompt is held out to choose among rounds; raise prompts.heldout")
    history = [validated(run.round("bake", 0), recipe, recipe.model, prompts)]
    while not finished(history, recipe):
        current = run.round("bake", len(history))
        try:
            if not current.details("validation").exists():
                _round(run, recipe, "bake", len(history), lambda *_: None)
        except once.NothingToBake:
            if len(history) == 1:
                raise
            break
        history.append(validated(current, recipe, str(current.policy), prompts))
        _prune(run, "bake", {kept(history), len(history) - 1})
        if read_json(current.details("bake")).get("spent"):
            break
    _take(run, "bake", kept(history), len(history) - 1)
    rows = [{key: row[key] for key in ("reward", "kl")} for row in history]
    told = {"rounds": rows, "kept": kept(history), "kl_budget": recipe.bake.kl_budget}
    write_json(run.details("bake"), _totals(run, "bake", len(history) - 1) | told)


def control(run: Run, recipe: Recipe) -> None:
    """The same number of rounds as were kept, on rewards dealt out at random; writes `control/` and `control.json`."""
    if recipe.bake.rounds == 1:
        return once.control(run, recipe)
    count = read_json(run.details("bake"))["kept"]
    for number in range(1, count + 1):
        try:
            if not run.round("control", number).details("bake").exists():
                _round(run, recipe, "control", number, _dealt(recipe))
        except once.NothingToBake:
            if number == 1:
                raise
            count = number - 1
            break
        _prune(run, "control", {number})
    _take(run, "control", count, count)
    write_json(run.details("control"), _totals(run, "control", count))


def finished(history: Sequence[dict[str, Any]], recipe: Recipe) -> bool:
    """Whether the rounds so far (the first entry is the reference) are the last: all, of no more help, or too far."""
    settings = recipe.bake
    without_gain = len(history) - 1 - best(history)
    far = settings.kl_budget and history[-1]["kl"]["value"] >= settings.kl_budget
    return len(history) > settings.rounds or without_gain >= METHODS[settings.method].patience or bool(far)


def best(history: Sequence[dict[str, Any]]) -> int:
    """The entry with the highest mean reward, the earliest among equals."""
    return int(np.argmax([row["reward"]["value"] for row in history]))


def kept(history: Sequence[dict[str, Any]]) -> int:
    """The best of the rounds, whether or not it beats the reference, as the evaluation will tell."""
    return 1 + best(history[1:])


def _dealt(recipe: Recipe) -> Dealt:
    return lambda completions, scores, number: once.shuffled(
        completions, scores, random.Random(f"control {recipe.seed} {number}")
    )


def _round(run: Run, recipe: Recipe, stage: str, number: int, dealt: Dealt) -> None:
    """Sample from the policy of the round before, reward, train."""
    current, before = run.round(stage, number), run.round(stage, number - 1)
    prompts = splits.training(read_table(run.table("prompts"), Prompt), recipe, number)
    start, tables = (recipe.model, run) if number == 1 else (str(before.policy), current)
    current.folder.mkdir(parents=True, exist_ok=True)
    seed = recipe.seed if number == 1 else seed_of(recipe.seed, "round", number)
    if number > 1:
        picks = functools.partial(known_picks, current.whole(), recipe.reward)
        draw_groups(current, recipe, start, prompts, Sampling.of(recipe.sample, seed), picks)
    completions = read_table(tables.table("completions"), Completion)
    scores = reward(tables, recipe, TO_BAKE, prompts, completions)
    left = before.checkpoint("bake") if METHODS[recipe.bake.method].own else None
    lesson = once.Lesson(start, prompts, completions, scores, seed, dealt(completions, scores, number), left)
    once.train(current, recipe, lesson, "bake", current.policy)


def validated(current: Run, recipe: Recipe, model: str, prompts: Sequence[Prompt]) -> dict[str, Any]:
    """The round's figures on the validation prompts, made unless they are there."""
    made = current.details("validation")
    if not made.exists():
        current.folder.mkdir(parents=True, exist_ok=True)
        sampling = Sampling.of(recipe.sample, seed_of(recipe.seed, "validation"))
        sampling = dataclasses.replace(sampling, group_size=SAMPLES)
        drawn = complete_table(current, "validation", list(prompts), sampling, lambda: choose.engine(model, recipe))
        if not drawn:
            raise UserError("bake.rounds: no prompt to choose among rounds could be completed; see *_failed.parquet")
        first = current.whole().round("bake", 0)
        drawn_first = first.table("validation")
        peers = (
            by_prompt(read_table(drawn_first, Completion)) if drawn_first.exists() and model != recipe.model else None
        )
        scores = reward(current, recipe, "validation_scores", prompts, drawn, peers)
        told = first.table("validation_scores")
        known, rewarded = compared(scores, read_table(told, Score) if told.exists() else scores, recipe, prompts)
        if not rewarded.any():
            raise UserError("bake.rounds: no prompt held out to choose among rounds has a reward; see *_scores.parquet")
        mean_P = known[rewarded].mean(1)
        kl_P = _kl(recipe, model, prompts, drawn)
        measured = {
            "reward": statistics.bootstrap(mean_P, seed=recipe.seed),
            "kl": statistics.bootstrap(kl_P, seed=recipe.seed),
        }
        write_json(made, {name: value.as_dict() for name, value in measured.items()})
    return read_json(made)


def compared(
    scores: Sequence[Score], before: Sequence[Score], recipe: Recipe, prompts: Sequence[Prompt]
) -> tuple[np.ndarray, np.ndarray]:
    """(rewards [P, SAMPLES] of a round without gaps, the prompts [P] that count), a row for each that the reference
    answered, so that all rounds are measured on the same prompts: see `bestofn.known_rewards`.

    Where tasks are scored differently, in standard deviations of the reference's rewards on the same task.
    """
    task, asked = {p.id: p.task for p in prompts}, list(dict.fromkeys(s.prompt_id for s in before))
    rewards = {name: _table(rows, asked) for name, rows in (("reference", before), ("", scores))}
    if tasks.scored_differently(recipe):
        rewards = tasks.standardised_by_task(rewards, [task[key] for key in asked], rewards["reference"])
    filled, rewarded = best_of_n.known_rewards(rewards)
    return filled[""], rewarded


def _table(scores: Sequence[Score], asked: Sequence[str]) -> np.ndarray:
    """The rewards [P, SAMPLES] of first answers to the prompts `asked`, NaN where there are none."""
    rows: dict[str, list[float | None]] = defaultdict(list)
    for score in scores:
        rows[score.prompt_id].append(score.reward)
    return np.array([rows.get(key, [None] * SAMPLES) for key in asked], float)


def _kl(recipe: Recipe, model: str, prompts: Sequence[Prompt], drawn: Sequence[Completion]) -> np.ndarray:
    """Nats per sequence from the recipe's model, on the first answers to some of the prompts."""
    if model == recipe.model:
        return np.zeros(min(KL_PROMPTS, len(drawn) // SAMPLES))
    policy, tokenizer = load_policy(model, recipe)
    reference, _ = load_policy(recipe.model, recipe)
    messages = {p.id: p.messages for p in prompts}
    firsts = drawn[::SAMPLES][:KL_PROMPTS]
    packed = [
        packing.SharedPrefix(i, render(tokenizer, messages[c.prompt_id]), [c.tokens]) for i, c in enumerate(firsts)
    ]
    return kl.sequence_kl(policy, reference, packed, recipe.sample.temperature or 1.0)


def _prune(run: Run, stage: str, needed: set[int]) -> None:
    """Remove what earlier rounds left and nothing needs any more: weights and checkpoints."""
    for number in range(1, max(needed)):
        run.round(stage, number).checkpoint("bake").unlink(missing_ok=True)
        if number not in needed and run.round(stage, number).policy.exists():
            shutil.rmtree(run.round(stage, number).policy)


def _take(run: Run, stage: str, number: int, last: int) -> None:
    """Move the weights of the round that is kept to where the run has them."""
    to = run.policy if stage == "bake" else run.control
    if not to.exists():
        run.round(stage, number).policy.rename(to)
    _prune(run, stage, {last + 1})


def _totals(run: Run, stage: str, last: int) -> dict[str, Any]:
    """Groups by outcome, and tokens, over all rounds."""
    rounds = [run.round(stage, number) for number in range(1, last + 1)]
    made = [read_json(r.details("bake")) for r in rounds]
    return {
        **{key: dict(sum((Counter(m[key]) for m in made), Counter())) for key in ("groups", "faults")},
        **{key: sum(m[key] for m in made) for key in ("completions", "distinct")},
        "strategies": made[0]["strategies"],
        "trained_tokens": sum(m["trained_tokens"] for m in made),
    }
