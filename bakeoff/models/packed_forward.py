"""A model's pass over packed groups, and the check that it is right: every model is compared with its plain rows once.

T tokens in the sequence, H hidden units, M gathered tokens, V tokens in the vocabulary.
"""

import contextlib
import functools
import math
import random
import re
import warnings
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from bakeoff.errors import UserError
from bakeoff.models import attention_interface, flash_attention, fused_layers, packed_ways
from bakeoff.models.cpu import attention
from bakeoff.models.packed_ways import Way
from bakeoff.models.packing import Packed, SharedPrefix, pack

WINDOW = 5
"""Sliding windows are this short while a model is checked, so that a few tokens go beyond them."""
TOLERANCE, HALF_TOLERANCE, MOST_TOLERANCE = 1e-3, 0.05, 0.3
"""How far outputs may be from those of plain rows, as a share of their norm: in float32, and in half precision."""
ROUNDINGS = 3
"""In half precision outputs may be off by so many times what another order of the same sums changes."""
UNKNOWN_WINDOW = re.compile(r"window_(size|len)|^local_attention$")
"""What configs call windows that no mask here stands for: a short comparison would not reach beyond them."""


def hidden(model: Any, packed: Packed, *, through_prompt: bool = True) -> Tensor:
    """Last hidden states [T, H] of the model's trunk, after its final norm.

    Without `through_prompt` no gradient flows through the keys and values of a prompt (but for its last token, which
    predicts): training costs the backward pass of the completions only. The states before that token are then zero. In
    rows the gradient flows through the whole prompt all the same.
    """
    apart = packed.before if torch.is_grad_enabled() and not through_prompt else 0
    way, _ = _checked(model)
    if packed.longest > own_length(model.config.get_text_config()):
        way = packed_ways.in_single_rows
    return way(model, packed, apart)


@contextlib.contextmanager
def fast_passes(model: Any, *, recompute: bool = False) -> Iterator[None]:
    """The model as its passes need it, forward and backward; `recompute` computes each layer again backwards."""
    if not recomputable(model):
        yield
        return
    with (
        attention_interface.installed(model),
        fused_layers.fast(model),
        fused_layers.recomputed(model) if recompute else contextlib.nullcontext(),
    ):
        yield


def recomputable(model: Any) -> bool:
    """Whether layers may be computed again: not where a pass fills a cache, or changes the model itself."""
    return _checked(model)[0] is packed_ways.in_rows_of_any_length


def verify(model: Any) -> str | None:
    """What differs when a model reads packed groups, so that it reads rows instead, with a warning; None if nothing.

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
    """(the fastest way whose states are those of plain rows, what differs in packed groups when that is rows)."""
    packed = _example(model)
    places_RL = torch.tensor(packed_ways.paths(packed), device=model.device)  # of equal length: rows without padding
    predicts_RL, ids_RL = places_RL >= packed.before, packed.ids_T[places_RL]
    try:
        plain_RLH = packed_ways.plain_states(model, ids_RL)
    except (AttributeError, TypeError) as error:
        raise UserError(f"{_named(model)}: is no causal language model as transformers has them ({error})") from None
    tolerance = tolerated(model, lambda: packed_ways.plain_states(model, ids_RL)[predicts_RL])
    _check_head(model, ids_RL[:1], plain_RLH[0], tolerance)
    for way in () if differs else _ways(model):
        try:
            found = [way(model, packed, apart)[places_RL[predicts_RL]] for apart in (0, packed.before)]
        except Exception as error:  # whatever a model does with positions and masks that it does not expect
            differs = f"a packed pass fails: {(str(error) or repr(error)).splitlines()[0]}"
            continue
        distances = [_distance(states_MH, plain_RLH[predicts_RL]) for states_MH in found]
        if all(distance < tolerance for distance in distances):
            return way, None
        differs = f"its states would be off by {max(distances):.1%}"
    padded_RLH = packed_ways.plain_states(model, torch.cat([ids_RL, ids_RL[:, :WINDOW]], 1))[:, : ids_RL.shape[1]]
    if not _distance(padded_RLH, plain_RLH) < tolerance:
        raise UserError(f"{_named(model)}: is not causal: what a token's state is depends on tokens behind it")
    return packed_ways.in_rows, differs


def _ways(model: Any) -> list[Way]:
    """The ways to read packed groups that suit a model and its device, the fastest first."""
    ways = (
        (packed_ways.in_blocks, attention.blocks_possible),
        (packed_ways.in_rows_of_any_length, flash_attention.flash_possible),
    )
    return [*(way for way, possible in ways if possible(model)), packed_ways.masked]


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


def tolerated(model: Any, plain: Callable[[], Tensor], least: float = HALF_TOLERANCE) -> float:
    """How far outputs may be from `plain()`, as a share of their norm: rounding alone, which grows with the depth.

    In half precision it is told by the model's plain attention in two orders of its sums: fused, and step by step.
    """
    if model.dtype == torch.float32:
        return TOLERANCE
    found = []
    try:
        for name in ("sdpa", "eager"):
            with attention_interface.installed(model, name):
                found.append(plain())
    except Exception:  # of a model that has but one of them
        return least
    return min(MOST_TOLERANCE, max(least, ROUNDINGS * _distance(*found)))


def _distance(found: Tensor, expected: Tensor) -> float:
    """The norm of the difference over that of the expected numbers."""
    return float((found.float() - expected.float()).norm() / expected.float().norm().clamp(min=1e-9))


def _named(model: Any) -> str:
    return f"model {model.config._name_or_path or type(model).__name__!r} ({model.config.model_type})"


def _example(model: Any) -> Packed:
    """Two groups, all of whose completions end after as many tokens: more than a short window."""
    padding = getattr(model.config, "pad_token_id", None)
    known = [token for token in range(len(model.get_input_embeddings().weight))[:500] if token != padding]
    some = functools.partial(random.Random(0).choices, known)
    return pack([SharedPrefix(0, some(k=10), [some(k=4), some(k=4)]), SharedPrefix(1, some(k=6), [some(k=8)])], model)


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
