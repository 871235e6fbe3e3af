"""Decoding on a GPU: rows of a static shape, one captured CUDA graph a step; prompts are shared, ended rows refilled.

A decoding step of a small model is bound by the launches of its kernels, hundreds of them. A CUDA graph launches them
together, and needs the same shapes and addresses in every step: so rows stay where they are, one that has ended idles
until the next completion takes its place, and the host looks at what has ended only every few steps.

R rows (completions), P prompt slots, L longest prompt, M longest completion, H query heads, K key heads, D head size.
"""

import dataclasses
import math
import warnings
from collections import deque
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from transformers import AttentionInterface

from bakeoff.models import flash_attention
from bakeoff.models.flash_attention import Block, Rows
from bakeoff.records import Completion, Prompt
from bakeoff.sampling.cpu_layers import is_attention, replace
from bakeoff.sampling.engine import Sampling
from bakeoff.sampling.hf_generate import compare
from bakeoff.sampling.sampler import draw_here, uniforms
from bakeoff.sampling.stop import Writer

NAME = "bakeoff_static"
MAX_ROWS = 1024
STEPS = 8
"""Decoding steps between two looks of the host at what has ended."""
AHEAD = 3
"""Slots for so many times the prompts that the rows need: prompts are read ahead, many at once."""
PREFILL_TOKENS = 16384
"""Prompt tokens read in one forward pass (a longer prompt is read alone)."""
LAUNCH_BOUND = 2048
"""Up to this width a step takes as long as its kernels' launches, not their work; the joined weights are a copy."""
MEMORY = 0.6
"""Share of the free memory that keys and values may take."""


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
        return flash_attention.merge((shared[self.back_R], lse[self.back_R]), own)[0]


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
        self.plain, parts = plain, [plain.q_proj, plain.k_proj, plain.v_proj]
        self.weight = nn.Parameter(torch.cat([x.weight.detach() for x in parts]), requires_grad=False)
        biases = [x.bias.detach() for x in parts if x.bias is not None]
        self.bias = nn.Parameter(torch.cat(biases), requires_grad=False) if biases else None
        self.heads = [x.out_features // plain.head_dim for x in parts]

    def forward(self, hidden_states: Tensor, position_embeddings: tuple[Tensor, Tensor], **settings: Any) -> Any:
        if (cache := settings.get("static_cache")) is None:
            return self.plain(hidden_states, position_embeddings=position_embeddings, **settings)
        joined = nn.functional.linear(hidden_states[0], self.weight, self.bias).unflatten(1, (-1, self.plain.head_dim))
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


def _attend(  # the arguments that transformers passes by position and by name
    module: Any, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **settings: Any
) -> tuple[Tensor, None]:
    if attention_mask is not None or settings.get("softcap") or settings.get("s_aux") is not None:
        raise NotImplementedError("the model's attention adds a mask, a cap or sinks of its own")
    scale = settings.get("scaling") or query.shape[-1] ** -0.5
    q, k, v = (x[0].transpose(0, 1) for x in (query, key, value))
    return settings["static_cache"].attend(module.layer_idx, q, k, v, scale)[None], None


AttentionInterface.register(NAME, _attend)


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
def check(model: Any, config: Any) -> None:
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


@dataclasses.dataclass(slots=True)
class _Group:
    """A prompt being completed."""

    prompt: Prompt
    ids: list[int]
    slot: int
    entered: int = 0
    ended: int = 0
    done: list[Completion] = dataclasses.field(default_factory=list)


Ended = tuple[_Group, int, list[int], float]
"""(group, index, tokens, log-probability) of a completion."""


class Batch:
    """Continuous batching in static rows."""

    def __init__(
        self, model: Any, prompts: Sequence[tuple[Prompt, list[int]]], sampling: Sampling, writer: Writer, budget: int
    ) -> None:
        self.model, self.sampling, self.writer, to = model, sampling, writer, model.device
        self.waiting = deque(sorted(prompts, key=lambda x: -len(x[1])))
        n, new, longest = sampling.group_size, sampling.max_tokens, len(self.waiting[0][1])
        self.rows, self.slots = room(budget, n, longest, new, len(prompts))
        self.cache = Cache(slots=self.slots, rows=self.rows, longest=longest, new=new, group=n, to=to)
        self.token_RM = torch.zeros(self.rows, new, dtype=torch.long, device=to)
        self.uniform_RM = torch.zeros(self.rows, new, dtype=torch.float64, device=to)
        self.logp_RM = torch.zeros(self.rows, new, dtype=torch.float64, device=to)
        self.alive_R = torch.zeros(self.rows, dtype=torch.bool, device=to)
        self.ends = writer.ends.to(to)
        self.owner: list[tuple[_Group, int] | None] = [None] * self.rows
        self.seen = [0] * self.rows
        """Tokens of each row in which a stop string was looked for."""
        self.slot_of = [-1] * self.rows
        self.free_slots = list(range(self.slots))
        self.held: list[_Group] = []
        """Groups whose prompt is in a slot, and of which completions are still to enter."""
        self.logits_PV = torch.empty(0)
        self.graph: Any = None

    @torch.inference_mode()
    def groups(self) -> Iterator[list[Completion]]:
        ended: list[Ended] = []
        while self.waiting or self.held or ended or any(self.owner):
            self._read()
            self._enter()
            if busy := any(self.owner):
                for _ in range(STEPS):
                    self._advance()
            yield from self._records(ended)  # the host works while the device does
            ended = self._leave() if busy else []

    def _read(self) -> None:
        """Read the next prompts, where many slots are free, or rows would idle."""
        if len(self.free_slots) < min(len(self.waiting), max(1, self.slots // AHEAD)) and self.held:
            return
        while self.waiting and self.free_slots:
            new: list[_Group] = []
            while self.waiting and self.free_slots:
                if new and sum(len(g.ids) for g in new) + len(self.waiting[0][1]) > PREFILL_TOKENS:
                    break
                new.append(_Group(*self.waiting.popleft(), self.free_slots.pop()))
            logits = read(self.model, self.cache, [(g.slot, g.ids) for g in new])
            if not len(self.logits_PV):
                self.logits_PV = logits.new_zeros(self.slots, logits.shape[1])
            self.logits_PV[torch.tensor([g.slot for g in new], device=logits.device)] = logits
            self.held += new

    def _enter(self) -> None:
        """Give free rows to the next completions, and draw their first tokens."""
        free = [row for row, owner in enumerate(self.owner) if owner is None]
        if not self.held or len(free) < max(1, self.rows // 8):
            return
        rows, streams = [], []
        for group in self.held:
            while group.entered < self.sampling.group_size and len(rows) < len(free):
                row = free[len(rows)]
                rows.append(row)
                self.owner[row], self.slot_of[row], self.seen[row] = (group, group.entered), group.slot, 0
                streams.append(uniforms(self.sampling.seed, group.prompt.id, group.entered, self.sampling.max_tokens))
                group.entered += 1
        self.held = [g for g in self.held if g.entered < self.sampling.group_size]
        place(self.cache, self.slot_of)
        to = self.model.device
        at = torch.tensor(rows, device=to)
        self.uniform_RM[at] = torch.from_numpy(np.stack(streams)).to(to)
        self.cache.length_R[at], self.alive_R[at] = 0, True
        logits = self.logits_PV[self.cache.slot_R[at]]
        found = draw_here(logits, self.uniform_RM[at, 0], self.sampling)
        token_R, logp_R = torch.zeros_like(self.cache.slot_R), self.logp_RM.new_zeros(self.rows)
        token_R[at], logp_R[at] = found
        new_R = torch.zeros_like(self.alive_R)
        new_R[at] = True
        self._put(token_R, logp_R, new_R)

    def _advance(self) -> None:
        """One decoding step of all rows: the first as it is, then as a graph."""
        if self.model.device.type != "cuda" or self.graph is None:
            self._step()
            self.graph = self.graph or self._capture()
        elif self.graph:
            self.graph.replay()
        else:
            self._step()

    def _capture(self) -> Any:
        """The step as a CUDA graph; False where it cannot be one (warns, says why)."""
        if self.model.device.type != "cuda":
            return False
        graph = torch.cuda.CUDAGraph()
        try:
            with torch.cuda.graph(graph):
                self._step()
        except RuntimeError as error:
            why = str(error).splitlines()[0]
            warnings.warn(f"decoding goes step by step, which is slower: no CUDA graph ({why})", stacklevel=2)
            return False
        return graph

    def _step(self) -> None:
        cache = self.cache
        last_R = cache.begin()
        tokens = self.token_RM.gather(1, last_R[:, None])[:, 0]
        logits = forward(self.model, tokens, cache.size_P[cache.slot_R] + last_R, cache)
        at = cache.length_R.clamp(max=self.sampling.max_tokens - 1)[:, None]
        self._put(*draw_here(logits, self.uniform_RM.gather(1, at)[:, 0], self.sampling), self.alive_R)

    def _put(self, token_R: Tensor, logp_R: Tensor, drawn_R: Tensor) -> None:
        """Append the tokens of the rows that have drawn one, and find those that end with it."""
        length_R, most = self.cache.length_R, self.sampling.max_tokens
        at = length_R.clamp(max=most - 1)[:, None]
        for held, new in ((self.token_RM, token_R), (self.logp_RM, logp_R)):
            held.scatter_(1, at, torch.where(drawn_R[:, None], new[:, None].to(held.dtype), held.gather(1, at)))
        length_R += drawn_R
        over_R = (token_R[:, None] == self.ends).any(-1) | (length_R >= most)
        self.alive_R &= ~(drawn_R & over_R)

    def _leave(self) -> list[Ended]:
        """Take out the completions that have ended."""
        length_R, alive_R = self.cache.length_R.tolist(), self.alive_R.tolist()
        stops = self.writer.stops
        rows = [row for row, owner in enumerate(self.owner) if owner and (stops.strings or not alive_R[row])]
        if not rows:
            return []
        at = torch.tensor(rows, device=self.token_RM.device)
        token_RM, logp_RM = self.token_RM[at].cpu(), self.logp_RM[at].cpu()
        ended: list[Ended] = []
        for row, tokens_M, logps_M in zip(rows, token_RM, logp_RM, strict=True):
            stopped = self._stopped(row, tokens_M[: length_R[row]]) if stops.strings else 0
            if alive_R[row] and not stopped:
                continue
            length = stopped or length_R[row]
            group, index = self.owner[row]  # type: ignore[misc]
            ended.append((group, index, tokens_M[:length].tolist(), float(logps_M[:length].sum())))
            self.owner[row], self.slot_of[row] = None, -1
            group.ended += 1
            if group.ended == self.sampling.group_size:
                self.free_slots.append(group.slot)
        idle = torch.tensor([owner is None for owner in self.owner], device=self.alive_R.device)
        self.alive_R &= ~idle
        return ended

    def _stopped(self, row: int, tokens: Tensor) -> int:
        """How many of a row's tokens there are up to the first that completes a stop string; 0 where none does."""
        stops, start = self.writer.stops, self.seen[row]
        self.seen[row] = len(tokens)
        for place in stops.possible_R(tokens[start:]).nonzero()[:, 0].tolist():
            if stops.find(self.writer.text(tokens[: start + place + 1].tolist())) >= 0:
                return start + place + 1
        return 0

    def _records(self, ended: Sequence[Ended]) -> Iterator[list[Completion]]:
        for group, index, tokens, logp in ended:
            group.done.append(self.writer.completion(group.prompt.id, index, tokens, logp))
            if len(group.done) == self.sampling.group_size:
                yield sorted(group.done, key=lambda c: c.index)


def room(budget: int, group_size: int, longest: int, new: int, prompts: int) -> tuple[int, int]:
    """(rows, slots) whose tokens fit the budget."""
    rows = min(MAX_ROWS, group_size * prompts, math.floor(budget / (new + AHEAD * longest / group_size)))
    if rows < group_size:
        return max(1, min(group_size, (budget - longest) // new)), 1
    return rows, min(prompts, AHEAD * -(-rows // group_size))


def tokens_in_memory(model: Any, config: Any) -> int:
    """Tokens whose keys and values fit the device's free memory."""
    free = torch.cuda.mem_get_info(model.device)[0]
    free += torch.cuda.memory_reserved(model.device) - torch.cuda.memory_allocated(model.device)
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    return int(MEMORY * free) // (2 * heads * size * config.num_hidden_layers * model.dtype.itemsize)
