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
from collections.abc import Sequence
from typing import Any

import numpy as np

from bakeoff import tasks
from bakeoff.data import splits
from bakeoff.errors import UserError
from bakeoff.math import best_of_n, statistics
from bakeoff.models import kl
from bakeoff.models.load import load_policy
from bakeoff.preferences import known_picks
from bakeoff.records import Completion, Prompt, Score, read_table
from bakeoff.run import Run, write_json
from bakeoff.sampling import Sampling, choose, seed_of
from bakeoff.sampling.resume import complete_table
from bakeoff.sampling.stage import draw_groups
from bakeoff.scorer import by_prompt, score_table
from bakeoff.scoring import choose as scorers
from bakeoff.scoring.stage import reward
from bakeoff.settings import Recipe
from bakeoff.training.figures import Round, read_figures
from bakeoff.training.groups import shuffled
from bakeoff.training.methods import METHODS
from bakeoff.training.stage import KL_PROMPTS, NothingToBake, TrainingData, packed, train

SAMPLES = 4
"""First answers to each validation prompt."""


def bake(run: Run, recipe: Recipe) -> None:
    """Train the policy on its rewarded groups, once or in rounds; writes `policy/` and `bake.json`."""
    if recipe.bake.rounds == 1:
        return train(run, recipe, training_data(run, recipe, "bake", 1), "bake", run.policy)
    prompts = splits.validation(read_table(run.table("prompts"), Prompt), recipe)
    if not prompts:
        raise UserError("bake.rounds: no prompt is held out to choose among rounds; raise prompts.heldout")
    history = [validated(run.round("bake", 0), recipe, recipe.model, prompts)]
    while not is_last(history, recipe) and _trained(run, recipe, "bake", len(history)):
        current = run.round("bake", len(history))
        history.append(validated(current, recipe, str(current.policy), prompts))
        _prune(run, "bake", {kept_round(history), len(history) - 1})
        if read_figures(current.details("bake")).get("spent"):
            break
    _keep(run, "bake", kept_round(history), len(history) - 1)
    figures = {"rounds": history, "kept": kept_round(history), "kl_budget": recipe.bake.kl_budget}
    write_json(run.details("bake"), _totals(run, "bake", len(history) - 1) | figures)


def control(run: Run, recipe: Recipe) -> None:
    """The same bake, or as many rounds as were kept, with each group's rewards shuffled; writes `control/`.

    Training on one's own completions sharpens a policy whichever they are; only the gain beyond is the scorer's.
    """
    if recipe.bake.rounds == 1:
        return train(run, recipe, training_data(run, recipe, "control", 1), "control", run.control)
    count, wanted = 0, read_figures(run.details("bake"))["kept"]
    while count < wanted and _trained(run, recipe, "control", count + 1):
        count += 1
        _prune(run, "control", {count})
    _keep(run, "control", count, count)
    write_json(run.details("control"), _totals(run, "control", count))


def training_data(run: Run, recipe: Recipe, stage: str, number: int) -> TrainingData:
    """What a round learns from: the first from the tables of the run, another from what it samples and rewards."""
    prompts, tables, start, seed = read_table(run.table("prompts"), Prompt), run, recipe.model, recipe.seed
    if number > 1:
        tables, start = run.round(stage, number), str(run.round(stage, number - 1).policy)
        seed = seed_of(recipe.seed, "round", number)
        asked, picks = splits.training(prompts, recipe, number), functools.partial(known_picks, run, recipe.reward)
        draw_groups(tables, recipe, start, asked, Sampling.of(recipe.sample, seed), picks)
    completions = read_table(tables.table("completions"), Completion)
    scores = reward(tables, recipe, prompts, completions)
    rng = random.Random(f"control {recipe.seed}" + (f" {number}" if recipe.bake.rounds > 1 else ""))
    random_scores = shuffled(completions, scores, rng) if stage == "control" else None
    return TrainingData(start, prompts, completions, scores, seed, random_scores)


def _trained(run: Run, recipe: Recipe, stage: str, number: int) -> bool:
    """Whether a round is trained, which it is now unless it was; False where a later one finds nothing to bake."""
    current, before = run.round(stage, number), run.round(stage, number - 1)
    if current.details("bake").exists():
        return True
    current.folder.mkdir(parents=True, exist_ok=True)
    goes_on = before.checkpoint("bake") if METHODS[recipe.bake.method].on_policy else None
    try:
        data = dataclasses.replace(training_data(run, recipe, stage, number), checkpoint=goes_on)
        train(current, recipe, data, "bake", current.policy)
    except NothingToBake:
        if number == 1:
            raise
        return False
    return True


def is_last(history: Sequence[Round], recipe: Recipe) -> bool:
    """Whether the rounds so far (the first entry is the reference) are the last: all, of no more help, or too far."""
    settings = recipe.bake
    without_gain = len(history) - 1 - best_round(history)
    far = settings.kl_budget and history[-1]["kl"].value >= settings.kl_budget
    return len(history) > settings.rounds or without_gain >= METHODS[settings.method].patience or bool(far)


def best_round(history: Sequence[Round]) -> int:
    """The entry with the highest mean reward, the earliest among equals."""
    return int(np.argmax([row["reward"].value for row in history]))


def kept_round(history: Sequence[Round]) -> int:
    """The best of the rounds, whether or not it beats the reference, as the evaluation will show."""
    return 1 + best_round(history[1:])


def validated(current: Run, recipe: Recipe, model: str, prompts: Sequence[Prompt]) -> Round:
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
        peers, before = None, None
        if model != recipe.model and first.table("validation").exists():
            peers = by_prompt(read_table(first.table("validation"), Completion))
        scorer = functools.partial(scorers.make_scorer, current.whole(), recipe, prompts, peers)
        scores = score_table(current, "validation_scores", prompts, drawn, scorer)
        if first.table("validation_scores").exists():
            before = read_table(first.table("validation_scores"), Score)
        rewards, rewarded = on_reference_prompts(scores, before or scores, recipe, prompts)
        if not rewarded.any():
            raise UserError("bake.rounds: no prompt held out to choose among rounds has a reward; see *_scores.parquet")
        kl_P = _kl(recipe, model, prompts, drawn)
        figures = Round(
            reward=statistics.bootstrap(rewards[rewarded].mean(1), seed=recipe.seed),
            kl=statistics.bootstrap(kl_P, seed=recipe.seed),
        )
        write_json(made, figures)
    return read_figures(made)


def on_reference_prompts(
    scores: Sequence[Score], before: Sequence[Score], recipe: Recipe, prompts: Sequence[Prompt]
) -> tuple[np.ndarray, np.ndarray]:
    """(rewards [P, SAMPLES] of a round without gaps, the prompts [P] that count), a row for each that the reference
    answered, so that all rounds are measured on the same prompts: see `best_of_n.known_rewards`.

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
    firsts, asked = drawn[::SAMPLES][:KL_PROMPTS], {p.id: p for p in prompts}
    trees = packed(tokenizer, [asked[c.prompt_id] for c in firsts], [[c] for c in firsts])
    return kl.sequence_kl(policy, reference, trees, recipe.sample.temperature or 1.0)


def _prune(run: Run, stage: str, needed: set[int]) -> None:
    """Remove what earlier rounds left and nothing needs any more: weights and checkpoints."""
    for number in range(1, max(needed)):
        run.round(stage, number).checkpoint("bake").unlink(missing_ok=True)
        if number not in needed and run.round(stage, number).policy.exists():
            shutil.rmtree(run.round(stage, number).policy)


def _keep(run: Run, stage: str, number: int, last: int) -> None:
    """Move the weights of the round that is kept to where the run has them."""
    to = run.policy if stage == "bake" else run.control
    if not to.exists():
        run.round(stage, number).policy.rename(to)
    _prune(run, stage, {last + 1})


def _totals(run: Run, stage: str, last: int) -> dict[str, Any]:
    """Groups by outcome, and tokens, over all rounds."""
    rounds = [run.round(stage, number) for number in range(1, last + 1)]
    made = [read_figures(r.details("bake")) for r in rounds]
    return {
        **{key: dict(sum((Counter(m[key]) for m in made), Counter())) for key in ("groups", "faults")},
        **{key: sum(m[key] for m in made) for key in ("completions", "distinct")},
        "strategies": made[0]["strategies"],
        "trained_tokens": sum(m["trained_tokens"] for m in made),
    }
