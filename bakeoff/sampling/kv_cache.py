"""What the completions being decoded look at: each prompt's keys and values once, each completion's own after them.

R rows (completions), P prompts held, H query heads, K key heads, G = H / K, L longest prompt, S longest completion so
far, D head size, T tokens of one forward pass.
"""

import dataclasses
from typing import Any

import torch
from torch import Tensor
from transformers import AttentionInterface

from bakeoff.models.cpu import kernels

NAME = "bakeoff_shared"
STEP = 16
"""Rows and lengths are rounded up to a multiple of this: few shapes, so the matrix library's kernels are re-used."""


@dataclasses.dataclass(slots=True)
class Plan(kernels.Rows):
    """Who attends to what in one decoding step; the same for every layer."""

    rows: int
    slots: int
    prefix: int
    suffix: int
    grid_PN: Tensor | None
    """Row numbers by slot, padded to the largest group; None when the rows are already in that order."""
    back_R: Tensor | None
    """`place_R`, or None when the rows are already in that order."""
    prefix_mask: Tensor
    suffix_mask: Tensor


@dataclasses.dataclass(frozen=True, slots=True)
class Heads:
    """The shape of a layer's attention."""

    heads: int
    kv_heads: int
    size: int
    scale: float


Store = tuple[Tensor, Tensor, Tensor, Tensor]
"""A layer's keys and values of the prompts, then those of the rows."""


class SharedCache:
    """Keys and values of P prompts [P, K, L, D] and of R rows [R, K, S, D] for every layer, allocated once.

    Slots and rows in use are the first ones: whoever leaves, the last one takes its place.
    """

    def __init__(self, *, slots: int, rows: int, prefix: int, suffix: int) -> None:
        self.prefix_shape, self.suffix_shape = (slots, prefix), (rows, suffix)
        self.layers: dict[int, Store] = {}
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

    def _allocate(self, k: Tensor) -> Store:
        heads, size = k.shape[1], k.shape[3]
        shapes = [self.prefix_shape] * 2 + [self.suffix_shape] * 2
        return tuple(k.new_zeros(n, heads, length, size) for n, length in shapes)  # type: ignore[return-value]

    @staticmethod
    def _prefill(
        store: Store,
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

    def attend_joined(self, layer: int, joined_TW: Tensor, turns: tuple[Tensor, Tensor], shape: Heads) -> Tensor:
        """`attend` for queries, keys and values side by side [T, (H + 2 K) D], without their rotary positions yet."""
        if not isinstance(self.task, Plan) or layer not in self.layers:
            qkv = joined_TW.unflatten(1, (-1, shape.size)).transpose(0, 1)[None]
            q, k, v = qkv.split([shape.heads, shape.kv_heads, shape.kv_heads], 1)
            return self.attend(layer, _turn(q, turns), _turn(k, turns), v, shape.scale, None)
        plan, store = self.task, self.layers[layer]
        group = shape.heads // shape.kv_heads
        room = torch.empty if plan.grid_PN is None else torch.zeros  # places that no row has
        grid = room(plan.slots, shape.kv_heads, plan.widest * group, shape.size, dtype=joined_TW.dtype)
        kernels.spread(joined_TW, turns, grid, store[2:], plan)
        return kernels.attend(grid, store[2:], _attend_prompts(store, plan, grid, shape.scale, None), plan, shape.scale)

    @staticmethod
    def _decode(
        store: Store, plan: Plan, qkv: tuple[Tensor, Tensor, Tensor], scale: float, softcap: float | None
    ) -> Tensor:
        """One token per row: its prompt's rows share one product with the prompt, merged with the row's own tokens."""
        q_RHD, *new = (x[0].transpose(0, 1) for x in qkv)
        every = torch.arange(plan.rows, device=q_RHD.device)
        for held, x_RKD in zip(store[2:], new, strict=True):
            held[every, :, plan.length_R] = x_RKD
        _, heads, size = q_RHD.shape
        kv_heads = new[0].shape[1]
        grid = q_RHD if plan.grid_PN is None else q_RHD[plan.grid_PN]
        grid = grid.reshape(plan.slots, -1, kv_heads, heads // kv_heads, size).transpose(1, 2).flatten(2, 3)
        shared = _attend_prompts(store, plan, grid, scale, softcap)
        if softcap is None and kernels.usable(grid):
            return kernels.attend(grid.contiguous(), store[2:], shared, plan, scale)
        return _merge_own(plan, q_RHD, store[2:], shared, scale, softcap)


def _turn(x: Tensor, turns: tuple[Tensor, Tensor]) -> Tensor:
    """Rotary positions: the first half of a head [..., T, D] is paired with the second."""
    first, second = x.chunk(2, -1)
    return x * turns[0] + torch.cat([-second, first], -1) * turns[1]


def _attend_prompts(
    store: Store, plan: Plan, grid: Tensor, scale: float, softcap: float | None
) -> tuple[Tensor, Tensor]:
    keys, values = (x[: plan.slots, :, : plan.prefix] for x in store[:2])
    return attention(grid, keys, values, plan.prefix_mask, scale, softcap)


def _merge_own(
    plan: Plan,
    q_RHD: Tensor,
    own: tuple[Tensor, Tensor],
    shared: tuple[Tensor, Tensor],
    scale: float,
    softcap: float | None,
) -> Tensor:
    """What `kernels.attend` does, in tensor operations: for every device, and for a soft cap."""
    rows, heads, size = q_RHD.shape
    keys, values = (x[:rows, :, : plan.suffix] for x in own)
    kv_heads = keys.shape[1]
    queries = q_RHD.reshape(rows, kv_heads, -1, size)
    out, out_lse = attention(queries, keys, values, plan.suffix_mask, scale, softcap)
    prompts, lse = (_by_row(x, heads // kv_heads, plan.back_R) for x in (shared[0], shared[1][..., None]))
    weight = torch.sigmoid(out_lse.reshape(rows, heads, 1) - lse)
    return torch.lerp(prompts, out.reshape(rows, heads, size), weight.to(prompts.dtype))[None]


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
