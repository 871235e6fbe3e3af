"""One training: rewarded completions in, a policy whose first answer is the best of N out."""

import dataclasses
import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from bakeoff.errors import UserError
from bakeoff.models import kl
from bakeoff.models.chat import render
from bakeoff.models.incomplete import fault
from bakeoff.models.load import add_lora, freeze_layers, load_policy, lora_rank, merge_lora, save_model
from bakeoff.models.optimizer import follow
from bakeoff.models.packing import SharedPrefix
from bakeoff.records import Completion, Prompt, Score
from bakeoff.run import Run, write_json
from bakeoff.sampling import Sampling, seed_of
from bakeoff.sampling.local import LocalEngine
from bakeoff.scorer import by_prompt, missing
from bakeoff.settings import Recipe
from bakeoff.training.figures import Earned, earned, idle
from bakeoff.training.groups import is_whole, most_agreed, teaching
from bakeoff.training.trainer import PolicyTraining

KL_CHECKS = 8
"""How often a training with a budget measures its divergence."""
KL_PROMPTS = 32
"""On so many prompts."""


class NothingToBake(UserError):
    """No group teaches anything."""


@dataclasses.dataclass(frozen=True, slots=True)
class TrainingData:
    """The policy that a training starts from, which is also its reference, and what it learns from."""

    start: str
    prompts: Sequence[Prompt]
    completions: Sequence[Completion]
    scores: Sequence[Score]
    seed: int
    shuffled: Sequence[Score] | None = None
    """Trained on in place of `scores`, which still say in which groups the draws agree."""
    checkpoint: Path | None = None
    """That of the round before, where its training goes on in this one: then this one's is kept too."""


def train(run: Run, recipe: Recipe, data: TrainingData, stage: str, folder: Path) -> None:
    """Train by the recipe's method and save the policy; writes `folder` and the figures of the stage."""
    groups, counts = teaching(data.completions, data.scores, recipe)
    kept = {group.prompt_id for group in most_agreed(groups, data.prompts, data.completions, recipe)}
    if data.shuffled is not None:
        groups, counts = teaching(data.completions, data.shuffled, recipe, keep_flat=True)
    groups = [g for g in groups if g.prompt_id in kept]
    if unsure := counts["trained"] - len(groups):
        counts.update(trained=-unsure, unsure=unsure)
    if not groups:
        why, count = (missing(data.scores).most_common(1) or [("", 0)])[0]
        said, advice = idle(counts, f"{count} completions: {why}")
        raise NothingToBake(f"{run.folder}: nothing to bake: of {counts.total()} groups {said}; {advice}")
    if not folder.exists():
        model, tokenizer = load_policy(data.start, recipe)
        messages = {p.id: p.messages for p in data.prompts}
        rendered = [render(tokenizer, messages[g.prompt_id]) for g in groups]
        freeze_layers(model)
        rank = lora_rank(model, recipe.lora)
        if rank:
            torch.manual_seed(data.seed)  # a training that begins again after a kill has the same adapters
            add_lora(model, rank)
        training = PolicyTraining(model, groups, rendered, recipe, seed=data.seed)
        if data.checkpoint is not None and data.checkpoint.exists() and not rank:
            training.optimizer.load(data.checkpoint, anew=True)
        steps = training.steps()
        if recipe.bake.kl_budget:
            steps = within_budget(steps, training, kl_meter(recipe, tokenizer, data))
        follow(run, stage, training.optimizer, steps)
        if data.checkpoint is not None:
            training.optimizer.save(run.checkpoint(stage))
        merge_lora(model)
        save_model(model, tokenizer, folder)
    if data.checkpoint is None:
        run.checkpoint(stage).unlink(missing_ok=True)
    write_json(run.details(stage), {"groups": counts} | _figures(run.steps(stage), len(groups), recipe, data))


def _figures(taken: Sequence[Mapping[str, Any]], groups: int, recipe: Recipe, data: TrainingData) -> dict[str, Any]:
    """What a training was made from, and what the steps that were taken cost."""
    faults = Counter(kind for c in data.completions if (kind := fault(c.text, c.tokens, c.finish)))
    budget, steps = recipe.bake.kl_budget, recipe.bake.epochs * -(-groups // recipe.bake.batch_size)
    return {
        "completions": len(data.completions),
        "distinct": len({(c.prompt_id, *c.tokens) for c in data.completions}),
        "faults": faults,
        "kl_budget": budget,
        "spent": budget > 0 and (len(taken) < steps or taken[-1].get("kl", 0.0) >= budget),
        "trained_tokens": round(sum(line["tokens"] for line in taken)),
        "strategies": by_variant(data),
    }


def by_variant(data: TrainingData) -> dict[str, Earned]:
    """What each prompt variant's whole answers gave, by reward; nothing when all asked the plain prompt."""
    if {c.strategy for c in data.completions} <= {"plain"}:
        return {}
    reward = {s.completion_id: math.nan if s.reward is None else s.reward for s in data.scores}
    groups = list(by_prompt(data.completions).values())
    rewards = [[reward[c.id] if is_whole(c) else math.nan for c in group] for group in groups]
    known = [i for i, row in enumerate(rewards) if not all(map(math.isnan, row))]
    return earned([[c.strategy for c in groups[i]] for i in known], [rewards[i] for i in known], seed=data.seed)


def within_budget(
    steps: Iterator[dict[str, float]], training: PolicyTraining, measure: Callable[[Any, int], float]
) -> Iterator[dict[str, float]]:
    """The steps of a training until its `kl_budget` is reached: what is measured after a step is the step's `kl`.

    It is measured before the first step, after the last one, and at least `KL_CHECKS` times on the way, or after every
    step. A process that goes on where another was killed measures at the same steps, and stops at the same one.
    """
    optimizer = training.optimizer
    every = max(1, optimizer.steps // KL_CHECKS)

    def measured() -> dict[str, float]:
        due = optimizer.taken % every == 0 or optimizer.taken == optimizer.steps
        return {"kl": measure(training.model, optimizer.taken)} if due else {}

    found = measured()
    while found.get("kl", 0.0) < training.settings.kl_budget and (values := next(steps, None)) is not None:
        found = measured()
        yield values | found
    optimizer.close()


def kl_meter(recipe: Recipe, tokenizer: Any, data: TrainingData) -> Callable[[Any, int], float]:
    """(model, step) -> its divergence from the recipe's model, in nats per sequence, on some of the prompts."""
    reference, _ = load_policy(recipe.model, recipe)
    taught = {c.prompt_id for c in data.completions}
    prompts = sorted((p for p in data.prompts if p.id in taught), key=lambda p: p.id)[:KL_PROMPTS]

    def measure(model: Any, step: int) -> float:
        sampling = Sampling.of(recipe.sample, seed_of(data.seed, "kl", step))
        one = dataclasses.replace(sampling, group_size=1)
        groups = {g[0].prompt_id: g for g in LocalEngine(model, tokenizer).complete(prompts, one, lambda failure: None)}
        asked = [p for p in prompts if p.id in groups]
        trees = packed(tokenizer, asked, [groups[p.id] for p in asked])
        return float(kl.sequence_kl(model, reference, trees, sampling.temperature or 1.0).mean())

    return measure


def packed(tokenizer: Any, prompts: Sequence[Prompt], groups: Sequence[Sequence[Completion]]) -> list[SharedPrefix]:
    """Each prompt with its completions, those without a token left out."""
    return [
        SharedPrefix(i, render(tokenizer, p.messages), [c.tokens for c in group if c.tokens])
        for i, (p, group) in enumerate(zip(prompts, groups, strict=True))
    ]
