"""What FlashAttention's kernels must give, row by row in float32; importing it makes them run on the CPU too."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bakeoff.models.attention_interface import Block
from bakeoff.models.flash_attention import QKV, Rows


def attend(qkv: QKV, block: Block[Rows], scale: float, used_B: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """`flash_attention.attend` row by row in float32, on every device: what the kernel must give."""
    q, k, v = qkv
    out, lse = torch.zeros_like(q), q.new_full((q.shape[1], len(q)), -torch.inf, dtype=torch.float32)
    for at, held in _pairs(block, used_B):
        share, lse[:, at] = _shares(q[at], k[held], scale, causal=block.causal)
        out[at] = torch.einsum("hql,lhd->qhd", share, _by_query_head(v[held], q)).to(q.dtype)
    return out, lse


def attend_backward(grad: Tensor, qkv: QKV, found: tuple[Tensor, Tensor], block: Block[Rows], *, scale: float) -> QKV:
    """`flash_attention.attend_backward` row by row in float32."""
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


def _forward(q: Tensor, k: Tensor, v: Tensor, *shape: Any, **settings: Any) -> tuple[Tensor, ...]:
    found = attend((q, k, v), _block(shape), settings["scale"], settings.get("seqused_k"))
    return *found, torch.empty(2, dtype=torch.uint64), torch.empty(0), torch.empty(0)


def _backward(grad: Tensor, q: Tensor, k: Tensor, v: Tensor, *rest: Any, **settings: Any) -> QKV:
    return attend_backward(grad, (q, k, v), rest[:2], _block(rest[2:]), scale=settings["scale"])


def _block(shape: Any) -> Block[Rows]:
    """From the arguments of the kernel: the bounds of queries and keys, their longest rows, dropout, causal."""
    queries, keys = (
        Rows(slice(0, int(bounds[-1])), bounds, longest) for bounds, longest in zip(shape[:2], shape[2:4], strict=True)
    )
    return Block(queries, keys, shape[5])


ON_CPU = torch.library.Library("aten", "IMPL")
ON_CPU.impl("_flash_attention_forward", _forward, "CPU")
ON_CPU.impl("_flash_attention_backward", _backward, "CPU")
