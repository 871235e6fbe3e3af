"""Decoding on a GPU: rows of a static shape, one captured CUDA graph a step; prompts are shared, ended rows refilled.

A decoding step of a small model is bound by the launches of its kernels, hundreds of them. A CUDA graph launches them
together, and needs the same shapes and addresses in every step: so rows stay where they are, one that has ended idles
until the next completion takes its place, and the host looks at what has ended only every few steps.

R rows (completions), P prompt slots, M longest completion, V tokens in the vocabulary.
"""

import dataclasses
import math
import warnings
from collections import deque
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bakeoff.models import flash_attention, fused_layers
from bakeoff.models.attention_interface import head_size
from bakeoff.models.memory import free_bytes
from bakeoff.records import Completion, Prompt
from bakeoff.sampling import static_cache
from bakeoff.sampling.engine import Sampling
from bakeoff.sampling.sampler import draw_here, uniforms
from bakeoff.sampling.stop import Writer

MAX_ROWS = 1024
STEPS = 8
"""Decoding steps between two looks of the host at what has ended."""
AHEAD = 3
"""Slots for so many times the prompts that the rows need: prompts are read ahead, many at once."""
PREFILL_TOKENS = 16384
"""Prompt tokens read in one forward pass (a longer prompt is read alone)."""
MEMORY = 0.6
"""Share of the free memory that keys and values may take."""


def prepared(model: Any, config: Any) -> bool:
    """Whether a model decodes in static rows, made ready for it; warns, says why, where a GPU's would and it cannot."""
    if not flash_attention.flash_possible(model):
        return False
    try:
        static_cache.join(model)
        fused_layers.install(model)
        model.set_attn_implementation(static_cache.NAME)
        static_cache.check_static(model, config)
    except Exception as error:  # whatever a model does with an attention function it does not expect
        warnings.warn(f"{type(model).__name__} decodes without CUDA graphs, slower ({error})", stacklevel=3)
        return False
    return True


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
        if to.type == "cuda":
            budget = tokens_in_memory(model, model.config.get_text_config())
        n, new, longest = sampling.group_size, sampling.max_tokens, len(self.waiting[0][1])
        self.rows, self.slots = room(budget, n, longest, new, len(prompts))
        self.cache = static_cache.Cache(slots=self.slots, rows=self.rows, longest=longest, new=new, group=n, to=to)
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
            logits = static_cache.read(self.model, self.cache, [(g.slot, g.ids) for g in new])
            if not len(self.logits_PV):
                self.logits_PV = logits.new_zeros(self.slots, logits.shape[1])
            self.logits_PV[torch.tensor([g.slot for g in new], device=logits.device)] = logits
            self.held += new

    def _enter(self) -> None:
        """Give free rows to the next completions, and draw their first tokens."""
        free = [row for row, owner in enumerate(self.owner) if owner is None]
        if not self.held or len(free) < max(1, self.rows // 8):
            return
        rows, streams = list[int](), []
        for group in self.held:
            while group.entered < self.sampling.group_size and len(rows) < len(free):
                row = free[len(rows)]
                rows.append(row)
                self.owner[row], self.slot_of[row], self.seen[row] = (group, group.entered), group.slot, 0
                streams.append(uniforms(self.sampling.seed, group.prompt.id, group.entered, self.sampling.max_tokens))
                group.entered += 1
        self.held = [g for g in self.held if g.entered < self.sampling.group_size]
        static_cache.place(self.cache, self.slot_of)
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
        if self.graph is None:
            self._step()
            self.graph = self._capture()
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
        logits = static_cache.forward(self.model, tokens, cache.size_P[cache.slot_R] + last_R, cache)
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
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    token = 2 * heads * head_size(config) * config.num_hidden_layers * model.dtype.itemsize
    return int(MEMORY * free_bytes(model.device)) // token
