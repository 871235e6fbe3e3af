"""What the completions being decoded look at: each prompt's keys and values once, each completion's own after them.

R rows (completions), P prompts held, H query heads, K key heads, G = H / K, L longest prompt, S longest completion so
far, D head size, T tokens of one forward pass.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import torch
from torch import Tensor
from transformers import AttentionInterface

from bakeoff.engines import kernels

NAME = "bakeoff_shared"
STEP = 16
"""Rows and lengths are rounded up to a multiple of this: few shapes, so the matrix library's kernels are re-used."""


@dataclasses.dataclass(slots=True)
class Plan:
    """Who attends to what in one decoding step; the same for every layer."""

    rows: int
    slots: int
    prefix: int
    suffix: int
    length_R: Tensor
    """Tokens each row already holds; the new one is written there."""
    grid_PN: Tensor | None
    """Row numbers by slot, padded to the largest group; None when the rows are already in that order."""
    back_R: Tensor | None
    """`place_R`; None when the rows are already in that order."""
    place_R: Tensor
    """Each row's place in the flattened grid."""
    prefix_mask: Tensor
    suffix_mask: Tensor


class SharedCache:
    """Keys and values of P prompts [P, K, L, D] and of R rows [R, K, S, D] for every layer, allocated once.

    Slots and rows in use are the first ones: whoever leaves, the last one takes its place.
    """

    def __init__(self, *, slots: int, rows: int, prefix: int, suffix: int) -> None:
        self.prefix_shape, self.suffix_shape = (slots, prefix), (rows, suffix)
        self.layers: dict[int, tuple[Tensor, Tensor, Tensor, Tensor]] = {}
        self.task: Plan | list[tuple[int, int]] = []

    def attend(self, layer: int, q: Tensor, k: Tensor, v: Tensor, scale: float, softcap: float | None) -> Tensor:
        """Attention output [1, T, H, D] of one layer, for the prefill or the decoding step in `task`."""
        if layer not in self.layers:
            self.layers[layer] = self._allocate(k)
        if isinstance(self.task, Plan):
            return self._decode(self.layers[layer], self.task, (q, k, v), scale, softcap)
        return self._prefill(self.layers[layer], self.task, (q, k, v), scale, softcap)

    def move_row(self, source: int, to: int, length: int) -> None:
        for _, _, k, v in self.layers.values():
            k[to, :, :length] = k[source, :, :length]
            v[to, :, :length] = v[source, :, :length]

    def move_slot(self, source: int, to: int, length: int) -> None:
        for k, v, _, _ in self.layers.values():
            k[to, :, :length] = k[source, :, :length]
            v[to, :, :length] = v[source, :, :length]

    def _allocate(self, k: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        heads, size = k.shape[1], k.shape[3]
        shapes = [self.prefix_shape] * 2 + [self.suffix_shape] * 2
        return tuple(k.new_zeros(n, heads, length, size) for n, length in shapes)  # type: ignore[return-value]

    @staticmethod
    def _prefill(
        store: tuple[Tensor, ...],
        prompts: list[tuple[int, int]],
        qkv: tuple[Tensor, Tensor, Tensor],
        scale: float,
        softcap: float | None,
    ) -> Tensor:
        """Prompts end to end in one row, each (slot, length) attending to itself only."""
        lengths = [length for _, length in prompts]
        out = []
        for (slot, length), q, k, v in zip(prompts, *(x.split(lengths, 2) for x in qkv), strict=True):
            store[0][slot, :, :length] = k[0]
            store[1][slot, :, :length] = v[0]
            out.append(_causal(q, k, v, scale, softcap))
        return torch.cat(out, 2).transpose(1, 2)

    @staticmethod
    def _decode(
        store: tuple[Tensor, ...], plan: Plan, qkv: tuple[Tensor, Tensor, Tensor], scale: float, softcap: float | None
    ) -> Tensor:
        """One token per row: its prompt's rows share one product with the prompt, merged with the row's own tokens."""
        q, k, v = qkv
        heads, rows, size = q.shape[1:]
        kv_heads = k.shape[1]
        prefix_k, prefix_v, *own = store
        q_RHD = q[0].transpose(0, 1)
        grid = q_RHD if plan.grid_PN is None else q_RHD[plan.grid_PN]
        grid = grid.reshape(plan.slots, -1, kv_heads, heads // kv_heads, size).transpose(1, 2).flatten(2, 3)
        shared = attention(
            grid,
            prefix_k[: plan.slots, :, : plan.prefix],
            prefix_v[: plan.slots, :, : plan.prefix],
            plan.prefix_mask,
            scale,
            softcap,
        )
        if softcap is None and kernels.usable(q):
            return kernels.attend(qkv, (own[0], own[1]), shared, plan.length_R, plan.place_R, scale)
        return _merge_own(plan, qkv, (own[0], own[1]), shared, scale, softcap)


def _merge_own(
    plan: Plan,
    qkv: tuple[Tensor, Tensor, Tensor],
    store: tuple[Tensor, Tensor],
    shared: tuple[Tensor, Tensor],
    scale: float,
    softcap: float | None,
) -> Tensor:
    """What `kernels.attend` does, in tensor operations: for every device, and for a soft cap."""
    q_RHD, k_RKD, v_RKD = (x[0].transpose(0, 1) for x in qkv)
    rows, heads, size = q_RHD.shape
    kv_heads = k_RKD.shape[1]
    every = torch.arange(rows, device=q_RHD.device)
    for held, new in zip(store, (k_RKD, v_RKD), strict=True):
        held[every, :, plan.length_R] = new
    keys, values = (x[:rows, :, : plan.suffix] for x in store)
    own, own_lse = attention(q_RHD.reshape(rows, kv_heads, -1, size), keys, values, plan.suffix_mask, scale, softcap)
    prompts, lse = (_by_row(x, heads // kv_heads, plan.back_R) for x in (shared[0], shared[1][..., None]))
    weight = torch.sigmoid(own_lse.reshape(rows, heads, 1) - lse)
    return torch.lerp(prompts, own.reshape(rows, heads, size), weight.to(prompts.dtype))[None]


def _by_row(x: Tensor, group: int, back_R: Tensor | None) -> Tensor:
    """[P, K, n*G, X] to [R, K*G, X]."""
    x = x.unflatten(2, (-1, group)).transpose(1, 2).flatten(0, 1).flatten(1, 2)
    return x if back_R is None else x[back_R]


def attention(
    q: Tensor, k: Tensor, v: Tensor, mask: Tensor, scale: float, softcap: float | None
) -> tuple[Tensor, Tensor]:
    """(output [B, K, Q, D], log-sum-exp [B, K, Q] of the scores); `mask` [B, 1, 1, L] is added to the scores."""
    if q.device.type == "cpu" and softcap is None:
        flash = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
        return flash(q, k, v, attn_mask=mask.expand(-1, 1, q.shape[2], -1), scale=scale)
    scores = (q @ k.transpose(-1, -2)).float() * scale
    if softcap is not None:
        scores = torch.tanh(scores / softcap) * softcap
    scores = scores + mask
    lse = scores.logsumexp(-1)
    return (scores - lse[..., None]).exp().to(v.dtype) @ v, lse


def _causal(q: Tensor, k: Tensor, v: Tensor, scale: float, softcap: float | None) -> Tensor:
    if softcap is None:
        return torch.nn.functional.scaled_dot_product_attention(
            q, k, v, is_causal=True, scale=scale, enable_gqa=q.shape[1] != k.shape[1]
        )
    length = q.shape[2]
    mask = torch.full((length, length), float("-inf"), device=q.device).triu(1)
    group = q.shape[1] // k.shape[1]
    k, v = (x.repeat_interleave(group, 1) for x in (k, v))
    return attention(q, k, v, mask, scale, softcap)[0]


def _shared_attention(  # the arguments that transformers passes by position and by name
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    **settings: Any,
) -> tuple[Tensor, None]:
    cache = settings.pop("shared_cache")
    scale, softcap = settings.pop("scaling", None), settings.pop("softcap", None)
    if attention_mask is not None or settings.pop("s_aux", None) is not None:
        raise NotImplementedError("the model's attention adds a mask or sinks of its own")
    scale = query.shape[-1] ** -0.5 if scale is None else scale
    return cache.attend(module.layer_idx, query, key, value, scale, softcap), None


AttentionInterface.register(NAME, _shared_attention)
