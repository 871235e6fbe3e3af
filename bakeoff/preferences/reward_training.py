"""Training a reward model on what people prefer."""

import functools
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from bakeoff.errors import UserError
from bakeoff.math import losses
from bakeoff.models import packed_logps, packing
from bakeoff.models.load import add_lora, freeze_layers, reads_left_to_right
from bakeoff.models.memory import Budget
from bakeoff.models.optimizer import MasterAdamW, shuffled_batches
from bakeoff.preferences.reward_model import RewardModel
from bakeoff.records import Pick, prompt_id
from bakeoff.settings import Reward

PICKS_PER_STEP = 8
"""Prompts, each with all its picks."""
TEXTS_PER_ITEM = 16
"""Different completions that are packed with one prompt for training: more cost memory."""
ERROR_RATE = 0.1
"""Share of picks assumed to be slips (uniform over the group): as the simulated tester of the demo errs."""
CENTRE_PENALTY = 0.01
"""Strength of the pull of each group's mean reward towards 0, as picks do not say where 0 is."""
LOSSES: dict[str, Callable[..., Tensor]] = {
    "pick": losses.luce,
    "votes": losses.votes,
    "ranking": losses.plackett_luce,
    "ratings": losses.margins,
}
"""`Pick.shape` to the loss of the rewards [K], given the pick's place or values [K] and the share of slips."""


class RewardTraining:
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
        self.batches = shuffled_batches(training_items(picks), PICKS_PER_STEP, epochs=settings.epochs, seed=seed)
        self.optimizer = MasterAdamW(
            scorer.model.parameters(), learning_rate=settings.learning_rate, steps=len(self.batches)
        )

    def steps(self) -> Iterator[dict[str, float]]:
        """Take the steps that are left, yielding metrics after each."""
        for items in self.batches[self.optimizer.taken :]:
            values = self.memory.run(functools.partial(self._accumulate, items), self.optimizer.forget)
            yield values | {"grad_norm": self.optimizer.step()}
        self.optimizer.close()

    def _accumulate(self, items: Sequence[Sequence[Pick]], tokens: int) -> dict[str, float]:
        """Add the gradient of the mean loss over the picks of some items, in passes of so many tokens."""
        prefixes = [self.scorer.shared_prefix(i, item[0].messages, texts_of_item(item)) for i, item in enumerate(items)]
        count, loss_sum, right = sum(map(len, items)), 0.0, 0
        decided = sum(pick.decided for item in items for pick in item)
        for batch in packing.batches(prefixes, max(tokens, *map(len, prefixes))):  # a group stays whole
            packed = packing.pack(batch, self.scorer.model)
            rewards = packed_logps.rewards(self.scorer.model, packed, through_prompt=False)
            loss = torch.zeros((), device=rewards.device)
            for prefix, reward_U in zip(batch, rewards.split([len(t.completions) for t in batch]), strict=True):
                places = {text: place for place, text in enumerate(texts_of_item(items[prefix.key]))}
                for pick in items[prefix.key]:
                    reward_K = reward_U[[places[text] for text in pick.completions]]
                    loss = loss + pick_loss(reward_K, pick)
                    best = pick.completions[int(reward_K.argmax())]
                    right += pick.decided and best == pick.completions[pick.pick]
            (loss / count).backward()
            loss_sum += float(loss.detach())
        return {"loss": loss_sum / count, "accuracy": right / max(1, decided), "tokens": float(sum(map(len, prefixes)))}


def pick_loss(reward_K: Tensor, pick: Pick) -> Tensor:
    """-log of the likelihood of a pick, with a pull to the centre where no choice of none says where 0 is."""
    known: int | Tensor = pick.pick
    if pick.shape != "pick":
        values = pick.values if pick.none is None else [*pick.values, pick.none]
        known = torch.tensor(values, device=reward_K.device)
    rewards = reward_K if pick.none is None else losses.outside(reward_K)
    loss = LOSSES[pick.shape](rewards, known, torch.tensor(ERROR_RATE, device=reward_K.device))
    return loss if pick.none is not None else loss + CENTRE_PENALTY * losses.off_centre(reward_K)


def training_items(picks: Sequence[Pick]) -> list[list[Pick]]:
    """The picks of each prompt together, as long as they hold at most `TEXTS_PER_ITEM` different completions."""
    items: dict[str, list[list[Pick]]] = {}
    for pick in picks:
        own = items.setdefault(prompt_id(pick.messages), [[]])
        if own[-1] and len(texts_of_item([*own[-1], pick])) > TEXTS_PER_ITEM:
            own.append([])
        own[-1].append(pick)
    return [item for own in items.values() for item in own]


def texts_of_item(item: Sequence[Pick]) -> list[str]:
    """The different completions of an item: each is read once."""
    return list(dict.fromkeys(c for pick in item for c in pick.completions))
