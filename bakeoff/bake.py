"""Stage: completions and rewards in, a policy whose first answer is the best of N out."""

from __future__ import annotations

import dataclasses
import itertools
import random
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bakeoff import models, trees
from bakeoff.config import Bake, Recipe
from bakeoff.errors import UserError
from bakeoff.methods import METHODS, Group
from bakeoff.optimizer import MasterAdamW, follow, shuffled_batches
from bakeoff.records import Completion, Prompt, Score, read_table
from bakeoff.run import Run, write_json


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
    completion ended by itself, and one in which the method finds nothing to train on.
    """
    reward = {s.completion_id: s.reward for s in scores}
    method, kept, counts = METHODS[recipe.bake.method], [], Counter[str]()
    for key, drawn in itertools.groupby(completions, lambda c: c.prompt_id):
        group = group_of(key, [(c, r) for c in drawn if (r := reward[c.id]) is not None])
        if not group.finished_M.any():
            counts["unfinished"] += 1
        elif len(set(group.reward_M.tolist())) == 1 or not method.select(group, *_size(recipe)):
            counts["no_spread"] += 1
        else:
            counts["trained"] += 1
            kept.append(group)
    return kept, counts


def group_of(prompt_id: str, rewarded: Sequence[tuple[Completion, float]]) -> Group:
    """A group's different completions (by their tokens) in the order of their first draw."""
    counts = Counter(tuple(c.tokens) for c, _ in rewarded)
    first: dict[tuple[int, ...], tuple[Completion, float]] = {}
    for completion, reward in rewarded:
        first.setdefault(tuple(completion.tokens), (completion, reward))
    return Group(
        prompt_id,
        [list(tokens) for tokens in first],
        np.array([reward for _, reward in first.values()]),
        np.array([counts[tokens] for tokens in first], dtype=int),
        np.array([c.finish == "stop" for c, _ in first.values()], dtype=bool),
    )


def _size(recipe: Recipe) -> tuple[float, int]:
    """(the N to move towards, the most completions of a group to train on)."""
    return recipe.bake.n or recipe.sample.group_size, recipe.bake.completions


class Training:
    """A policy being trained in place on groups; each step is a batch of prompts. Dropout is off.

    The gradient of a group is that of its method's loss; a batch's is their mean, by groups or by trained tokens.
    """

    def __init__(self, model: Any, groups: Sequence[Group], prompts: Sequence[list[int]], recipe: Recipe):
        self.model, self.groups = model, groups
        self.settings: Bake = recipe.bake
        self.method, (self.n, most) = METHODS[recipe.bake.method], _size(recipe)
        self.selected = [self.method.select(g, self.n, most) for g in groups]
        self.trees = [
            trees.Tree(i, prompt, [g.tokens[j] for j in chosen])
            for i, (prompt, g, chosen) in enumerate(zip(prompts, groups, self.selected, strict=True))
        ]
        self.batches = shuffled_batches(
            self.trees, self.settings.batch_size, epochs=self.settings.epochs, seed=recipe.seed
        )
        self.optimizer = MasterAdamW(
            model.parameters(), learning_rate=self.settings.learning_rate, steps=len(self.batches)
        )
        self.ref_logps = self._reference() if self.method.reference else {}

    def steps(self) -> Iterator[dict[str, float]]:
        """Take the steps that are left, yielding metrics after each."""
        for batch in self.batches[self.optimizer.taken :]:
            loss = self._accumulate(batch)
            yield {"loss": loss, "grad_norm": self.optimizer.step(), "tokens": float(sum(map(len, batch)))}
        self.optimizer.close()

    def _accumulate(self, batch: Sequence[trees.Tree]) -> float:
        """Add the gradient of the batch's loss; returns that loss."""
        tokens = sum(len(b) for t in batch for b in t.branches)
        total, summed = tokens if self.method.per_token else len(batch), 0.0
        for part in trees.batches(batch, max(trees.TRAIN_TOKENS, *map(len, batch))):  # a group stays whole
            logps = self._group_logps(part)
            loss = torch.stack([self._loss(t.key, logp_S) for t, logp_S in zip(part, logps, strict=True)]).sum()
            (loss / total).backward()
            summed += float(loss.detach()) / total
        return summed

    def _loss(self, key: int, logp_S: Tensor) -> Tensor:
        ref_logp_S = self.ref_logps.get(key, torch.zeros_like(logp_S))
        return self.method.loss(logp_S, ref_logp_S, self.groups[key], self.selected[key], self.n)

    def _group_logps(self, part: Sequence[trees.Tree]) -> list[Tensor]:
        """The log-probabilities [S] of each tree's branches, summed over their tokens."""
        logps, branch = trees.token_logps(self.model, trees.pack(part, self.model), through_prompt=False)
        counts = [len(t.branches) for t in part]
        summed = torch.zeros(sum(counts), device=logps.device).index_add(0, branch, logps)
        return list(summed.split(counts))

    @torch.no_grad()
    def _reference(self) -> dict[int, Tensor]:
        """The log-probabilities of all selected completions under the policy before its first step."""
        found: dict[int, Tensor] = {}
        for part in trees.batches(self.trees, max(4 * trees.TRAIN_TOKENS, *map(len, self.trees))):
            found |= {t.key: logp_S for t, logp_S in zip(part, self._group_logps(part), strict=True)}
        return found
