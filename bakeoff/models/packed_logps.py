"""What is read from packed groups: log-probabilities of the completions' tokens, distributions before them, rewards.

Each completion sees the prompt and itself, and its positions restart where the prompt ends, so every token gets the
hidden state it would have in a row of its own. T tokens in the sequence, H hidden units, M gathered tokens.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bakeoff.models.cpu import kernels
from bakeoff.models.memory import vocabulary_chunk
from bakeoff.models.packed_forward import hidden, logit_scale, logits
from bakeoff.models.packing import Packed

TRAIN_TOKENS = 2048
"""Tokens per forward and backward pass: more costs memory and is hardly faster on a CPU."""


def rewards(model: Any, packed: Packed, *, through_prompt: bool = True) -> Tensor:
    """The head's output at the last token of every completion, float32, in the order of `packed.starts()`."""
    return model.score(last_states(model, packed, through_prompt=through_prompt)).squeeze(-1).float()


def last_states(model: Any, packed: Packed, *, through_prompt: bool = True) -> Tensor:
    """The hidden states [M, H] at the last token of every completion, in the order of `packed.starts()`."""
    places = [at + len(group.completions[number]) - 1 for _, group, number, at in packed.starts()]
    return hidden(model, packed, through_prompt=through_prompt)[places]


def completion_tokens(packed: Packed) -> tuple[Tensor, Tensor, Tensor]:
    """For every completion's tokens: (place of the token that predicts it, the token, number of its completion)."""
    places, targets, numbers = [], list[int](), []
    for count, (row, group, number, at) in enumerate(packed.starts()):
        size = len(group.completions[number])
        places += [[packed.before + row], np.arange(at, at + size - 1)] if size else []
        targets += group.completions[number]
        numbers.append(np.full(size, count))
    joined = (np.concatenate([*x, np.zeros(0)]).astype(int) for x in (places, numbers))
    found = [torch.from_numpy(x).to(packed.ids_T.device) for x in joined]
    return found[0], torch.tensor(targets, dtype=torch.long, device=packed.ids_T.device), found[1]


def token_logps(
    model: Any, packed: Packed, temperature: float = 1.0, *, through_prompt: bool = True
) -> tuple[Tensor, Tensor]:
    """(log-probability [M] of every token of the completions, number [M] of its completion), float32."""
    places, targets, numbers = completion_tokens(packed)
    states_MH = hidden(model, packed, through_prompt=through_prompt)[places]
    if states_MH.requires_grad and any(p.requires_grad for p in model.lm_head.parameters()):
        return torch.cat([*_logps(model, states_MH, targets, temperature)]), numbers
    return _Logps.apply(states_MH, targets, model, temperature), numbers


def _logps(model: Any, states_MH: Tensor, targets_M: Tensor, temperature: float) -> Iterator[Tensor]:
    """The log-probabilities of tokens given the states before them, in chunks."""
    size = vocabulary_chunk(model)
    for states, target in zip(states_MH.split(size), targets_M.split(size), strict=True):
        yield -F.cross_entropy(logits(model, states, temperature), target, reduction="none")


class _Logps(torch.autograd.Function):
    """Log-probabilities [M] whose slopes [M, H] are found together with them: the logits of a chunk are not kept."""

    @staticmethod
    def forward(ctx: Any, states_MH: Tensor, targets_M: Tensor, model: Any, temperature: float) -> Tensor:
        sloped = _sloped_by_kernel if _plain_head(model) else _sloped
        size = vocabulary_chunk(model)
        chunks = zip(states_MH.split(size), targets_M.split(size), strict=True)
        with torch.set_grad_enabled(ctx.needs_input_grad[0]):
            found = [sloped(model, *chunk, temperature) for chunk in chunks]
        if ctx.needs_input_grad[0]:
            ctx.save_for_backward(torch.cat([slope for _, slope in found]))
        return torch.cat([logp for logp, _ in found])

    @staticmethod
    def backward(ctx: Any, grad_M: Tensor) -> tuple[Tensor, None, None, None]:  # type: ignore[override]
        (slope_MH,) = ctx.saved_tensors
        return (grad_M[:, None] * slope_MH).to(slope_MH.dtype), None, None, None


def _sloped(model: Any, states: Tensor, target: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """(log-probabilities, their slopes while gradients are enabled)."""
    states = states.detach().requires_grad_(torch.is_grad_enabled())
    (logp,) = _logps(model, states, target, temperature)
    return logp.detach(), torch.autograd.grad(logp.sum(), states)[0] if torch.is_grad_enabled() else states


def _sloped_by_kernel(model: Any, states: Tensor, target: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    wanted = torch.is_grad_enabled()
    with torch.no_grad():
        logits_MV = model.lm_head(states)
        logp = kernels.slopes(logits_MV, target, logit_scale(model) / temperature)
        return logp, logits_MV @ model.lm_head.weight if wanted else states


def _plain_head(model: Any) -> bool:
    """Whether the logits are one product, scaled, that the kernels can take."""
    capped = getattr(model.config.get_text_config(), "final_logit_softcapping", None) is not None
    return type(model.lm_head) is nn.Linear and not capped and kernels.usable(model.lm_head.weight)


def next_token_logps(model: Any, packed: Packed, temperature: float = 1.0) -> Iterator[tuple[Tensor, Tensor]]:
    """Chunks of (log-distribution over the vocabulary [m, V] before every token, number [m] of its completion)."""
    places, _, numbers = completion_tokens(packed)
    states_MH = hidden(model, packed)[places]
    size = vocabulary_chunk(model)
    for states, number in zip(states_MH.split(size), numbers.split(size), strict=True):
        yield logits(model, states, temperature).log_softmax(-1), number
