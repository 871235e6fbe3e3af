"""The loops in C against the same in tensor operations."""

from __future__ import annotations

import math
import shutil
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM
from transformers.models.gemma.modeling_gemma import GemmaRMSNorm
from transformers.models.qwen2.modeling_qwen2 import Qwen2RMSNorm

from bakeoff.models.cpu import kernels
from bakeoff.models.load import load_tokenizer
from bakeoff.records import Message, Prompt
from bakeoff.sampling import Sampling
from bakeoff.sampling.cpu_layers import fuse_layers
from bakeoff.sampling.kv_cache import _by_row, _merge_own, _turn, attention
from bakeoff.sampling.local import LocalEngine, _plan
from bakeoff.sampling.sampler import _inverse, kept

compiled = pytest.mark.skipif(not shutil.which("cc"), reason="needs a C compiler")
HALF = {torch.float32: 1e-5, torch.bfloat16: 4e-2}


@pytest.fixture(params=[1, 2])
def threads(request):
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield
    torch.set_num_threads(before)


@compiled
def test_a_compiler_makes_the_kernels() -> None:
    assert kernels.library() is not None


@compiled
@pytest.mark.parametrize("dtype", HALF)
@pytest.mark.parametrize(("heads", "kv_heads", "size"), [(9, 3, 64), (2, 2, 64), (8, 2, 128), (6, 1, 20)])
def test_attention_to_own_tokens(threads, dtype: torch.dtype, heads: int, kv_heads: int, size: int) -> None:
    torch.manual_seed(0)
    slot_R = torch.tensor([0, 2, 1, 0, 2, 2, 1, 0])  # no order, and groups of different sizes
    length_R = torch.tensor([0, 3, 1, 7, 2, 11, 4, 5])
    rows, slots, room = len(slot_R), 3, 16
    model = torch.nn.Linear(1, 1, dtype=dtype)
    model.device, model.dtype = torch.device("cpu"), dtype
    plan = _plan(slot_R, length_R, torch.tensor([5, 9, 2]), model)
    q, k, v = (torch.randn(rows, n, size, dtype=dtype) for n in (heads, kv_heads, kv_heads))
    angles = torch.rand(rows, size // 2) * 6
    turns = tuple(torch.cat([f(angles)] * 2, -1).to(dtype) for f in (torch.cos, torch.sin))
    own = tuple(torch.randn(rows + 1, kv_heads, room, size, dtype=dtype) for _ in range(2))
    expected_own = [x.clone() for x in own]
    grid = torch.zeros(slots, kv_heads, plan.widest * (heads // kv_heads), size, dtype=dtype)
    kernels.spread(torch.cat([x.flatten(1) for x in (q, k, v)], 1), turns, grid, own, plan)

    by_row = [x[:, None] for x in turns]
    turned_q, turned_k = (_turn(x, by_row) for x in (q, k))
    for held, new in zip(expected_own, (turned_k, v), strict=True):
        held[torch.arange(rows), :, length_R] = new
    for mine, theirs in zip(own, expected_own, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=0, atol=HALF[dtype])  # nothing else was touched
    torch.testing.assert_close(_by_row(grid, heads // kv_heads, plan.back_R), turned_q, rtol=0, atol=HALF[dtype])

    prefix = torch.randn(2, slots, kv_heads, plan.prefix, size, dtype=dtype)
    shared = attention(grid, prefix[0], prefix[1], plan.prefix_mask, 0.3, None)
    got = kernels.attend(grid, own, shared, plan, 0.3)
    expected = _merge_own(plan, turned_q, own, shared, 0.3, None)
    torch.testing.assert_close(got, expected, rtol=0, atol=HALF[dtype])


@compiled
@pytest.mark.parametrize("dtype", HALF)
@pytest.mark.parametrize("size", [17, 576])
def test_norm(threads, dtype: torch.dtype, size: int) -> None:
    torch.manual_seed(0)
    norm = Qwen2RMSNorm(size, 1e-5).to(dtype)
    norm.weight.data = torch.randn(size, dtype=dtype)
    x = torch.randn(2, 5, size, dtype=dtype) * 3
    with torch.inference_mode():
        torch.testing.assert_close(kernels.norm(x, norm.weight, 1e-5), norm(x), rtol=1e-2, atol=1e-5)


@compiled
def test_a_norm_of_another_kind_is_left_as_it_is() -> None:
    model = torch.nn.Module()
    model.device, model.dtype = torch.device("cpu"), torch.float32
    model.ours, model.named_otherwise, model.disguised = Qwen2RMSNorm(8), GemmaRMSNorm(8), Qwen2RMSNorm(8)
    model.disguised.forward = lambda x: 2 * x
    fuse_layers(model)
    names = [type(m).__name__ for m in (model.ours, model.named_otherwise, model.disguised)]
    assert names == ["FastNorm", "GemmaRMSNorm", "Qwen2RMSNorm"]


@compiled
@pytest.mark.parametrize("dtype", HALF)
@pytest.mark.parametrize("size", [5, 128, 1000])
def test_draw(threads, dtype: torch.dtype, size: int) -> None:
    torch.manual_seed(0)
    logits = torch.randn(300, size, dtype=dtype) * 3
    uniform = torch.rand(300, dtype=torch.float64)
    uniform[:2] = torch.tensor([0.0, math.nextafter(1, 0)])
    tokens, logps = kernels.draw(logits, uniform, 0.7)
    expected, expected_logps = _inverse(kept(logits, Sampling(temperature=0.7)), uniform)
    assert (tokens == expected).float().mean() > 0.99  # a draw on a border may fall either way
    same = tokens == expected
    torch.testing.assert_close(logps[same], expected_logps[same], rtol=0, atol=2e-5)
    assert tokens[0] == 0
    assert tokens[1] == size - 1


@compiled
def test_drawn_frequencies_are_the_models() -> None:
    probability = torch.tensor([0.5, 0.25, 0.15, 0.1])
    rows = 20_000
    uniform = (torch.arange(rows, dtype=torch.float64) + 0.5) / rows
    tokens, _ = kernels.draw(probability.log().expand(rows, 4), uniform, 1.0)
    assert torch.equal(tokens.bincount(), (probability * rows).long())


@compiled
def test_completions_are_the_same_without_the_kernels(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, tokenizer = AutoModelForCausalLM.from_pretrained(tiny).eval(), load_tokenizer(str(tiny))
    prompts = [Prompt(f"p{i}", [Message("user", "x" * i)], f"asks:{i}", 1, "train") for i in range(1, 6)]
    sampling = Sampling(group_size=3, max_tokens=20)

    def drawn() -> dict[str, list[list[int]]]:
        groups = LocalEngine(model, tokenizer).complete(prompts, sampling)
        return {g[0].prompt_id: [c.tokens for c in g] for g in groups}

    fast = drawn()
    monkeypatch.setattr(kernels, "library", lambda: None)
    assert drawn() == fast


def test_without_a_compiler_there_are_none(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("BAKEOFF_CACHE", str(tmp_path))
    for name, value in (("CC", "/no/such/compiler"), ("BAKEOFF_KERNELS", "0")):
        kernels.library.cache_clear()
        with monkeypatch.context() as patch:
            patch.setenv(name, value)
            assert kernels.library() is None
            assert not kernels.usable(torch.zeros(1))
    kernels.library.cache_clear()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_backward_passes_are_those_of_torch(dtype):
    generator = torch.Generator().manual_seed(0)
    x, other, grad = (torch.randn(37, 96, generator=generator).to(dtype) for _ in range(3))
    weight = torch.randn(96, generator=generator).to(dtype)
    leaves = [t.float().requires_grad_() for t in (x, other, weight)]
    torch.nn.functional.rms_norm(leaves[0], (96,), leaves[2], 1e-5).backward(grad.float())
    close = {"rtol": 1e-4, "atol": 1e-5} if dtype == torch.float32 else {"rtol": 2e-2, "atol": 2e-2}
    for ours, leaf in zip(kernels.norm_backward(x, weight, 1e-5, grad), (leaves[0], leaves[2]), strict=True):
        torch.testing.assert_close(ours.float(), leaf.grad, **close)
        leaf.grad = None
    expected = torch.nn.functional.silu(leaves[0]) * leaves[1]
    torch.testing.assert_close(kernels.gate(x, other).float(), expected.detach(), **close)
    expected.backward(grad.float())
    for ours, leaf in zip(kernels.gate_backward(x, other, grad), leaves[:2], strict=True):
        torch.testing.assert_close(ours.float(), leaf.grad, **close)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_slopes_are_the_gradient_of_log_probabilities(dtype):
    generator = torch.Generator().manual_seed(0)
    logits = (5 * torch.randn(13, 300, generator=generator)).to(dtype)
    targets, leaf = torch.randint(300, (13,), generator=generator), logits.float().requires_grad_()
    expected = (leaf / 0.7).log_softmax(-1).gather(-1, targets[:, None])[:, 0]
    expected.sum().backward()
    torch.testing.assert_close(kernels.slopes(logits, targets, 1 / 0.7), expected.detach(), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(logits.float(), leaf.grad, atol=1e-5, rtol=1e-5 if dtype == torch.float32 else 1e-2)
