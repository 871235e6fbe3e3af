"""Stage: completions and rewards in, a policy whose first answer is the best of N out."""

from __future__ import annotations

import itertools
import random
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from tqdm import tqdm

from bakeoff import models, trees
from bakeoff.config import Bake, Recipe
from bakeoff.errors import UserError
from bakeoff.optimizer import MasterAdamW
from bakeoff.records import Completion, Prompt, Score, read_table
from bakeoff.run import Run, write_json

TRAIN_TOKENS = 1024
"""Padded tokens per forward and backward pass."""


def bake(run: Run, recipe: Recipe) -> None:
    """Train the policy on the best completion of each group; writes `policy/` and what was trained on."""
    prompts = {p.id: p for p in read_table(run.table("prompts"), Prompt)}
    chosen, counts = best(read_table(run.table("completions"), Completion), read_table(run.table("scores"), Score))
    if not chosen:
        raise UserError(f"{run.folder}: no group has a finished best completion ({dict(counts)}); nothing to bake")
    model, tokenizer = models.load_policy(recipe.model, recipe)
    examples = [
        trees.Tree(i, models.render(tokenizer, prompts[c.prompt_id].messages), [c.tokens]) for i, c in enumerate(chosen)
    ]
    metrics = METHODS[recipe.bake.method](model, examples, recipe.bake, seed=recipe.seed)
    tokens = 0
    for step, values in enumerate(tqdm(metrics, desc="bake", total=steps(examples, recipe.bake), unit="step")):
        run.log("bake", step=step, **values)
        tokens += int(values["tokens"])
    models.save(model, tokenizer, run.policy)
    write_json(run.details("bake"), {"groups": dict(counts), "trained_tokens": tokens})


def best(completions: Sequence[Completion], scores: Sequence[Score]) -> tuple[list[Completion], Counter[str]]:
    """The finished completion with the highest reward of each group (the first of equals), and a count of outcomes.

    A group without spread (one reward for all) teaches nothing about preference and is dropped; so is one whose
    completions were all cut short or have no reward.
    """
    reward = {s.completion_id: s.reward for s in scores}
    chosen, counts = [], Counter[str]()
    for _, group in itertools.groupby(completions, lambda c: c.prompt_id):
        rewarded = [(c, reward[c.id]) for c in group if reward[c.id] is not None]
        finished = [(c, r) for c, r in rewarded if c.finish == "stop"]
        if not finished:
            counts["unfinished"] += 1
        elif len({r for _, r in rewarded}) == 1:
            counts["no_spread"] += 1
        else:
            counts["trained"] += 1
            chosen.append(max(finished, key=lambda pair: pair[1])[0])  # type: ignore[arg-type, return-value]
    return chosen, counts


def steps(examples: Sequence[trees.Tree], settings: Bake) -> int:
    """How many optimizer steps `distil` takes."""
    return settings.epochs * -(-len(examples) // settings.batch_size)


def distil(model: Any, examples: Sequence[trees.Tree], settings: Bake, *, seed: int) -> Iterator[dict[str, float]]:
    """Fine-tune the model in place on one completion per prompt, yielding metrics after every step.

    The loss is the mean negative log-likelihood of a batch's completion tokens (RAFT, Dong et al., arXiv:2304.06767).
    """
    order = random.Random(seed)
    models.freeze(model, settings.frozen)
    optimizer = MasterAdamW(model.parameters(), learning_rate=settings.learning_rate, steps=steps(examples, settings))
    model.train()
    for _ in range(settings.epochs):
        shuffled = order.sample(list(examples), len(examples))
        for start in range(0, len(shuffled), settings.batch_size):
            batch = shuffled[start : start + settings.batch_size]
            total = sum(len(t.branches[0]) for t in batch)
            loss = _accumulate(model, batch, total)
            yield {"loss": loss, "grad_norm": optimizer.step(), "tokens": float(sum(map(len, batch)))}
    model.eval()
    optimizer.close()


def _accumulate(model: Any, batch: Sequence[trees.Tree], total: int) -> float:
    """Add the gradient of the batch's mean token loss; returns that loss."""
    summed = 0.0
    for part in trees.batches(batch, TRAIN_TOKENS):
        logps, _ = trees.token_logps(model, trees.pack(part, model), through_prompt=False)
        loss = -logps.sum() / total
        loss.backward()
        summed += float(loss.detach())
    return summed


METHODS = {"distil": distil}
