"""This package's attention in place of a model's own, by the interface of `transformers`.

T tokens of a flat row, H query heads, K key heads, D head size.
"""

import contextlib
import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor
from transformers import AttentionInterface

NAME = "bakeoff_packed"  # a name with "flash" in it would be taken for a kernel of the hub
R = TypeVar("R")


@dataclasses.dataclass(frozen=True, slots=True)
class Block(Generic[R]):
    """Rows of queries that look at rows of keys."""

    queries: R
    keys: R
    causal: bool


@dataclasses.dataclass(slots=True)
class Task:
    """One forward pass over the places from `first` of a flat row, whose attention `function` computes."""

    function: type[torch.autograd.Function]
    blocks: Sequence[Block[Any]]
    first: int = 0
    past: dict[int, tuple[Tensor, Tensor]] | None = None
    """The keys and values of the places before `first`, by layer."""
    keep: dict[int, tuple[Tensor, Tensor]] | None = None
    """Where the keys and values of this pass go, by layer."""

    def attend(self, layer: int, q: Tensor, k: Tensor, v: Tensor, scale: float) -> Tensor:
        if self.keep is not None:
            self.keep[layer] = (k, v)
        if self.past is not None:
            k, v = (torch.cat([old, new]) for old, new in zip(self.past[layer], (k, v), strict=True))
        return self.function.apply(q, k, v, self, scale)


def register(name: str, argument: str) -> None:
    """Let models with the attention `name` call `attend` of what their forward pass is given as `argument`.

    It takes a layer's number, queries [T, H, D], keys and values [T, K, D] and the factor on the scores, and returns
    [T, H, D].
    """

    def attend(  # the arguments that transformers passes by position and by name
        module: Any, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **settings: Any
    ) -> tuple[Tensor, None]:
        if attention_mask is not None or settings.get("softcap") or settings.get("s_aux") is not None:
            raise NotImplementedError("the model's attention adds a mask, a cap or sinks of its own")
        scale = settings.get("scaling") or query.shape[-1] ** -0.5
        q, k, v = (x[0].transpose(0, 1) for x in (query, key, value))
        return settings[argument].attend(module.layer_idx, q, k, v, scale)[None], None

    AttentionInterface.register(name, attend)


register(NAME, "packed_task")


@contextlib.contextmanager
def installed(model: Any, name: str = NAME) -> Iterator[None]:
    """The model with the attention `name` inside the block."""
    before = model.config._attn_implementation
    model.set_attn_implementation(name)
    try:
        yield
    finally:
        model.set_attn_implementation(before)


def plain_attention(model: Any) -> contextlib.AbstractContextManager[None]:
    """The model with an attention of its own library inside the block."""
    return installed(model, "sdpa" if model._supports_sdpa else "eager")


def looks_at_all(model: Any) -> bool:
    """Whether every token looks at all before it, without windows or caps, and the attention can be replaced."""
    config = model.config.get_text_config()
    windows = getattr(config, "sliding_window", None) or getattr(config, "attention_chunk_size", None)
    full = set(getattr(config, "layer_types", None) or ["full_attention"]) == {"full_attention"}
    plain = full and (not windows or hasattr(config, "layer_types"))
    capped = getattr(config, "attn_logit_softcapping", 0)
    return plain and not capped and getattr(model, "_supports_attention_backend", False)


def head_size(config: Any) -> int:
    """The size of an attention head by a model's configuration; some leave it to the width."""
    return getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads


def merge(one: tuple[Tensor, Tensor], other: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    """The attention [N, H, D] to two sets of keys, and its log-sum-exp [N, H], from the attention to each."""
    (out, lse), (found, found_lse) = one, other
    weight = torch.sigmoid(found_lse - lse)[..., None].to(out.dtype)
    return torch.lerp(out, found, weight), torch.logaddexp(lse, found_lse)
