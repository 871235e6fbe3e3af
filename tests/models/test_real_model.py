"""The laws that the tiny models obey, on the model of the demo."""

from __future__ import annotations

import warnings

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

from bakeoff.models import packed_logps, packing
from bakeoff.models.chat import answer_tokens, render
from bakeoff.models.load import load_tokenizer, model_folder
from bakeoff.models.packing import SharedPrefix
from bakeoff.records import Message, Prompt
from bakeoff.sampling import Sampling
from bakeoff.sampling.local import LocalEngine

MODEL = "smollm2-135m"
ASKED = ("Name a river in Europe.", "What is 17 times 23? Show how you get there.")
TOLERANCE = 2e-4
"""Of hidden states' consequences in float32: log-probabilities in nats, rewards, and gradients beside their largest."""


@pytest.fixture(scope="module")
def policy():
    return AutoModelForCausalLM.from_pretrained(model_folder(MODEL), dtype=torch.float32).eval()


@pytest.fixture(scope="module")
def tokenizer():
    return load_tokenizer(MODEL)


@pytest.fixture(scope="module")
def prompts() -> list[Prompt]:
    return [Prompt(f"p{i}", [Message("user", text)], "asked", i, "train") for i, text in enumerate(ASKED)]


@pytest.fixture(scope="module")
def groups(tokenizer, prompts) -> list[SharedPrefix]:
    answers = (("The Rhine.", "I do not know", "The Danube, of course."), ("391", "17 * 23 = 391."))
    return [
        SharedPrefix(i, render(tokenizer, p.messages), [answer_tokens(tokenizer, a) for a in given])
        for i, (p, given) in enumerate(zip(prompts, answers, strict=True))
    ]


def alone(model, group: SharedPrefix, completion: list[int]) -> torch.Tensor:
    logps = model(torch.tensor([group.prompt + completion])).logits.log_softmax(-1)[0, len(group.prompt) - 1 : -1]
    return logps.gather(-1, torch.tensor(completion)[:, None])[:, 0]


def test_packed_logps_and_gradients_are_those_of_rows_alone(policy, groups) -> None:
    packed = packing.pack(groups, policy)
    logps, _ = packed_logps.token_logps(policy, packed)
    plain = torch.cat([alone(policy, group, group.completions[number]) for _, group, number, _ in packed.starts()])
    torch.testing.assert_close(logps, plain, atol=TOLERANCE, rtol=0)
    some = [policy.model.layers[i].self_attn.q_proj.weight for i in (0, 15, 29)]
    for mine, theirs in zip(*(torch.autograd.grad(x.sum(), some) for x in (logps, plain)), strict=True):
        assert (mine - theirs).abs().max() < TOLERANCE * theirs.abs().max()


def test_packed_rewards_are_those_of_rows_alone(groups) -> None:
    torch.manual_seed(0)
    folder = model_folder(MODEL)
    scorer = AutoModelForSequenceClassification.from_pretrained(folder, num_labels=1, dtype=torch.float32).eval()
    scorer.config.pad_token_id = 0
    packed = packing.pack(groups, scorer)
    with torch.inference_mode():
        rewards = packed_logps.rewards(scorer, packed)
        rows = [torch.tensor([group.prompt + group.completions[number]]) for _, group, number, _ in packed.starts()]
        plain = torch.stack([scorer(row).logits[0, 0] for row in rows])
    torch.testing.assert_close(rewards, plain, atol=TOLERANCE * float(plain.abs().max()), rtol=0)


def test_greedy_is_transformers_greedy_and_logps_are_a_plain_pass(policy, tokenizer, prompts) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        engine = LocalEngine(policy, tokenizer)
    greedy = {g[0].prompt_id: g[0].tokens for g in engine.complete(prompts, Sampling(1, temperature=0, max_tokens=12))}
    drawn = {g[0].prompt_id: g for g in engine.complete(prompts, Sampling(group_size=3, max_tokens=8))}
    for prompt in prompts:
        ids = render(tokenizer, prompt.messages)
        expected = policy.generate(torch.tensor([ids]), do_sample=False, max_new_tokens=12)[0, len(ids) :]
        assert greedy[prompt.id] == expected.tolist()
        for c in drawn[prompt.id]:
            with torch.inference_mode():
                assert c.logp == pytest.approx(float(alone(policy, SharedPrefix(0, ids, []), c.tokens).sum()), abs=2e-3)
