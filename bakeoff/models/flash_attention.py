"""FlashAttention of packed groups on a GPU: each prompt to itself, its completions to it, every completion to itself.

FlashAttention-2 (arXiv:2307.08691) takes rows of any length, end to end, and gives the log-sum-exp of the scores. A
token's attention is merged from its rows by it; the backward pass of each row, given the merged output and log-sum-exp,
is its part of the whole gradient. So a prompt is read once, and no mask is stored.

T tokens of a flat row, N tokens of some rows, B rows, H query heads, K key heads, D head size.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bakeoff.models.attention_interface import Block, Task, head_size, looks_at_all, merge

DTYPES = (torch.bfloat16, torch.float16)
LARGEST_HEAD, AMPERE = 256, (8, 0)
QKV = tuple[Tensor, Tensor, Tensor]
"""Queries [N, H, D], keys and values [M, K, D]."""


@dataclasses.dataclass(frozen=True, slots=True)
class Rows:
    """Places of a flat row as B rows, end to end."""

    at: slice | Tensor
    """The places [N], a slice where they follow each other."""
    bounds_B: Tensor
    """Where each row begins, and the end: [B + 1], int32."""
    longest: int

    @classmethod
    def of(cls, rows: Sequence[Any], device: torch.device) -> "Rows":
        flat = np.concatenate([np.asarray(row, dtype=np.int64) for row in rows] or [np.zeros(0, np.int64)])
        joined = len(flat) > 0 and int(flat[-1]) - int(flat[0]) == len(flat) - 1 and bool((np.diff(flat) == 1).all())
        at = slice(int(flat[0]), int(flat[-1]) + 1) if joined else torch.from_numpy(flat).to(device)
        bounds = torch.tensor([0, *map(len, rows)]).cumsum(0).to(device, torch.int32)
        return cls(at, bounds, max(map(len, rows), default=0))

    def behind(self, first: int) -> slice | Tensor:
        """The places in a flat row that begins at `first`."""
        return slice(self.at.start - first, self.at.stop - first) if isinstance(self.at, slice) else self.at - first


def flash_possible(model: Any) -> bool:
    """Whether a model's attention can be computed so: on CUDA in half precision, every token looking at all before."""
    if model.device.type != "cuda" or model.dtype not in DTYPES or not looks_at_all(model):
        return False
    config = model.config.get_text_config()
    size = head_size(config)
    return torch.cuda.get_device_capability(model.device) >= AMPERE and size % 8 == 0 and size <= LARGEST_HEAD


class RowAttention(torch.autograd.Function):
    """[T, H, D] from queries [T, H, D], keys and values [past + T, K, D]."""

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, task: Task, scale: float) -> Tensor:
        out, lse_TH = q.new_zeros(q.shape), q.new_full(q.shape[:2], -torch.inf, dtype=torch.float32)
        for block in task.blocks:
            rows, keys = block.queries.behind(task.first), block.keys.at
            found, found_lse = attend((q[rows], k[keys], v[keys]), block, scale)
            out[rows], lse_TH[rows] = merge((out[rows], lse_TH[rows]), (found, found_lse.T))
        ctx.task, ctx.scale = task, scale
        ctx.save_for_backward(q, k, v, out, lse_TH)
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, Tensor, None, None]:  # type: ignore[override]
        q, k, v, out, lse_TH = ctx.saved_tensors
        dq, dk, dv = torch.zeros_like(q), torch.zeros_like(k), torch.zeros_like(v)
        for block in ctx.task.blocks:
            rows, keys = block.queries.behind(ctx.task.first), block.keys.at
            found = out[rows], lse_TH[rows].T.contiguous()
            parts = attend_backward(grad[rows].contiguous(), (q[rows], k[keys], v[keys]), found, block, scale=ctx.scale)
            for total, at, part in zip((dq, dk, dv), (rows, keys, keys), parts, strict=True):
                total[at] += part
        return dq, dk, dv, None, None


def attend(qkv: QKV, block: Block[Rows], scale: float, used_B: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """(output [N, H, D], log-sum-exp of the scores [H, N]); `used_B` counts the keys that each row may see."""
    found = torch.ops.aten._flash_attention_forward(
        *qkv, *_shape(block), 0.0, block.causal, return_debug_mask=False, scale=scale, seqused_k=used_B
    )
    return found[0], found[1]


def attend_backward(grad: Tensor, qkv: QKV, found: tuple[Tensor, Tensor], block: Block[Rows], *, scale: float) -> QKV:
    """The gradients of queries, keys and values, from that of the output and what `attend` found."""
    state, unused = torch.zeros(2, dtype=torch.uint64, device=grad.device), torch.empty(0, device=grad.device)
    return torch.ops.aten._flash_attention_backward(
        grad, *qkv, *found, *_shape(block), 0.0, block.causal, state, unused, scale=scale
    )


def _shape(block: Block[Rows]) -> tuple[Tensor, Tensor, int, int]:
    return block.queries.bounds_B, block.keys.bounds_B, block.queries.longest, block.keys.longest
