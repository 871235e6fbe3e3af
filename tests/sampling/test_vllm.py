"""vLLM for real, where it is installed; elsewhere, what is said when it is not."""

import importlib.util
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from conftest import byte_tokenizer
from test_local import plain_logps, prompts
from transformers import AutoModelForCausalLM, LlamaConfig

from bakeoff.errors import Missing
from bakeoff.models.chat import render
from bakeoff.models.load import load_policy
from bakeoff.sampling import Sampling, choose
from bakeoff.sampling.local import LocalEngine
from bakeoff.sampling.stop import Stops, Writer
from bakeoff.sampling.vllm import _completion
from bakeoff.settings import Recipe, Sample

INSTALLED = importlib.util.find_spec("vllm") is not None
needs_vllm = pytest.mark.skipif(not INSTALLED, reason="vllm is not installed")
SHARP = Sampling(group_size=4, max_tokens=12, temperature=0.7, top_p=0.9, seed=3)


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> Path:
    """A tiny Llama whose heads have a size that vLLM's kernels take."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("base")
    config = LlamaConfig(
        vocab_size=320, hidden_size=128, intermediate_size=128, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=2, max_position_embeddings=512, eos_token_id=259, bos_token_id=None, initializer_range=0.1,
    )  # fmt: skip
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    byte_tokenizer().save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def adapters(base, tmp_path_factory) -> list[Path]:
    """Two adapters over the base whose effect is large."""
    peft = pytest.importorskip("peft")
    folders = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        settings = peft.LoraConfig(r=4, target_modules=["q_proj", "v_proj"], init_lora_weights=False)
        model = peft.get_peft_model(AutoModelForCausalLM.from_pretrained(base), settings)
        folders.append(tmp_path_factory.mktemp(f"adapter{seed}"))
        model.save_pretrained(folders[-1])
    return folders


def recipe(model) -> Recipe:
    return Recipe(model=str(model), dtype="float32", sample=Sample(engine="vllm"))


@pytest.fixture(scope="module")
def engines(base, adapters):
    """(the base, two adapters over it)."""
    first, second = (choose.engine(str(folder), recipe(base)) for folder in adapters)
    return choose.engine(str(base), recipe(base)), first, second


def drawn(engine, sampling=SHARP, asked=None):
    failed = []
    groups = list(engine.complete(asked or prompts(), sampling, failed.append))
    for group in groups:
        assert [c.index for c in group] == list(range(sampling.group_size))
    return {g[0].prompt_id: g for g in groups}, {f.prompt_id: f for f in failed}


def assert_logps_are_those_of(model, tokenizer, groups, sampling):
    for prompt in prompts():
        ids = render(tokenizer, prompt.messages)
        for c in groups[prompt.id]:
            assert c.logp == pytest.approx(plain_logps(model, ids, c.tokens, sampling), abs=5e-3)


@pytest.mark.skipif(INSTALLED, reason="vllm is installed")
def test_without_vllm_one_line_says_what_to_install(tiny_llama):
    with pytest.raises(Missing, match=r"^sample.engine: vllm is not installed; pip install 'bakeoff\[vllm\]'$"):
        choose.engine(str(tiny_llama), recipe(tiny_llama))


def test_special_tokens_that_mark_thoughts_stay_in_the_text():
    tokenizer = byte_tokenizer()
    tokenizer.add_special_tokens({"additional_special_tokens": ["[THINK]", "[/THINK]"]})
    tokens = tokenizer("[THINK]hm[/THINK]yes.Q:<|end|>", add_special_tokens=False).input_ids
    drawn = SimpleNamespace(token_ids=tokens, index=0, text="hmyes.", cumulative_logprob=-1.0, finish_reason="stop")
    writer = Writer(tokenizer, [], Stops(tokenizer, ["Q:"]))
    assert _completion(prompts()[0], drawn, SHARP, writer).text == "[THINK]hm[/THINK]yes."


@needs_vllm
def test_logps_are_those_of_a_plain_forward_pass_and_a_second_run_is_the_same(engines, base):
    groups, failed = drawn(engines[0])
    assert len(groups) == len(prompts()) and not failed
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    assert_logps_are_those_of(model, byte_tokenizer(), groups, SHARP)
    again, _ = drawn(engines[0])
    assert {k: [c.tokens for c in g] for k, g in again.items()} == {k: [c.tokens for c in g] for k, g in groups.items()}
    assert len({tuple(c.tokens) for g in groups.values() for c in g}) > 20  # the seeds differ


@needs_vllm
def test_adapters_are_swapped_over_one_base(engines, base, adapters):
    import peft

    assert engines[0].llm is engines[1].llm is engines[2].llm
    tokens = set()
    for engine, folder in zip(engines[1:], adapters, strict=True):
        groups, _ = drawn(engine)
        model = peft.PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32), folder)
        assert_logps_are_those_of(model, byte_tokenizer(), groups, SHARP)
        tokens.add(str([c.tokens for g in groups.values() for c in g]))
    assert len(tokens) == 2


@needs_vllm
def test_ends_are_those_of_the_local_engine(engines):
    sampling = Sampling(group_size=8, max_tokens=30, temperature=2.0, stop=("e", "AB", "never met in this test"))
    ends = set()
    for c in (c for g in drawn(engines[0], sampling)[0].values() for c in g):
        ends.add(c.finish)
        assert "e" not in c.text and "AB" not in c.text and 259 not in c.tokens[:-1]
        whole = byte_tokenizer().decode(c.tokens, skip_special_tokens=True)
        assert (c.finish == "stop") == (c.tokens[-1] == 259 or "e" in whole or "AB" in whole)
    assert ends == {"stop", "length"}


@needs_vllm
def test_bad_prompts_are_recorded(engines):
    groups, failed = drawn(engines[0], Sampling(group_size=1, max_tokens=4), prompts(["fine", " ", "a" * 600]))
    assert set(groups) == {"p0"} and {k: f.reason for k, f in failed.items()} == {"p1": "empty", "p2": "too_long"}


@needs_vllm
def test_greedy_is_the_local_engines_greedy(engines, base):
    greedy = Sampling(group_size=1, max_tokens=16, temperature=0)
    groups, _ = drawn(engines[0], greedy)
    local, _ = drawn(LocalEngine(*load_policy(str(base), recipe(base))), greedy)
    assert {k: g[0].tokens for k, g in groups.items()} == {k: g[0].tokens for k, g in local.items()}
    assert all(g[0].logp == 0 for g in groups.values())
