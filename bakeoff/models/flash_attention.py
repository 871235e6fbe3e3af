"""FlashAttention of packed groups on a GPU: each prompt to itself, its completions to it, every completion to itself.

FlashAttention-2 (arXiv:2307.08691) takes rows of any length, end to end, and gives the log-sum-exp of the scores. A
token's attention is merged from its rows by it; the backward pass of each row, given the merged output and log-sum-exp,
is its part of the whole gradient. So a prompt is read once, and no mask is stored.

T tokens of a flat row, N tokens of some rows, B rows, H query heads, K key heads, D head size.
"""

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bakeoff.models.attention_interface import Block, Task, looks_at_all

DTYPES = (torch.bfloat16, torch.float16)
LARGEST_HEAD, AMPERE = 256, (8, 0)
KERNEL = ("cuda", "meta")
"""Devices of the kernel: on `meta` shapes and devices are checked without data."""


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


def possible(model: Any) -> bool:
    """Whether a model's attention can be computed so: on CUDA in half precision, every token looking at all before."""
    if model.device.type != "cuda" or model.dtype not in DTYPES or not looks_at_all(model):
        return False
    config = model.config.get_text_config()
    size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
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


def merge(one: tuple[Tensor, Tensor], other: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    """The attention [N, H, D] to two sets of keys, and its log-sum-exp [N, H], from the attention to each."""
    (out, lse), (found, found_lse) = one, other
    weight = torch.sigmoid(found_lse - lse)[..., None].to(out.dtype)
    return torch.lerp(out, found, weight), torch.logaddexp(lse, found_lse)


def attend(qkv: QKV, block: Block[Rows], scale: float, used_B: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """(output [N, H, D], log-sum-exp of the scores [H, N]); `used_B` counts the keys that each row may see."""
    if qkv[0].device.type not in KERNEL:
        return plain(qkv, block, scale, used_B)
    found = torch.ops.aten._flash_attention_forward(
        *qkv, *_shape(block), 0.0, block.causal, return_debug_mask=False, scale=scale, seqused_k=used_B
    )
    return found[0], found[1]


def attend_backward(grad: Tensor, qkv: QKV, found: tuple[Tensor, Tensor], block: Block[Rows], *, scale: float) -> QKV:
    """The gradients of queries, keys and values, from that of the output and what `attend` found."""
    if grad.device.type not in KERNEL:
        return plain_backward(grad, qkv, found, block, scale=scale)
    state, unused = torch.zeros(2, dtype=torch.uint64, device=grad.device), torch.empty(0, device=grad.device)
    return torch.ops.aten._flash_attention_backward(
        grad, *qkv, *found, *_shape(block), 0.0, block.causal, state, unused, scale=scale
    )


def _shape(block: Block[Rows]) -> tuple[Tensor, Tensor, int, int]:
    return block.queries.bounds_B, block.keys.bounds_B, block.queries.longest, block.keys.longest


def plain(qkv: QKV, block: Block[Rows], scale: float, used_B: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """`attend` row by row in float32, on every device: what the kernel must give."""
    q, k, v = qkv
    out, lse = torch.zeros_like(q), q.new_full((q.shape[1], len(q)), -torch.inf, dtype=torch.float32)
    for at, held in _pairs(block, used_B):
        share, lse[:, at] = _shares(q[at], k[held], scale, causal=block.causal)
        out[at] = torch.einsum("hql,lhd->qhd", share, _by_query_head(v[held], q)).to(q.dtype)
    return out, lse


def plain_backward(grad: Tensor, qkv: QKV, found: tuple[Tensor, Tensor], block: Block[Rows], *, scale: float) -> QKV:
    """`attend_backward` row by row in float32."""
    (q, k, v), (out, lse_HN) = qkv, found
    dq, dk, dv = (torch.zeros_like(x, dtype=torch.float32) for x in qkv)
    for at, held in _pairs(block, None):
        share, lse = _shares(q[at], k[held], scale, causal=block.causal)
        share = share * (lse - lse_HN[:, at])[..., None].exp()
        far, keys, values = grad[at].float(), _by_query_head(k[held], q), _by_query_head(v[held], q)
        delta = (far * out[at].float()).sum(-1).T[..., None]
        change = share * (torch.einsum("qhd,lhd->hql", far, values) - delta) * scale
        dq[at] += torch.einsum("hql,lhd->qhd", change, keys)
        for total, rows in ((dk, (change, q[at].float())), (dv, (share, far))):
            total[held] += torch.einsum("hql,qhd->lhd", *rows).unflatten(1, (k.shape[1], -1)).sum(2)
    return dq.to(q.dtype), dk.to(k.dtype), dv.to(v.dtype)


def _pairs(block: Block[Rows], used_B: Tensor | None) -> Iterator[tuple[slice, slice]]:
    """The queries and the filled keys of each row."""
    q_bounds, k_bounds = block.queries.bounds_B.tolist(), block.keys.bounds_B.tolist()
    used = np.diff(k_bounds) if used_B is None else used_B.tolist()
    for start, stop, first, count in zip(q_bounds, q_bounds[1:], k_bounds, used, strict=False):
        if stop > start:
            yield slice(start, stop), slice(first, first + int(count))


def _shares(q: Tensor, k: Tensor, scale: float, *, causal: bool) -> tuple[Tensor, Tensor]:
    """(softmax of the scores [H, Q, L], its log-sum-exp [H, Q])."""
    scores = torch.einsum("qhd,lhd->hql", q.float(), _by_query_head(k, q)) * scale
    if causal:
        scores = scores.masked_fill(torch.ones(scores.shape[1:], dtype=torch.bool, device=q.device).triu(1), -torch.inf)
    lse = scores.logsumexp(-1)
    return (scores - lse[..., None]).exp(), lse


def _by_query_head(x: Tensor, q: Tensor) -> Tensor:
    return x.float().repeat_interleave(q.shape[1] // x.shape[1], 1)
