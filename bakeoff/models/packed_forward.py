"""A model's pass over packed trees, and the check that it is right: every model is compared with its plain rows once.

Three ways: attention in blocks, the model's own attention under masks, and rows (the prompt again before every
completion), which are slower and right for every causal model. T tokens in the sequence, H hidden units, M gathered
tokens, V tokens in the vocabulary.
"""

import contextlib
import functools
import math
import random
import re
import warnings
import weakref
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from torch.utils.checkpoint import checkpoint
from transformers import DynamicCache

from bakeoff.errors import UserError
from bakeoff.models.cpu import attention, layers
from bakeoff.models.cpu.attention import Block, Grid, Task
from bakeoff.models.packing import STEP, Packed, Tree, pack

Way = Callable[[Any, Packed, int], Tensor]

ROW_TOKENS = 2048
"""Padded tokens of rows read at once; in training, each lot is computed again on the way back."""
WINDOW = 5
"""Sliding windows are this short while a model is checked, so that a few tokens go beyond them."""
TOLERANCE, HALF_TOLERANCE = 1e-3, 0.05
"""How far states may be from those of plain rows, as a share of their norm: in float32, and in half precision."""
UNKNOWN_WINDOW = re.compile(r"window_(size|len)|^local_attention$")
"""What configs call windows that no mask here stands for: a short comparison would not reach beyond them."""
ALL = "all"
"""The kind of layer where a model has but one."""


def hidden(model: Any, packed: Packed, *, through_prompt: bool = True) -> Tensor:
    """Last hidden states [T, H] of the model's trunk, after its final norm.

    Without `through_prompt` no gradient flows through the keys and values of a prompt (but for its last token, which
    predicts): training costs the backward pass of the branches only. The states before that token are then zero. In
    rows the gradient flows through the whole prompt all the same.
    """
    apart = packed.before if torch.is_grad_enabled() and not through_prompt else 0
    way, _ = _checked(model)
    if packed.longest > own_length(model.config.get_text_config()):
        way = _in_single_rows
    return way(model, packed, apart)


def verify(model: Any) -> str | None:
    """What differs when a model reads packed trees, so that it reads rows instead, with a warning; None if nothing.

    A model is checked once, when it is first used. Raises UserError when its rows are not right either.
    """
    return _checked(model)[1]


def _checked(model: Any) -> tuple[Way, str | None]:
    if model not in _CHECKED:
        config = model.config.get_text_config()
        unknown = _unknown_window(config)
        with torch.no_grad(), _short_windows(config):
            _CHECKED[model] = _check(model, unknown)
        _warn(model.config.model_type, _CHECKED[model][1])
    return _CHECKED[model]


_CHECKED: weakref.WeakKeyDictionary[Any, tuple[Way, str | None]] = weakref.WeakKeyDictionary()


@functools.cache
def _warn(kind: str, differs: str | None) -> None:
    """Say that packing is off: once in a process, however many models of the kind it loads."""
    if differs:
        warnings.warn(
            f"{kind}: packing is off ({differs}); training and scoring read the prompt again for every completion:"
            " about N times the work where N completions follow a long prompt",
            stacklevel=1,
        )


def _check(model: Any, differs: str | None) -> tuple[Way, str | None]:
    """(the fastest way whose states are those of plain rows, what differs in packed trees when that is rows)."""
    packed, tolerance = _example(model), TOLERANCE if model.dtype == torch.float32 else HALF_TOLERANCE
    places_RL = torch.tensor(_paths(packed), device=model.device)  # of equal length: rows without padding
    predicts_RL, ids_RL = places_RL >= packed.before, packed.ids_T[places_RL]
    try:
        plain_RLH = _plain(model, ids_RL)
    except (AttributeError, TypeError) as error:
        raise UserError(f"{_named(model)}: is no causal language model as transformers has them ({error})") from None
    _check_head(model, ids_RL[:1], plain_RLH[0], tolerance)
    for way in () if differs else (_in_blocks, _masked) if attention.possible(model) else (_masked,):
        try:
            found = [way(model, packed, apart)[places_RL[predicts_RL]] for apart in (0, packed.before)]
        except Exception as error:  # whatever a model does with positions and masks that it does not expect
            differs = f"a packed pass fails: {(str(error) or repr(error)).splitlines()[0]}"
            continue
        distances = [_distance(states_MH, plain_RLH[predicts_RL]) for states_MH in found]
        if all(distance < tolerance for distance in distances):
            return way, None
        differs = f"its states would be off by {max(distances):.1%}"
    padded_RLH = _plain(model, torch.cat([ids_RL, ids_RL[:, :WINDOW]], 1))[:, : ids_RL.shape[1]]
    if not _distance(padded_RLH, plain_RLH) < tolerance:
        raise UserError(f"{_named(model)}: is not causal: what a token's state is depends on tokens behind it")
    return _in_rows, differs


def _check_head(model: Any, ids_1L: Tensor, states_LH: Tensor, tolerance: float) -> None:
    """Raise UserError unless the head, on the trunk's states, gives what the model gives."""
    if not states_LH.isfinite().all():
        raise UserError(f"{_named(model)}: its states are not finite in {model.dtype}; set another dtype, or mend it")
    if not hasattr(model, "lm_head") and not hasattr(model, "score"):
        raise UserError(f"{_named(model)}: its head is neither `lm_head` nor `score`; give a model that has one")
    expected = model(input_ids=ids_1L, use_cache=False).logits[0].float()
    if hasattr(model, "lm_head"):
        found = logits(model, states_LH)
    else:  # one reward may be 0: its error is seen beside those of all places
        found = model.score(states_LH).float()
        expected = torch.cat([found[:-1], expected[None]])
    if found.shape != expected.shape or not _distance(found, expected) < tolerance:
        raise UserError(f"{_named(model)}: it changes what its head gives in a way not known here; give another model")


def _distance(found: Tensor, expected: Tensor) -> float:
    """The norm of the difference over that of the expected numbers."""
    return float((found.float() - expected.float()).norm() / expected.float().norm().clamp(min=1e-9))


def _named(model: Any) -> str:
    return f"model {model.config._name_or_path or type(model).__name__!r} ({model.config.model_type})"


def _example(model: Any) -> Packed:
    """Two trees, all of whose branches end after as many tokens: more than a short window."""
    padding = getattr(model.config, "pad_token_id", None)
    known = [token for token in range(len(model.get_input_embeddings().weight))[:500] if token != padding]
    some = functools.partial(random.Random(0).choices, known)
    return pack([Tree(0, some(k=10), [some(k=4), some(k=4)]), Tree(1, some(k=6), [some(k=8)])], model)


@contextlib.contextmanager
def _short_windows(config: Any) -> Iterator[None]:
    names = ("sliding_window", "attention_chunk_size")
    before = {name: value for name in names if isinstance(value := getattr(config, name, None), int)}
    try:
        for name, value in before.items():
            setattr(config, name, min(value, WINDOW))
        yield
    finally:
        for name, value in before.items():
            setattr(config, name, value)


def _unknown_window(config: Any) -> str | None:
    """What a config calls a window that `_masks` does not know: it may be longer than what is compared."""
    own = [f"{n} = {v}" for n, v in vars(config).items() if UNKNOWN_WINDOW.search(n) and isinstance(v, int)]
    return f"its attention has windows of another kind: {', '.join(own)}" if own else None


def own_length(config: Any) -> float:
    """From how many tokens on all positions of a text depend on its length (dynamic and long rotary scaling)."""
    every = getattr(config, "rope_parameters", None) or {}
    kinds = [every, *(value for value in every.values() if isinstance(value, dict))]
    scaled = [r for r in kinds if r.get("rope_type") in ("dynamic", "longrope")]
    return min(
        (r.get("original_max_position_embeddings") or config.max_position_embeddings for r in scaled), default=math.inf
    )


def _in_blocks(model: Any, packed: Packed, apart: int) -> Tensor:
    """The attention computed in blocks, with those places before `apart` first and without gradient."""
    own = _own_blocks([places for row in packed.branches for places in row])
    parts, past = [], None
    first = _prompt_blocks([places[:-1] for places in packed.prompts]) if apart else _prompt_blocks(packed.prompts)
    with attention.in_blocks(model), layers.fast(model):
        if apart:
            with torch.no_grad():
                task = Task(first, keep={})
                parts.append(torch.zeros_like(_trunk(model, packed, 0, apart, tree_task=task)))
            first, past = [], task.keep
        lasts = [places[-1:] for places in packed.prompts] if apart else [[]] * len(packed.prompts)
        looking = [
            [*last, *(p for places in row for p in places)] for last, row in zip(lasts, packed.branches, strict=True)
        ]
        to_prompt = Block(Grid(looking), Grid(packed.prompts), causal=False)
        task = Task([*first, to_prompt, *own], first=apart, past=past)
        parts.append(_trunk(model, packed, apart, len(packed.ids_T), tree_task=task))
    return torch.cat(parts)


def _prompt_blocks(places: Sequence[Sequence[int]]) -> list[Block]:
    grid = Grid(places)
    return [Block(grid, grid, causal=True)]


def _own_blocks(branches: Sequence[range]) -> list[Block]:
    """Branches of about a length in one block; their places follow each other in the order of their lengths."""
    blocks: list[Block] = []
    rows = sorted(branches, key=lambda places: (len(places), places.start))
    while rows:
        longest = max(2 * STEP, 2 * len(rows[0]))
        some = [places for places in rows if len(places) <= longest]
        rows = rows[len(some) :]
        grid = Grid([*some, *[[]] * (-len(some) % 8)])
        blocks.append(Block(grid, grid, causal=True))
    return blocks


def _masked(model: Any, packed: Packed, apart: int) -> Tensor:
    """The model's own attention under masks over the whole sequence, for models and devices without blocks."""
    masks, cache, parts, size = _masks(model, packed), DynamicCache() if apart else None, [], len(packed.ids_T)
    for start, end in [(0, apart), (apart, size)] if apart else [(0, size)]:
        part = {kind: mask_TT[None, None, start:end, :end] for kind, mask_TT in masks.items()}
        settings = {"past_key_values": cache, "use_cache": cache is not None}
        with torch.set_grad_enabled(torch.is_grad_enabled() and end == size):
            parts.append(_trunk(model, packed, start, end, attention_mask=part.get(ALL, part), **settings))
    return torch.cat([*(torch.zeros_like(part) for part in parts[:-1]), parts[-1]])


def _masks(model: Any, packed: Packed) -> dict[str, Tensor]:
    """What is added to the scores in each kind of layer, as `transformers` names them; `ALL` where all are alike."""
    size, config = len(packed.ids_T), model.config.get_text_config()
    tree, branch = torch.full((size,), -1), torch.zeros(size, dtype=torch.long)  # branch 0 is the prompt
    for row, (prompt, places) in enumerate(zip(packed.prompts, packed.branches, strict=True)):
        tree[prompt] = row
        for number, some in enumerate(places):
            tree[some.start : some.stop], branch[some.start : some.stop] = row, number + 1
    sees = (tree[:, None] == tree) & ((branch[:, None] == branch) | (branch == 0)) & (tree >= 0)
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


def _in_rows(model: Any, packed: Packed, apart: int, *, alone: bool = False) -> Tensor:
    """Every branch behind its prompt in a row of its own, the model's forward pass as it is; `apart` saves nothing.

    Rows are padded on the right, where no causal model looks. So that the memory of training is that of so many
    tokens, each lot of rows is computed again on the way back.
    """
    lots: list[list[list[int]]] = []
    for path in sorted(_paths(packed), key=len):
        if lots and not alone and (len(lots[-1]) + 1) * len(path) <= ROW_TOKENS:
            lots[-1].append(path)
        else:
            lots.append([path])
    again, parts, count = torch.is_grad_enabled() and len(lots) > 1, [], 0
    source_T = torch.zeros(len(packed.ids_T), dtype=torch.long)
    for lot in lots:
        places_RL = pad_sequence([torch.tensor(path) for path in lot], batch_first=True)
        ids_RL = packed.ids_T[places_RL.to(packed.ids_T.device)]
        states_RLH = checkpoint(_plain, model, ids_RL, use_reentrant=False) if again else _plain(model, ids_RL)
        for row, path in enumerate(lot):
            start = count + row * places_RL.shape[1]
            source_T[path] = torch.arange(start, start + len(path))
        parts.append(states_RLH.flatten(0, 1))
        count += len(parts[-1])
    return torch.cat(parts)[source_T.to(packed.ids_T.device)]


_in_single_rows = functools.partial(_in_rows, alone=True)


def _paths(packed: Packed) -> list[list[int]]:
    """The places of every branch's tokens behind those of its prompt; a prompt without branches is one alone."""
    rows = zip(packed.prompts, packed.branches, strict=True)
    return [[*prompt, *places] for prompt, branches in rows for places in branches or [range(0)]]


def _plain(model: Any, ids_RL: Tensor) -> Tensor:
    return _body(model)(input_ids=ids_RL, use_cache=False).last_hidden_state


def _body(model: Any) -> Any:
    """The model without its head; some do not say where it is."""
    return model.base_model if model.base_model is not model else model.model


def _trunk(model: Any, packed: Packed, start: int, end: int, **settings: Any) -> Tensor:
    """Hidden states of the places from `start` to `end`."""
    ids, positions = packed.ids_T[None, start:end], packed.positions_T[None, start:end]
    settings = {"use_cache": False} | settings
    return _body(model)(input_ids=ids, position_ids=positions, **settings).last_hidden_state[0]


def logits(model: Any, states_MH: Tensor, temperature: float = 1.0) -> Tensor:
    """The vocabulary projection [M, V] of hidden states, float32, with the scale or cap that some models put on it."""
    logits_MV = model.lm_head(states_MH).float()
    scale, cap = logit_scale(model), getattr(model.config.get_text_config(), "final_logit_softcapping", None)
    logits_MV = logits_MV if scale == 1.0 else logits_MV * scale
    logits_MV = logits_MV if cap is None else cap * torch.tanh(logits_MV / cap)
    return logits_MV if temperature == 1.0 else logits_MV / temperature


def logit_scale(model: Any) -> float:
    config = model.config.get_text_config()
    scales = getattr(config, "logit_scale", None) or 1.0, getattr(config, "lm_head_multiplier", 1.0)
    return math.prod(scales) / getattr(config, "logits_scaling", 1.0)
