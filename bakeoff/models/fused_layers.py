"""Layers of training in one pass each, forward and backward, where there are kernels: less is kept, and read again.

On the CPU they are this package's own; on CUDA they are Liger's (arXiv:2410.10989), where it is installed.
"""

import contextlib
import dataclasses
import functools
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from bakeoff.models.cpu import kernels


@dataclasses.dataclass(frozen=True)
class Functions:
    norm: Callable[[Tensor, Tensor, float], Tensor]
    """RMSNorm of (input, weight, epsilon)."""
    gate: Callable[[Tensor, Tensor], Tensor]
    """silu(x) * other."""


@contextlib.contextmanager
def fast(model: nn.Module) -> Iterator[None]:
    """The model with its RMSNorms and gated blocks (as Llama, Mistral and Qwen have them) in one pass each."""
    changed = install(model)
    try:
        yield
    finally:
        for module in changed:
            del module.forward


def install(model: nn.Module) -> list[nn.Module]:
    """Do what `fast` does for good; returns the modules that were changed.

    A `forward` of the instance is replaced, not the module: its parameters keep their names, which adapters,
    optimizers and saved weights go by.
    """
    weight, changed = next(model.parameters()), list[nn.Module]()
    if (functions := _functions(weight)) is None:
        return changed
    norm = None if kernels.usable(weight) else functions.norm
    for module in model.modules():
        if is_norm(module, norm):
            module.forward = functools.partial(_norm_forward, functions.norm, module)  # type: ignore[method-assign]
        elif is_gated(module):
            module.forward = functools.partial(_gated_forward, functions.gate, module)  # type: ignore[method-assign]
        else:
            continue
        changed.append(module)
    return changed


@contextlib.contextmanager
def recomputed(model: nn.Module) -> Iterator[None]:
    """The model with layers that keep their inputs only, and are computed again on the way back (arXiv:1604.06174)."""
    for layer in decoder_layers(model):
        layer.forward = functools.partial(checkpoint, layer.forward, use_reentrant=False)  # type: ignore[method-assign]
    try:
        yield
    finally:
        for layer in decoder_layers(model):
            del layer.forward


def decoder_layers(model: Any) -> nn.ModuleList:
    """The layers of a model, from the lowest."""
    depth = model.config.get_text_config().num_hidden_layers
    return next(m for m in model.modules() if isinstance(m, nn.ModuleList) and len(m) == depth)


def _functions(like: Tensor) -> Functions | None:
    if kernels.usable(like):
        return Functions(_Norm.apply, _Gate.apply)
    return _liger() if like.device.type == "cuda" else None


@functools.cache
def _liger() -> Functions | None:
    try:
        from liger_kernel.ops.rms_norm import LigerRMSNormFunction
        from liger_kernel.ops.swiglu import LigerSiLUMulFunction
    except ImportError:
        return None
    as_llama = {"offset": 0.0, "casting_mode": "llama", "in_place": False}
    return Functions(
        lambda x, weight, e: LigerRMSNormFunction.apply(x, weight, e, *as_llama.values()), LigerSiLUMulFunction.apply
    )


def _norm_forward(norm: Callable[..., Tensor], module: Any, x: Tensor) -> Tensor:
    return norm(x, module.weight, module.variance_epsilon)


def _gated_forward(gate: Callable[..., Tensor], module: Any, x: Tensor) -> Tensor:
    return module.down_proj(gate(module.gate_proj(x), module.up_proj(x)))


def is_norm(module: Any, norm: Callable[[Tensor, Tensor, float], Tensor] | None = None) -> bool:
    """Whether a module computes what `norm` does (None: `kernels.norm`), by its name and parts, and on an example."""
    parts = hasattr(module, "weight") and hasattr(module, "variance_epsilon")
    if not parts or "forward" in vars(module) or not type(module).__name__.endswith("RMSNorm"):
        return False
    if norm is None and not kernels.usable(module.weight):
        return False
    key = type(module), module.weight.device.type
    if key not in _NORMS:
        weight = module.weight
        example = torch.linspace(-3, 3, weight.numel(), dtype=weight.dtype, device=weight.device)[None]
        with torch.no_grad():
            ours = (norm or kernels.norm)(example, weight, module.variance_epsilon)
            _NORMS[key] = torch.allclose(module(example), ours, rtol=1e-2)
    return _NORMS[key]


_NORMS: dict[tuple[type, str], bool] = {}


def is_gated(module: Any) -> bool:
    """Whether a module computes down(silu(gate(x)) * up(x)), by the names of its parts."""
    names = [name for name, _ in module.named_children()] if "forward" not in vars(module) else []
    activation = type(getattr(module, "act_fn", None)).__name__
    return sorted(names) == ["act_fn", "down_proj", "gate_proj", "up_proj"] and activation in ("SiLU", "SiLUActivation")


class _Norm(torch.autograd.Function):
    """`kernels.norm`; keeps its input only."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, epsilon: float) -> Tensor:
        ctx.epsilon = epsilon
        ctx.save_for_backward(x, weight)
        return kernels.norm(x, weight, epsilon)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None]:  # type: ignore[override]
        x, weight = ctx.saved_tensors
        return *kernels.norm_backward(x, weight, ctx.epsilon, grad), None


class _Gate(torch.autograd.Function):
    """silu(x) * other; keeps the two only."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, other: Tensor) -> Tensor:
        ctx.save_for_backward(x, other)
        return kernels.gate(x, other)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        x, other = ctx.saved_tensors
        return kernels.gate_backward(x, other, grad)
