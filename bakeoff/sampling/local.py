"""The in-process engine: N completions of a prompt for little more than the price of one."""

import copy
import dataclasses
import itertools
import math
import warnings
from collections import deque
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from bakeoff.models.load import context_window
from bakeoff.models.packed_forward import own_length
from bakeoff.records import Completion, Prompt
from bakeoff.sampling import cuda_graphs
from bakeoff.sampling.cpu_layers import fuse_layers, unjoin
from bakeoff.sampling.engine import Failed, Sampling, refuse
from bakeoff.sampling.hf_generate import compare, complete_separately
from bakeoff.sampling.kv_cache import NAME, STEP, Plan, SharedCache
from bakeoff.sampling.length_filter import readable
from bakeoff.sampling.sampler import draw, uniforms
from bakeoff.sampling.stop import Stops, Writer, end_tokens

MAX_ROWS = 512
"""Completions decoded together: the weights are read from memory once a step for all of them."""
PREFILL_TOKENS = 1024
"""Prompt tokens read in one forward pass (a longer prompt is read alone)."""


class LocalEngine:
    """Samples from a `transformers` causal language model in this process; `model` itself is left as it is.

    The weights are those of the moment: after training, make another engine.

    A prompt is read once and its keys and values are shared by its completions. Memory for keys and values is bounded
    by `max_batch_tokens`: each prompt's tokens once plus `max_tokens` for each completion being decoded.

    A completion depends on its prompt, index, the seed and the settings only. Its batch changes the order in which
    floating-point sums are taken: in bfloat16 a draw that falls on the border between two tokens may go the other way.

    Prompts are rendered with the tokenizer's chat template, or, without one, joined as plain text.
    """

    def __init__(self, model: Any, tokenizer: Any, *, max_batch_tokens: int = 65536) -> None:
        self.tokenizer = tokenizer
        self.budget = max_batch_tokens
        self.config = model.config.get_text_config()
        self.ends = end_tokens(model, tokenizer)
        tensors = itertools.chain(model.parameters(), model.buffers())
        self.model = copy.deepcopy(model, {id(t): t for t in tensors}).eval()  # own modules, the caller's weights
        fuse_layers(self.model)
        self.static = cuda_graphs.prepared(self.model, self.config)
        self.longest_shared = own_length(self.config) if self.static else _longest_shared(self.model, self.config)

    def complete(
        self, prompts: Sequence[Prompt], sampling: Sampling, failed: Failed = refuse
    ) -> Iterator[list[Completion]]:
        """One whole group per prompt, in the order in which they finish.

        A prompt that is empty or does not fit the context window with `max_tokens` goes to `failed`.
        """
        read = readable(self.tokenizer, prompts, sampling, context_window(self.config), failed)
        writer = Writer(self.tokenizer, self.ends, Stops(self.tokenizer, sampling.stop))
        fits = [x for x in read if len(x[1]) + sampling.max_tokens <= self.longest_shared]
        others = [x for x in read if len(x[1]) + sampling.max_tokens > self.longest_shared]
        batch = cuda_graphs.Batch if self.static else _Batch
        return itertools.chain(
            batch(self.model, fits, sampling, writer, self.budget).groups() if fits else (),
            complete_separately(self.model, others, sampling, writer, MAX_ROWS) if others else (),
        )


def _longest_shared(model: Any, config: Any) -> float:
    """How many tokens of context the shared path is right for; 0 when the model cannot use it (warns, says why)."""
    try:
        model.set_attn_implementation(NAME)
        try:
            _check(model, config)
        except Exception:
            if not unjoin(model):
                raise
            _check(model, config)
    except Exception as error:  # whatever a model does with an attention function it does not expect
        warnings.warn(
            f"{type(model).__name__} cannot share prompts between completions ({error}); sampling takes a slower path",
            stacklevel=3,
        )
        return 0
    kinds = set(getattr(config, "layer_types", None) or ["full_attention"])
    window = getattr(config, "sliding_window", None) or getattr(config, "attention_chunk_size", None)
    if window is None or kinds == {"full_attention"} and hasattr(config, "layer_types"):
        window = math.inf
    return min(window, own_length(config))


@torch.inference_mode()
def _check(model: Any, config: Any) -> None:
    """Compare the shared path with a plain forward pass on a few tokens; raises when they differ."""
    tokens = torch.arange(1, 13, device=model.device) * 7 % config.vocab_size
    cache = SharedCache(slots=2, rows=STEP, prefix=STEP, suffix=STEP)
    cache.task = [(0, 4), (1, 8)]
    packed = torch.cat([tokens[:4], tokens[:8]])
    positions = torch.cat([torch.arange(4), torch.arange(8)]).to(model.device)
    first = _forward(model, packed, positions, cache)[[3, 11]]
    slots = torch.tensor([1, 0, 1, 0] * (STEP // 4))
    lengths = torch.tensor([8, 4, 8, 4] * (STEP // 4))
    for step in range(2):
        cache.task = _plan(slots, torch.full((STEP,), step), torch.tensor([4, 8]), model)
        at = (lengths + step).to(model.device)
        second = _forward(model, tokens[at], at, cache)[[1, 0]]
    compare(
        model, torch.cat([first, second]), lambda: model(tokens[None, :10], use_cache=False).logits[0][[3, 7, 5, 9]]
    )
    if len(cache.layers) != config.num_hidden_layers:
        raise ValueError(f"{len(cache.layers)} of {config.num_hidden_layers} layers use the registered attention")


def _forward(model: Any, tokens: Tensor, positions: Tensor, cache: SharedCache, keep: Tensor | int = 0) -> Tensor:
    """Logits [T or kept places, V]."""
    out = model(
        input_ids=tokens[None], position_ids=positions[None], use_cache=False, logits_to_keep=keep, shared_cache=cache
    )
    return out.logits[0]


def _plan(slot_R: Tensor, length_R: Tensor, prefix_P: Tensor, model: Any) -> Plan:
    """The next decoding step of rows that sit in `slot_R`; all arguments on the CPU."""
    rows, slots = len(slot_R), len(prefix_P)
    order = slot_R.argsort(stable=True)
    counts = slot_R.bincount(minlength=slots)
    first = counts.cumsum(0) - counts
    place = torch.arange(rows) - first[slot_R[order]]
    widest = int(counts.max())
    back = torch.empty(rows, dtype=torch.long)
    back[order] = slot_R[order] * widest + place
    grid = torch.zeros(slots * widest, dtype=torch.long).scatter_(0, back, torch.arange(rows))
    regular = rows == slots * widest and bool((back == torch.arange(rows)).all())
    prefix, suffix = (_up(int(x.max()), STEP) for x in (prefix_P, length_R + 1))
    outside = torch.finfo(torch.float32).min
    masks = (
        torch.zeros(len(n), 1, 1, size).masked_fill_(torch.arange(size) >= n[:, None, None, None], outside)
        for n, size in ((prefix_P, prefix), (length_R + 1, suffix))
    )
    to = model.device
    return Plan(
        rows=rows, slots=slots, prefix=prefix, suffix=suffix, length_R=length_R.to(to),
        grid_PN=None if regular else grid.to(to), back_R=None if regular else back.to(to),
        place_R=back.to(to), widest=widest,
        prefix_mask=next(masks).to(to, model.dtype), suffix_mask=next(masks).to(to, model.dtype),
    )  # fmt: skip


def _up(n: int, step: int) -> int:
    return -(-n // step) * step


@dataclasses.dataclass(slots=True)
class _Group:
    """A prompt being completed."""

    prompt: Prompt
    ids: list[int]
    slot: int
    logits: Tensor
    """What follows the prompt [V]."""
    entered: int = 0
    done: list[Completion] = dataclasses.field(default_factory=list)


class _Batch:
    """Continuous batching: completions that end leave, those of the next prompts enter."""

    def __init__(
        self, model: Any, prompts: Sequence[tuple[Prompt, list[int]]], sampling: Sampling, writer: Writer, budget: int
    ) -> None:
        self.model, self.sampling, self.writer = model, sampling, writer
        self.waiting = deque(sorted(prompts, key=lambda x: -len(x[1])))
        n, longest, new = sampling.group_size, len(self.waiting[0][1]), sampling.max_tokens
        rows, slots = _room(budget, n, longest, new)
        self.rows = min(rows, n * len(prompts))
        self.slots = min(slots, len(prompts))
        self.cache = SharedCache(
            slots=self.slots, rows=_up(self.rows, STEP), prefix=_up(longest, STEP), suffix=_up(new, STEP)
        )
        self.active: list[tuple[_Group, int]] = []  # group and index of each row
        self.held: list[_Group] = []  # by slot
        self.token_RM = torch.zeros(self.rows, new, dtype=torch.long)
        self.uniform_RM = torch.zeros(self.rows, new, dtype=torch.float64)
        self.length_R = torch.zeros(self.rows, dtype=torch.long)  # tokens drawn
        self.logp_R = torch.zeros(self.rows, dtype=torch.float64)

    def groups(self) -> Iterator[list[Completion]]:
        while self.waiting or self.held:
            yield from self._step()

    @torch.inference_mode()
    def _step(self) -> list[list[Completion]]:
        entered = self._enter()
        old = len(self.active) - len(entered)
        logits = [self._decode(old)] if old else []
        if entered:
            logits.append(torch.stack([self.active[r][0].logits for r in entered]))
        self._draw(torch.cat(logits) if len(logits) > 1 else logits[0])
        return self._leave()

    def _enter(self) -> list[int]:
        """Give free rows to the next completions; returns those rows."""
        n, entered = self.sampling.group_size, []
        if self.rows - len(self.active) < min(n, max(1, self.rows // 8)):
            return []
        self._prefill()
        for group in self.held:
            while group.entered < n and len(self.active) < self.rows:
                row = len(self.active)
                entered.append(row)
                stream = uniforms(self.sampling.seed, group.prompt.id, group.entered, self.sampling.max_tokens)
                self.uniform_RM[row] = torch.from_numpy(stream)
                self.length_R[row], self.logp_R[row] = 0, 0.0
                self.active.append((group, group.entered))
                group.entered += 1
        return entered

    def _prefill(self) -> None:
        """Read the next prompts, as many as there are free rows and slots for."""
        n = self.sampling.group_size
        free = self.rows - len(self.active) - sum(n - g.entered for g in self.held)
        new: list[_Group] = []
        while self.waiting and free > 0 and len(self.held) < self.slots:
            if new and sum(len(g.ids) for g in new) + len(self.waiting[0][1]) > PREFILL_TOKENS:
                self._read(new)
                new = []
            prompt, ids = self.waiting.popleft()
            new.append(_Group(prompt, ids, len(self.held), torch.empty(0)))
            self.held.append(new[-1])
            free -= n
        if new:
            self._read(new)

    def _read(self, groups: list[_Group]) -> None:
        self.cache.task = [(g.slot, len(g.ids)) for g in groups]
        to = self.model.device
        tokens = torch.tensor([t for g in groups for t in g.ids])
        positions = torch.cat([torch.arange(len(g.ids)) for g in groups])
        last = torch.tensor([len(g.ids) for g in groups]).cumsum(0) - 1
        logits = _forward(self.model, tokens.to(to), positions.to(to), self.cache, last.to(to))
        for group, row in zip(groups, logits, strict=True):
            group.logits = row

    def _decode(self, rows: int) -> Tensor:
        """Logits [rows, V] of the rows that have drawn at least one token."""
        padded = _up(rows, STEP)
        slots, held, last = (torch.zeros(padded, dtype=torch.long) for _ in range(3))
        slots[:rows] = torch.tensor([g.slot for g, _ in self.active[:rows]])
        slots[rows:] = slots[rows - 1]
        held[:rows] = self.length_R[:rows] - 1
        last[:rows] = self.token_RM[torch.arange(rows), held[:rows]]
        prefix = torch.tensor([len(g.ids) for g in self.held[: int(slots.max()) + 1]])
        self.cache.task = _plan(slots, held, prefix, self.model)
        to = self.model.device
        return _forward(self.model, last.to(to), (prefix[slots] + held).to(to), self.cache)[:rows]

    def _draw(self, logits: Tensor) -> None:
        every = torch.arange(len(self.active))
        at = self.length_R[: len(every)]
        tokens, logps = draw(logits, self.uniform_RM[every, at], self.sampling)
        self.token_RM[every, at] = tokens
        self.logp_R[: len(every)] += logps
        self.length_R[: len(every)] += 1

    def _leave(self) -> list[list[Completion]]:
        """Take out the rows that are finished; returns the groups that are complete."""
        count, ready = len(self.active), []
        for row in self.writer.finished(self.token_RM, self.length_R[:count], self.sampling.max_tokens)[::-1]:
            group, index = self.active[row]
            tokens = self.token_RM[row, : self.length_R[row]].tolist()
            group.done.append(self.writer.completion(group.prompt.id, index, tokens, float(self.logp_R[row])))
            self._drop_row(row)
            if len(group.done) == self.sampling.group_size:
                ready.append(sorted(group.done, key=lambda c: c.index))
                self._drop_group(group)
        return ready

    def _drop_row(self, row: int) -> None:
        last = len(self.active) - 1
        if row != last:
            self.cache.move_row(last, row, int(self.length_R[last]))
            for values in (self.token_RM, self.uniform_RM, self.length_R, self.logp_R):
                values[row] = values[last]
            self.active[row] = self.active[last]
        self.active.pop()

    def _drop_group(self, group: _Group) -> None:
        last = self.held.pop()
        if last is not group:
            self.cache.move_slot(last.slot, group.slot, len(last.ids))
            last.slot = group.slot
            self.held[group.slot] = last


def _room(budget: int, group_size: int, longest: int, new: int) -> tuple[int, int]:
    """(rows, prompts) that fit the token budget at once; twice the prompts that the rows need, for the stragglers."""
    groups = min(budget // (2 * longest + group_size * new), -(-MAX_ROWS // group_size))
    if groups == 0:
        return min(max(1, (budget - longest) // new), group_size, MAX_ROWS), 1
    return min(groups * group_size, MAX_ROWS), 2 * groups
