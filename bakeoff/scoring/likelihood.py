"""The policy's own likelihood as a reward: log P(answer | prompt) under the model before training. It needs no labels.

What a model finds likely as a whole it is more often right about; picked among N tries it is a free best-of-N.
"""

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch

from bakeoff.models import chat, packed_logps, packing
from bakeoff.models.load import context_window
from bakeoff.models.memory import pass_tokens
from bakeoff.records import Score
from bakeoff.scorer import Group, Texts, in_batches, texts_of

CPU_TOKENS = 4096
"""Tokens of one pass on a CPU."""


class Likelihood:
    """Rewards a completion by its log-probability in nats, summed over its tokens and the end of its turn."""

    def __init__(self, model: Any, tokenizer: Any, temperature: float = 1.0) -> None:
        self.model, self.tokenizer, self.temperature = model, tokenizer, temperature
        self.end = chat.turn_end(tokenizer)
        self.window = context_window(model.config.get_text_config())

    @in_batches
    def score(self, groups: Sequence[Group]) -> Iterator[list[Score]]:
        """See `bakeoff.scorer.Scorer`."""
        too_long = f"too long: more than {self.window} tokens with its prompt"
        for (_, group), logp_N in zip(groups, self.logps([*map(texts_of, groups)]), strict=True):
            found = [(float(logp), "") if math.isfinite(logp) else (None, too_long) for logp, _ in logp_N]
            yield [Score(c.id, c.prompt_id, "likelihood", *one) for c, one in zip(group, found, strict=True)]

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
        for batch in packing.batches(packed, pass_tokens(self.model, CPU_TOKENS)):
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
