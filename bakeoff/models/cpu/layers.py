"""Layers of training in one pass each, forward and backward, where the kernels can: less is kept, and read again."""

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from bakeoff.models.cpu import kernels


@contextlib.contextmanager
def fast(model: nn.Module) -> Iterator[None]:
    """The model with its RMSNorms and gated blocks (as Llama, Mistral and Qwen have them) in one pass each."""
    changed = []
    for module in model.modules() if kernels.usable(next(model.parameters())) else ():
        if is_norm(module):
            module.forward = lambda x, m=module: _Norm.apply(x, m.weight, m.variance_epsilon)  # type: ignore
        elif is_gated(module):
            module.forward = lambda x, m=module: m.down_proj(_Gate.apply(m.gate_proj(x), m.up_proj(x)))  # type: ignore
        else:
            continue
        changed.append(module)
    try:
        yield
    finally:
        for module in changed:
            del module.forward


def is_norm(module: Any) -> bool:
    """Whether a module computes what `kernels.norm` does: by its name and parts, and on an example."""
    parts = hasattr(module, "weight") and hasattr(module, "variance_epsilon")
    if (
        not parts
        or "forward" in vars(module)
        or not type(module).__name__.endswith("RMSNorm")
        or not kernels.usable(module.weight)
    ):
        return False
    if type(module) not in _NORMS:
        example = torch.linspace(-3, 3, module.weight.numel(), dtype=module.weight.dtype)[None]
        with torch.no_grad():
            ours = kernels.norm(example, module.weight, module.variance_epsilon)
            _NORMS[type(module)] = torch.allclose(module(example), ours, rtol=1e-2)
    return _NORMS[type(module)]


_NORMS: dict[type, bool] = {}


def is_gated(module: Any) -> bool:
    """Whether a module computes down(silu(gate(x)) * up(x)), by the names of its parts."""
    names = [name for name, _ in module.named_children()]
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
