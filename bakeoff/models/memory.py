"""How many tokens a pass may hold: on a CPU a constant, on a GPU what its free memory takes."""

import contextlib
from collections.abc import Callable
from typing import Any, TypeVar

import torch

from bakeoff.errors import UserError
from bakeoff.models import fused_layers, packed_forward

T = TypeVar("T")

SHARE = 0.4
"""Of the free memory, what the tokens of a pass may take by the estimate."""
GPU_TOKENS, WIDTH = 16384, 1024
"""More tokens than so many, at this width of a model, keep a GPU no busier; a wider one needs fewer."""
FORWARD = 4
"""So many times as many where nothing is kept for a backward pass: few passes, as each has costs of its own."""
LOGITS = 2**28
"""Logits of a GPU held at once, float32."""
VOCABULARY_CHUNK = 128
"""Tokens of a CPU projected onto the vocabulary at once: bounds the memory of the logits."""


def pass_tokens(model: Any, on_cpu: int, *, backward: bool = False) -> int:
    """Tokens of one pass of a model, forward alone or `backward` too: `on_cpu` where there is no GPU, and at least."""
    if model.device.type != "cuda":
        return on_cpu
    most = GPU_TOKENS * WIDTH // max(WIDTH, model.config.get_text_config().hidden_size) * (1 if backward else FORWARD)
    return max(on_cpu, min(most, int(SHARE * free_bytes(model.device)) // token_bytes(model, backward=backward)))


def token_bytes(model: Any, *, backward: bool) -> int:
    """About what a token of a pass takes: the activations of the layers that are trained, else of one layer."""
    config = model.config.get_text_config()
    layer = 16 * config.hidden_size + 5 * getattr(config, "intermediate_size", 4 * config.hidden_size)
    trained = sum(any(p.requires_grad for p in one.parameters()) for one in fused_layers.decoder_layers(model))
    return layer * model.dtype.itemsize * (max(1, trained) if backward else 1)


def free_bytes(device: torch.device) -> int:
    """Memory of a CUDA device that is free, or held by torch for nothing."""
    held = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return torch.cuda.mem_get_info(device)[0] + held


def vocabulary_chunk(model: Any) -> int:
    """Tokens projected onto the vocabulary at once."""
    if model.device.type != "cuda":
        return VOCABULARY_CHUNK
    return max(VOCABULARY_CHUNK, LOGITS // model.config.get_text_config().vocab_size)


class Budget:
    """Tokens of a training's passes; after each time that memory runs out half of them, in the end layer by layer."""

    def __init__(self, model: Any, on_cpu: int):
        self.model, self.recompute = model, False
        self.tokens = pass_tokens(model, on_cpu, backward=True)

    def run(self, work: Callable[[int], T], again: Callable[[], object]) -> T:
        """`work` in passes of so many tokens; where memory runs out `again` undoes what it did, and it starts anew."""
        while True:
            try:
                with packed_forward.fast_passes(self.model, recompute=self.recompute):
                    return work(self.tokens)
            except torch.OutOfMemoryError as error:
                if not self._less():
                    raise UserError(
                        f"out of memory: {str(error).splitlines()[0]}; train adapters (lora), or a smaller model"
                    ) from None
            again()
            with contextlib.suppress(RuntimeError):  # of a device without a cache
                torch.cuda.empty_cache()

    def _less(self) -> bool:
        """Whether there is a way that takes less memory; it is then taken."""
        if self.tokens > MIN_TOKENS:
            self.tokens //= 2
        elif not self.recompute and packed_forward.recomputable(self.model):
            self.recompute = True
        else:
            return False
        return True


MIN_TOKENS = 512
"""A pass of fewer tokens saves little: a group stays whole."""
