"""Divergences along completions, against plain forward passes of each sequence alone."""

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

from bakeoff.models import kl, packing

DRAWN = [
    packing.SharedPrefix(0, [5, 6, 7], [[40, 41, 42], [50]]),
    packing.SharedPrefix(1, [8, 9], [[60, 61]]),
]


@pytest.fixture(scope="module")
def policies(tiny_llama):
    reference, policy = (AutoModelForCausalLM.from_pretrained(tiny_llama).eval() for _ in range(2))
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for p in policy.parameters():
            p.add_(torch.randn(p.shape, generator=generator) * 0.03)
    return policy, reference


def distributions(model, prompt, completion, temperature=1.0):
    """Log-probabilities [tokens of the completion, V] of what may come where each token came."""
    with torch.no_grad():
        logits = model(torch.tensor([prompt + completion])).logits[0, len(prompt) - 1 : -1]
    return (logits / temperature).log_softmax(-1)


@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_the_divergence_is_that_of_every_next_token_summed_over_the_sequence(policies, temperature):
    expected = []
    for group in DRAWN:
        sums = []
        for completion in group.completions:
            p, q = (distributions(model, group.prompt, completion, temperature) for model in policies)
            sums.append((p.exp() * (p - q)).sum().item())
        expected.append(np.mean(sums))
    assert kl.sequence_kl(*policies, DRAWN, temperature) == pytest.approx(expected, rel=1e-4)
    assert min(expected) > 0.01


def test_a_policy_does_not_diverge_from_itself_and_forgets_nothing(policies):
    policy, _ = policies
    assert kl.sequence_kl(policy, policy, DRAWN, 1.0) == pytest.approx([0, 0], abs=1e-6)
    assert kl.forgotten(policy, policy, DRAWN) == pytest.approx([0, 0], abs=1e-6)


def test_what_is_forgotten_is_the_fall_of_the_log_likelihood_per_token(policies):
    expected = []
    for group in DRAWN:
        falls = []
        for completion in group.completions:
            p, q = (distributions(model, group.prompt, completion) for model in policies)
            falls += [(q[i, token] - p[i, token]).item() for i, token in enumerate(completion)]
        expected.append(np.mean(falls))
    assert kl.forgotten(*policies, DRAWN) == pytest.approx(expected, rel=1e-3, abs=1e-5)


def test_the_expected_divergence_is_the_expected_log_ratio(policies):
    """Over all one-token completions, weighted by the policy: one value in closed form."""
    p, q = (distributions(model, [5, 6], [0])[0] for model in policies)
    every = [packing.SharedPrefix(token, [5, 6], [[token]]) for token in range(len(p))]
    exact = kl.sequence_kl(*policies, every, 1.0)
    assert exact == pytest.approx(np.full(len(p), (p.exp() * (p - q)).sum().item()), rel=1e-4)
