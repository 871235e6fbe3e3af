"""The reward model: learns from testers' picks, then rewards any policy's completions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bakeoff import losses, models, trees
from bakeoff.config import Recipe, Reward
from bakeoff.optimizer import MasterAdamW, shuffled_batches
from bakeoff.records import Completion, Message, Pick, Score

SCORE_TOKENS = 4096
GROUPS_AT_ONCE = 32
"""Groups among which batches of like length are made, and after which progress shows."""
PICKS_PER_STEP = 8


class RewardModel:
    """A sequence classifier with one output as a scorer; the completions of a prompt are read as one tree."""

    def __init__(self, model: Any, tokenizer: Any):
        self.model, self.tokenizer = model, tokenizer

    def tree(self, key: int, messages: Sequence[Message], texts: Sequence[str]) -> trees.Tree:
        answers = [models.answer_tokens(self.tokenizer, text) for text in texts]
        return trees.Tree(key, models.render(self.tokenizer, messages), answers)

    def rewards(self, groups: Sequence[tuple[Sequence[Message], Sequence[str]]]) -> list[list[float]]:
        """One reward per text of each (messages, texts) group; equal texts are scored once and share it."""
        unique = [list(dict.fromkeys(texts)) for _, texts in groups]
        packed = [self.tree(i, m, texts) for i, ((m, _), texts) in enumerate(zip(groups, unique, strict=True))]
        found: dict[tuple[int, str], float] = {}
        for batch in trees.batches(packed, SCORE_TOKENS):
            with torch.inference_mode():
                values = trees.rewards(self.model, tree_pack := trees.pack(batch, self.model)).tolist()
            for value, (_, tree, number, _) in zip(values, tree_pack.starts(), strict=True):
                found[tree.key, unique[tree.key][tree.first + number]] = value
        return [[found[i, text] for text in texts] for i, (_, texts) in enumerate(groups)]

    def score(self, groups: Sequence[tuple[list[Message], list[Completion]]]) -> Iterator[list[Score]]:
        """See `bakeoff.rewards.Scorer`."""
        for start in range(0, len(groups), GROUPS_AT_ONCE):
            some = groups[start : start + GROUPS_AT_ONCE]
            rewards = self.rewards([(messages, [c.text for c in group]) for messages, group in some])
            for (_, group), values in zip(some, rewards, strict=True):
                yield [Score(c.id, c.prompt_id, "reward_model", v) for c, v in zip(group, values, strict=True)]


def load(name: str | Path, recipe: Recipe | None = None) -> RewardModel:
    """The scorer in a sequence-classification folder, or a fresh one over any model's weights."""
    return RewardModel(*models.load_reward_model(str(name), recipe))


class Training:
    """A reward model being trained in place on picks, `PICKS_PER_STEP` a step. Dropout is off.

    The likelihood of a pick is Luce's choice over the group, with a share `error_rate` of slips:
    (1 - e) softmax(reward)_pick + e / K (Luce 1959).
    """

    def __init__(self, scorer: RewardModel, picks: Sequence[Pick], settings: Reward, *, seed: int):
        self.scorer, self.settings = scorer, settings
        head = scorer.model.score.weight
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():  # small first rewards: no pick is certain before training
            head.copy_(torch.randn(head.shape, generator=generator) * head.shape[1] ** -0.5 / 10)
        models.freeze(scorer.model, settings.frozen)
        self.batches = shuffled_batches(picks, PICKS_PER_STEP, epochs=settings.epochs, seed=seed)
        self.optimizer = MasterAdamW(
            scorer.model.parameters(), learning_rate=settings.learning_rate, steps=len(self.batches)
        )

    def steps(self) -> Iterator[dict[str, float]]:
        """Take the steps that are left, yielding metrics after each."""
        for batch in self.batches[self.optimizer.taken :]:
            packed = [self.scorer.tree(i, p.messages, _unique(p)) for i, p in enumerate(batch)]
            loss, right = _accumulate(self.scorer, batch, packed, self.settings.error_rate)
            yield {
                "loss": loss / len(batch),
                "accuracy": right / len(batch),
                "grad_norm": self.optimizer.step(),
                "tokens": float(sum(map(len, packed))),
            }
        self.optimizer.close()


def _accumulate(
    scorer: RewardModel, picks: Sequence[Pick], packed: Sequence[trees.Tree], error_rate: float
) -> tuple[float, float]:
    """Add the gradient of the mean loss of `picks`; returns the summed loss and how many picks came out on top."""
    loss_sum, right = 0.0, 0
    for batch in trees.batches(packed, max(trees.TRAIN_TOKENS, *map(len, packed))):  # a group stays whole
        rewards = trees.rewards(scorer.model, trees.pack(batch, scorer.model), through_prompt=False)
        groups: list[Tensor] = list(rewards.split([len(t.branches) for t in batch]))
        loss = torch.stack([_loss(g, picks[t.key], error_rate) for g, t in zip(groups, batch, strict=True)]).sum()
        (loss / len(picks)).backward()
        loss_sum += float(loss.detach())
        right += sum(_chosen(g, picks[t.key]) for g, t in zip(groups, batch, strict=True))
    return loss_sum, right


def _unique(pick: Pick) -> list[str]:
    """The different texts of a group: each is read once."""
    return list(dict.fromkeys(pick.completions))


def _loss(reward_U: Tensor, pick: Pick, error_rate: float) -> Tensor:
    texts = _unique(pick)
    reward_K = reward_U[[texts.index(c) for c in pick.completions]]
    return losses.luce(reward_K[None], torch.tensor([pick.pick], device=reward_U.device), error_rate)


def _chosen(reward_U: Tensor, pick: Pick) -> bool:
    return _unique(pick)[int(reward_U.argmax())] == pick.completions[pick.pick]
