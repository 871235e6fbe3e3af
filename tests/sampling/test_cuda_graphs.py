"""Decoding in static rows gives the completions of the in-process engine; its step fits a CUDA graph."""

import pytest
import torch
from test_local import load, often_ending, prompts, run

from bakeoff.sampling import Sampling, cuda_graphs, static_cache
from bakeoff.sampling.cpu_layers import unjoin
from bakeoff.sampling.local import LocalEngine
from bakeoff.sampling.stop import Stops, Writer
from benchmarks import flash_reference  # noqa: F401  (FlashAttention's kernels on the CPU)


def static(engine):
    """The engine with the rows of a GPU, here on the CPU."""
    unjoin(engine.model)  # the joined attention of the CPU
    static_cache.join(engine.model)
    assert any(isinstance(m, static_cache.JoinedAttention) for m in engine.model.modules())
    engine.model.set_attn_implementation(static_cache.NAME)
    static_cache.check_static(engine.model, engine.config)
    engine.static = True
    return engine


SAMPLINGS = [
    Sampling(group_size=3, max_tokens=24),
    Sampling(group_size=5, max_tokens=20, temperature=0.6, top_p=0.9),
    Sampling(group_size=2, max_tokens=20, temperature=0),
    Sampling(group_size=4, max_tokens=24, temperature=1.5, stop=("e", "q7")),
]


@pytest.mark.parametrize("sampling", SAMPLINGS)
@pytest.mark.parametrize("budget", [1, 150, 400, 65536])
def test_completions_are_those_of_the_engine(tiny_llama, sampling, budget):
    model, tokenizer = load(tiny_llama)
    expected = run(often_ending(LocalEngine(model, tokenizer)), sampling)
    found = run(static(often_ending(LocalEngine(model, tokenizer, max_batch_tokens=budget))), sampling)
    assert found.keys() == expected.keys()
    for key, group in expected.items():
        for one, other in zip(group, found[key], strict=True):
            assert (one.tokens, one.text, one.finish) == (other.tokens, other.text, other.finish)
            assert one.logp == pytest.approx(other.logp, abs=1e-3)


def test_many_prompts_pass_through_few_rows(tiny_llama, monkeypatch):
    monkeypatch.setattr(cuda_graphs, "MAX_ROWS", 8)
    model, tokenizer = load(tiny_llama)
    asked, sampling = prompts([f"question {i}" * (1 + i % 4) for i in range(23)]), Sampling(group_size=3, max_tokens=30)
    expected = run(often_ending(LocalEngine(model, tokenizer)), sampling, asked)
    found = run(static(often_ending(LocalEngine(model, tokenizer))), sampling, asked)
    assert {k: [c.tokens for c in g] for k, g in found.items()} == {
        k: [c.tokens for c in g] for k, g in expected.items()
    }


@pytest.mark.parametrize("sampling", SAMPLINGS[:3])
def test_a_step_reads_no_number(tiny_llama, sampling):
    """So that a CUDA graph can hold it: on the device `meta` whatever reads one fails."""
    model, tokenizer = load(tiny_llama)
    model = model.to(torch.bfloat16).to("meta")
    static_cache.join(model)
    model.set_attn_implementation(static_cache.NAME)
    writer = Writer(tokenizer, [2, 7], Stops(tokenizer, ()))
    asked = [(prompt, list(range(5 + i))) for i, prompt in enumerate(prompts())]
    batch = cuda_graphs.Batch(model, asked, sampling, writer, 4096)
    with torch.inference_mode():
        static_cache.read(model, batch.cache, [(0, asked[0][1])])
        batch._step()
    assert batch.token_RM.device.type == "meta"
