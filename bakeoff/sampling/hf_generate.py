"""The slower path for models that cannot share a prompt: `generate`, one prompt at a time, its rows side by side."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
import transformers
from torch import Tensor

from bakeoff.models import packed_forward
from bakeoff.models.attention_interface import plain_attention
from bakeoff.records import Completion, Prompt
from bakeoff.sampling.engine import Sampling
from bakeoff.sampling.sampler import draw, uniforms
from bakeoff.sampling.stop import Writer

LOGIT_TOLERANCE = 0.1


def compare(model: Any, found: Tensor, plain: Callable[[], Tensor]) -> None:
    """Raise ValueError where logits [M, V] differ from those of the model's plain attention by more than rounding."""

    def centred() -> Tensor:
        logits = plain().float()
        return logits - logits.mean(-1, keepdim=True)

    with plain_attention(model):
        expected = centred()
        most = packed_forward.tolerated(model, centred, LOGIT_TOLERANCE)
    difference = (found.float() - found.float().mean(-1, keepdim=True) - expected).norm() / expected.norm()
    if not difference <= most:
        raise ValueError(f"its outputs would differ by {difference:.1%}")


class _Force(transformers.LogitsProcessor):
    """Draws each row's token itself and leaves `generate` no other choice."""

    def __init__(self, uniform_RM: Tensor, sampling: Sampling, writer: Writer) -> None:
        self.uniform_RM, self.sampling, self.writer = uniform_RM, sampling, writer
        rows, new = uniform_RM.shape
        self.token_RM = torch.zeros(rows, new, dtype=torch.long)
        self.length_R = torch.zeros(rows, dtype=torch.long)
        self.logp_R = torch.zeros(rows, dtype=torch.float64)
        self.over_R = torch.zeros(rows, dtype=torch.bool)

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        live = (~self.over_R).nonzero()[:, 0]
        at = self.length_R[live]
        tokens, logps = draw(scores[live], self.uniform_RM[live, at], self.sampling)
        self.token_RM[live, at] = tokens
        self.logp_R[live] += logps
        self.length_R[live] += 1
        ended = self.writer.finished(self.token_RM[live], self.length_R[live], self.sampling.max_tokens)
        self.over_R[live[ended]] = True
        forced = torch.full_like(scores, -torch.inf)
        last = self.token_RM[torch.arange(len(scores)), self.length_R - 1].to(scores.device)
        return forced.scatter_(1, last[:, None], 0.0)


@torch.inference_mode()
def _rows(model: Any, prompt: Prompt, ids: list[int], indices: range, force: _Force) -> list[Completion]:
    config = transformers.GenerationConfig(max_new_tokens=force.sampling.max_tokens, do_sample=False, pad_token_id=0)
    input_ids = torch.tensor([ids] * len(indices), device=model.device)
    with plain_attention(model):
        model.generate(
            input_ids=input_ids,
            attention_mask=torch.ones_like(input_ids),
            generation_config=config,
            logits_processor=[force],
            stopping_criteria=[lambda ids, scores: force.over_R.to(ids.device)],
        )
    return [
        force.writer.completion(prompt.id, index, force.token_RM[row, :length].tolist(), float(force.logp_R[row]))
        for row, (index, length) in enumerate(zip(indices, force.length_R.tolist(), strict=True))
    ]


def complete_separately(
    model: Any, prompts: Sequence[tuple[Prompt, list[int]]], sampling: Sampling, writer: Writer, max_rows: int
) -> Iterator[list[Completion]]:
    """One group per prompt, without padding, so that any architecture is right."""
    for prompt, ids in prompts:
        group: list[Completion] = []
        for start in range(0, sampling.group_size, max_rows):
            indices = range(start, min(start + max_rows, sampling.group_size))
            streams = [uniforms(sampling.seed, prompt.id, i, sampling.max_tokens) for i in indices]
            uniform_RM = torch.stack([torch.from_numpy(s) for s in streams])
            group += _rows(model, prompt, ids, indices, _Force(uniform_RM, sampling, writer))
        yield group
