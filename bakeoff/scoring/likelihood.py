"""The policy's own likelihood as a reward: log P(answer | prompt) under the model before training. It needs no labels.

What a model finds likely as a whole it is more often right about; picked among N tries it is a free best-of-N.
"""

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch

from bakeoff.models import chat, packed_logps, packing
from bakeoff.models.load import context_window, load_policy
from bakeoff.models.memory import pass_tokens
from bakeoff.records import Completion, Message, Score
from bakeoff.settings import Recipe

GROUPS_AT_ONCE = 32
TOKENS = 4096
"""Tokens of one pass on a CPU."""
Texts = tuple[Sequence[Message], Sequence[str]]


class Likelihood:
    """Rewards a completion by its log-probability in nats, summed over its tokens and the end of its turn."""

    def __init__(self, model: Any, tokenizer: Any, temperature: float = 1.0) -> None:
        self.model, self.tokenizer, self.temperature = model, tokenizer, temperature
        self.end = chat.turn_end(tokenizer)
        self.window = context_window(model.config.get_text_config())

    def score(self, groups: Sequence[tuple[list[Message], list[Completion]]]) -> Iterator[list[Score]]:
        """See `bakeoff.scorer.Scorer`."""
        for start in range(0, len(groups), GROUPS_AT_ONCE):
            some = groups[start : start + GROUPS_AT_ONCE]
            found = self.logps([(messages, [c.text for c in group]) for messages, group in some])
            for (_, group), logp_N in zip(some, found, strict=True):
                yield [self._score(c, float(logp)) for c, logp in zip(group, logp_N[:, 0], strict=True)]

    @torch.inference_mode()
    def logps(self, groups: Sequence[Texts]) -> list[np.ndarray]:
        """For each group [N, 2]: its texts' log-probabilities and numbers of tokens; NaN for one that does not fit."""
        packed, places = list[packing.SharedPrefix](), list[list[str]]()
        for key, (messages, texts) in enumerate(groups):
            prompt = chat.render(self.tokenizer, messages)
            answers = {text: self._tokens(text) for text in texts}
            fits = [text for text, tokens in answers.items() if tokens and len(prompt) + len(tokens) <= self.window]
            places.append(fits)
            packed += [packing.SharedPrefix(key, prompt, [answers[text] for text in fits])] if fits else []
        found: dict[tuple[int, str], tuple[float, int]] = {}
        for batch in packing.batches(packed, pass_tokens(self.model, TOKENS)):
            together = packing.pack(batch, self.model)
            logp_M, number_M = packed_logps.token_logps(self.model, together, self.temperature)
            sums = torch.zeros(int(number_M.max()) + 1, dtype=torch.float64)
            sums.index_add_(0, number_M.cpu(), logp_M.double().cpu())
            for total, (_, tree, number, _) in zip(sums.tolist(), together.starts(), strict=True):
                text = places[tree.key][tree.first + number]
                found[tree.key, text] = total, len(tree.completions[number])
        nothing = math.nan, 1
        return [np.array([found.get((key, text), nothing) for text in texts]) for key, (_, texts) in enumerate(groups)]

    def _tokens(self, text: str) -> list[int]:
        """What the policy would have drawn to say so: up to the end of the turn."""
        tokens = chat.answer_tokens(self.tokenizer, text)
        return tokens[: tokens.index(self.end) + 1] if self.end in tokens else tokens

    def _score(self, completion: Completion, logp: float) -> Score:
        known = math.isfinite(logp)
        reason = "" if known else f"too long: more than {self.window} tokens with its prompt"
        return Score(completion.id, completion.prompt_id, "likelihood", logp if known else None, reason)


def load(recipe: Recipe) -> Likelihood:
    """The likelihood under the recipe's model before training, at the temperature of its tries."""
    return Likelihood(*load_policy(recipe.model, recipe, to_train=False), recipe.sample.temperature or 1.0)
