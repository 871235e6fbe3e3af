"""Packed equals padded: hidden states, log-probabilities, rewards and gradients, whatever the batch."""

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, DynamicCache

from bakeoff.models import fused_layers, packed_forward, packed_logps, packing
from bakeoff.models.cpu import attention, kernels
from bakeoff.models.load import freeze_layers
from bakeoff.models.packing import SharedPrefix

GROUPS = [
    SharedPrefix(0, [1, 2, 3, 4, 5], [[10, 11, 12], [13], [14, 15, 16, 17, 259]]),
    SharedPrefix(1, [7, 8], [[20, 21], [22, 23, 24]]),
    SharedPrefix(2, [9] * 9, [[30, 31, 259]]),
]


def plain_logps(model, group, completion):
    ids = torch.tensor([group.prompt + completion])
    logps = model(ids).logits.float().log_softmax(-1)[0, len(group.prompt) - 1 : -1]
    return logps.gather(-1, torch.tensor(completion)[:, None])[:, 0]


@pytest.fixture
def model(tiny):
    return AutoModelForCausalLM.from_pretrained(tiny, dtype=torch.float32).eval()


def test_packed_logps_and_gradients_equal_a_row_of_their_own(model):
    packed = packing.pack(GROUPS, model)
    logps, completion = packed_logps.token_logps(model, packed)
    plain = [plain_logps(model, group, group.completions[number]) for _, group, number, _ in packed.starts()]
    torch.testing.assert_close(logps, torch.cat(plain), atol=1e-5, rtol=0)
    assert completion.tolist() == [i for i, p in enumerate(plain) for _ in p]

    weights = dict(model.named_parameters())
    packed_gradients = torch.autograd.grad(logps.sum(), list(weights.values()), allow_unused=True)
    plain_gradients = torch.autograd.grad(torch.cat(plain).sum(), list(weights.values()), allow_unused=True)
    for name, a, b in zip(weights, packed_gradients, plain_gradients, strict=True):
        assert (a is None) == (b is None), name
        if a is not None:
            torch.testing.assert_close(a, b, atol=2e-4, rtol=1e-3, msg=name)


def test_a_prompt_without_gradient_is_one_read_before_training(model):
    packed = packing.pack(GROUPS, model)
    logps, _ = packed_logps.token_logps(model, packed, through_prompt=False)
    full, _ = packed_logps.token_logps(model, packed)
    torch.testing.assert_close(logps, full, atol=1e-5, rtol=0)

    def alone(group, completion):
        cache = DynamicCache()
        with torch.no_grad():
            model(torch.tensor([group.prompt[:-1]]), past_key_values=cache)
        row = [group.prompt[-1], *completion]
        found = model(torch.tensor([row]), past_key_values=cache).logits.log_softmax(-1)[0, :-1]
        return found.gather(-1, torch.tensor(completion)[:, None])[:, 0]

    plain = torch.cat([alone(group, group.completions[number]) for _, group, number, _ in packed.starts()])
    torch.testing.assert_close(logps, plain, atol=1e-5, rtol=0)
    weights = dict(model.named_parameters())
    found, expected, through = (torch.autograd.grad(x.sum(), list(weights.values())) for x in (logps, plain, full))
    for name, a, b in zip(weights, found, expected, strict=True):
        torch.testing.assert_close(a, b, atol=2e-4, rtol=1e-3, msg=name)
    assert any(not torch.allclose(a, b, atol=1e-2) for a, b in zip(found, through, strict=True))


@pytest.mark.parametrize("compiled", [True, False])
def test_a_frozen_head_changes_no_other_gradient(model, monkeypatch, compiled):
    if not compiled:
        monkeypatch.setattr(kernels, "usable", lambda *_: False)
    packed = packing.pack(GROUPS, model)
    expected, _ = packed_logps.token_logps(model, packed, temperature=0.7)
    weights = [p for n, p in model.named_parameters() if "embed" not in n and "lm_head" not in n]
    advantage = torch.arange(len(expected)) - 7.0
    plain = torch.autograd.grad(expected @ advantage, weights)
    freeze_layers(model, 0.0)
    model.lm_head.requires_grad_(requires_grad=False)
    logps, _ = packed_logps.token_logps(model, packed, temperature=0.7)
    torch.testing.assert_close(logps, expected, atol=1e-5, rtol=0)
    for a, b in zip(torch.autograd.grad(logps @ advantage, weights), plain, strict=True):
        torch.testing.assert_close(a, b, atol=2e-3, rtol=1e-3)


def test_the_fast_ways_are_taken_where_they_are_right(model):
    llamas = model.config.model_type in ("llama", "qwen2")
    assert attention.blocks_possible(model) == llamas
    fast = [m for m in model.modules() if fused_layers.is_norm(m) or fused_layers.is_gated(m)]
    assert len(fast) == (7 if llamas and kernels.library() else 2 if llamas else 0)
    before, ids = model.config._attn_implementation, torch.arange(12)[None]
    plain = model(ids).logits
    with fused_layers.fast(model):
        assert all("forward" in vars(m) for m in fast)
        torch.testing.assert_close(model(ids).logits, plain, atol=1e-5, rtol=1e-5)
    packed_forward.hidden(model, packing.pack(GROUPS, model))
    assert model.config._attn_implementation == before and not any("forward" in vars(m) for m in model.modules())


def test_long_and_short_completions_of_one_prompt(model):
    group = SharedPrefix(0, [5, 6, 7], [[11] * 3, [12, 13] * 45, [14] * 20, [15, 16, 17]])
    packed = packing.pack([group, SharedPrefix(1, [8], [[9]])], model)
    logps, _ = packed_logps.token_logps(model, packed)
    plain = [plain_logps(model, t, t.completions[number]) for _, t, number, _ in packed.starts()]
    torch.testing.assert_close(logps, torch.cat(plain), atol=2e-5, rtol=0)


def test_freezing_leaves_the_upper_layers_to_train(model):
    freeze_layers(model, 0.5)
    trained = {name for name, p in model.named_parameters() if p.requires_grad}
    depth = model.config.num_hidden_layers
    assert {int(n.split(".")[2]) for n in trained if ".layers." in n} == set(range(round(0.5 * depth), depth))
    assert not any("embed" in n for n in trained)


def test_distributions_agree_with_logps(model):
    packed = packing.pack(GROUPS, model)
    logps, _ = packed_logps.token_logps(model, packed, temperature=0.7)
    _, targets, _ = packed_logps.completion_tokens(packed)
    chunks = list(packed_logps.next_token_logps(model, packed, temperature=0.7))
    full = torch.cat([logp for logp, _ in chunks])
    torch.testing.assert_close(full.exp().sum(-1), torch.ones(len(full)))
    torch.testing.assert_close(full.gather(-1, targets[:, None])[:, 0], logps)


def test_rewards_equal_the_classifier_on_each_row_alone(tiny):
    model = AutoModelForSequenceClassification.from_pretrained(tiny, num_labels=1, dtype=torch.float32).eval()
    model.config.pad_token_id = 0
    packed = packing.pack(GROUPS, model)
    rewards = packed_logps.rewards(model, packed)
    alone = [
        model(torch.tensor([group.prompt + group.completions[number]])).logits[0, 0]
        for _, group, number, _ in packed.starts()
    ]
    torch.testing.assert_close(rewards, torch.stack(alone), atol=1e-5, rtol=0)
    left = torch.tensor([[0, 0, *GROUPS[1].prompt, *GROUPS[1].completions[0]]])
    padded = model(left, attention_mask=(left != 0).long(), position_ids=torch.tensor([[0, 0, 0, 1, 2, 3]])).logits[
        0, 0
    ]
    torch.testing.assert_close(rewards[3], padded, atol=1e-5, rtol=0)


@pytest.mark.parametrize("budget", [4, 12, 30, 1000])
def test_batches_hold_every_completion_once_within_the_budget(budget):
    grouped = packing.batches(GROUPS, budget)
    found = sorted(
        (t.key, t.first + i, tuple(b)) for batch in grouped for t in batch for i, b in enumerate(t.completions)
    )
    assert found == sorted((t.key, i, tuple(b)) for t in GROUPS for i, b in enumerate(t.completions))
    for batch in grouped:
        alone = len(batch) == 1 and len(batch[0].completions) == 1
        assert alone or sum(map(len, batch)) <= budget
