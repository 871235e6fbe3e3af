"""The reward model: learns from testers' picks, then rewards any policy's completions."""

import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from bakeoff.errors import UserError
from bakeoff.math import losses
from bakeoff.models import chat, packed_logps, packing
from bakeoff.models.load import (
    add_lora,
    context_window,
    freeze_layers,
    load_reward_model,
    reads_left_to_right,
    save_model,
)
from bakeoff.models.memory import Budget, pass_tokens
from bakeoff.models.optimizer import MasterAdamW, shuffled_batches
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
ERROR_RATE = 0.1
"""Share of picks assumed to be slips (uniform over the group): as the simulated tester of the demo errs."""
CENTRE = 0.01
"""Strength of the pull of each group's mean reward towards 0, as picks do not say where 0 is."""
NOT_FINITE = "not finite: the model's output is no number"
Texts = tuple[Sequence[Message], Sequence[str]]


class RewardModel:
    """A sequence classifier with one output as a scorer; the completions of a prompt share it as a prefix."""

    def __init__(self, model: Any, tokenizer: Any):
        self.model, self.tokenizer = model, tokenizer
        self.window = context_window(model.config.get_text_config())

    def shared_prefix(self, key: int, messages: Sequence[Message], texts: Sequence[str]) -> packing.SharedPrefix:
        """See `shared_prefix`."""
        return shared_prefix(self.tokenizer, key, messages, texts, self.window)

    def unread(self, messages: Sequence[Message], text: str) -> str:
        """Why a text has no reward; empty where the model can read it."""
        try:
            self.shared_prefix(0, messages, [text])
        except chat.Refused as error:
            return f"template: {error}"
        except UserError as error:
            return str(error)
        return ""

    def rewards(self, groups: Sequence[Texts]) -> list[list[float]]:
        """One reward per text of each (messages, texts) group; equal texts are scored once and share it.

        Raises UserError where a text has none.
        """
        return whole(self, groups, self.each(groups))

    def each(self, groups: Sequence[Texts]) -> list[np.ndarray]:
        """For each group [N]: the rewards of its texts; NaN for a text that the model cannot read."""
        read = self._packed if reads_left_to_right(self.model) else self._in_rows
        found = read([(messages, list(dict.fromkeys(texts))) for messages, texts in groups])
        return [np.array([found.get((i, text), math.nan) for text in texts]) for i, (_, texts) in enumerate(groups)]

    @torch.inference_mode()
    def _packed(self, groups: Sequence[tuple[Sequence[Message], list[str]]]) -> dict[tuple[int, str], float]:
        """(place of the group, text) to its reward."""
        prefixes = []
        for i, (messages, texts) in enumerate(groups):
            try:
                prefixes.append(self.shared_prefix(i, messages, texts))
            except UserError:  # of one of them
                texts[:] = [text for text in texts if not self.unread(messages, text)]
                prefixes += [self.shared_prefix(i, messages, texts)] if texts else []
        found: dict[tuple[int, str], float] = {}
        for batch in packing.batches(prefixes, pass_tokens(self.model, SCORE_TOKENS)):
            values = packed_logps.rewards(self.model, packed := packing.pack(batch, self.model)).tolist()
            for value, (_, prefix, number, _) in zip(values, packed.starts(), strict=True):
                found[prefix.key, groups[prefix.key][1][prefix.first + number]] = value
        return found

    @torch.inference_mode()
    def _in_rows(self, groups: Sequence[tuple[Sequence[Message], list[str]]]) -> dict[tuple[int, str], float]:
        """The same with an encoder: the question and each answer as a pair of texts."""
        rows = [(i, chat.plain_text(m).strip(), text) for i, (m, texts) in enumerate(groups) for text in texts]
        rows.sort(key=lambda row: len(row[1]) + len(row[2]))
        found: dict[tuple[int, str], float] = {}
        for start in range(0, len(rows), ROWS_AT_ONCE):
            keys, questions, answers = zip(*rows[start : start + ROWS_AT_ONCE], strict=True)
            limit = min(self.tokenizer.model_max_length, self.model.config.max_position_embeddings)
            batch = self.tokenizer(
                questions, answers, padding=True, truncation=True, max_length=limit, return_tensors="pt"
            )
            values = self.model(**batch.to(self.model.device)).logits[:, 0].tolist()
            found |= zip(zip(keys, answers, strict=True), values, strict=True)
        return found

    def score(self, groups: Sequence[tuple[list[Message], list[Completion]]]) -> Iterator[list[Score]]:
        """See `bakeoff.scorer.Scorer`."""
        for start in range(0, len(groups), GROUPS_AT_ONCE):
            some = groups[start : start + GROUPS_AT_ONCE]
            read = self.each([(messages, [c.text for c in group]) for messages, group in some])
            for (messages, group), reward_N in zip(some, read, strict=True):
                yield scores(self, messages, group, reward_N)


def shared_prefix(
    tokenizer: Any, key: int, messages: Sequence[Message], texts: Sequence[str], limit: float
) -> packing.SharedPrefix:
    """The texts as answers to a conversation; raises UserError where one is refused, or over the limit of tokens."""
    prompt, answers = chat.answered(tokenizer, messages, texts)
    longest = len(prompt) + max(map(len, answers))
    if longest > limit:
        raise UserError(f"too long: {longest} tokens, and the model's context window has {limit}")
    return packing.SharedPrefix(key, prompt, answers)


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
    scorer = RewardModel(*load_reward_model(str(name), recipe))
    if getattr(scorer.model.config, "bakeoff_length_slope", 0.0):
        raise UserError(f"{name}: was trained with length_control, which this version no longer has; train it again")
    return scorer


def save(scorer: RewardModel, folder: Path) -> None:
    """Write a plain `transformers` folder."""
    save_model(scorer.model, scorer.tokenizer, folder)


def fresh(name: str | Path, recipe: Recipe | None = None) -> RewardModel:
    """A scorer to be trained, over any model's weights."""
    return RewardModel(*load_reward_model(str(name), recipe, base=True))


class Training:
    """A reward model being trained in place on what people prefer, `PICKS_PER_STEP` prompts a step. Dropout is off.

    All that was said of one prompt's completions is one item: they are read once. `LOSSES` holds the likelihoods.
    `lora` is the rank of adapters; 0 trains the weights themselves.
    """

    def __init__(self, scorer: RewardModel, picks: Sequence[Pick], settings: Reward, *, seed: int, lora: int = 0):
        self.scorer = scorer
        if not reads_left_to_right(scorer.model):
            raise UserError("reward.base: an encoder is no base here; give a causal language model")
        head = scorer.model.score.weight
        first = torch.randn(head.shape, generator=torch.Generator().manual_seed(seed)) * head.shape[1] ** -0.5 / 10
        with torch.no_grad():
            head.copy_(first)  # small first rewards: no pick is certain before training
        freeze_layers(scorer.model)
        if lora:
            torch.manual_seed(seed)  # a training that begins again after a kill has the same adapters
            add_lora(scorer.model, lora)
        self.memory = Budget(scorer.model, packed_logps.TRAIN_TOKENS)
        self.batches = shuffled_batches(by_prompt(picks), PICKS_PER_STEP, epochs=settings.epochs, seed=seed)
        self.optimizer = MasterAdamW(
            scorer.model.parameters(), learning_rate=settings.learning_rate, steps=len(self.batches)
        )

    def steps(self) -> Iterator[dict[str, float]]:
        """Take the steps that are left, yielding metrics after each."""
        for batch in self.batches[self.optimizer.taken :]:
            values = self._accumulate(batch)
            yield values | {"grad_norm": self.optimizer.step()}
        self.optimizer.close()

    def _accumulate(self, items: Sequence[Sequence[Pick]]) -> dict[str, float]:
        """Add the gradient of the mean loss over the picks of some items."""
        prefixes = [self.scorer.shared_prefix(i, item[0].messages, texts(item)) for i, item in enumerate(items)]
        return self.memory.run(lambda tokens: self._pass(items, prefixes, tokens), self.optimizer.forget)

    def _pass(
        self, items: Sequence[Sequence[Pick]], prefixes: Sequence[packing.SharedPrefix], tokens: int
    ) -> dict[str, float]:
        count, loss_sum, right = sum(map(len, items)), 0.0, 0
        decided = sum(pick.decided for item in items for pick in item)
        for batch in packing.batches(prefixes, max(tokens, *map(len, prefixes))):  # a group stays whole
            packed = packing.pack(batch, self.scorer.model)
            rewards = packed_logps.rewards(self.scorer.model, packed, through_prompt=False)
            loss = torch.zeros((), device=rewards.device)
            for prefix, reward_U in zip(batch, rewards.split([len(t.completions) for t in batch]), strict=True):
                places = {text: place for place, text in enumerate(texts(items[prefix.key]))}
                for pick in items[prefix.key]:
                    reward_K = reward_U[[places[text] for text in pick.completions]]
                    loss = loss + self._loss(reward_K, pick)
                    best = pick.completions[int(reward_K.argmax())]
                    right += pick.decided and best == pick.completions[pick.pick]
            (loss / count).backward()
            loss_sum += float(loss.detach())
        return {"loss": loss_sum / count, "accuracy": right / max(1, decided), "tokens": float(sum(map(len, prefixes)))}

    def _loss(self, reward_K: Tensor, pick: Pick) -> Tensor:
        """-log of the likelihood of a pick, with a pull to the centre where no choice of none says where 0 is."""
        error_rate = torch.tensor(ERROR_RATE, device=reward_K.device)
        if pick.none is not None:
            return LOSSES[pick.shape](losses.outside(reward_K), pick, error_rate)
        return LOSSES[pick.shape](reward_K, pick, error_rate) + CENTRE * losses.off_centre(reward_K)


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
