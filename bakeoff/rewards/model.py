"""The reward model: learns from testers' picks, then rewards any policy's completions."""

import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from bakeoff import chat, losses, models, trees
from bakeoff.engines.fit import window
from bakeoff.errors import UserError
from bakeoff.optimizer import MasterAdamW, shuffled_batches
from bakeoff.records import Completion, Message, Pick, Score, prompt_id
from bakeoff.settings import Recipe, Reward

SCORE_TOKENS = 4096
GROUPS_AT_ONCE = 32
"""Groups among which batches of like length are made, and after which progress shows."""
ROWS_AT_ONCE = 16
PICKS_PER_STEP = 8
"""Prompts, each with all its picks."""
TEXTS_PER_ITEM = 16
"""Different completions that are packed with one prompt for training: more cost memory."""
SLIP_START, SLIP_PACE = -2.2, 0.05
"""An estimated error rate begins at a tenth; its log-odds move by about so much a step."""
NOT_FINITE = "not finite: the model's output is no number"
Texts = tuple[Sequence[Message], Sequence[str]]

LENGTH_SLOPE = "bakeoff_length_slope"
"""Where the model's config.json holds the reward that a character was worth: other programs do not take it off."""


class RewardModel:
    """A sequence classifier with one output as a scorer; the completions of a prompt are read as one tree.

    It may have several heads, which read the same states; the reward is then their mean.
    """

    def __init__(self, model: Any, tokenizer: Any):
        self.model, self.tokenizer = model, tokenizer
        self.window = window(model.config.get_text_config())

    @property
    def heads(self) -> int:
        return len(self.model.score.weight) if models.reads_left_to_right(self.model) else 1

    def tree(self, key: int, messages: Sequence[Message], texts: Sequence[str]) -> trees.Tree:
        """See `tree`."""
        return tree(self.tokenizer, key, messages, texts, self.window)

    def unread(self, messages: Sequence[Message], text: str) -> str:
        """Why a text has no reward; empty where the model can read it."""
        try:
            self.tree(0, messages, [text])
        except chat.Refused as error:
            return f"template: {error}"
        except UserError as error:
            return str(error)
        return ""

    def rewards(self, groups: Sequence[Texts]) -> list[list[float]]:
        """One reward per text of each (messages, texts) group; equal texts are scored once and share it.

        Raises UserError where a text has none.
        """
        return whole(self, groups, [r_HN.mean(0) for r_HN in self.each(groups)])

    def each(self, groups: Sequence[Texts]) -> list[np.ndarray]:
        """For each group [H, N]: the rewards of its texts by every head; NaN for a text that the model cannot read.

        The length term that `reward.length_control` fitted, if it did, is taken off.
        """
        slope = getattr(self.model.config, LENGTH_SLOPE, 0.0)
        read = self._in_trees if models.reads_left_to_right(self.model) else self._in_rows
        found = read([(messages, list(dict.fromkeys(texts))) for messages, texts in groups])
        none = [math.nan] * self.heads
        return [
            np.stack([np.array(found.get((i, text), none)) - slope * len(text) for text in texts], 1)
            for i, (_, texts) in enumerate(groups)
        ]

    @torch.inference_mode()
    def _in_trees(self, groups: Sequence[tuple[Sequence[Message], list[str]]]) -> dict[tuple[int, str], list[float]]:
        """(place of the group, text) to its reward by every head."""
        packed = []
        for i, (messages, texts) in enumerate(groups):
            try:
                packed.append(self.tree(i, messages, texts))
            except UserError:  # of one of them
                texts[:] = [text for text in texts if not self.unread(messages, text)]
                packed += [self.tree(i, messages, texts)] if texts else []
        found: dict[tuple[int, str], list[float]] = {}
        for batch in trees.batches(packed, SCORE_TOKENS):
            values = by_head(trees.rewards(self.model, tree_pack := trees.pack(batch, self.model))).tolist()
            for value, (_, tree, number, _) in zip(values, tree_pack.starts(), strict=True):
                found[tree.key, groups[tree.key][1][tree.first + number]] = value
        return found

    @torch.inference_mode()
    def _in_rows(self, groups: Sequence[tuple[Sequence[Message], list[str]]]) -> dict[tuple[int, str], list[float]]:
        """The same with an encoder: the question and each answer as a pair of texts."""
        rows = [(i, chat.plain_text(m).strip(), text) for i, (m, texts) in enumerate(groups) for text in texts]
        rows.sort(key=lambda row: len(row[1]) + len(row[2]))
        found: dict[tuple[int, str], list[float]] = {}
        for start in range(0, len(rows), ROWS_AT_ONCE):
            keys, questions, answers = zip(*rows[start : start + ROWS_AT_ONCE], strict=True)
            limit = min(self.tokenizer.model_max_length, self.model.config.max_position_embeddings)
            batch = self.tokenizer(
                questions, answers, padding=True, truncation=True, max_length=limit, return_tensors="pt"
            )
            values = self.model(**batch.to(self.model.device)).logits.tolist()
            found |= zip(zip(keys, answers, strict=True), values, strict=True)
        return found

    def score(self, groups: Sequence[tuple[list[Message], list[Completion]]]) -> Iterator[list[Score]]:
        """See `bakeoff.rewards.Scorer`."""
        for start in range(0, len(groups), GROUPS_AT_ONCE):
            some = groups[start : start + GROUPS_AT_ONCE]
            read = self.each([(messages, [c.text for c in group]) for messages, group in some])
            for (messages, group), r_HN in zip(some, read, strict=True):
                yield scores(self, messages, group, r_HN.mean(0))


def tree(tokenizer: Any, key: int, messages: Sequence[Message], texts: Sequence[str], limit: float) -> trees.Tree:
    """The texts as answers to a conversation; raises UserError where one is refused, or over the limit of tokens."""
    prompt, answers = chat.answered(tokenizer, messages, texts)
    longest = len(prompt) + max(map(len, answers))
    if longest > limit:
        raise UserError(f"too long: {longest} tokens, and the model's context window has {limit}")
    return trees.Tree(key, prompt, answers)


class Reader(Protocol):
    """What says why a text has no reward."""

    def unread(self, messages: Sequence[Message], text: str) -> str: ...


def scores(
    reader: Reader, messages: Sequence[Message], group: Sequence[Completion], reward_N: np.ndarray
) -> list[Score]:
    """The rewards as scores: where one is not finite it is missing, with the reason."""
    return [
        Score(c.id, c.prompt_id, "reward_model", float(reward))
        if math.isfinite(reward)
        else Score(c.id, c.prompt_id, "reward_model", None, reader.unread(messages, c.text) or NOT_FINITE)
        for c, reward in zip(group, reward_N, strict=True)
    ]


def whole(reader: Reader, groups: Sequence[Texts], rewards: Sequence[np.ndarray]) -> list[list[float]]:
    """The rewards [N] of groups as lists; raises UserError where a text has none."""
    for (messages, texts), reward_N in zip(groups, rewards, strict=True):
        for text, reward in zip(texts, reward_N, strict=True):
            if not math.isfinite(reward):
                raise UserError(f"no reward for {text[:40]!r}: {reader.unread(messages, text) or NOT_FINITE}")
    return [reward_N.tolist() for reward_N in rewards]


def load(name: str | Path, recipe: Recipe | None = None) -> RewardModel:
    """The scorer in a sequence-classification folder; raises UserError when it is another kind of model."""
    scorer = RewardModel(*models.load_reward_model(str(name), recipe))
    if (file := Path(name) / models.MORE).exists():
        set_heads(scorer.model, load_file(file)["heads"])
    return scorer


def save(scorer: RewardModel, folder: Path) -> None:
    """Write a plain folder with one output; of several heads it is their mean, and they stand beside it."""
    heads_HD = scorer.model.score.weight.detach()
    if len(heads_HD) == 1:
        return models.save(scorer.model, scorer.tokenizer, folder)
    set_heads(scorer.model, heads_HD.float().mean(0, keepdim=True))
    models.save(scorer.model, scorer.tokenizer, folder, {"heads": heads_HD})
    set_heads(scorer.model, heads_HD)


def set_heads(model: Any, heads_HD: Tensor) -> None:
    """Let the model end in these heads, weights [H, D]."""
    old = model.score.weight
    model.score = nn.Linear(old.shape[1], len(heads_HD), bias=False, dtype=old.dtype, device=old.device)
    with torch.no_grad():
        model.score.weight.copy_(heads_HD)


def by_head(rewards: Tensor) -> Tensor:
    """[M, H] of the rewards [M] of one head, or [M, H] of several."""
    return rewards.reshape(len(rewards), -1)


def fresh(name: str | Path, recipe: Recipe | None = None) -> RewardModel:
    """A scorer to be trained, over any model's weights."""
    return RewardModel(*models.load_reward_model(str(name), recipe, base=True))


class Training:
    """A reward model being trained in place on what people prefer, `PICKS_PER_STEP` prompts a step. Dropout is off.

    All that was said of one prompt's completions is one item: they are read once. `LOSSES` holds the likelihoods.
    Several heads each learn from a bootstrap of the prompts (arXiv:1602.04621); the trunk learns from all of them.
    """

    def __init__(self, scorer: RewardModel, picks: Sequence[Pick], settings: Reward, *, seed: int):
        self.scorer, self.settings = scorer, settings
        if not models.reads_left_to_right(scorer.model):
            raise UserError("reward.base: an encoder is no base here; give a causal language model")
        if settings.heads < 1:
            raise UserError(f"reward.heads: {settings.heads} heads cannot reward; give 1 or more")
        size, generator = scorer.model.score.weight.shape[1], torch.Generator().manual_seed(seed)
        first = torch.randn(settings.heads, size, generator=generator) * size**-0.5 / 10
        set_heads(scorer.model, first)  # small first rewards: no pick is certain before training
        self.draws = draws(picks, settings.heads, generator) if settings.heads > 1 else {}
        models.freeze(scorer.model, settings.frozen)
        if settings.lora:
            torch.manual_seed(seed)  # a training that begins again after a kill has the same adapters
            models.add_lora(scorer.model, settings.lora)
        self.slip = nn.Parameter(torch.zeros((), device=scorer.model.device), requires_grad=settings.error_rate < 0)
        self.batches = shuffled_batches(by_prompt(picks), PICKS_PER_STEP, epochs=settings.epochs, seed=seed)
        learnt, steps = [*scorer.model.parameters(), self.slip], len(self.batches)
        self.optimizer = MasterAdamW(learnt, learning_rate=settings.learning_rate, steps=steps)

    def steps(self) -> Iterator[dict[str, float]]:
        """Take the steps that are left, yielding metrics after each."""
        for batch in self.batches[self.optimizer.taken :]:
            values = self._accumulate(batch)
            yield values | {"grad_norm": self.optimizer.step(), "error_rate": float(self.error_rate().detach())}
        self.optimizer.close()

    def loss(self, picks: Sequence[Pick]) -> float:
        """The mean loss of picks, without training on them."""
        with torch.no_grad():
            return self._accumulate(by_prompt(picks), learn=False)["loss"]

    def error_rate(self) -> Tensor:
        """The share of slips: as set, or as estimated by maximum likelihood together with the rewards."""
        if self.settings.error_rate >= 0:
            return torch.tensor(self.settings.error_rate)
        pace = SLIP_PACE / self.settings.learning_rate
        return torch.sigmoid(SLIP_START + self.slip + (pace - 1) * self.slip.detach())  # the gradient stays small

    def _accumulate(self, items: Sequence[Sequence[Pick]], *, learn: bool = True) -> dict[str, float]:
        """Add the gradient of the mean loss over the picks of some items."""
        packed = [self.scorer.tree(i, item[0].messages, texts(item)) for i, item in enumerate(items)]
        count, loss_sum, right = sum(map(len, items)), 0.0, 0
        decided = sum(pick.decided for item in items for pick in item)
        for batch in trees.batches(packed, max(trees.TRAIN_TOKENS, *map(len, packed))):  # a group stays whole
            packed_trees = trees.pack(batch, self.scorer.model)
            rewards = by_head(trees.rewards(self.scorer.model, packed_trees, through_prompt=False))
            loss = torch.zeros((), device=rewards.device)
            for tree, reward_UH in zip(batch, rewards.split([len(t.branches) for t in batch]), strict=True):
                places = {text: place for place, text in enumerate(texts(items[tree.key]))}
                for pick in items[tree.key]:
                    reward_KH = reward_UH[[places[text] for text in pick.completions]]
                    loss = loss + self._loss(reward_KH, pick)
                    best = pick.completions[int(reward_KH.mean(1).argmax())]
                    right += pick.decided and best == pick.completions[pick.pick]
            if learn:
                (loss / count).backward()
            loss_sum += float(loss.detach())
        return {"loss": loss_sum / count, "accuracy": right / max(1, decided), "tokens": float(sum(map(len, packed)))}

    def _loss(self, reward_KH: Tensor, pick: Pick) -> Tensor:
        """The mean over heads of their losses, each as often as its bootstrap drew the prompt."""
        draw_H = self.draws.get(prompt_id(pick.messages), torch.ones(reward_KH.shape[1])).to(reward_KH.device)
        return (draw_H * torch.stack([self._head_loss(reward_K, pick) for reward_K in reward_KH.unbind(1)])).mean()

    def _head_loss(self, reward_K: Tensor, pick: Pick) -> Tensor:
        """-log of the likelihood of a pick, with a pull to the centre where no choice of none says where 0 is."""
        error_rate = self.error_rate().to(reward_K.device)
        if pick.none is not None:
            return LOSSES[pick.shape](losses.outside(reward_K), pick, error_rate)
        return LOSSES[pick.shape](reward_K, pick, error_rate) + self.settings.centre * losses.off_centre(reward_K)


def draws(picks: Sequence[Pick], heads: int, generator: torch.Generator) -> dict[str, Tensor]:
    """By prompt, how often each head's bootstrap draws it [H]: Poisson(1), as draws with replacement nearly are."""
    prompts = sorted({prompt_id(pick.messages) for pick in picks})
    counts = torch.poisson(torch.ones(len(prompts), heads), generator=generator)
    return dict(zip(prompts, counts, strict=True))


def by_prompt(picks: Sequence[Pick]) -> list[list[Pick]]:
    """The picks of each prompt together, as long as they hold at most `TEXTS_PER_ITEM` different completions."""
    items: dict[str, list[list[Pick]]] = {}
    for pick in picks:
        own = items.setdefault(prompt_id(pick.messages), [[]])
        if own[-1] and len(texts([*own[-1], pick])) > TEXTS_PER_ITEM:
            own.append([])
        own[-1].append(pick)
    return [item for own in items.values() for item in own]


def texts(item: Sequence[Pick]) -> list[str]:
    """The different completions of an item: each is read once."""
    return list(dict.fromkeys(c for pick in item for c in pick.completions))


def _values(pick: Pick, like: Tensor) -> Tensor:
    return torch.tensor([*pick.values, *([] if pick.none is None else [pick.none])], device=like.device)


LOSSES: dict[str, Callable[[Tensor, Pick, Tensor], Tensor]] = {
    "pick": lambda reward_K, pick, e: losses.luce(reward_K, pick.pick, e),
    "votes": lambda reward_K, pick, e: losses.votes(reward_K, _values(pick, reward_K), e),
    "ranking": lambda reward_K, pick, e: losses.plackett_luce(reward_K, _values(pick, reward_K), e),
    "ratings": lambda reward_K, pick, e: losses.margins(reward_K, _values(pick, reward_K), e),
}
"""What is known of a group to the loss of its rewards [K], given the share of slips."""
