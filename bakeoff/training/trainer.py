"""Training a policy in place on its rewarded groups: steps that a caller logs, checks, saves and stops."""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from bakeoff.models import packed_logps, packing
from bakeoff.models.memory import Budget, pass_tokens
from bakeoff.models.optimizer import MasterAdamW, shuffled_batches
from bakeoff.settings import Bake, Recipe
from bakeoff.training.methods import METHODS, Group


def size(recipe: Recipe) -> tuple[float, int]:
    """(the N to move towards, the most completions of a group to train on)."""
    return recipe.bake.n or recipe.sample.group_size, METHODS[recipe.bake.method].most


class PolicyTraining:
    """A policy being trained in place on groups; each step is a batch of prompts. Dropout is off.

    The gradient of a group is that of its method's loss; a batch's is their mean, by groups or by trained tokens.
    """

    def __init__(
        self,
        model: Any,
        groups: Sequence[Group],
        prompts: Sequence[list[int]],
        recipe: Recipe,
        *,
        seed: int | None = None,
    ):
        self.model, self.groups = model, groups
        self.settings: Bake = recipe.bake
        self.method, (self.n, most) = METHODS[recipe.bake.method], size(recipe)
        self.selected = [self.method.select(g, self.n, most) for g in groups]
        self.prefixes = [
            packing.SharedPrefix(i, prompt, [g.tokens[j] for j in chosen])
            for i, (prompt, g, chosen) in enumerate(zip(prompts, groups, self.selected, strict=True))
        ]
        self.batches = shuffled_batches(
            self.prefixes,
            self.settings.batch_size,
            epochs=self.settings.epochs,
            seed=recipe.seed if seed is None else seed,
        )
        self.memory = Budget(model, packed_logps.TRAIN_TOKENS)
        compared = self.method.ratios != "none"
        self.temperature = (recipe.sample.temperature or 1.0) if compared else 1.0
        self.optimizer = MasterAdamW(
            model.parameters(), learning_rate=self.settings.learning_rate, steps=len(self.batches)
        )
        self.ref_logps = self._reference() if compared else {}

    def steps(self) -> Iterator[dict[str, float]]:
        """Take the steps that are left, yielding metrics after each."""
        for batch in self.batches[self.optimizer.taken :]:
            loss = self._accumulate(batch)
            yield {"loss": loss, "grad_norm": self.optimizer.step(), "tokens": float(sum(map(len, batch)))}
        self.optimizer.close()

    def _accumulate(self, batch: Sequence[packing.SharedPrefix]) -> float:
        """Add the gradient of the batch's loss; returns that loss."""
        return self.memory.run(lambda tokens: self._pass(batch, tokens), self.optimizer.forget)

    def _pass(self, batch: Sequence[packing.SharedPrefix], tokens: int) -> float:
        trained = sum(len(b) for t in batch for b in t.completions)
        total, summed = trained if self.method.mean_over == "tokens" else len(batch), 0.0
        for part in packing.batches(batch, max(tokens, *map(len, batch))):  # a group stays whole
            logps = self._group_logps(part)
            loss = torch.stack([self._loss(t.key, logp_S) for t, logp_S in zip(part, logps, strict=True)]).sum()
            (loss / total).backward()
            summed += float(loss.detach()) / total
        return summed

    def _loss(self, key: int, logp_S: Tensor) -> Tensor:
        ref_logp_S = self.ref_logps.get(key, torch.zeros_like(logp_S))
        return self.method.loss(logp_S, ref_logp_S, self.groups[key], self.selected[key], self.n)

    def _group_logps(self, part: Sequence[packing.SharedPrefix]) -> list[Tensor]:
        """The log-probabilities of each prompt's completions: [S] summed over their tokens, or [S, T] of the tokens."""
        packed = packing.pack(part, self.model)
        logps, _ = packed_logps.token_logps(self.model, packed, self.temperature, through_prompt=False)
        completions = iter(logps.split([len(b) for t in part for b in t.completions]))
        padded = [pad_sequence([next(completions) for _ in t.completions], batch_first=True) for t in part]
        return padded if self.method.ratios == "tokens" else [logp_ST.sum(-1) for logp_ST in padded]

    @torch.no_grad()
    def _reference(self) -> dict[int, Tensor]:
        """The log-probabilities of all selected completions under the policy before its first step."""
        found: dict[int, Tensor] = {}
        tokens = pass_tokens(self.model, 4 * packed_logps.TRAIN_TOKENS)
        for part in packing.batches(self.prefixes, max(tokens, *map(len, self.prefixes))):
            found |= {t.key: logp_S for t, logp_S in zip(part, self._group_logps(part), strict=True)}
        return found
