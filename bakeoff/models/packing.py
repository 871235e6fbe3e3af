"""Packing: many prompts, each with the completions that share it as a prefix, in one flat sequence."""

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

STEP = 32
"""Lengths come in such steps: a processor's library prepares, and keeps, code for every shape that it meets."""


@dataclasses.dataclass(frozen=True, slots=True)
class SharedPrefix:
    """A prompt's tokens and those of the completions that share it as a prefix."""

    key: int
    """Place in the caller's list."""
    prompt: list[int]
    completions: list[list[int]]
    first: int = 0
    """Place of the first completion in the caller's group, when a large group was split."""

    def __len__(self) -> int:
        return len(self.prompt) + sum(map(len, self.completions))


@dataclasses.dataclass(frozen=True, slots=True)
class Packed:
    """Groups in one sequence: all prompts but for their last tokens, those last tokens, all completions, padding."""

    ids_T: Tensor
    positions_T: Tensor
    groups: list[SharedPrefix]
    prompts: list[list[int]]
    """The places of every prompt's tokens."""
    completions: list[list[range]]
    """The places of every completion's tokens, by group."""
    before: int
    """The place of the first prompt's last token: what stands before predicts nothing."""

    @property
    def longest(self) -> int:
        """The tokens of the longest completion with its prompt."""
        return max(len(g.prompt) + max(map(len, g.completions), default=0) for g in self.groups)

    def starts(self) -> Iterator[tuple[int, SharedPrefix, int, int]]:
        """(place of the group, group, completion, place of the completion's first token), group by group."""
        for row, group in enumerate(self.groups):
            for number, places in enumerate(self.completions[row]):
                yield row, group, number, places.start


def batches(groups: Sequence[SharedPrefix], budget: int) -> list[list[SharedPrefix]]:
    """Groups of similar length together, at most `budget` tokens a batch (a larger group is split or alone)."""
    small = sorted((part for group in groups for part in _split(group, budget)), key=len)
    batched: list[list[SharedPrefix]] = []
    for group in small:
        if batched and sum(map(len, batched[-1])) + len(group) <= budget:
            batched[-1].append(group)
        else:
            batched.append([group])
    return batched


def _split(group: SharedPrefix, budget: int) -> list[SharedPrefix]:
    parts, some, first = list[SharedPrefix](), list[list[int]](), group.first
    for number, completion in enumerate(group.completions):
        if some and len(group.prompt) + sum(map(len, some)) + len(completion) > budget:
            parts.append(SharedPrefix(group.key, group.prompt, some, first))
            some, first = [], group.first + number
        some.append(completion)
    return [*parts, SharedPrefix(group.key, group.prompt, some, first)]


def pack(groups: Sequence[SharedPrefix], model: Any) -> Packed:
    """The groups in one sequence; completions stand in the order of their lengths."""
    sizes = [len(g.prompt) for g in groups]
    before, prompts, at = sum(sizes) - len(groups), [], 0
    for row, size in enumerate(sizes):
        prompts.append([*range(at, at + size - 1), before + row])
        at += size - 1
    ids = [token for g in groups for token in g.prompt[:-1]] + [g.prompt[-1] for g in groups]
    positions = [*(np.arange(size - 1) for size in sizes), np.array(sizes, int) - 1]
    places = [[range(0)] * len(g.completions) for g in groups]
    every = [(row, number, tokens) for row, g in enumerate(groups) for number, tokens in enumerate(g.completions)]
    for row, number, tokens in sorted(every, key=lambda item: len(item[2])):
        places[row][number] = range(len(ids), len(ids) + len(tokens))
        positions.append(np.arange(sizes[row], sizes[row] + len(tokens)))
        ids += tokens
    padding = -len(ids) % STEP
    ids_T = torch.tensor(ids + [0] * padding)
    positions_T = torch.from_numpy(np.concatenate([*positions, np.zeros(padding, int)]))
    return Packed(ids_T.to(model.device), positions_T.to(model.device), list(groups), prompts, places, before)
