"""Attention of packed groups in blocks: each prompt to itself, its completions to it, every completion to itself.

A block is a batch of B rows, Q queries that look at L keys; a token's attention is merged from its blocks by their
log-sum-exp. T tokens, H query heads, K key heads, D head size. For the CPU, forward and backward: torch's fused kernel
there is slow backwards, and computes what a mask then hides.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from bakeoff.models.attention_interface import Block, Task, looks_at_all, merge

STEP = 16
"""Rows and lengths come in such steps: few shapes, so the matrix library's kernels are used again."""
SCORES = 2**22
"""Attention scores held at once in a backward pass (one row's at least)."""
HIDDEN = -30000.0
"""Added to the score of a padded key."""


class Grid:
    """Places in a flat row as rows of equal length, padded on the right; the places of a grid follow each other."""

    def __init__(self, rows: Sequence[Sequence[int]], step: int = STEP) -> None:
        longest = max(map(len, rows))
        self.at_BQ = torch.full((len(rows), -(-longest // step) * step), -1)
        for row, places in enumerate(rows):
            self.at_BQ[row, : len(places)] = torch.tensor(places)
        inside = (self.at_BQ.flatten() >= 0).nonzero()[:, 0]
        order = self.at_BQ.flatten()[inside].argsort()
        self.back_N = inside[order]
        self.start = int(self.at_BQ.flatten()[self.back_N[0]])
        self.stop = self.start + len(self.back_N)
        self.padded = len(inside) < self.at_BQ.numel()

    def plain(self, x_THD: Tensor, first: int) -> Tensor:
        """[B, H, Q, D] of a flat row that begins at place `first`; padding holds anything."""
        at = (self.at_BQ - first).clamp(min=0)
        return x_THD.index_select(0, at.flatten()).unflatten(0, at.shape).transpose(1, 2)

    def folded(self, x_THD: Tensor, kv_heads: int, first: int = 0) -> Tensor:
        """[B * K, H / K * Q, D]: heads that share a key as more queries; the last row of the table is padding's."""
        heads = x_THD.shape[1]
        at = self.at_BQ.where(self.at_BQ >= 0, first + len(x_THD) - 1) - first
        index = at[:, None, :] * heads + torch.arange(heads)[:, None]
        found = x_THD.flatten(0, 1).index_select(0, index.flatten())
        return found.view(len(at) * kv_heads, -1, x_THD.shape[2])

    def flat(self, x: Tensor, heads: int) -> Tensor:
        """[N, H, D]: `folded` undone, without the padding."""
        row, column = self.back_N // self.at_BQ.shape[1], self.back_N % self.at_BQ.shape[1]
        index = (row[:, None] * heads + torch.arange(heads)) * self.at_BQ.shape[1] + column[:, None]
        return x.reshape(-1, x.shape[-1]).index_select(0, index.flatten()).view(len(self.back_N), heads, -1)


def blocks_possible(model: Any) -> bool:
    """Whether a model's attention can be computed so: on the CPU, every token looks at all before it, nothing added."""
    return model.device.type == "cpu" and looks_at_all(model)


class BlockAttention(torch.autograd.Function):
    """[T, H, D] from queries [T, H, D], keys and values [past + T, K, D]."""

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, task: Task, scale: float) -> Tensor:
        out, lse = q.new_zeros(q.shape), q.new_full(q.shape[:2], -torch.inf, dtype=torch.float32)
        for block in task.blocks:
            mask = _padding_mask(block, q.dtype)
            found, found_lse = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(
                block.queries.plain(q, task.first),
                block.keys.plain(k, 0),
                block.keys.plain(v, 0),
                0.0,
                block.causal,
                attn_mask=mask,
                scale=scale,
            )
            back, rows = block.queries.back_N, slice(block.queries.start - task.first, block.queries.stop - task.first)
            found = found.transpose(1, 2).flatten(0, 1).index_select(0, back)
            found_lse = found_lse.transpose(1, 2).flatten(0, 1).index_select(0, back)
            out[rows], lse[rows] = merge((out[rows], lse[rows]), (found, found_lse))
        ctx.task, ctx.scale = task, scale
        ctx.save_for_backward(q, k, v, out, lse)
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, Tensor, None, None]:  # type: ignore[override]
        q, k, v, out, lse = ctx.saved_tensors
        delta = (grad.float() * out).sum(-1)
        tables = _with_columns(q * ctx.scale, -lse, HIDDEN), _with_ones(k, HIDDEN), _with_ones(v, 0.0)
        found = _blocks_backward(ctx.task, *tables, _with_columns(grad, -delta, 0.0))
        return found[0].mul_(ctx.scale), found[1], found[2], None, None


def _padding_mask(block: Block[Grid], dtype: torch.dtype) -> Tensor | None:
    """Hides padded keys; in a causal block they stand behind all that look."""
    if block.causal or not block.keys.padded:
        return None
    mask_BL = torch.zeros(block.keys.at_BQ.shape, dtype=dtype).masked_fill_(block.keys.at_BQ < 0, -torch.inf)
    return mask_BL[:, None, None].expand(-1, 1, block.queries.at_BQ.shape[1], -1)


def _with_columns(x_THD: Tensor, value_TH: Tensor, padding: float) -> Tensor:
    """[T + 1, H, D + 8]: behind a vector the number that a product with `_with_ones` adds to it, in three parts.

    So a product in bfloat16 gives `score - lse`, rounded once, where it is small: what is rounded before is as large
    as the scores. The last row is padding's.
    """
    tokens, heads, size = x_THD.shape
    table = x_THD.new_zeros(tokens + 1, heads, size + 8)
    table[:-1, :, :size] = x_THD
    for column in range(size, size + 3):
        table[:-1, :, column] = value_TH
        value_TH = value_TH - table[:-1, :, column].float()
    table[:, :, size + 3] = 1.0
    table[-1, :, size] = padding
    return table


def _with_ones(x_TKD: Tensor, padding: float) -> Tensor:
    tokens, heads, size = x_TKD.shape
    table = x_TKD.new_zeros(tokens + 1, heads, size + 8)
    table[:-1, :, :size] = x_TKD
    table[:-1, :, size : size + 3] = 1.0
    table[-1, :, size + 3] = padding
    return table


def _blocks_backward(task: Task, q: Tensor, k: Tensor, v: Tensor, grad: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The gradients of (scaled) queries, keys and values, from tables with their extra columns."""
    heads, kv_heads, size = q.shape[1], k.shape[1], q.shape[2] - 8
    dq, dk, dv = (x.new_zeros(len(x) - 1, x.shape[1], size) for x in (q, k, v))
    for block in task.blocks:
        queries, keys = block.queries, block.keys
        q_rows, grad_rows = (queries.folded(x, kv_heads, task.first) for x in (q, grad))
        k_rows, v_rows = (keys.folded(x, kv_heads) for x in (k, v))
        causal = queries.at_BQ.shape[1] if block.causal else 0
        parts = _rows_backward(q_rows, grad_rows, k_rows, v_rows, causal)
        dq[queries.start - task.first : queries.stop - task.first] += queries.flat(parts[0], heads)
        dk[keys.start : keys.stop] += keys.flat(parts[1], kv_heads)
        dv[keys.start : keys.stop] += keys.flat(parts[2], kv_heads)
    return dq, dk, dv


def _rows_backward(q: Tensor, grad: Tensor, k: Tensor, v: Tensor, causal: int) -> tuple[Tensor, Tensor, Tensor]:
    """(dq, dk, dv) of folded rows [B, Q, D + 8] and [B, L, D + 8]; `causal` is the queries of one head, or 0."""
    size = q.shape[2] - 8
    dq, dk, dv = (x.new_empty(*x.shape[:2], size) for x in (q, k, v))
    later = torch.ones(causal, k.shape[1], dtype=torch.bool).triu(1) if causal else None
    step = max(1, SCORES // (q.shape[1] * k.shape[1]))
    for some in (slice(start, start + step) for start in range(0, len(q), step)):
        share = torch.bmm(q[some], k[some].transpose(1, 2)).exp_()
        if later is not None:
            share.unflatten(1, (-1, causal)).masked_fill_(later, 0.0)
        change = torch.bmm(grad[some], v[some].transpose(1, 2)).mul_(share)
        torch.bmm(change, k[some, :, :size], out=dq[some])
        torch.bmm(change.transpose(1, 2), q[some, :, :size], out=dk[some])
        torch.bmm(share.transpose(1, 2), grad[some, :, :size], out=dv[some])
    return dq, dk, dv
