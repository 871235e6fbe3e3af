"""A judge in one pass: how sure an instruct model is that the answer to the rubric's question is "yes".

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
from bakeoff.models.load import load_policy
from bakeoff.records import Completion, Message, Score
from bakeoff.scoring.rubric import RUBRIC, yes_or_no
from bakeoff.settings import Recipe

GROUPS_AT_ONCE = 32
TOKENS = 4096
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

    def score(self, groups: Sequence[tuple[list[Message], list[Completion]]]) -> Iterator[list[Score]]:
        """See `bakeoff.scorer.Scorer`."""
        for start in range(0, len(groups), GROUPS_AT_ONCE):
            some = groups[start : start + GROUPS_AT_ONCE]
            rewards = self.rewards([(messages, [c.text for c in group]) for messages, group in some])
            for (_, group), known in zip(some, rewards, strict=True):
                yield [self._score(c, known.get(c.text)) for c in group]

    def rewards(self, groups: Sequence[tuple[Sequence[Message], Sequence[str]]]) -> list[dict[str, float]]:
        """For each (messages, texts) the reward of every text that fits into the model's context with its prompt."""
        read = [self._continuations(messages, texts) for messages, texts in groups]
        prefixes = [
            packing.SharedPrefix(i, prompt, [*answers.values()]) for i, (prompt, answers) in enumerate(read) if answers
        ]
        found: list[dict[str, float]] = [{} for _ in groups]
        self.used["prompt_tokens"] += sum(map(len, prefixes))
        for batch in packing.batches(prefixes, TOKENS):
            packed = packing.pack(batch, self.model)
            with torch.inference_mode():
                values = self.log_share(packed_logps.last_states(self.model, packed)).tolist()
            for value, (_, prefix, number, _) in zip(values, packed.starts(), strict=True):
                text = list(read[prefix.key][1])[prefix.first + number]
                found[prefix.key][text] = value
        return found

    def log_share(self, states_MH: Tensor) -> Tensor:
        """[M]: log P(yes) - log P(yes or no) of the next token."""
        logits_MV = packed_forward.logits(self.model, states_MH)
        yes, no = (logits_MV[:, ids].logsumexp(-1) for ids in (self.yes, self.no))
        return F.logsigmoid(yes - no)

    def _continuations(
        self, messages: Sequence[Message], texts: Sequence[str]
    ) -> tuple[list[int], dict[str, list[int]]]:
        """(tokens up to the answer, for each different text that fits its tokens with all that follows)."""
        turn = Message("user", yes_or_no(messages, PLACE, self.question))
        before, _, after = self._rendered(turn).rpartition(PLACE)
        whole = chat.chat_template(self.tokenizer)  # which writes the first token itself
        prompt = (
            self.tokenizer(before, add_special_tokens=False).input_ids
            if whole
            else chat.opening_tokens(self.tokenizer, before)
        )
        continuations = {t: self.tokenizer(t + after, add_special_tokens=False).input_ids for t in texts}
        return prompt, {t: b for t, b in continuations.items() if len(prompt) + len(b) <= self.longest}

    def _rendered(self, turn: Message) -> str:
        if not chat.chat_template(self.tokenizer):
            return chat.plain_text([turn])
        return chat.rendered(self.tokenizer, [turn], prompt=True)

    def _first_tokens(self, word: str) -> set[int]:
        """The tokens that say a word, however it is written; those that begin it where no single token does."""
        ways = [f"{space}{w}" for w in (word, word.capitalize(), word.upper()) for space in ("", " ")]
        ids = [self.tokenizer(way, add_special_tokens=False).input_ids for way in ways]
        return {i[0] for i in ids if len(i) == 1} or {i[0] for i in ids}

    def _score(self, completion: Completion, reward: float | None) -> Score:
        reason = "" if reward is not None else f"too long: more than {self.longest} tokens with its prompt"
        return Score(completion.id, completion.prompt_id, "logit_judge", reward, reason)


def load(name: str, recipe: Recipe, question: str) -> LogitJudge:
    return LogitJudge(*load_policy(name, recipe, to_train=False), question)
