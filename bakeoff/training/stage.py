"""Stage: completions and rewards in, a policy whose first answer is the best of N out."""

import dataclasses
import itertools
import math
import random
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bakeoff import tasks
from bakeoff.errors import UserError
from bakeoff.models import kl, packing
from bakeoff.models.chat import render
from bakeoff.models.incomplete import fault
from bakeoff.models.load import add_lora, freeze_layers, load_policy, lora_rank, merge_lora, save_model
from bakeoff.models.optimizer import follow
from bakeoff.records import Completion, Prompt, Score, read_table
from bakeoff.run import Run, write_json
from bakeoff.sampling import Sampling, seed_of
from bakeoff.sampling.local import LocalEngine
from bakeoff.scorer import COMBINED, by_prompt, missing, scorer_kinds
from bakeoff.scoring import Majority
from bakeoff.settings import Bake, Recipe
from bakeoff.training.groups import earned, idle
from bakeoff.training.methods import METHODS, Group
from bakeoff.training.trainer import Training, size

KL_CHECKS = 8
"""How often a training with a budget looks what it has spent."""
KL_PROMPTS = 32


class NothingToBake(UserError):
    """No group teaches anything."""


@dataclasses.dataclass(frozen=True, slots=True)
class Lesson:
    """One training: the policy it starts from, which is also its reference, and what it learns from."""

    start: str
    prompts: Sequence[Prompt]
    completions: Sequence[Completion]
    scores: Sequence[Score]
    seed: int
    dealt: Sequence[Score] | None = None
    """Trained on in place of `scores`, by which the sure groups are still chosen."""
    before: Path | None = None
    """The checkpoint of the round before, where its training goes on in this one: then this one's is kept too."""


def bake(run: Run, recipe: Recipe) -> None:
    """Train the policy on its rewarded groups by the recipe's method; writes `policy/` and what was trained on."""
    train(run, recipe, _lesson(run, recipe), "bake", run.policy)


def control(run: Run, recipe: Recipe) -> None:
    """The same bake with each group's rewards dealt out at random, into `control/`: what no judgement would have given.

    Training on one's own completions sharpens a policy whichever they are; only the gain beyond is the scorer's.
    """
    lesson = _lesson(run, recipe)
    dealt = shuffled(lesson.completions, lesson.scores, random.Random(f"control {recipe.seed}"))
    train(run, recipe, dataclasses.replace(lesson, dealt=dealt), "control", run.control)


def _lesson(run: Run, recipe: Recipe) -> Lesson:
    prompts, scores = read_table(run.table("prompts"), Prompt), read_table(run.table("scores"), Score)
    return Lesson(recipe.model, prompts, read_table(run.table("completions"), Completion), scores, recipe.seed)


def shuffled(completions: Sequence[Completion], scores: Sequence[Score], rng: random.Random) -> list[Score]:
    """The scores with the rewards of each prompt's completions, which follow each other, in random order.

    Each of the different whole answers takes the reward of another, and is the best as often as it was drawn; what is
    no whole answer keeps its own, and ranks below them whatever that is.
    """
    tokens = {c.id: tuple(c.tokens) for c in completions if not fault(c.text, c.tokens, c.finish)}
    dealt = []
    for _, group in itertools.groupby(scores, lambda s: s.prompt_id):
        rows = list(group)
        own = {tokens[s.completion_id]: s.reward for s in rows if s.reward is not None and s.completion_id in tokens}
        order = dict.fromkeys(tokens.get(s.completion_id) for s in rng.sample(rows, len(rows)))
        new = dict(zip((key for key in order if key in own), sorted(own.values(), reverse=True), strict=True))
        dealt += [
            dataclasses.replace(s, reward=new.get(tokens[s.completion_id])) if s.completion_id in tokens else s
            for s in rows
        ]
    return dealt


def train(run: Run, recipe: Recipe, lesson: Lesson, stage: str, folder: Path) -> None:
    """Train by the recipe's method and save the policy; writes `folder` and the figures of the stage."""
    groups, counts = teaching(lesson.completions, lesson.scores, recipe)
    sure = {group.prompt_id for group in surest(groups, lesson, recipe)}
    if lesson.dealt is not None:
        groups, counts = teaching(lesson.completions, lesson.dealt, recipe, dealt=True)
    groups = [g for g in groups if g.prompt_id in sure]
    if unsure := counts["trained"] - len(groups):
        counts.update(trained=-unsure, unsure=unsure)
    if not groups:
        why, count = (missing(lesson.scores).most_common(1) or [("", 0)])[0]
        said, advice = idle(counts, f"{count} completions: {why}")
        raise NothingToBake(f"{run.folder}: nothing to bake: of {counts.total()} groups {said}; {advice}")
    if not folder.exists():
        model, tokenizer = load_policy(lesson.start, recipe)
        messages = {p.id: p.messages for p in lesson.prompts}
        rendered = [render(tokenizer, messages[g.prompt_id]) for g in groups]
        freeze_layers(model)
        rank = lora_rank(model, recipe.lora)
        if rank:
            torch.manual_seed(lesson.seed)  # a training that begins again after a kill has the same adapters
            add_lora(model, rank)
        training = Training(model, groups, rendered, recipe, seed=lesson.seed)
        if lesson.before is not None and lesson.before.exists() and not rank:
            training.optimizer.load(lesson.before, anew=True)
        steps = training.steps()
        if recipe.bake.kl_budget:
            steps = within(steps, training, Spent(recipe, tokenizer, lesson))
        follow(run, stage, training.optimizer, steps)
        if lesson.before is not None:
            training.optimizer.save(run.checkpoint(stage))
        merge_lora(model)
        save_model(model, tokenizer, folder)
    if lesson.before is None:
        run.checkpoint(stage).unlink(missing_ok=True)
    full = recipe.bake.epochs * -(-len(groups) // recipe.bake.batch_size)
    write_json(run.details(stage), {"groups": dict(counts)} | _figures(run.steps(stage), full, lesson, recipe.bake))


def _figures(taken: Sequence[Mapping[str, Any]], full: int, lesson: Lesson, settings: Bake) -> dict[str, Any]:
    """What a training was made from and cost, by the steps that were taken of so many."""
    faults = Counter(kind for c in lesson.completions if (kind := fault(c.text, c.tokens, c.finish)))
    budget = settings.kl_budget
    return {
        "completions": len(lesson.completions),
        "distinct": len({(c.prompt_id, *c.tokens) for c in lesson.completions}),
        "faults": dict(faults),
        "kl_budget": budget,
        "spent": budget > 0 and (len(taken) < full or taken[-1].get("kl", 0.0) >= budget),
        "trained_tokens": round(sum(line["tokens"] for line in taken)),
        "strategies": strategies(lesson),
    }


def strategies(lesson: Lesson) -> dict[str, dict]:
    """What each strategy's whole answers gave, by reward; nothing when all asked the plain prompt."""
    if {c.strategy for c in lesson.completions} <= {"plain"}:
        return {}
    reward = {s.completion_id: math.nan if s.reward is None else s.reward for s in lesson.scores}
    groups = list(by_prompt(lesson.completions).values())
    rewards = [[math.nan if fault(c.text, c.tokens, c.finish) else reward[c.id] for c in group] for group in groups]
    told = [i for i, row in enumerate(rewards) if not np.isnan(row).all()]
    return earned([[c.strategy for c in groups[i]] for i in told], [rewards[i] for i in told], seed=lesson.seed)


def within(
    steps: Iterator[dict[str, float]], training: Training, spent: Callable[[Any, int], float]
) -> Iterator[dict[str, float]]:
    """The steps of a training until its budget is spent: what a look after a step finds is the step's `kl`.

    It looks before the first step, after the last one, and at least `KL_CHECKS` times on the way, or after every step.
    A process that goes on where another was killed looks at the same steps, and stops at the same one.
    """
    optimizer = training.optimizer
    every = max(1, optimizer.steps // KL_CHECKS)

    def look() -> dict[str, float]:
        due = optimizer.taken % every == 0 or optimizer.taken == optimizer.steps
        return {"kl": spent(training.model, optimizer.taken)} if due else {}

    found = look()
    while found.get("kl", 0.0) < training.settings.kl_budget and (values := next(steps, None)) is not None:
        found = look()
        yield values | found
    optimizer.close()


class Spent:
    """Measures the divergence from the recipe's model, in nats per sequence, on some of a lesson's prompts."""

    def __init__(self, recipe: Recipe, tokenizer: Any, lesson: Lesson):
        self.recipe, self.tokenizer, self.seed = recipe, tokenizer, lesson.seed
        self.reference, _ = load_policy(recipe.model, recipe)
        taught = {c.prompt_id for c in lesson.completions}
        self.prompts = sorted((p for p in lesson.prompts if p.id in taught), key=lambda p: p.id)[:KL_PROMPTS]

    def __call__(self, model: Any, step: int) -> float:
        sampling = Sampling.of(self.recipe.sample, seed_of(self.seed, "kl", step))
        one = dataclasses.replace(sampling, group_size=1)
        groups = LocalEngine(model, self.tokenizer).complete(self.prompts, one, lambda failure: None)
        drawn = {group[0].prompt_id: group[0].tokens for group in groups}
        read = [
            packing.SharedPrefix(i, render(self.tokenizer, p.messages), [drawn[p.id]])
            for i, p in enumerate(p for p in self.prompts if p.id in drawn)
        ]
        return float(kl.sequence_kl(model, self.reference, read, sampling.temperature or 1.0).mean())


def teaching(
    completions: Sequence[Completion], scores: Sequence[Score], recipe: Recipe, *, dealt: bool = False
) -> tuple[list[Group], Counter[str]]:
    """The groups that teach something, and a count of outcomes.

    A group without spread (one reward for all) says nothing about preference and is dropped, unless its rewards were
    dealt; so is one in which no completion is a whole answer, or in which the method finds nothing to train on.
    """
    reward = {s.completion_id: s.reward for s in scores}
    method, kept, counts = METHODS[recipe.bake.method], list[Group](), Counter[str]()
    for key, drawn in itertools.groupby(completions, lambda c: c.prompt_id):
        rows = list(drawn)
        group = group_of(key, [(c, reward[c.id]) for c in rows])
        cause = no_lesson(rows, group)
        if (cause and not (cause == "no_spread" and dealt)) or not method.select(group, *size(recipe)):
            counts[cause or "no_spread"] += 1
        else:
            counts["trained"] += 1
            kept.append(group)
    return kept, counts


def no_lesson(drawn: Sequence[Completion], group: Group) -> str:
    """The first cause, in the order in which things are made, that a group teaches nothing (see `IDLE`); else empty."""
    faults = Counter(fault(c.text, c.tokens, c.finish) for c in drawn)
    if "" not in faults:
        return faults.most_common(1)[0][0]
    if len(group.tokens) > 1 and group.finished_M.any():
        return "no_spread" if len(set(group.reward_M.tolist())) == 1 else ""
    whole = {tuple(c.tokens) for c in drawn if not fault(c.text, c.tokens, c.finish)}
    return "alike" if len(whole) == 1 and group.finished_M.any() else "unscored"


def surest(groups: Sequence[Group], lesson: Lesson, recipe: Recipe) -> list[Group]:
    """The groups that `bake.agreement_quantile` keeps, in their order; at least one of each task.

    Where many draws give the answer of the best one it is right more often (self-consistency, arXiv:2203.11171), so
    that what is learnt has fewer mistakes in it. The combined choice tells how probable its answer is: `confidence`.
    """
    if recipe.bake.agreement_quantile >= 1:
        return list(groups)
    task, drawn = {p.id: p.task for p in lesson.prompts}, by_prompt(lesson.completions)
    kept: set[str] = set()
    for name, alone in tasks.each(recipe).items():
        mine = [g for g in groups if task[g.prompt_id] == name]
        how = confidence if (COMBINED, "") in scorer_kinds(alone.score) else agreement
        sure = {g.prompt_id: how(g, drawn[g.prompt_id], alone.score.extract) for g in mine}
        kept.update(
            sorted(sure, key=lambda key: -sure[key])[: max(1, round(recipe.bake.agreement_quantile * len(mine)))]
        )
    return [g for g in groups if g.prompt_id in kept]


def best(group: Group) -> int:
    """The place of the whole completion with the highest reward."""
    return int(np.where(group.finished_M, group.reward_M, -np.inf).argmax())


def agreement(group: Group, drawn: Sequence[Completion], extract: str = "") -> float:
    """The share of a group's draws that are whole and answer what its best one does; 0 where that answers nothing."""
    chosen = group.tokens[best(group)]
    voters = Majority(extract)
    answers = [voters.answer(c.text) for c in drawn if not fault(c.text, c.tokens, c.finish)]
    own = voters.answer(next(c.text for c in drawn if c.tokens == chosen))
    return answers.count(own) / len(drawn) if own is not None else 0.0


def confidence(group: Group, drawn: Sequence[Completion], extract: str = "") -> float:
    """The probability of the best one's answer by the combined choice: softmax of the rewards over the whole draws."""
    voters, whole = Majority(extract), np.flatnonzero(group.finished_M)
    text = {tuple(c.tokens): c.text for c in drawn}
    answers = [voters.answer(text[tuple(group.tokens[i])]) for i in whole]
    share_M = group.count_M[whole] * np.exp(group.reward_M[whole] - group.reward_M[whole].max())
    own = answers[int(np.flatnonzero(whole == best(group))[0])]
    return float(share_M[[answer == own for answer in answers]].sum() / share_M.sum())


def group_of(prompt_id: str, rewarded: Sequence[tuple[Completion, float | None]]) -> Group:
    """A group's different completions (by their tokens), whole answers first, in the order of their first draw.

    What is no whole answer (unfinished, empty, looping) is ranked below all that are, whatever its reward, and without
    one; a whole answer without a reward is left out.
    """
    faulty = {c.id: bool(fault(c.text, c.tokens, c.finish)) for c, _ in rewarded}
    kept = [(c, math.nan if r is None else r) for c, r in rewarded if r is not None or faulty[c.id]]
    counts = Counter(tuple(c.tokens) for c, _ in kept)
    first: dict[tuple[int, ...], tuple[Completion, float]] = {}
    for completion, reward in sorted(kept, key=lambda one: faulty[one[0].id]):  # of equal ones, a whole one counts
        first.setdefault(tuple(completion.tokens), (completion, reward))
    whole = np.array([not faulty[c.id] for c, _ in first.values()], dtype=bool)
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
