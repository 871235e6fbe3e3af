"""Whether a checkpoint can be believed: all there, finite, not quantized, its tokens among its embeddings."""

from collections.abc import Collection, Iterator, Mapping
from typing import Any

import torch

from bakeoff.errors import UserError

HEADS = ("score.", "classifier.", "classification_head.")
"""How the weights of a sequence classifier's head begin."""
TRIED = 8
"""Tokens of the forward pass that shows whether a model's outputs are finite."""


def quantization(config: Any) -> str:
    """How a checkpoint is quantized, by its config.json; empty where it is not."""
    found = getattr(config, "quantization_config", None) or getattr(config, "compression_config", None) or {}
    found = found if isinstance(found, dict) else vars(found)
    method = getattr(found.get("quant_method"), "value", found.get("quant_method"))
    return str(method or "unknown method") if found else ""


def check_not_quantized(name: str, config: Any) -> None:
    """Raise UserError for a checkpoint of integers or 8-bit floats: as a whole it cannot be trained or saved."""
    if method := quantization(config):
        raise UserError(f"model {name!r}: the checkpoint is quantized ({method}); give the one that is not")


def check_classifier(name: str, config: Any, *, base: bool = False) -> None:
    """Raise UserError unless a model is a sequence classifier with one output: no other has learnt a reward.

    A `base` to be trained may be another kind of model, but no classifier with several outputs.
    """
    made = ", ".join(config.architectures or []) or "no architecture"
    classifies = made.endswith("ForSequenceClassification")
    if (base and not classifies) or (classifies and config.num_labels == 1):
        return
    if base:
        raise UserError(
            f"model {name!r}: is a classifier with {config.num_labels} outputs; a reward model starts from a causal "
            "language model, or from a classifier with one"
        )
    outputs = f" with {config.num_labels} outputs" if classifies else ""
    raise UserError(
        f"model {name!r}: is no reward model: its config.json names {made}{outputs}, where a ...ForSequence"
        "Classification with one output belongs; give one, or train it: bakeoff reward train"
    )


def check_whole(name: str, loaded: Mapping[str, Any], *, new_head: bool = False) -> None:
    """Raise UserError where weights were not in the checkpoint: `transformers` makes random ones without a word.

    `loaded` is what `from_pretrained` tells with `output_loading_info`. With `new_head` a classifier's may lack.
    """
    lacks = {key for key in loaded["missing_keys"] if not (new_head and key.startswith(HEADS))}
    other = {str(key[0]) for key in loaded["mismatched_keys"]}
    if lacks or other:
        left = f", and holds {_some(loaded['unexpected_keys'])} instead" if loaded["unexpected_keys"] else ""
        what = f"lacks {_some(lacks)}" if lacks else f"holds {_some(other)} in another shape"
        raise UserError(f"model {name!r}: the checkpoint {what}{left}; save it again as its architecture names them")


def _some(keys: Collection[str]) -> str:
    first = sorted(keys)[0]
    return first if len(keys) == 1 else f"{first} and {len(keys) - 1} more"


def not_finite(model: Any) -> Iterator[str]:
    """The names of the weights that hold a NaN or an infinity."""
    for name, weight in model.named_parameters():
        if weight.numel() and not torch.stack(weight.detach().aminmax()).isfinite().all():
            yield name


def check_finite(name: str, model: Any) -> None:
    """Raise UserError for weights, or outputs on a few tokens, that are not finite."""
    if wrong := [*not_finite(model)]:
        raise UserError(f"model {name!r}: values of {_some(wrong)} are not finite; give an earlier checkpoint")
    tokens = torch.arange(1, TRIED + 1, device=model.device) * 7 % embedding_rows(model)
    with torch.inference_mode():
        finite = bool(model(input_ids=tokens[None]).logits.isfinite().all())
    if not finite:
        raise UserError(
            f"model {name!r}: its outputs are not finite in {str(model.dtype).removeprefix('torch.')}, although its "
            "weights are; give an earlier checkpoint"
        )


def check_tokens(name: str, model: Any, tokenizer: Any) -> None:
    """Raise UserError for tokens beyond the embeddings; one to pad with may be, for no text holds it."""
    count = embedding_rows(model)
    beyond = {t: i for t, i in tokenizer.get_vocab().items() if i >= count and "pad" not in t.lower()}
    if beyond:
        first = min(beyond, key=lambda token: beyond[token])
        raise UserError(
            f"model {name!r}: its tokenizer has {len(beyond)} tokens, the first {first!r}, beyond the {count} of the "
            "embeddings; give the tokenizer that belongs to the checkpoint"
        )


def embedding_rows(model: Any) -> int:
    """How many tokens a model has embeddings for."""
    return model.get_input_embeddings().weight.shape[0]
