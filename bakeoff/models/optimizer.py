"""AdamW with float32 master weights for a model that computes in bfloat16."""

import math
import random
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from bakeoff.errors import UserError
from bakeoff.progress import Progress
from bakeoff.records import atomic
from bakeoff.run import Run

T = TypeVar("T")

CHECKPOINT_SECONDS = 60.0
"""A killed training loses at most about so much."""


class MasterAdamW:
    """AdamW on float32 copies of the trainable parameters; gradients add up in float32 over micro-batches.

    Linear warm-up over the first tenth of `steps`, then cosine decay to a tenth of the learning rate. Gradients are
    clipped to a norm of 1 (Loshchilov & Hutter, arXiv:1711.05101, without weight decay).
    """

    def __init__(self, parameters: Iterable[nn.Parameter], *, learning_rate: float, steps: int):
        self.parameters = [p for p in parameters if p.requires_grad]
        self.masters = [p.detach().float().clone() for p in self.parameters]
        self.adamw = torch.optim.AdamW(self.masters, lr=learning_rate, betas=(0.9, 0.99), weight_decay=0.0, fused=True)
        self.learning_rate, self.steps, self.taken = learning_rate, steps, 0
        self.hooks = [
            p.register_post_accumulate_grad_hook(lambda p, m=m: _collect(p, m))  # type: ignore[misc]
            for p, m in zip(self.parameters, self.masters, strict=True)
        ]

    @torch.no_grad()
    def step(self) -> float:
        """Update masters and model; returns the gradient's norm before clipping."""
        for group in self.adamw.param_groups:
            group["lr"] = self.learning_rate * schedule(self.taken, self.steps)
        norm = nn.utils.clip_grad_norm_(self.masters, 1.0)
        self.adamw.step()
        self.adamw.zero_grad(set_to_none=True)
        torch._foreach_copy_(list[Tensor](self.parameters), self.masters)
        self.taken += 1
        return float(norm)

    def forget(self) -> None:
        """Drop the gradients that have added up since the last step."""
        for tensor in (*self.parameters, *self.masters):
            tensor.grad = None

    def save(self, path: Path) -> None:
        """Write the masters, the optimizer's state and the place in the schedule, atomically."""
        state = {f"master.{i}": m for i, m in enumerate(self.masters)}
        for i, master in enumerate(self.masters):
            state |= {f"{name}.{i}": value for name, value in self.adamw.state[master].items()}
        with atomic(path) as beside:
            save_file(state, beside, {"taken": str(self.taken)})

    @torch.no_grad()
    def load(self, path: Path, *, anew: bool = False) -> None:
        """Go on where `save` was called: from here on every step is the same, bit for bit, or `anew` in a schedule."""
        with safe_open(path, framework="pt", device=str(self.masters[0].device)) as state:
            self.taken = 0 if anew else int(state.metadata()["taken"])
            for i, (parameter, master) in enumerate(zip(self.parameters, self.masters, strict=True)):
                master.copy_(state.get_tensor(f"master.{i}"))
                parameter.copy_(master)
                names = [n for n in ("step", "exp_avg", "exp_avg_sq") if f"{n}.{i}" in state.keys()]  # noqa: SIM118
                self.adamw.state[master] = {name: state.get_tensor(f"{name}.{i}") for name in names}

    def close(self) -> None:
        """Take the hooks off the model's parameters."""
        for hook in self.hooks:
            hook.remove()


def shuffled_batches(items: Sequence[T], size: int, *, epochs: int, seed: int) -> list[list[T]]:
    """All batches of a training, one a step: every epoch in an order of its own, its last batch what is left."""
    order, batches = random.Random(seed), list[list[T]]()
    for _ in range(epochs):
        shuffled = order.sample(items, len(items))
        batches += [shuffled[start : start + size] for start in range(0, len(shuffled), size)]
    return batches


def follow(run: Run, stage: str, optimizer: MasterAdamW, steps: Iterator[dict[str, float]]) -> None:
    """Take the steps that are left, log each, and leave a checkpoint now and then for a process that goes on.

    `steps` begins at `optimizer.taken` when it is first asked.
    """
    checkpoint, saved = run.checkpoint(stage), time.monotonic()
    if checkpoint.exists():
        optimizer.load(checkpoint)
    with Progress(stage, optimizer.steps, initial=optimizer.taken, unit="steps") as bar:
        for values in steps:
            run.log(stage, step=optimizer.taken - 1, **values)
            if not math.isfinite(values.get("loss", 0.0)):
                raise UserError(
                    f"{stage}: the loss of step {optimizer.taken - 1} is not finite; lower the learning rate"
                )
            bar.update()
            if time.monotonic() - saved > CHECKPOINT_SECONDS:
                optimizer.save(checkpoint)
                saved = time.monotonic()


def _collect(parameter: Tensor, master: Tensor) -> None:
    assert parameter.grad is not None
    master.grad = parameter.grad.float() if master.grad is None else master.grad.add_(parameter.grad)
    parameter.grad = None


def schedule(step: int, steps: int) -> float:
    """The factor on the learning rate at `step` of `steps`: a linear warm-up, then a cosine down to 0.1."""
    warmup = max(1, steps // 10)
    if step < warmup:
        return (step + 1) / warmup
    done = (step - warmup) / max(1, steps - warmup)
    return 0.1 + 0.45 * (1 + math.cos(math.pi * min(1.0, done)))
