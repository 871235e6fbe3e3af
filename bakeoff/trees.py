"""Trees: a prompt read once with its completions as branches, packed into one sequence.

Each branch sees the prompt and itself, and its positions restart where the prompt ends, so every token gets the hidden
state it would have in a row of its own. B rows, T tokens in the longest row, H hidden units, M gathered tokens.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import DynamicCache

TRAIN_TOKENS = 1024
"""Padded tokens per forward and backward pass: more costs memory and is no faster on a CPU."""
VOCABULARY_CHUNK = 256
"""Tokens projected onto the vocabulary at once: bounds the memory of the logits."""
ROW_TOKENS = 384
"""A row's branches hold about as many tokens as its prompt, or this many: attention costs the square of a row."""

STEP = 32
"""Columns come in such steps: a processor's library prepares, and keeps, code for every shape that it meets."""


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
    ids_BT: Tensor
    positions_BT: Tensor
    mask_B1TT: Tensor
    """Added to the attention scores: 0 where a token may look, the least number elsewhere."""
    width: int
    """Columns of the prompts, which end there; the branches follow."""
    trees: list[Tree]

    def starts(self) -> Iterator[tuple[int, Tree, int, int]]:
        """(row, tree, branch, place of the branch's first token) for every branch, row by row."""
        for row, tree in enumerate(self.trees):
            at = self.width
            for number, branch in enumerate(tree.branches):
                yield row, tree, number, at
                at += len(branch)


def batches(trees: Sequence[Tree], budget: int) -> list[list[Tree]]:
    """Trees of similar length together, at most `budget` padded tokens a batch (a larger tree is split or alone)."""
    small = sorted((part for tree in trees for part in _split(tree, budget)), key=len)
    grouped: list[list[Tree]] = []
    for tree in small:
        if grouped and (len(grouped[-1]) + 1) * sum(_shape([*grouped[-1], tree])) <= budget:
            grouped[-1].append(tree)
        else:
            grouped.append([tree])
    return grouped


def _shape(trees: Sequence[Tree]) -> tuple[int, int]:
    """(columns for the prompts, columns for the branches) of a batch, both a multiple of `STEP`."""
    longest = max(len(t.prompt) for t in trees), max(sum(map(len, t.branches)) for t in trees)
    return -(-longest[0] // STEP) * STEP, -(-longest[1] // STEP) * STEP


def split(tree: Tree) -> list[Tree]:
    """A tree as rows of a length that is worth its attention: a short prompt is read again for some of its branches."""
    return _split(tree, len(tree.prompt) + max(len(tree.prompt), ROW_TOKENS))


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
    """One row per tree: all prompts end in one column, the branches begin in the next; padding sees only itself."""
    width, room = _shape(trees)
    ids = torch.zeros(len(trees), width + room, dtype=torch.long)
    positions = torch.zeros_like(ids)
    owner = torch.full_like(ids, -1)  # 0 the prompt, 1.. the branches, -1 padding
    for row, tree in enumerate(trees):
        at = width - len(tree.prompt)
        for number, tokens in enumerate([tree.prompt, *tree.branches]):
            end = at + len(tokens)
            ids[row, at:end] = torch.tensor(tokens)
            start = 0 if number == 0 else len(tree.prompt)
            positions[row, at:end] = torch.arange(start, start + len(tokens))
            owner[row, at:end] = number
            at = end
    sees = (owner[:, :, None] == owner[:, None, :]) & (owner[:, :, None] >= 0)
    sees |= (owner[:, None, :] == 0) & (owner[:, :, None] > 0)
    sees &= torch.ones(ids.shape[1], ids.shape[1], dtype=torch.bool).tril()
    sees |= torch.eye(ids.shape[1], dtype=torch.bool)
    mask = torch.zeros(sees.shape, dtype=model.dtype).masked_fill_(~sees, torch.finfo(model.dtype).min)
    on = model.device
    return Packed(ids.to(on), positions.to(on), mask[:, None].to(on), width, list(trees))


def hidden(model: Any, packed: Packed, *, through_prompt: bool = True) -> Tensor:
    """Last hidden states [B, T, H] of the model's trunk, after its final norm.

    Without `through_prompt` no gradient flows through the keys and values of a prompt (but for its last token, which
    predicts): training costs the backward pass of the branches only. The states before that token are then zero.
    """
    frozen = 0 if through_prompt or not torch.is_grad_enabled() else packed.width - 1
    cache = DynamicCache() if frozen else None
    parts = []
    if frozen:
        with torch.no_grad():
            parts.append(torch.zeros_like(_trunk(model, packed, 0, frozen, cache)))
    return torch.cat([*parts, _trunk(model, packed, frozen, packed.ids_BT.shape[1], cache)], 1)


def _trunk(model: Any, packed: Packed, start: int, end: int, cache: DynamicCache | None) -> Tensor:
    """Hidden states of the columns from `start` to `end`, which see those before them in the cache."""
    out = model.base_model(
        input_ids=packed.ids_BT[:, start:end],
        attention_mask=packed.mask_B1TT[:, :, start:end, :end],
        position_ids=packed.positions_BT[:, start:end],
        past_key_values=cache,
        use_cache=cache is not None,
    )
    return out.last_hidden_state


def rewards(model: Any, packed: Packed, *, through_prompt: bool = True) -> Tensor:
    """The head's output at the last token of every branch, float32, in the order of `packed.starts()`."""
    return model.score(last_states(model, packed, through_prompt=through_prompt)).squeeze(-1).float()


def last_states(model: Any, packed: Packed, *, through_prompt: bool = True) -> Tensor:
    """The hidden states [M, H] at the last token of every branch, in the order of `packed.starts()`."""
    rows, places = [], []
    for row, tree, number, at in packed.starts():
        rows.append(row)
        places.append(at + len(tree.branches[number]) - 1)
    return hidden(model, packed, through_prompt=through_prompt)[rows, places]


def logits(model: Any, states_MH: Tensor) -> Tensor:
    """The vocabulary projection [M, V] of hidden states, float32, with the scale or cap that some models put on it."""
    logits_MV = model.lm_head(states_MH).float()
    logits_MV = logits_MV * getattr(model.config, "logit_scale", 1.0) / getattr(model.config, "logits_scaling", 1.0)
    cap = getattr(model.config, "final_logit_softcapping", None)
    return logits_MV if cap is None else cap * torch.tanh(logits_MV / cap)


def branch_tokens(packed: Packed) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """For every token of every branch: (row, place of the token that predicts it, the token, number of its branch)."""
    rows, places, targets, branches = [], [], [], []
    for count, (row, tree, number, at) in enumerate(packed.starts()):
        branch = tree.branches[number]
        rows += [row] * len(branch)
        places += [packed.width - 1, *range(at, at + len(branch) - 1)]
        targets += branch
        branches += [count] * len(branch)
    return tuple(torch.tensor(x, device=packed.ids_BT.device) for x in (rows, places, targets, branches))  # type: ignore


def token_logps(
    model: Any, packed: Packed, temperature: float = 1.0, *, through_prompt: bool = True
) -> tuple[Tensor, Tensor]:
    """(log-probability [M] of every branch token given what precedes it, number [M] of its branch), float32."""
    rows, places, targets, branches = branch_tokens(packed)
    states_MH = hidden(model, packed, through_prompt=through_prompt)[rows, places]
    logps = [
        -F.cross_entropy(logits(model, states) / temperature, target, reduction="none")
        for states, target in zip(states_MH.split(VOCABULARY_CHUNK), targets.split(VOCABULARY_CHUNK), strict=True)
    ]
    return torch.cat(logps), branches


def next_token_logps(model: Any, packed: Packed, temperature: float = 1.0) -> Iterator[tuple[Tensor, Tensor]]:
    """Chunks of (log-distribution over the vocabulary [m, V] before every branch token, number [m] of its branch)."""
    rows, places, _, branches = branch_tokens(packed)
    states_MH = hidden(model, packed)[rows, places]
    for states, number in zip(states_MH.split(VOCABULARY_CHUNK), branches.split(VOCABULARY_CHUNK), strict=True):
        yield (logits(model, states) / temperature).log_softmax(-1), number
