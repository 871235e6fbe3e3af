"""Keys and values at fixed addresses, and a model's forward pass over them: a prompt once, its completions behind it.

R rows (completions), P prompt slots, L longest prompt, M longest completion, H query heads, K key heads, D head size, T
tokens of one forward pass, V tokens in the vocabulary.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from bakeoff.models import flash_attention
from bakeoff.models.attention_interface import Block, merge, register
from bakeoff.models.flash_attention import Rows
from bakeoff.sampling.cpu_layers import is_attention, joined_projections, replace
from bakeoff.sampling.hf_generate import compare

NAME = "bakeoff_static"
LAUNCH_BOUND = 2048
"""Up to this width a step takes as long as its kernels' launches, not their work; the joined weights are a copy."""


class Cache:
    """Keys and values of P prompts [P, L, K, D] and of R rows [R, M, K, D] for every layer, and who looks at what."""

    def __init__(self, *, slots: int, rows: int, longest: int, new: int, group: int, to: torch.device) -> None:
        self.prompts, self.own, self.group = (slots, longest), (rows, new), group
        self.layers: dict[int, tuple[Tensor, Tensor, Tensor, Tensor]] = {}
        self.every_R, self.bounds_R = (
            torch.arange(rows, device=to),
            torch.arange(rows + 1, dtype=torch.int32, device=to),
        )
        self.prompt_rows, self.own_rows = _even(slots, longest, to), _even(rows, new, to)
        self.size_P = torch.zeros(slots, dtype=torch.int32, device=to)
        self.slot_R = torch.zeros(rows, dtype=torch.long, device=to)
        self.length_R = torch.zeros(rows, dtype=torch.long, device=to)
        """Tokens that each row has drawn; the keys and values of the last one are not there yet."""
        self.order_R, self.back_R = torch.arange(rows, device=to), torch.arange(rows, device=to)
        """The rows by slot, and the place of each row among them."""
        self.bounds_P = torch.zeros(slots + 1, dtype=torch.int32, device=to)
        """Where each slot's rows begin in `order_R`."""
        self.reading: tuple[Rows, Tensor] | None = None
        """In a prefill: the prompts end to end, and the place of each token among all slots' places."""
        self.place_R, self.filled_R = self.every_R, self.size_P

    def begin(self) -> Tensor:
        """Start a decoding step: the position in its completion of the token that each row reads [R]."""
        last_R = (self.length_R - 1).clamp(min=0)
        self.place_R, self.filled_R = self.every_R * self.own[1] + last_R, (last_R + 1).int()
        return last_R

    def attend(self, layer: int, q: Tensor, k: Tensor, v: Tensor, scale: float) -> Tensor:
        """Attention [T, H, D] of one layer, keys and values [T, K, D]: the prefill in `reading`, or a decoding step."""
        if layer not in self.layers:
            shapes = [self.prompts] * 2 + [self.own] * 2
            self.layers[layer] = tuple(k.new_zeros(*shape, *k.shape[1:]) for shape in shapes)  # type: ignore[assignment]
        if self.reading is None:
            return self._decode(layer, q, k, v, scale)
        rows, place_T = self.reading
        for held, x in zip(self.layers[layer][:2], (k, v), strict=True):
            held.flatten(0, 1).index_copy_(0, place_T, x)
        return flash_attention.attend((q, k, v), Block(rows, rows, causal=True), scale)[0]

    def _decode(self, layer: int, q: Tensor, k: Tensor, v: Tensor, scale: float) -> Tensor:
        prompt_k, prompt_v, own_k, own_v = (x.flatten(0, 1) for x in self.layers[layer])
        for held, x in ((own_k, k), (own_v, v)):
            held.index_copy_(0, self.place_R, x)
        group = q.shape[1] // k.shape[1]
        one = Block(Rows(slice(0, 0), self.bounds_R * group, group), self.own_rows, causal=False)
        own = _grouped(q, (own_k, own_v), one, self.filled_R, scale)
        many = Block(Rows(slice(0, 0), self.bounds_P * group, self.group * group), self.prompt_rows, causal=False)
        shared, lse = _grouped(q[self.order_R], (prompt_k, prompt_v), many, self.size_P, scale)
        return merge((shared[self.back_R], lse[self.back_R]), own)[0]


def _grouped(
    q: Tensor, held: tuple[Tensor, Tensor], block: Block, used_B: Tensor, scale: float
) -> tuple[Tensor, Tensor]:
    """(output [R, H, D], log-sum-exp [R, H]) with the query heads that share a key head as queries of it.

    The kernel then reads the keys once for all of them. The block counts R * H / K queries.
    """
    rows, heads, size = q.shape
    kv_heads = held[0].shape[1]
    folded = q.unflatten(1, (kv_heads, -1)).transpose(1, 2).reshape(-1, kv_heads, size)
    out, lse = flash_attention.attend((folded, *held), block, scale, used_B)
    by_head = lse.unflatten(1, (rows, -1)).permute(1, 0, 2).reshape(rows, heads)
    return out.unflatten(0, (rows, -1)).transpose(1, 2).reshape(rows, heads, size), by_head


def _even(rows: int, size: int, to: torch.device) -> Rows:
    return Rows(slice(0, rows * size), torch.arange(rows + 1, dtype=torch.int32, device=to) * size, size)


class JoinedAttention(nn.Module):
    """Attention of Llama, Mistral and Qwen2 in a fraction of the launches: one product, one rotation."""

    def __init__(self, plain: Any) -> None:
        super().__init__()
        self.plain, self.joined = plain, joined_projections(plain)
        self.heads = [x.out_features // plain.head_dim for x in (plain.q_proj, plain.k_proj, plain.v_proj)]

    def forward(self, hidden_states: Tensor, position_embeddings: tuple[Tensor, Tensor], **settings: Any) -> Any:
        if (cache := settings.get("static_cache")) is None:
            return self.plain(hidden_states, position_embeddings=position_embeddings, **settings)
        joined = self.joined(hidden_states[0]).unflatten(1, (-1, self.plain.head_dim))
        turned, v = joined.split([self.heads[0] + self.heads[1], self.heads[2]], 1)
        cosine, sine = (x[0][:, None] for x in position_embeddings)
        first, second = turned.chunk(2, -1)
        turned = torch.addcmul(turned * cosine, torch.cat([-second, first], -1), sine)
        q, k = turned.split(self.heads[:2], 1)
        out = cache.attend(self.plain.layer_idx, q, k, v, self.plain.scaling)
        return self.plain.o_proj(out.flatten(1)[None]), None


def join(model: nn.Module) -> None:
    """Join what attention multiplies with, in a model whose steps are bound by their launches."""
    if model.config.hidden_size <= LAUNCH_BOUND:  # type: ignore[operator, union-attr]
        replace(model, is_attention, JoinedAttention)


register(NAME, "static_cache")


def forward(model: Any, tokens: Tensor, positions: Tensor, cache: Cache, keep: Tensor | int = 0) -> Tensor:
    """Logits [T or kept places, V]."""
    settings = {"use_cache": False, "logits_to_keep": keep, "static_cache": cache}
    return model(input_ids=tokens[None], position_ids=positions[None], **settings).logits[0]


def read(model: Any, cache: Cache, prompts: Sequence[tuple[int, list[int]]]) -> Tensor:
    """Logits [prompts, V] of what follows each (slot, tokens); their keys and values go into their slots."""
    to, longest = model.device, cache.prompts[1]
    sizes = [len(ids) for _, ids in prompts]
    positions = torch.cat([torch.arange(size) for size in sizes])
    slots = torch.tensor([slot for slot, _ in prompts])
    bounds = torch.tensor([0, *sizes]).cumsum(0)
    place_T = (slots.repeat_interleave(torch.tensor(sizes)) * longest + positions).to(to)
    cache.size_P[slots.to(to)] = torch.tensor(sizes, dtype=torch.int32).to(to)
    cache.reading = Rows(slice(0, int(bounds[-1])), bounds.to(to, torch.int32), max(sizes)), place_T
    tokens = torch.tensor([token for _, ids in prompts for token in ids]).to(to)
    try:
        return forward(model, tokens, positions.to(to), cache, (bounds[1:] - 1).to(to))
    finally:
        cache.reading = None


@torch.inference_mode()
def check_static(model: Any, config: Any) -> None:
    """Compare prefill and decoding with a plain forward pass on a few tokens; raises when they differ."""
    tokens = torch.arange(1, 13) * 7 % config.vocab_size
    cache = Cache(slots=3, rows=4, longest=16, new=8, group=2, to=model.device)
    first = read(model, cache, [(0, tokens[:4].tolist()), (2, tokens[:8].tolist())])
    place(cache, [2, 0, 2, 0])
    found, start_R = [first], torch.tensor([8, 4, 8, 4])
    for step in range(2):
        cache.length_R.fill_(step + 1)
        cache.begin()
        at = start_R + step
        found.append(forward(model, tokens[at].to(model.device), at.to(model.device), cache)[[1, 2]])
    ids = tokens[None, :10].to(model.device)
    compare(model, torch.cat(found), lambda: model(ids, use_cache=False).logits[0][[3, 7, 4, 8, 5, 9]])
    if len(cache.layers) != config.num_hidden_layers:
        raise ValueError(f"{len(cache.layers)} of {config.num_hidden_layers} layers use the registered attention")


def place(cache: Cache, slot_of: Sequence[int]) -> None:
    """Say which slot each row looks at; -1: none."""
    slots = np.array(slot_of)
    order = np.argsort(np.where(slots < 0, cache.prompts[0], slots), kind="stable")
    bounds = np.concatenate([[0], np.bincount(slots[slots >= 0], minlength=cache.prompts[0]).cumsum()])
    cache.order_R.copy_(torch.from_numpy(order))
    cache.back_R.copy_(torch.from_numpy(order.argsort()))
    cache.bounds_P.copy_(torch.from_numpy(bounds.astype(np.int32)))
    cache.slot_R.copy_(torch.from_numpy(slots.clip(min=0)))
