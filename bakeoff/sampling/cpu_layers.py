"""A model's layers as they are fastest on a CPU: weights laid out once for the matrix units, norms in one pass.

On a CPU with bfloat16 matrix products the library behind torch re-orders a plain weight matrix each time it is used,
and can apply an activation and a product to a result before it leaves the cache.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from bakeoff.models.cpu import kernels
from bakeoff.models.fused_layers import is_gated, is_norm
from bakeoff.models.load import fast_bfloat16
from bakeoff.sampling.kv_cache import Heads

ROWS = 256
"""Rows of the products that the layout is made for; others are right too."""


class PackedLinear(nn.Module):
    """A linear layer as it is now, for inference: later changes of its weight are not seen."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.bias = linear.bias
        self.packed = torch.ops.mkldnn._reorder_linear_weight(linear.weight.detach(), ROWS)

    def forward(self, x: Tensor, activation: str = "none") -> Tensor:
        return torch.ops.mkldnn._linear_pointwise(x, self.packed, self.bias, activation, [], "")

    def times(self, x: Tensor, other: Tensor) -> Tensor:
        """The layer's output times another tensor of its shape."""
        return torch.ops.mkldnn._linear_pointwise.binary(x, other, self.packed, self.bias, "mul")


class PackedGate(nn.Module):
    """down(silu(gate(x)) * up(x)), the feed-forward block of Llama, Mistral and Qwen, in three calls."""

    def __init__(self, block: Any) -> None:
        super().__init__()
        self.gate, self.up, self.down = block.gate_proj, block.up_proj, block.down_proj

    def forward(self, x: Tensor) -> Tensor:
        return self.down(self.up.times(x, self.gate(x, "swish")))


def joined_projections(attention: Any) -> nn.Linear:
    """The projections to queries, keys and values as one layer, a frozen copy."""
    parts = [attention.q_proj, attention.k_proj, attention.v_proj]
    with torch.device("meta"):
        joined = nn.Linear(parts[0].in_features, 1, bias=parts[0].bias is not None)
    joined.weight = nn.Parameter(torch.cat([x.weight.detach() for x in parts]), requires_grad=False)
    if parts[0].bias is not None:
        joined.bias = nn.Parameter(torch.cat([x.bias.detach() for x in parts]), requires_grad=False)
    return joined


class FastAttention(nn.Module):
    """Attention of Llama, Mistral and Qwen2 over a shared cache: one product for queries, keys and values."""

    def __init__(self, plain: Any) -> None:
        super().__init__()
        self.plain, self.joined = plain, PackedLinear(joined_projections(plain))
        heads, kv_heads = (x.out_features // plain.head_dim for x in (plain.q_proj, plain.k_proj))
        self.shape = Heads(heads, kv_heads, plain.head_dim, plain.scaling)

    def forward(self, hidden_states: Tensor, position_embeddings: tuple[Tensor, Tensor], **settings: Any) -> Any:
        cache = settings.get("shared_cache")
        if cache is None:
            return self.plain(hidden_states, position_embeddings=position_embeddings, **settings)
        turns = (position_embeddings[0][0], position_embeddings[1][0])
        out = cache.attend_joined(self.plain.layer_idx, self.joined(hidden_states)[0], turns, self.shape)
        return self.plain.o_proj(out.flatten(2)), None


class FastNorm(nn.Module):
    """RMSNorm as Llama, Mistral and Qwen have it, in one pass."""

    def __init__(self, norm: Any) -> None:
        super().__init__()
        self.weight, self.epsilon = norm.weight, norm.variance_epsilon

    def forward(self, x: Tensor) -> Tensor:
        return kernels.norm(x, self.weight, self.epsilon)


def fuse_layers(model: nn.Module) -> None:
    """Replace what is slow as it is on the CPU, where there is what it takes; else change nothing."""
    replace(model, is_norm, FastNorm)
    if not _possible(model):
        return
    if kernels.library() is not None:
        replace(model, is_attention, FastAttention)
    replace(model, lambda child: type(child) is nn.Linear, PackedLinear)
    replace(model, _is_gate, PackedGate)


def unjoin(model: nn.Module) -> bool:
    """Put a model's own attention back, whose positions may be of another kind; False when it is there already."""
    joined = any(isinstance(m, FastAttention) for m in model.modules())
    replace(model, lambda child: isinstance(child, FastAttention), lambda child: child.plain)
    return joined


def replace(model: nn.Module, wanted: Callable[[nn.Module], bool], packed: Callable[[Any], nn.Module]) -> None:
    """Put another module in the place of each that is wanted."""
    for module in list(model.modules()):
        for name, child in list(module.named_children()):
            if wanted(child) and not isinstance(module, nn.ModuleDict):  # there adapters are, whose weights are read
                setattr(module, name, packed(child))


def _is_gate(block: nn.Module) -> bool:
    return is_gated(block) and all(
        isinstance(getattr(block, f"{name}_proj"), PackedLinear) for name in ("gate", "up", "down")
    )


def is_attention(module: Any) -> bool:
    """Whether a module looks like what `FastAttention` computes; the engine compares the outputs before it is used."""
    parts = dict(module.named_children())
    named = type(module).__name__.endswith("Attention") and set(parts) == {"q_proj", "k_proj", "v_proj", "o_proj"}
    known = all(hasattr(module, name) for name in ("head_dim", "scaling", "layer_idx"))
    return named and known and all(type(x) is nn.Linear for x in parts.values())


def _possible(model: Any) -> bool:
    known = torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_reorder_linear_weight")
    return model.device.type == "cpu" and model.dtype == torch.bfloat16 and fast_bfloat16() and known
