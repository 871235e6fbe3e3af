"""Where a completion ends, and its text."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from bakeoff.models import chat, thoughts
from bakeoff.records import Completion
from bakeoff.sampling.engine import completion


def end_tokens(model: Any, tokenizer: Any) -> list[int]:
    """Token ids that end a turn: the generation configuration's, the tokenizer's and the chat template's."""
    configured = getattr(model.generation_config, "eos_token_id", None)
    ends = configured if isinstance(configured, list) else [configured]
    return sorted({int(e) for e in [*ends, tokenizer.eos_token_id, chat.turn_end(tokenizer)] if e is not None})


class Stops:
    """Stop strings. Only a token that holds the last character of one can complete it: the others are not decoded."""

    def __init__(self, tokenizer: Any, stop: Sequence[str]) -> None:
        self.strings = [s for s in stop if s]
        if not self.strings:
            return
        anchor = tokenizer("a", add_special_tokens=False).input_ids[-1:]
        pieces = tokenizer.batch_decode([[*anchor, i] for i in range(len(tokenizer))])
        ends = {s[-1] for s in self.strings} | {"\N{REPLACEMENT CHARACTER}"}
        unknown = False  # a model's vocabulary is often padded beyond its tokenizer's
        self.possible = torch.tensor([*(any(e in piece for e in ends) for piece in pieces), unknown])

    def possible_R(self, token_R: Tensor) -> Tensor:
        return self.possible[token_R.clamp(max=len(self.possible) - 1)]

    def find(self, text: str) -> int:
        """Where the first stop string begins; -1 without one."""
        return min((at for s in self.strings if (at := text.find(s)) >= 0), default=-1)


class Writer:
    """Tells which completions are finished, and makes their records."""

    def __init__(self, tokenizer: Any, ends: Sequence[int], stops: Stops) -> None:
        self.tokenizer, self.stops = tokenizer, stops
        self.ends = torch.tensor(ends, dtype=torch.long)
        special = dict(zip(tokenizer.all_special_tokens, tokenizer.all_special_ids, strict=True))
        marks = {special[mark] for mark in thoughts.MARKS & special.keys()}
        self.hidden = {*special.values()} - marks if marks else set()

    def finished(self, token_RM: Tensor, length_R: Tensor, max_tokens: int) -> list[int]:
        """Rows that end with their last token: an end of turn, a stop string or the length limit."""
        last = token_RM[torch.arange(len(length_R)), length_R - 1]
        over = torch.isin(last, self.ends) | (length_R >= max_tokens)
        if self.stops.strings:
            for row in (self.stops.possible_R(last) & ~over).nonzero()[:, 0].tolist():
                over[row] = self.stops.find(self.text(token_RM[row, : length_R[row]].tolist())) >= 0
        return over.nonzero()[:, 0].tolist()

    def text(self, tokens: list[int]) -> str:
        """The text of tokens without special ones, but for those that mark thoughts."""
        if self.hidden:
            return self.tokenizer.decode([token for token in tokens if token not in self.hidden])
        return self.tokenizer.decode(tokens, skip_special_tokens=True)

    def cut(self, tokens: list[int]) -> tuple[str, bool]:
        """(the text up to the first stop string, whether there is one)."""
        text = self.text(tokens)
        at = self.stops.find(text) if self.stops.strings else -1
        return (text[:at], True) if at >= 0 else (text, False)

    def completion(self, prompt_id: str, index: int, tokens: list[int], logp: float) -> Completion:
        """The record; its text ends before a stop string, its tokens and `logp` include what completed it."""
        text, stopped = self.cut(tokens)
        finish = "stop" if stopped or tokens[-1] in self.ends else "length"
        return completion(prompt_id, index, text, tokens, logp=logp, finish=finish)
