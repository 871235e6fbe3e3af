"""A judge in one pass: the probability that an instruct model gives to "yes" as the answer to the rubric's question.

The prompt and the question are read once for a whole group, which shares it as a prefix; nothing is generated.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from bakeoff.errors import UserError
from bakeoff.models import chat, packed_forward, packed_logps, packing
from bakeoff.records import Message, Score
from bakeoff.scorer import Group, Texts, in_batches, texts_of
from bakeoff.scoring.judge import RUBRIC, YES_OR_NO, judge_prompt

PASS_TOKENS = 4096
"""Padded tokens of one pass."""
PLACE = "\N{LEFT-POINTING DOUBLE ANGLE QUOTATION MARK}answer\N{RIGHT-POINTING DOUBLE ANGLE QUOTATION MARK}"
"""Stands for the answer while the chat template is applied."""


class LogitJudge:
    """Rewards a completion by log P(yes) - log P(yes or no), the next word after the question; 0 is certainty."""

    def __init__(self, model: Any, tokenizer: Any, question: str = RUBRIC) -> None:
        self.model, self.tokenizer, self.question = model, tokenizer, question
        self.used = Counter[str]()
        yes, no = (self._first_tokens(word) for word in ("yes", "no"))
        self.yes, self.no = sorted(yes - no), sorted(no - yes)
        if not (self.yes and self.no):
            raise UserError(
                "score.scorer: logit_judge: the model's tokenizer does not tell yes from no by the first token"
            )
        self.longest = getattr(model.config.get_text_config(), "max_position_embeddings", None) or 10**9

    @in_batches
    def score(self, groups: Sequence[Group]) -> Iterator[list[Score]]:
        """See `bakeoff.scorer.Scorer`."""
        rewards = self.rewards([*map(texts_of, groups)])
        too_long = f"too long: more than {self.longest} tokens with its prompt"
        for (_, group), known in zip(groups, rewards, strict=True):
            found = [(known[c.text], "") if c.text in known else (None, too_long) for c in group]
            yield [Score(c.id, c.prompt_id, "logit_judge", *one) for c, one in zip(group, found, strict=True)]

    def rewards(self, groups: Sequence[Texts]) -> list[dict[str, float]]:
        """For each (messages, texts) the reward of every text that fits into the model's context with its prompt."""
        read = [self._continuations(messages, texts) for messages, texts in groups]
        prefixes = [
            packing.SharedPrefix(i, prompt, [*answers.values()]) for i, (prompt, answers) in enumerate(read) if answers
        ]
        found: list[dict[str, float]] = [{} for _ in groups]
        self.used["prompt_tokens"] += sum(map(len, prefixes))
        for batch in packing.batches(prefixes, PASS_TOKENS):
            packed = packing.pack(batch, self.model)
            with torch.inference_mode():
                values = self._log_share(packed_logps.last_states(self.model, packed)).tolist()
            for value, (_, prefix, number, _) in zip(values, packed.starts(), strict=True):
                text = list(read[prefix.key][1])[prefix.first + number]
                found[prefix.key][text] = value
        return found

    def _log_share(self, states_MH: Tensor) -> Tensor:
        """[M]: log P(yes) - log P(yes or no) of the next token."""
        logits_MV = packed_forward.logits(self.model, states_MH)
        yes, no = (logits_MV[:, ids].logsumexp(-1) for ids in (self.yes, self.no))
        return F.logsigmoid(yes - no)

    def _continuations(
        self, messages: Sequence[Message], texts: Sequence[str]
    ) -> tuple[list[int], dict[str, list[int]]]:
        """(tokens up to the answer, for each different text that fits its tokens with all that follows)."""
        turn = Message("user", judge_prompt(messages, PLACE, self.question, YES_OR_NO))
        before, _, after = self._rendered(turn).rpartition(PLACE)
        prompt = (
            self._tokens(before)  # a chat template writes the first token itself
            if chat.chat_template(self.tokenizer)
            else chat.opening_tokens(self.tokenizer, before)
        )
        continuations = {text: self._tokens(text + after) for text in texts}
        return prompt, {t: b for t, b in continuations.items() if len(prompt) + len(b) <= self.longest}

    def _rendered(self, turn: Message) -> str:
        if not chat.chat_template(self.tokenizer):
            return chat.plain_text([turn])
        return chat.rendered(self.tokenizer, [turn], prompt=True)

    def _first_tokens(self, word: str) -> set[int]:
        """The tokens that say a word, however it is written; those that begin it where no single token does."""
        ways = [f"{space}{w}" for w in (word, word.capitalize(), word.upper()) for space in ("", " ")]
        ids = [self._tokens(way) for way in ways]
        return {i[0] for i in ids if len(i) == 1} or {i[0] for i in ids}

    def _tokens(self, text: str) -> list[int]:
        return self.tokenizer(text, add_special_tokens=False).input_ids
