"""Drawing tokens: one uniform number per token, turned into a token through the cumulative distribution.

R rows, V tokens in the vocabulary.
"""

import hashlib

import numpy as np
import torch
from torch import Tensor

from bakeoff.models.cpu import kernels
from bakeoff.sampling.engine import Sampling

BLOCK = 128
"""Tokens whose probabilities are summed first; the inverse is looked up among block sums, then inside one block."""
ROWS, GPU_ROWS = 16, 256
"""Rows worked on at once, so that their float32 probabilities stay in the processor's cache; and on a GPU."""


def uniforms(seed: int, prompt_id: str, index: int, count: int) -> np.ndarray:
    """The completion's own random stream: `count` numbers in [0, 1), the same whatever batch it runs in."""
    key = hashlib.sha256(f"{seed}\n{prompt_id}\n{index}".encode()).digest()
    words = np.frombuffer(key[:16], dtype=np.uint64)
    return np.random.Generator(np.random.Philox(key=words)).random(count)


def draw(logits_RV: Tensor, uniform_R: Tensor, sampling: Sampling) -> tuple[Tensor, Tensor]:
    """`draw_here` with uniform numbers and results on the CPU, whatever device the logits are on."""
    if sampling.temperature and sampling.top_p >= 1 and kernels.usable(logits_RV):
        return kernels.draw(logits_RV, uniform_R, sampling.temperature)
    if logits_RV.device.type not in ("cpu", "cuda"):  # it may have no float64
        logits_RV = logits_RV.cpu()
    tokens, logps = draw_here(logits_RV, uniform_R.to(logits_RV.device), sampling)
    return tokens.cpu(), logps.cpu()


def draw_here(logits_RV: Tensor, uniform_R: Tensor, sampling: Sampling) -> tuple[Tensor, Tensor]:
    """(tokens [R], their log-probabilities [R], float64) under the distribution `sampling` makes of the logits.

    Greedy (temperature 0) puts all mass on the most likely token, the first among equals: its log-probability is 0.
    Nothing waits for the device: a CUDA graph can hold it.
    """
    if sampling.temperature == 0:
        return logits_RV.argmax(-1), torch.zeros(len(logits_RV), dtype=torch.float64, device=logits_RV.device)
    rows = ROWS if logits_RV.device.type == "cpu" else GPU_ROWS
    parts = [
        _inverse(kept(logits, sampling), uniform)
        for logits, uniform in zip(logits_RV.split(rows), uniform_R.split(rows), strict=True)
    ]
    return torch.cat([tokens for tokens, _ in parts]), torch.cat([logps for _, logps in parts])


def kept(logits_RV: Tensor, sampling: Sampling) -> Tensor:
    """float32 logits over the temperature, -inf where top-p drops a token.

    Tokens as probable as the last one kept are kept too.
    """
    x = logits_RV.float()
    if sampling.temperature != 1:
        x = x / sampling.temperature
    if sampling.top_p < 1:
        x = x.masked_fill(x < _nucleus_floor(x, sampling.top_p), -torch.inf)
    return x


def _nucleus_floor(x_RV: Tensor, top_p: float) -> Tensor:
    """The logit [R, 1] of the last token of the smallest set whose probabilities reach `top_p`."""
    ordered = x_RV.sort(-1, descending=True).values
    before = ordered.softmax(-1).cumsum(-1) - ordered.softmax(-1)
    last = (before < top_p).sum(-1, keepdim=True).clamp(min=1) - 1
    return ordered.gather(-1, last)


def _inverse(x_RV: Tensor, uniform_R: Tensor) -> tuple[Tensor, Tensor]:
    """The first token whose cumulative probability exceeds the uniform number, and its log-probability."""
    rows, vocabulary = x_RV.shape
    weight = (x_RV - x_RV.amax(-1, keepdim=True)).exp_()
    weight = torch.nn.functional.pad(weight, (0, -vocabulary % BLOCK)).view(rows, -1, BLOCK)
    below = weight.sum(-1).double().cumsum(-1)
    total = below[:, -1]
    goal = (uniform_R * total)[:, None]
    block = torch.searchsorted(below, goal, right=True).clamp(max=below.shape[-1] - 1)
    start = torch.where(block > 0, below.gather(-1, (block - 1).clamp(min=0)), 0.0)
    inside = weight.gather(1, block[:, :, None].expand(-1, -1, BLOCK))[:, 0].double()
    within = inside.cumsum(-1)
    place = torch.searchsorted(within, goal - start, right=True)
    last = BLOCK - 1 - (inside > 0).flip(-1).byte().argmax(-1, keepdim=True)
    place = torch.minimum(place, last)
    chosen = inside.gather(-1, place)
    return (block * BLOCK + place)[:, 0], (chosen[:, 0] / total).log()
