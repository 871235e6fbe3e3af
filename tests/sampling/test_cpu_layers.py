"""Packed layers give what plain ones give, and only where the processor has the matrix units for them."""

import copy

import pytest
import torch
from transformers import AutoModelForCausalLM

from bakeoff.sampling.cpu_layers import PackedGate, PackedLinear, _possible, fuse_layers


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_packed_equals_plain(tiny, dtype):
    plain = AutoModelForCausalLM.from_pretrained(tiny, dtype=dtype).eval()
    packed = copy.deepcopy(plain)
    fuse_layers(packed)
    ids = torch.arange(1, 25).reshape(2, 12)
    with torch.inference_mode():
        a, b = plain(ids).logits.float(), packed(ids).logits.float()
    assert (a - b).norm() / a.norm() < (0.02 if dtype == torch.bfloat16 else 1e-6)
    kinds = {type(m) for m in packed.modules()}
    assert (PackedLinear in kinds) == _possible(plain)
    assert (PackedGate in kinds) == (_possible(plain) and plain.config.model_type in ("llama", "qwen2"))
