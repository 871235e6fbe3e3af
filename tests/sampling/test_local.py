"""The in-process engine against plain forward passes of the same model."""

from __future__ import annotations

import math
import warnings
from pathlib import Path

import pytest
import torch
from conftest import byte_tokenizer
from transformers import AutoModelForCausalLM, CohereConfig, LlamaConfig, MistralConfig

from bakeoff.errors import UserError
from bakeoff.models.chat import render
from bakeoff.models.cpu import kernels
from bakeoff.models.load import load_tokenizer
from bakeoff.records import Completion, Message, Prompt, content_id
from bakeoff.sampling import Sampling
from bakeoff.sampling.cpu_layers import FastAttention, _possible
from bakeoff.sampling.local import LocalEngine
from bakeoff.sampling.sampler import draw, kept

TEXTS = ["hi", "what is the capital of France?", "a" * 40, "count to three", "x y z", "another short one"]


@pytest.fixture(autouse=True)
def one_thread():
    """Tiny matrices: threads only wait for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def prompts(texts=TEXTS) -> list[Prompt]:
    return [Prompt(f"p{i}", [Message("user", t)], f"asks.jsonl:{i}", 1, "train") for i, t in enumerate(texts)]


def load(folder: Path):
    return AutoModelForCausalLM.from_pretrained(folder).eval(), load_tokenizer(str(folder))


def never_ending(engine: LocalEngine) -> LocalEngine:
    engine.ends = []
    return engine


def often_ending(engine: LocalEngine) -> LocalEngine:
    """Rows leave at different times."""
    engine.ends = list(range(0, 300, 15))
    return engine


def run(engine: LocalEngine, sampling: Sampling, asked=None) -> dict[str, list[Completion]]:
    groups = list(engine.complete(asked or prompts(), sampling))
    for group in groups:
        assert [c.index for c in group] == list(range(sampling.group_size))
        assert len({c.prompt_id for c in group}) == 1
    return {group[0].prompt_id: group for group in groups}


def plain_logps(model, ids: list[int], tokens: list[int], sampling: Sampling) -> float:
    """Sum of the tokens' log-probabilities by one plain forward pass over prompt and completion."""
    with torch.inference_mode():
        logits = model(torch.tensor([ids + tokens])).logits[0, len(ids) - 1 : -1]
    logps = kept(logits, sampling).double().log_softmax(-1)
    return float(logps[torch.arange(len(tokens)), torch.tensor(tokens)].sum())


def test_greedy_is_transformers_greedy_token_for_token(tiny: Path) -> None:
    model, tokenizer = load(tiny)
    groups = run(LocalEngine(model, tokenizer), Sampling(group_size=2, temperature=0, max_tokens=20))
    for prompt in prompts():
        ids = render(tokenizer, prompt.messages)
        expected = model.generate(torch.tensor([ids]), do_sample=False, max_new_tokens=20)[0, len(ids) :].tolist()
        assert [c.tokens for c in groups[prompt.id]] == [expected, expected]
        assert groups[prompt.id][0].logp == 0.0


@pytest.mark.parametrize(
    "sampling",
    [
        Sampling(group_size=3, max_tokens=24),
        Sampling(group_size=3, max_tokens=12, temperature=0.6, top_p=0.9),
    ],
)
def test_logps_are_those_of_a_plain_forward_pass(tiny: Path, sampling: Sampling) -> None:
    model, tokenizer = load(tiny)
    for prompt in prompts():
        for c in run(LocalEngine(model, tokenizer), sampling, [prompt])[prompt.id]:
            ids = render(tokenizer, prompt.messages)
            assert c.logp == pytest.approx(plain_logps(model, ids, c.tokens, sampling), abs=2e-3)


def test_neighbours_order_and_budget_change_nothing(tiny: Path) -> None:
    model, tokenizer = load(tiny)
    sampling = Sampling(group_size=5, max_tokens=16, temperature=1.5)
    together = run(often_ending(LocalEngine(model, tokenizer)), sampling)
    backwards = run(often_ending(LocalEngine(model, tokenizer)), sampling, prompts()[::-1])
    for budget in (1, 150, 400):
        squeezed = run(often_ending(LocalEngine(model, tokenizer, max_batch_tokens=budget)), sampling)
        for key, group in together.items():
            for other in (squeezed[key], backwards[key]):
                assert [c.tokens for c in group] == [c.tokens for c in other]
                assert [c.logp for c in group] == pytest.approx([c.logp for c in other], abs=1e-4)
    lengths = {len(c.tokens) for group in together.values() for c in group}
    assert len(lengths) > 1  # rows did leave at different times
    assert len({tuple(c.tokens) for group in together.values() for c in group}) > 20  # streams differ


def test_a_larger_group_begins_with_the_smaller_one(tiny_llama: Path) -> None:
    model, tokenizer = load(tiny_llama)
    engine = LocalEngine(model, tokenizer)
    one = run(engine, Sampling(group_size=1, max_tokens=8))
    four = run(engine, Sampling(group_size=4, max_tokens=8))
    assert all(one[k][0].tokens == four[k][0].tokens and one[k][0].id == four[k][0].id for k in one)
    other = run(engine, Sampling(group_size=1, max_tokens=8, seed=1))
    assert [g[0].tokens for g in one.values()] != [g[0].tokens for g in other.values()]


def test_more_completions_than_rows(tiny_llama: Path) -> None:
    model, tokenizer = load(tiny_llama)
    group = run(LocalEngine(model, tokenizer), Sampling(group_size=600, max_tokens=2), prompts(["hi"]))["p0"]
    assert len(group) == 600


def test_the_callers_model_is_left_alone(tiny_llama: Path) -> None:
    model, tokenizer = load(tiny_llama)
    before = model(torch.tensor([[1, 2, 3]])).logits
    engine = LocalEngine(model, tokenizer)
    run(engine, Sampling(group_size=2, max_tokens=4))
    assert model.config._attn_implementation == "sdpa"
    assert torch.equal(model(torch.tensor([[1, 2, 3]])).logits, before)
    assert engine.model.model.embed_tokens.weight is model.model.embed_tokens.weight


def test_sampled_frequencies_match_the_distribution() -> None:
    torch.manual_seed(0)
    logits = torch.randn(1, 300) * 2
    draws = 40_000
    for sampling in (Sampling(), Sampling(temperature=0.7), Sampling(top_p=0.8)):
        tokens, logps = draw(logits.expand(draws, -1), torch.rand(draws, dtype=torch.float64), sampling)
        p = kept(logits, sampling).double().softmax(-1)[0]
        torch.testing.assert_close(logps, p.log()[tokens], atol=1e-5, rtol=0)
        expected, seen = p * draws, tokens.bincount(minlength=300)
        assert (seen[p == 0] == 0).all()
        often = expected > 5
        chi2 = float(((seen - expected) ** 2 / expected)[often].sum())
        freedom = int(often.sum()) - 1
        assert abs(chi2 - freedom) < 5 * (2 * freedom) ** 0.5


def test_the_engines_frequencies_match_the_models_distribution(tiny_llama: Path) -> None:
    """Of first tokens, which the prefill gives, and of second ones, which the shared cache gives."""
    model, tokenizer = load(tiny_llama)
    sampling = Sampling(group_size=4000, max_tokens=2, temperature=0.25)
    group = run(never_ending(LocalEngine(model, tokenizer)), sampling, prompts(["hi"]))["p0"]
    ids = render(tokenizer, prompts(["hi"])[0].messages)
    first = torch.tensor([c.tokens[0] for c in group])
    common = int(first.mode().values)
    second = torch.tensor([c.tokens[1] for c in group if c.tokens[0] == common])
    assert len(second) > 100
    for before, drawn in ((ids, first), ([*ids, common], second)):
        with torch.inference_mode():
            p = kept(model(torch.tensor([before])).logits[0, -1:], sampling).double().softmax(-1)[0]
        expected, seen = p * len(drawn), drawn.bincount(minlength=300)
        often = expected > 5
        bins = torch.stack([expected, seen])[:, often]
        bins = torch.cat([bins, torch.stack([expected, seen])[:, ~often].sum(1, keepdim=True)], 1)  # the rest as one
        freedom = bins.shape[1] - 1
        chi2 = float(((bins[1] - bins[0]) ** 2 / bins[0]).sum())
        assert freedom >= 2 and abs(chi2 - freedom) < 5 * (2 * freedom) ** 0.5


def test_the_extremes_of_the_uniform_numbers_draw_possible_tokens() -> None:
    logits = torch.full((4, 1000), -torch.inf)
    logits[:, 130:140] = 0.0
    u = torch.tensor([0.0, 0.05, 0.999, 1 - 2**-53], dtype=torch.float64)
    tokens, logps = draw(logits, u, Sampling())
    assert tokens.tolist() == [130, 130, 139, 139]
    assert logps.tolist() == pytest.approx([-2.302585] * 4, abs=1e-6)


@pytest.mark.parametrize("spread", [0.2, 2.0, 8.0])
@pytest.mark.parametrize("top_p", [0.7, 0.95])
def test_the_nucleus_is_that_of_a_plain_reference(top_p: float, spread: float) -> None:
    torch.manual_seed(1)
    sampling = Sampling(temperature=0.8, top_p=top_p)
    for logits in torch.randn(6, 5000) * spread:
        x = logits / 0.8
        order = x.argsort(descending=True)
        mass = x.softmax(-1)[order].cumsum(-1)
        x[order[int((mass < top_p).sum()) + 1 :]] = -torch.inf
        torch.testing.assert_close(kept(logits[None], sampling)[0], x)


def test_stop_strings_end_a_completion(tiny_llama: Path) -> None:
    model, tokenizer = load(tiny_llama)
    engine = never_ending(LocalEngine(model, tokenizer))
    free = run(engine, Sampling(group_size=8, max_tokens=48))
    stopped = run(engine, Sampling(group_size=8, max_tokens=48, stop=("e", "AB", "never met in this test")))
    ends = [c.finish for g in stopped.values() for c in g]
    assert "stop" in ends and "length" in ends
    for key, group in stopped.items():
        for c, longer in zip(group, free[key], strict=True):
            assert c.tokens == longer.tokens[: len(c.tokens)]
            assert "e" not in c.text and "AB" not in c.text and longer.text.startswith(c.text.rstrip("\ufffd"))
            assert (c.finish == "stop") == ("e" in longer.text or "AB" in longer.text)


def test_max_tokens_and_end_of_turn(tiny_llama: Path) -> None:
    model, tokenizer = load(tiny_llama)
    sampling = Sampling(group_size=40, max_tokens=30, temperature=2.0)
    group = [c for g in run(LocalEngine(model, tokenizer), sampling).values() for c in g]
    assert {c.finish for c in group} == {"stop", "length"}
    for c in group:
        assert (c.finish == "stop") == (c.tokens[-1] == 259)
        assert 259 not in c.tokens[:-1] and len(c.tokens) <= 30
        assert c.finish == "stop" or len(c.tokens) == 30
        assert c.text == tokenizer.decode(c.tokens, skip_special_tokens=True)
        assert c.id == content_id("completion", c.prompt_id, c.index, c.tokens)


def test_a_completion_that_ends_at_once(tiny_llama: Path) -> None:
    model, tokenizer = load(tiny_llama)
    engine = LocalEngine(model, tokenizer)
    engine.ends = list(range(model.config.vocab_size))
    for group in run(engine, Sampling(group_size=2)).values():
        assert all(len(c.tokens) == 1 and c.finish == "stop" for c in group)


def test_a_prompt_that_does_not_fit_or_is_empty_is_an_error_unless_failures_are_taken(tiny_llama: Path) -> None:
    engine = LocalEngine(*load(tiny_llama))
    with pytest.raises(UserError, match=r"asks.jsonl:0: 603 prompt tokens and max_tokens = 256 .*window of 512"):
        engine.complete(prompts(["a" * 600]), Sampling())
    with pytest.raises(UserError, match=r"asks.jsonl:1: the prompt is empty"):
        engine.complete(prompts(["fine", "  "]), Sampling())
    assert list(engine.complete([], Sampling())) == []


def test_bad_prompts_are_recorded_and_the_others_completed(tiny_llama: Path) -> None:
    model, tokenizer = load(tiny_llama)
    tokenizer.chat_template = "{% if 'x' in messages[0]['content'] %}{{ raise_exception('no x here') }}{% endif %}" + (
        tokenizer.chat_template
    )
    asked, failed = prompts(["fine", "  ", "a" * 600, "x", "good"]), []
    groups = list(LocalEngine(model, tokenizer).complete(asked, Sampling(group_size=2, max_tokens=3), failed.append))
    assert sorted(g[0].prompt_id for g in groups) == ["p0", "p4"] and all(len(g) == 2 for g in groups)
    assert {f.prompt_id: f.reason for f in failed} == {"p1": "empty", "p2": "too_long", "p3": "template"}
    assert "asks.jsonl:3: the model's chat template refuses the conversation (no x here)" in failed[-2].detail + (
        failed[-1].detail
    )


def test_without_a_chat_template_turns_are_joined_as_text(tiny_llama: Path) -> None:
    model, tokenizer = load(tiny_llama)
    tokenizer.chat_template = None
    sampling = Sampling(group_size=2, max_tokens=6)
    for c in run(LocalEngine(model, tokenizer), sampling, prompts(["hello"]))["p0"]:
        ids = tokenizer("hello\n\n").input_ids
        assert c.logp == pytest.approx(plain_logps(model, ids, c.tokens, sampling), abs=2e-3)


def test_bfloat16_logps_are_close_to_a_plain_forward_pass(tiny: Path) -> None:
    model, tokenizer = load(tiny)
    model = model.bfloat16()
    sampling = Sampling(group_size=4, max_tokens=16)
    together = run(LocalEngine(model, tokenizer), sampling)
    for prompt in prompts():
        ids = render(tokenizer, prompt.messages)
        alone = run(LocalEngine(model, tokenizer), sampling, [prompt])[prompt.id]
        for c in [*alone, *together[prompt.id]]:
            assert c.logp == pytest.approx(plain_logps(model, ids, c.tokens, sampling), abs=0.05 * len(c.tokens))


def test_the_joined_attention_is_only_for_models_with_its_rotary_positions(tiny_llama: Path) -> None:
    if not _possible(load(tiny_llama)[0].bfloat16()) or kernels.library() is None:
        pytest.skip("this machine does not join")
    shape = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    ends = {"eos_token_id": 2, "bos_token_id": 1, "pad_token_id": 0}
    interleaved = CohereConfig(**shape, **ends, vocab_size=300, num_key_value_heads=2, initializer_range=0.2)
    torch.manual_seed(0)
    for model, joins in ((load(tiny_llama)[0], True), (AutoModelForCausalLM.from_config(interleaved).eval(), False)):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            engine = LocalEngine(model.bfloat16(), byte_tokenizer())
        assert any(isinstance(m, FastAttention) for m in engine.model.modules()) == joins
        assert engine.longest_shared == math.inf


def test_sliding_windows_fall_back_only_where_they_matter() -> None:
    torch.manual_seed(0)
    shape = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    config = MistralConfig(**shape, vocab_size=300, num_key_value_heads=2, sliding_window=24, initializer_range=0.2)
    model = AutoModelForCausalLM.from_config(config).eval()
    tokenizer = byte_tokenizer()
    sampling = Sampling(group_size=3, max_tokens=8)
    engine = LocalEngine(model, tokenizer)
    assert engine.longest_shared == 24
    groups = run(engine, sampling)
    for prompt in prompts():
        ids = render(tokenizer, prompt.messages)
        for c in groups[prompt.id]:
            assert c.logp == pytest.approx(plain_logps(model, ids, c.tokens, sampling), abs=2e-3)


def test_a_model_without_the_registered_attention_falls_back_and_says_so() -> None:
    from transformers import MambaConfig

    torch.manual_seed(0)
    config = MambaConfig(vocab_size=300, hidden_size=32, num_hidden_layers=2, state_size=4, initializer_range=0.2)
    model, tokenizer = AutoModelForCausalLM.from_config(config).eval(), byte_tokenizer()
    with pytest.warns(UserWarning, match="MambaForCausalLM cannot share prompts"):
        engine = LocalEngine(model, tokenizer)
    sampling = Sampling(group_size=3, max_tokens=8, stop=("e",))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        groups = run(engine, sampling)
    for prompt in prompts():
        ids = render(tokenizer, prompt.messages)
        for c in groups[prompt.id]:
            assert c.logp == pytest.approx(plain_logps(model, ids, c.tokens, sampling), abs=2e-3)


def test_both_paths_draw_the_same_completions(tiny_llama: Path) -> None:
    model, tokenizer = load(tiny_llama)
    engine = LocalEngine(model, tokenizer)
    sampling = Sampling(group_size=4, max_tokens=12, temperature=1.3, stop=("q",))
    shared = run(engine, sampling)
    engine.longest_shared = 0
    separate = run(engine, sampling)
    for key, group in shared.items():
        assert [c.tokens for c in group] == [c.tokens for c in separate[key]]
        assert [c.finish for c in group] == [c.finish for c in separate[key]]


def test_grouped_and_single_key_heads() -> None:
    torch.manual_seed(0)
    for kv_heads in (1, 4):
        config = LlamaConfig(
            vocab_size=300, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
            num_key_value_heads=kv_heads, initializer_range=0.2,
        )  # fmt: skip
        model, tokenizer = AutoModelForCausalLM.from_config(config).eval(), byte_tokenizer()
        sampling = Sampling(group_size=3, max_tokens=8)
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # the slower path would be right too
            groups = run(LocalEngine(model, tokenizer), sampling)
        for prompt in prompts():
            ids = render(tokenizer, prompt.messages)
            for c in groups[prompt.id]:
                assert c.logp == pytest.approx(plain_logps(model, ids, c.tokens, sampling), abs=2e-3)
