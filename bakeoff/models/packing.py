"""Trees: a prompt with its completions as branches, many trees packed into one flat sequence."""

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

STEP = 32
"""Lengths come in such steps: a processor's library prepares, and keeps, code for every shape that it meets."""


@dataclasses.dataclass(frozen=True, slots=True)
class Tree:
    key: int
    """Place in the caller's list."""
    prompt: list[int]
    branches: list[list[int]]
    first: int = 0
    """Place of the first branch in the caller's group, when a large group was split."""

    def __len__(self) -> int:
        return len(self.prompt) + sum(map(len, self.branches))


@dataclasses.dataclass(frozen=True, slots=True)
class Packed:
    """Trees in one sequence: all prompts but for their last tokens, those last tokens, all branches, padding."""

    ids_T: Tensor
    positions_T: Tensor
    trees: list[Tree]
    prompts: list[list[int]]
    """The places of every prompt's tokens."""
    branches: list[list[range]]
    """The places of every branch's tokens, by tree."""
    before: int
    """The place of the first prompt's last token: what stands before predicts nothing."""

    @property
    def longest(self) -> int:
        """The tokens of the longest branch with its prompt."""
        return max(len(t.prompt) + max(map(len, t.branches), default=0) for t in self.trees)

    def starts(self) -> Iterator[tuple[int, Tree, int, int]]:
        """(place of the tree, tree, branch, place of the branch's first token) for every branch, tree by tree."""
        for row, tree in enumerate(self.trees):
            for number, places in enumerate(self.branches[row]):
                yield row, tree, number, places.start


def batches(trees: Sequence[Tree], budget: int) -> list[list[Tree]]:
    """Trees of similar length together, at most `budget` tokens a batch (a larger tree is split or alone)."""
    small = sorted((part for tree in trees for part in _split(tree, budget)), key=len)
    grouped: list[list[Tree]] = []
    for tree in small:
        if grouped and sum(map(len, grouped[-1])) + len(tree) <= budget:
            grouped[-1].append(tree)
        else:
            grouped.append([tree])
    return grouped


def _split(tree: Tree, budget: int) -> list[Tree]:
    parts: list[Tree] = []
    branches: list[list[int]] = []
    size, first = len(tree.prompt), tree.first
    for number, branch in enumerate(tree.branches):
        if branches and size + len(branch) > budget:
            parts.append(Tree(tree.key, tree.prompt, branches, first))
            branches, size, first = [], len(tree.prompt), tree.first + number
        branches.append(branch)
        size += len(branch)
    return [*parts, Tree(tree.key, tree.prompt, branches, first)]


def pack(trees: Sequence[Tree], model: Any) -> Packed:
    """The trees in one sequence; branches stand in the order of their lengths."""
    before = sum(len(t.prompt) - 1 for t in trees)
    prompts, branches, at = [], [[range(0)] * len(t.branches) for t in trees], 0
    for row, tree in enumerate(trees):
        prompts.append([*range(at, at + len(tree.prompt) - 1), before + row])
        at += len(tree.prompt) - 1
    ids = [token for tree in trees for token in tree.prompt[:-1]] + [tree.prompt[-1] for tree in trees]
    positions = [np.arange(len(tree.prompt) - 1) for tree in trees] + [
        np.array([len(t.prompt) - 1 for t in trees], int)
    ]
    every = [
        (row, number, tree.branches[number]) for row, tree in enumerate(trees) for number in range(len(tree.branches))
    ]
    for row, number, branch in sorted(every, key=lambda item: len(item[2])):
        branches[row][number] = range(len(ids), len(ids) + len(branch))
        start = len(trees[row].prompt)
        positions.append(np.arange(start, start + len(branch)))
        ids += branch
    padding = -len(ids) % STEP
    ids_T = torch.tensor(ids + [0] * padding)
    positions_T = torch.from_numpy(np.concatenate([*positions, np.zeros(padding, int)]))
    return Packed(ids_T.to(model.device), positions_T.to(model.device), list(trees), prompts, branches, before)
