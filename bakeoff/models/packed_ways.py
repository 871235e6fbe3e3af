"""The ways to read packed groups in one forward pass, and the slow one that is right for every causal model.

Attention in blocks on the CPU, rows of any length on a GPU, the model's own attention under masks, and rows (the prompt
again before every completion). T tokens in the sequence, H hidden units.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from torch.utils.checkpoint import checkpoint
from transformers import DynamicCache

from bakeoff.models import attention_interface, flash_attention, fused_layers
from bakeoff.models.attention_interface import Block, Task
from bakeoff.models.cpu import attention
from bakeoff.models.packing import STEP, Packed

Way = Callable[[Any, Packed, int], Tensor]
"""(model, packed, places before which no gradient flows) to the last hidden states [T, H]."""

ROW_TOKENS = 2048
"""Padded tokens of rows read at once; in training, each lot is computed again on the way back."""
ALL = "all"
"""The kind of layer where a model has but one."""


def in_blocks(model: Any, packed: Packed, apart: int) -> Tensor:
    """The attention computed in blocks of padded rows."""
    return _by_task(model, packed, apart, (attention.BlockAttention, attention.Grid, _own_blocks))


def in_rows_of_any_length(model: Any, packed: Packed, apart: int) -> Tensor:
    """`in_blocks` on a GPU: rows without padding."""
    rows = functools.partial(flash_attention.Rows.of, device=packed.ids_T.device)

    def own_rows(completions: Sequence[range]) -> list[Block[flash_attention.Rows]]:
        own = rows(sorted(completions, key=lambda places: places.start))
        return [Block(own, own, causal=True)]

    return _by_task(model, packed, apart, (flash_attention.RowAttention, rows, own_rows))


Layout = tuple[type[torch.autograd.Function], Callable[[Sequence[Any]], Any], Callable[[Sequence[range]], list[Block]]]
"""The attention, the rows it takes, and the blocks in which completions look at themselves."""


def _by_task(model: Any, packed: Packed, apart: int, layout: Layout) -> Tensor:
    """Hidden states by an attention of this package, with those places before `apart` first and without gradient."""
    function, rows, own = layout
    prompts, parts, past = rows([places[:-1] for places in packed.prompts] if apart else packed.prompts), [], None
    blocks = [Block(prompts, prompts, causal=True)]
    with attention_interface.installed(model), fused_layers.fast(model):
        if apart:
            with torch.no_grad():
                task = Task(function, blocks, keep={})
                parts.append(torch.zeros_like(trunk(model, packed, 0, apart, packed_task=task)))
            blocks, past = [], task.keep
        looking = [
            np.concatenate([prompt[-1:] if apart else prompt[:0], *completions]).astype(int)
            for prompt, completions in zip(packed.prompts, packed.completions, strict=True)
        ]
        blocks += [Block(rows(looking), rows(packed.prompts), causal=False)]
        blocks += own([places for completions in packed.completions for places in completions])
        task = Task(function, blocks, first=apart, past=past)
        parts.append(trunk(model, packed, apart, len(packed.ids_T), packed_task=task))
    return torch.cat(parts)


def _own_blocks(completions: Sequence[range]) -> list[Block[attention.Grid]]:
    """Completions of about a length in one block; their places follow each other in the order of their lengths."""
    blocks: list[Block[attention.Grid]] = []
    rows = sorted(completions, key=lambda places: (len(places), places.start))
    while rows:
        longest = max(2 * STEP, 2 * len(rows[0]))
        some = [places for places in rows if len(places) <= longest]
        rows = rows[len(some) :]
        grid = attention.Grid([*some, *[[]] * (-len(some) % 8)])
        blocks.append(Block(grid, grid, causal=True))
    return blocks


def masked(model: Any, packed: Packed, apart: int) -> Tensor:
    """The model's own attention under masks over the whole sequence, for models and devices without blocks."""
    masks, cache, parts, size = _masks(model, packed), DynamicCache() if apart else None, [], len(packed.ids_T)
    for start, end in [(0, apart), (apart, size)] if apart else [(0, size)]:
        part = {kind: mask_TT[None, None, start:end, :end] for kind, mask_TT in masks.items()}
        settings = {"past_key_values": cache, "use_cache": cache is not None}
        with torch.set_grad_enabled(torch.is_grad_enabled() and end == size):
            parts.append(trunk(model, packed, start, end, attention_mask=part.get(ALL, part), **settings))
    return torch.cat([*(torch.zeros_like(part) for part in parts[:-1]), parts[-1]])


def _masks(model: Any, packed: Packed) -> dict[str, Tensor]:
    """What is added to the scores in each kind of layer, as `transformers` names them; `ALL` where all are alike."""
    size, config = len(packed.ids_T), model.config.get_text_config()
    group, part = torch.full((size,), -1), torch.zeros(size, dtype=torch.long)  # part 0 is the prompt
    for row, (prompt, places) in enumerate(zip(packed.prompts, packed.completions, strict=True)):
        group[prompt] = row
        for number, some in enumerate(places):
            group[some.start : some.stop], part[some.start : some.stop] = row, number + 1
    sees = (group[:, None] == group) & ((part[:, None] == part) | (part == 0)) & (group >= 0)
    sees = sees.tril() | torch.eye(size, dtype=torch.bool)
    at = packed.positions_T.to("cpu", torch.int32)

    def added(kind: str) -> Tensor:
        seen = sees
        if kind == "sliding_attention":
            seen = sees & (at[:, None] - at < config.sliding_window)
        elif kind == "chunked_attention":
            seen = sees & (at[:, None] // config.attention_chunk_size == at // config.attention_chunk_size)
        elif kind != "full_attention":
            raise ValueError(f"it has layers of the kind {kind!r}")
        mask_TT = torch.zeros(seen.shape, dtype=model.dtype)
        return mask_TT.masked_fill_(~seen, torch.finfo(model.dtype).min).to(model.device)

    kinds = set(getattr(config, "layer_types", None) or ())
    if not kinds - {"full_attention"}:
        slides = getattr(config, "sliding_window", None) and not hasattr(config, "layer_types")
        return {ALL: added("sliding_attention" if slides else "full_attention")}
    return {kind: added(kind) for kind in kinds}


def in_rows(model: Any, packed: Packed, apart: int, *, alone: bool = False) -> Tensor:
    """Every completion behind its prompt in a row of its own, the model's forward pass as it is; `apart` saves nothing.

    Rows are padded on the right, where no causal model looks. So that the memory of training is that of so many
    tokens, each lot of rows is computed again on the way back.
    """
    lots: list[list[list[int]]] = []
    for path in sorted(paths(packed), key=len):
        if lots and not alone and (len(lots[-1]) + 1) * len(path) <= ROW_TOKENS:
            lots[-1].append(path)
        else:
            lots.append([path])
    again, parts, count = torch.is_grad_enabled() and len(lots) > 1, [], 0
    source_T = torch.zeros(len(packed.ids_T), dtype=torch.long)
    for lot in lots:
        places_RL = pad_sequence([torch.tensor(path) for path in lot], batch_first=True)
        ids_RL = packed.ids_T[places_RL.to(packed.ids_T.device)]
        states_RLH = (
            checkpoint(plain_states, model, ids_RL, use_reentrant=False) if again else plain_states(model, ids_RL)
        )
        for row, path in enumerate(lot):
            start = count + row * places_RL.shape[1]
            source_T[path] = torch.arange(start, start + len(path))
        parts.append(states_RLH.flatten(0, 1))
        count += len(parts[-1])
    return torch.cat(parts)[source_T.to(packed.ids_T.device)]


in_single_rows = functools.partial(in_rows, alone=True)


def paths(packed: Packed) -> list[list[int]]:
    """The places of every completion's tokens behind those of its prompt; a prompt without completions is one alone."""
    groups = zip(packed.prompts, packed.completions, strict=True)
    return [[*prompt, *places] for prompt, completions in groups for places in completions or [range(0)]]


def plain_states(model: Any, ids_RL: Tensor) -> Tensor:
    return body(model)(input_ids=ids_RL, use_cache=False).last_hidden_state


def body(model: Any) -> Any:
    """The model without its head; some do not say where it is."""
    return model.base_model if model.base_model is not model else model.model


def trunk(model: Any, packed: Packed, start: int, end: int, **settings: Any) -> Tensor:
    """Hidden states of the places from `start` to `end`."""
    ids, positions = packed.ids_T[None, start:end], packed.positions_T[None, start:end]
    settings = {"use_cache": False} | settings
    return body(model)(input_ids=ids, position_ids=positions, **settings).last_hidden_state[0]
