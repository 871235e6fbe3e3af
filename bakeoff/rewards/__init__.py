"""Rewards: completions in, numbers out. A scorer is a small protocol; higher is better."""

import dataclasses
import math
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Protocol

from bakeoff.records import Completion, Message, Score


class Scorer(Protocol):
    """Anything that rewards completions."""

    def score(self, groups: Sequence[tuple[list[Message], list[Completion]]]) -> Iterator[list[Score]]:
        """Yield, in the order of `groups`, one Score per completion; a reward that could not be had is None."""
        ...


def used(*scorers: Scorer) -> Counter[str]:
    """What scorers have used so far: `calls`, `prompt_tokens`, `completion_tokens` of a judge, nothing of others.

    One that is named twice counts once.
    """
    each = {id(scorer): scorer for scorer in scorers}
    return sum((Counter(getattr(scorer, "used", None) or {}) for scorer in each.values()), Counter[str]())


def finite(score: Score) -> Score:
    """The score, whose reward is missing where it is no finite number."""
    if score.reward is None or math.isfinite(score.reward):
        return score
    return dataclasses.replace(score, reward=None, reason=f"no reward: {score.scorer} gave {score.reward}")


def are(peers: Sequence[Completion], group: Sequence[Completion]) -> bool:
    """Whether the completions that a group is compared with are the group itself."""
    return len(peers) == len(group) and all(a is b for a, b in zip(peers, group, strict=True))
