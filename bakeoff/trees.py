"""Trees: a prompt read once with its completions as branches, many trees packed into one flat sequence.

Each branch sees the prompt and itself, and its positions restart where the prompt ends, so every token gets the hidden
state it would have in a row of its own. T tokens in the sequence, H hidden units, M gathered tokens.
"""

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import DynamicCache

from bakeoff import attention, kernels, layers
from bakeoff.attention import Block, Grid, Task

TRAIN_TOKENS = 2048
"""Tokens per forward and backward pass: more costs memory and is hardly faster on a CPU."""
VOCABULARY_CHUNK = 128
"""Tokens projected onto the vocabulary at once: bounds the memory of the logits."""

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
    before, count = sum(len(t.prompt) - 1 for t in trees), len(trees)
    size = sum(map(len, trees))
    ids, positions = torch.zeros(2, -(-size // STEP) * STEP, dtype=torch.long)
    prompts, branches, at = [], [[range(0)] * len(t.branches) for t in trees], 0
    for row, tree in enumerate(trees):
        prompts.append([*range(at, at + len(tree.prompt) - 1), before + row])
        at += len(tree.prompt) - 1
        ids[prompts[-1]], positions[prompts[-1]] = torch.tensor(tree.prompt), torch.arange(len(tree.prompt))
    every = [
        (row, number, tree.branches[number]) for row, tree in enumerate(trees) for number in range(len(tree.branches))
    ]
    at = before + count
    for row, number, branch in sorted(every, key=lambda item: len(item[2])):
        places = branches[row][number] = range(at, at + len(branch))
        start, at = len(trees[row].prompt), places.stop
        ids[places.start : at] = torch.tensor(branch)
        positions[places.start : at] = torch.arange(start, start + len(branch))
    return Packed(ids.to(model.device), positions.to(model.device), list(trees), prompts, branches, before)


def hidden(model: Any, packed: Packed, *, through_prompt: bool = True) -> Tensor:
    """Last hidden states [T, H] of the model's trunk, after its final norm.

    Without `through_prompt` no gradient flows through the keys and values of a prompt (but for its last token, which
    predicts): training costs the backward pass of the branches only. The states before that token are then zero.
    """
    apart = packed.before if torch.is_grad_enabled() and not through_prompt else 0
    forward = _in_blocks if attention.possible(model) else _masked
    return forward(model, packed, apart)


def _in_blocks(model: Any, packed: Packed, apart: int) -> Tensor:
    """The attention computed in blocks, with those places before `apart` first and without gradient."""
    own = _own_blocks([places for row in packed.branches for places in row])
    parts, past = [], None
    first = _prompt_blocks([places[:-1] for places in packed.prompts]) if apart else _prompt_blocks(packed.prompts)
    with attention.in_blocks(model), layers.fast(model):
        if apart:
            with torch.no_grad():
                task = Task(first, keep={})
                parts.append(torch.zeros_like(_trunk(model, packed, 0, apart, tree_task=task)))
            first, past = [], task.keep
        lasts = [places[-1:] for places in packed.prompts] if apart else [[]] * len(packed.prompts)
        looking = [
            [*last, *(p for places in row for p in places)] for last, row in zip(lasts, packed.branches, strict=True)
        ]
        to_prompt = Block(Grid(looking), Grid(packed.prompts), causal=False)
        task = Task([*first, to_prompt, *own], first=apart, past=past)
        parts.append(_trunk(model, packed, apart, len(packed.ids_T), tree_task=task))
    return torch.cat(parts)


def _prompt_blocks(places: Sequence[Sequence[int]]) -> list[Block]:
    grid = Grid(places)
    return [Block(grid, grid, causal=True)]


def _own_blocks(branches: Sequence[range]) -> list[Block]:
    """Branches of about a length in one block; their places follow each other in the order of their lengths."""
    blocks: list[Block] = []
    rows = sorted(branches, key=lambda places: (len(places), places.start))
    while rows:
        longest = max(2 * STEP, 2 * len(rows[0]))
        some = [places for places in rows if len(places) <= longest]
        rows = rows[len(some) :]
        grid = Grid([*some, *[[]] * (-len(some) % 8)])
        blocks.append(Block(grid, grid, causal=True))
    return blocks


def _masked(model: Any, packed: Packed, apart: int) -> Tensor:
    """The model's own attention under a mask over the whole sequence, for models and devices without blocks."""
    size = len(packed.ids_T)
    tree, branch = torch.full((size,), -1), torch.zeros(size, dtype=torch.long)  # branch 0 is the prompt
    for row, (prompt, places) in enumerate(zip(packed.prompts, packed.branches, strict=True)):
        tree[prompt] = row
        for number, some in enumerate(places):
            tree[some.start : some.stop], branch[some.start : some.stop] = row, number + 1
    sees = (tree[:, None] == tree) & ((branch[:, None] == branch) | (branch == 0)) & (tree >= 0)
    sees = sees.tril() | torch.eye(size, dtype=torch.bool)
    mask_TT = torch.zeros(sees.shape, dtype=model.dtype).masked_fill_(~sees, torch.finfo(model.dtype).min)
    mask_TT, cache, parts = mask_TT.to(model.device), DynamicCache() if apart else None, []
    for start, end in [(0, apart), (apart, size)] if apart else [(0, size)]:
        with torch.set_grad_enabled(torch.is_grad_enabled() and end == size):
            settings = {"past_key_values": cache, "use_cache": cache is not None}
            parts.append(
                _trunk(model, packed, start, end, attention_mask=mask_TT[None, None, start:end, :end], **settings)
            )
    return torch.cat([*(torch.zeros_like(part) for part in parts[:-1]), parts[-1]])


def _trunk(model: Any, packed: Packed, start: int, end: int, **settings: Any) -> Tensor:
    """Hidden states of the places from `start` to `end`."""
    ids, positions = packed.ids_T[None, start:end], packed.positions_T[None, start:end]
    settings = {"use_cache": False} | settings
    return model.base_model(input_ids=ids, position_ids=positions, **settings).last_hidden_state[0]


def rewards(model: Any, packed: Packed, *, through_prompt: bool = True) -> Tensor:
    """The head's output at the last token of every branch, float32, in the order of `packed.starts()`."""
    return model.score(last_states(model, packed, through_prompt=through_prompt)).squeeze(-1).float()


def last_states(model: Any, packed: Packed, *, through_prompt: bool = True) -> Tensor:
    """The hidden states [M, H] at the last token of every branch, in the order of `packed.starts()`."""
    places = [at + len(tree.branches[number]) - 1 for _, tree, number, at in packed.starts()]
    return hidden(model, packed, through_prompt=through_prompt)[places]


def logits(model: Any, states_MH: Tensor, temperature: float = 1.0) -> Tensor:
    """The vocabulary projection [M, V] of hidden states, float32, with the scale or cap that some models put on it."""
    logits_MV = model.lm_head(states_MH).float()
    scale, cap = _scale(model), getattr(model.config, "final_logit_softcapping", None)
    logits_MV = logits_MV if scale == 1.0 else logits_MV * scale
    logits_MV = logits_MV if cap is None else cap * torch.tanh(logits_MV / cap)
    return logits_MV if temperature == 1.0 else logits_MV / temperature


def _scale(model: Any) -> float:
    return getattr(model.config, "logit_scale", 1.0) / getattr(model.config, "logits_scaling", 1.0)


def branch_tokens(packed: Packed) -> tuple[Tensor, Tensor, Tensor]:
    """For every token of every branch: (place of the token that predicts it, the token, number of its branch)."""
    places, targets, branches = [], [], []
    for count, (row, tree, number, at) in enumerate(packed.starts()):
        branch = tree.branches[number]
        places += [packed.before + row, *range(at, at + len(branch) - 1)]
        targets += branch
        branches += [count] * len(branch)
    return tuple(torch.tensor(x, device=packed.ids_T.device) for x in (places, targets, branches))  # type: ignore


def token_logps(
    model: Any, packed: Packed, temperature: float = 1.0, *, through_prompt: bool = True
) -> tuple[Tensor, Tensor]:
    """(log-probability [M] of every branch token given what precedes it, number [M] of its branch), float32."""
    places, targets, branches = branch_tokens(packed)
    states_MH = hidden(model, packed, through_prompt=through_prompt)[places]
    if states_MH.requires_grad and any(p.requires_grad for p in model.lm_head.parameters()):
        return torch.cat([*_logps(model, states_MH, targets, temperature)]), branches
    return _Logps.apply(states_MH, targets, model, temperature), branches


def _logps(model: Any, states_MH: Tensor, targets_M: Tensor, temperature: float) -> Iterator[Tensor]:
    """The log-probabilities of tokens given the states before them, in chunks."""
    for states, target in zip(states_MH.split(VOCABULARY_CHUNK), targets_M.split(VOCABULARY_CHUNK), strict=True):
        yield -F.cross_entropy(logits(model, states, temperature), target, reduction="none")


class _Logps(torch.autograd.Function):
    """Log-probabilities [M] whose slopes [M, H] are found together with them: the logits of a chunk are not kept."""

    @staticmethod
    def forward(ctx: Any, states_MH: Tensor, targets_M: Tensor, model: Any, temperature: float) -> Tensor:
        sloped = _sloped_by_kernel if _plain_head(model) else _sloped
        chunks = zip(states_MH.split(VOCABULARY_CHUNK), targets_M.split(VOCABULARY_CHUNK), strict=True)
        with torch.set_grad_enabled(ctx.needs_input_grad[0]):
            found = [sloped(model, *chunk, temperature) for chunk in chunks]
        if ctx.needs_input_grad[0]:
            ctx.save_for_backward(torch.cat([slope for _, slope in found]))
        return torch.cat([logp for logp, _ in found])

    @staticmethod
    def backward(ctx: Any, grad_M: Tensor) -> tuple[Tensor, None, None, None]:  # type: ignore[override]
        (slope_MH,) = ctx.saved_tensors
        return (grad_M[:, None] * slope_MH).to(slope_MH.dtype), None, None, None


def _sloped(model: Any, states: Tensor, target: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """(log-probabilities, their slopes while gradients are enabled)."""
    states = states.detach().requires_grad_(torch.is_grad_enabled())
    (logp,) = _logps(model, states, target, temperature)
    return logp.detach(), torch.autograd.grad(logp.sum(), states)[0] if torch.is_grad_enabled() else states


def _sloped_by_kernel(model: Any, states: Tensor, target: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    wanted = torch.is_grad_enabled()
    with torch.no_grad():
        logits_MV = model.lm_head(states)
        logp = kernels.slopes(logits_MV, target, _scale(model) / temperature)
        return logp, logits_MV @ model.lm_head.weight if wanted else states


def _plain_head(model: Any) -> bool:
    """Whether the logits are one product, scaled, that the kernels can take."""
    capped = getattr(model.config, "final_logit_softcapping", None) is not None
    return type(model.lm_head) is nn.Linear and not capped and kernels.usable(model.lm_head.weight)


def next_token_logps(model: Any, packed: Packed, temperature: float = 1.0) -> Iterator[tuple[Tensor, Tensor]]:
    """Chunks of (log-distribution over the vocabulary [m, V] before every branch token, number [m] of its branch)."""
    places, _, branches = branch_tokens(packed)
    states_MH = hidden(model, packed)[places]
    for states, number in zip(states_MH.split(VOCABULARY_CHUNK), branches.split(VOCABULARY_CHUNK), strict=True):
        yield logits(model, states, temperature).log_softmax(-1), number
