"""Stage: completions and rewards in, a policy whose first answer is the best of N out."""

from __future__ import annotations

import dataclasses
import itertools
import random
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from bakeoff import models
from bakeoff.config import Recipe
from bakeoff.errors import UserError
from bakeoff.measures import fault
from bakeoff.methods import METHODS, Group
from bakeoff.optimizer import follow
from bakeoff.records import Completion, Prompt, Score, read_table
from bakeoff.run import Run, write_json
from bakeoff.training import Training, size


def bake(run: Run, recipe: Recipe) -> None:
    """Train the policy on its rewarded groups by the recipe's method; writes `policy/` and what was trained on."""
    _bake(run, recipe, "bake", run.policy, read_table(run.table("scores"), Score))


def control(run: Run, recipe: Recipe) -> None:
    """The same bake with each group's rewards dealt out at random, into `control/`: what no judgement would have given.

    Training on one's own completions sharpens a policy whichever they are; only the gain beyond is the scorer's.
    """
    scores = read_table(run.table("scores"), Score)
    _bake(run, recipe, "control", run.control, shuffled(scores, random.Random(f"control {recipe.seed}")))


def shuffled(scores: Sequence[Score], rng: random.Random) -> list[Score]:
    """The scores with the rewards of each prompt's completions, which follow each other, in random order."""
    dealt = []
    for _, group in itertools.groupby(scores, lambda s: s.prompt_id):
        rows = list(group)
        rewards = rng.sample([s.reward for s in rows], len(rows))
        dealt += [dataclasses.replace(s, reward=reward) for s, reward in zip(rows, rewards, strict=True)]
    return dealt


def _bake(run: Run, recipe: Recipe, stage: str, folder: Path, scores: Sequence[Score]) -> None:
    prompts = {p.id: p for p in read_table(run.table("prompts"), Prompt)}
    groups, counts = teaching(read_table(run.table("completions"), Completion), scores, recipe)
    if not groups:
        raise UserError(f"{run.folder}: no group has a finished best completion ({dict(counts)}); nothing to bake")
    if not folder.exists():
        model, tokenizer = models.load_policy(recipe.model, recipe)
        rendered = [models.render(tokenizer, prompts[g.prompt_id].messages) for g in groups]
        models.freeze(model, recipe.bake.frozen)
        training = Training(model, groups, rendered, recipe)
        follow(run, stage, training.optimizer, training.steps())
        models.save(model, tokenizer, folder)
        run.checkpoint(stage).unlink(missing_ok=True)
    tokens = sum(line["tokens"] for line in run.steps(stage))
    write_json(run.details(stage), {"groups": dict(counts), "trained_tokens": round(tokens)})


def teaching(
    completions: Sequence[Completion], scores: Sequence[Score], recipe: Recipe
) -> tuple[list[Group], Counter[str]]:
    """The groups that teach something, and a count of outcomes.

    A group without spread (one reward for all) says nothing about preference and is dropped; so is one in which no
    completion is a whole answer, and one in which the method finds nothing to train on.
    """
    reward = {s.completion_id: s.reward for s in scores}
    method, kept, counts = METHODS[recipe.bake.method], list[Group](), Counter[str]()
    for key, drawn in itertools.groupby(completions, lambda c: c.prompt_id):
        group = group_of(key, [(c, r) for c in drawn if (r := reward[c.id]) is not None])
        if not group.finished_M.any():
            counts["unfinished"] += 1
        elif len(set(group.reward_M.tolist())) == 1 or not method.select(group, *size(recipe)):
            counts["no_spread"] += 1
        else:
            counts["trained"] += 1
            kept.append(group)
    variances = [np.repeat(g.reward_M, g.count_M).var() for g in kept]
    return [dataclasses.replace(g, spread=float(np.mean(variances)) ** 0.5) for g in kept], counts


def group_of(prompt_id: str, rewarded: Sequence[tuple[Completion, float]]) -> Group:
    """A group's different completions (by their tokens) in the order of their first draw.

    What is no whole answer (unfinished, empty, looping) is ranked below all that are, whatever its reward.
    """
    counts = Counter(tuple(c.tokens) for c, _ in rewarded)
    first: dict[tuple[int, ...], tuple[Completion, float]] = {}
    for completion, reward in rewarded:
        first.setdefault(tuple(completion.tokens), (completion, reward))
    whole = np.array([not fault(c.text, c.tokens, c.finish) for c, _ in first.values()], dtype=bool)
    reward_M = np.array([reward for _, reward in first.values()], float)
    if whole.any():
        reward_M[~whole] = reward_M[whole].min() - (reward_M[whole].std() or 1.0)
    return Group(
        prompt_id,
        [list(tokens) for tokens in first],
        reward_M,
        np.array([counts[tokens] for tokens in first], dtype=int),
        whole,
    )
