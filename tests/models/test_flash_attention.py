"""FlashAttention's rows: packed groups give the states and gradients of the blocks on the CPU, and run on a GPU."""

import contextlib

import pytest
import torch
from conftest import SHAPE
from transformers import AutoModelForCausalLM, LlamaConfig, Qwen2Config

from bakeoff.models import attention_interface, flash_attention, fused_layers, packed_ways, packing
from benchmarks import flash_reference  # noqa: F401  (the kernels on the CPU)

DRAW = torch.Generator().manual_seed(3)


def tokens(count):
    return torch.randint(0, 256, (count,), generator=DRAW).tolist()


GROUPS = [
    packing.SharedPrefix(0, tokens(30), [tokens(12), tokens(1), tokens(20)]),
    packing.SharedPrefix(1, tokens(1), [tokens(5), tokens(9)]),
    packing.SharedPrefix(2, tokens(13), [tokens(7)]),
]
KINDS = {
    "llama": LlamaConfig(**SHAPE | {"num_attention_heads": 4, "num_key_value_heads": 2, "initializer_range": 0.15}),
    "qwen2": Qwen2Config(**SHAPE | {"initializer_range": 0.15}),
}


@pytest.fixture(params=KINDS)
def model(request):
    torch.manual_seed(0)
    return AutoModelForCausalLM.from_config(KINDS[request.param]).eval()


@pytest.mark.parametrize("apart", [False, True])
def test_states_and_gradients_are_those_of_the_blocks(model, apart):
    packed, found = packing.pack(GROUPS, model), []
    for way in (packed_ways.in_blocks, packed_ways.in_rows_of_any_length):
        model.zero_grad()
        states_TH = way(model, packed, packed.before if apart else 0)
        (states_TH[packed.before : sum(map(len, GROUPS))] ** 2).sum().backward()
        found.append([states_TH[packed.before : sum(map(len, GROUPS))], *(p.grad for p in model.model.parameters())])
    for blocks, rows in zip(*found, strict=True):
        torch.testing.assert_close(rows, blocks, atol=2e-4, rtol=2e-4)


def test_filled_keys_alone_are_seen():
    q, k = torch.randn(3, 4, 8), torch.randn(10, 2, 8)
    one = flash_attention.Rows(slice(0, 3), torch.tensor([0, 1, 3], dtype=torch.int32), 2)
    held = flash_attention.Rows(slice(0, 10), torch.tensor([0, 5, 10], dtype=torch.int32), 5)
    out, lse = flash_attention.attend(
        (q, k, k), flash_attention.Block(one, held, causal=False), 0.5, torch.tensor([2, 4], dtype=torch.int32)
    )
    for row, keys in ((0, k[:2]), (1, k[5:9]), (2, k[5:9])):
        scores = torch.einsum("hd,lhd->hl", q[row], keys.repeat_interleave(2, 1)) * 0.5
        torch.testing.assert_close(lse[:, row], scores.logsumexp(-1))
        torch.testing.assert_close(
            out[row], torch.einsum("hl,lhd->hd", scores.softmax(-1), keys.repeat_interleave(2, 1))
        )


def test_layers_computed_again_give_the_same_gradients(model):
    packed, found = packing.pack(GROUPS, model), []
    for recompute in (False, True):
        model.zero_grad()
        with contextlib.ExitStack() as stack:
            stack.enter_context(attention_interface.installed(model))
            stack.enter_context(fused_layers.fast(model))
            if recompute:
                stack.enter_context(fused_layers.recomputed(model))
            states_TH = packed_ways.in_rows_of_any_length(model, packed, packed.before)
            (states_TH[packed.before : sum(map(len, GROUPS))] ** 2).sum().backward()
        found.append([p.grad.clone() for p in model.model.parameters()])
    for once, again in zip(*found, strict=True):
        assert torch.equal(once, again)
    assert not any("forward" in vars(m) for m in model.modules())


@pytest.mark.parametrize("apart", [False, True])
def test_a_pass_moves_nothing_between_devices(model, apart):
    """On the device `meta` whatever reads a number, or mixes tensors of two devices, fails."""
    model = model.to(torch.bfloat16).to("meta")
    packed = packing.pack(GROUPS, model)
    states_TH = packed_ways.in_rows_of_any_length(model, packed, packed.before if apart else 0)
    assert states_TH.device.type == "meta" and states_TH.dtype == torch.bfloat16
    states_TH.float().sum().backward()
    assert all(p.grad is not None and p.grad.device.type == "meta" for p in model.model.layers.parameters())
