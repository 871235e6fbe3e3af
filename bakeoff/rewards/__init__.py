"""Rewards: completions in, numbers out. A scorer is a small protocol; higher is better."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

from bakeoff.records import Completion, Message, Score


class Scorer(Protocol):
    """Anything that rewards completions."""

    def score(self, groups: Sequence[tuple[list[Message], list[Completion]]]) -> Iterator[list[Score]]:
        """Yield, in the order of `groups`, one Score per completion; a reward that could not be had is None."""
        ...
