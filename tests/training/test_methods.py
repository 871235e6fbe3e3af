"""The ways to bake, on groups small enough to check by hand and policies small enough to know where they must end."""

import dataclasses

import numpy as np
import pytest
import torch

from bakeoff.math import best_of_n
from bakeoff.training.methods import LEAST_TARGET, METHODS, Group, best_weights

N = 4


def group(rewards, counts=None, finished=None):
    size = len(rewards)
    return Group(
        "p",
        [[i] for i in range(size)],
        np.array(rewards, float),
        np.array(counts or [1] * size),
        np.array(finished or [True] * size),
    )


def trained(method, groups, reference, n=N, steps=1500, rate=0.05):
    """A tabular policy after gradient descent on a method's loss over groups of answers 0, 1, 2..."""
    logits = reference.clone().requires_grad_()
    adam = torch.optim.Adam([logits], lr=rate)
    for _ in range(steps):
        logp, loss = logits.log_softmax(-1), 0.0
        for g in groups:
            selected = method.select(g, n, 99)
            answers = torch.tensor([g.tokens[i][0] for i in selected])
            ref = reference.log_softmax(-1)[answers]
            shape = (-1, 1) if method.ratios == "tokens" else (-1,)  # an answer is one token
            logps = logp[answers].reshape(shape), ref.reshape(shape)
            loss = loss + method.loss(*logps, g, selected, n) / len(groups)
        adam.zero_grad()
        loss.backward()
        adam.step()
    return logits.detach().softmax(-1)


def test_the_weights_of_best_of_all_are_the_best_alone_and_ties_share():
    assert best_weights(group([1, 3, 2]), 3).tolist() == [0, 1, 0]
    assert best_weights(group([1, 3, 3]), 3).tolist() == [0, 0.5, 0.5]
    assert best_weights(group([1, 3, 2], finished=[True, False, True]), 3).tolist() == [0, 0, 1]


def test_the_weights_of_best_of_two_among_three_by_hand():
    assert best_weights(group([1, 3, 2]), 2) == pytest.approx([0, 2 / 3, 1 / 3])
    assert best_weights(group([1, 3], counts=[2, 1]), 2) == pytest.approx([1 / 3, 2 / 3])


def test_best_of_n_sft_learns_best_of_n_of_the_draws():
    g = group([0.0, 1.0, 2.0, 3.0], counts=[4, 3, 2, 1])
    policy = trained(METHODS["best_of_n_sft"], [g], torch.zeros(4))
    expected = best_weights(g, N)
    expected[expected < 0.02] = 0
    assert policy.numpy() == pytest.approx(expected / expected.sum(), abs=0.01)


def test_qrpo_ends_at_the_tilt_by_quantiles():
    counts = [4, 3, 2, 1]
    reference = torch.tensor(counts, dtype=torch.float64).log()
    g = group([0.0, 1.0, 2.0, 3.0], counts)
    policy = trained(METHODS["qrpo"], [g], reference)
    quantile = best_of_n.quantiles(np.repeat(g.reward_M, counts))[[0, 4, 7, 9]]
    expected = np.array(counts) * np.exp(quantile / best_of_n.beta_for(N))
    assert policy.numpy() == pytest.approx(expected / expected.sum(), abs=0.01)


@pytest.mark.parametrize("name", list(METHODS))
def test_every_method_raises_what_the_reward_prefers(name):
    reference = torch.tensor([0.3, -0.2, 0.1, 0.4])
    policy = trained(METHODS[name], [group([0.0, 1.0, 2.0, 3.0])], reference, steps=60)
    assert policy[3] > reference.softmax(-1)[3]
    assert (policy * torch.arange(4)).sum() > (reference.softmax(-1) * torch.arange(4)).sum()


def test_grpo_starts_at_its_advantages_and_stops_at_the_clip():
    method, g = METHODS["grpo"], group([0.0, 0.0, 1.0], counts=[1, 1, 2])
    selected = [0, 1, 2]
    logp = torch.zeros((3, 1), dtype=torch.float64, requires_grad=True)
    loss = method.loss(logp, logp.detach(), g, selected, N)
    loss.backward()
    assert loss.item() == pytest.approx(0)  # advantages of the four draws sum to zero
    draws = np.array([1, 1, 2]) / 4 * 3
    assert logp.grad.flatten().numpy() == pytest.approx(draws * [1, 1, -1])

    far = torch.tensor([[-0.5], [0.0], [0.5]], dtype=torch.float64).requires_grad_()
    method.loss(far, torch.zeros_like(far), g, selected, N).backward()
    assert far.grad.flatten()[[0, 2]].tolist() == [0, 0] and far.grad.flatten()[1] > 0


def test_every_token_of_a_grpo_batch_weighs_the_same_and_padding_nothing():
    g = dataclasses.replace(group([1.0, 0.0]), tokens=[[7], [7, 7, 7]])
    logp = torch.zeros(2, 3, requires_grad=True)
    METHODS["grpo"].loss(logp, logp.detach(), g, [0, 1], N).backward()
    assert logp.grad.tolist() == [[-1, 0, 0], [1, 1, 1]]


@pytest.mark.parametrize("name", ["best_of_n_sft", "dpo", "qrpo"])
def test_only_the_order_of_rewards_matters_but_for_where_the_mean_lies(name):
    method = METHODS[name]
    rewards = [0.1, 0.2, 0.4, 0.5, 0.7, 0.8]  # more than N, so that all but the worst have a part in best-of-N
    g, changed = group(rewards), group(np.exp(rewards).tolist())
    selected = method.select(g, N, 99)
    assert selected == method.select(changed, N, 99)
    logp, ref = -torch.rand(len(selected)), -torch.rand(len(selected))
    assert method.loss(logp, ref, g, selected, N) == method.loss(logp, ref, changed, selected, N)


def test_what_was_cut_short_is_not_made_likelier():
    g = group([-1.0, 1.0, 2.0, 3.0], finished=[False, True, True, True])
    assert 0 not in METHODS["best_of_n_sft"].select(g, N, 99)
    logp = torch.zeros(4, dtype=torch.float64, requires_grad=True)
    METHODS["qrpo"].loss(logp, logp.detach(), g, [0, 1, 2, 3], N).backward()
    assert logp.grad[0] > 0 > logp.grad[3]


def test_whole_answers_are_compared_before_what_was_cut_short():
    g = group([-1.0, -1.0, *range(14)], finished=[False] * 2 + [True] * 14)
    assert METHODS["qrpo"].select(g, N, 2) == [15, 2] == METHODS["dpo"].select(g, N, 2)
    assert METHODS["qrpo"].select(g, N, 4)[-1] == 0 and len(METHODS["qrpo"].select(g, N, 99)) == 16
    one = group([-1.0, 1.0], finished=[False, True])
    assert METHODS["qrpo"].select(one, N, 2) == [1, 0] == METHODS["dpo"].select(one, N, 2)


def test_at_most_so_many_completions_are_trained_on_from_best_to_worst():
    g = group(list(range(16)))
    chosen = METHODS["qrpo"].select(g, N, 8)
    assert len(chosen) == 8 and chosen[0] == 15 and chosen[-1] == 0
    few, many = (METHODS["best_of_n_sft"].select(g, n, 3) for n in (16, 2))
    assert few == [15] and best_weights(g, 2)[many].sum() > 0.95


def test_a_pair_needs_two_rewards():
    assert METHODS["dpo"].select(group([1.0, 1.0]), N, 99) == []


def test_neither_zero_nor_unit_of_the_rewards_matters_to_grpo():
    method, rewards = METHODS["grpo"], np.array([0.1, 0.2, 0.4, 0.8])
    g, changed = (group((start + unit * rewards).tolist()) for start, unit in ((0.0, 1.0), (-5.0, 8.0)))
    selected = method.select(g, N, 99)
    logp, old = -torch.rand((4, 1), dtype=torch.float64), -torch.rand((4, 1), dtype=torch.float64)
    losses = [method.loss(logp, old, one, selected, N).item() for one in (g, changed)]
    assert selected == method.select(changed, N, 99) and losses[0] == pytest.approx(losses[1]) != 0


@pytest.mark.parametrize("name", ["grpo", "qrpo"])
def test_rounds_on_the_policy_s_own_answers_find_the_best_answer(name):
    """A bandit of six arms: each round draws groups from the current policy, and takes it as its reference."""
    method, arms = METHODS[name], np.array([0.0, 0.2, 0.4, 0.6, 0.8, 1.0])
    logits, rng = torch.zeros(6, dtype=torch.float64, requires_grad=True), np.random.default_rng(0)
    for _ in range(12):
        old = logits.detach().log_softmax(-1)
        groups = []
        for _ in range(8):
            drawn, counts = np.unique(rng.choice(6, size=8, p=old.exp().numpy()), return_counts=True)
            groups.append(dataclasses.replace(group(arms[drawn], counts.tolist()), tokens=[[int(a)] for a in drawn]))
        adam = torch.optim.Adam([logits], lr=0.1)
        for g in (g for g in groups if len(g.tokens) > 1):
            selected = method.select(g, N, 99)
            answers = torch.tensor([g.tokens[i][0] for i in selected])
            shape = (-1, 1) if method.ratios == "tokens" else (-1,)
            adam.zero_grad()
            logp = logits.log_softmax(-1)[answers].reshape(shape)
            method.loss(logp, old[answers].reshape(shape), g, selected, N).backward()
            adam.step()
    assert (logits.softmax(-1).detach().numpy() * arms).sum() > 0.85  # from 0.5


@pytest.mark.parametrize("name", list(METHODS))
def test_a_completion_that_was_drawn_several_times_counts_as_often_and_is_computed_once(name):
    method, counts, rewards = METHODS[name], [3, 1, 2], [1.0, 0.0, 2.0]
    once, repeated = group(rewards, counts), group(np.repeat(rewards, counts))
    places = np.repeat(np.arange(3), counts)
    gradients = []
    for g, kinds in ((once, np.arange(3)), (repeated, places)):
        logits = torch.tensor([0.3, -0.2, 0.1], dtype=torch.float64, requires_grad=True)
        logp, reference = logits.log_softmax(-1), torch.tensor([0.1, 0.2, -0.4], dtype=torch.float64).log_softmax(-1)
        selected = method.select(g, N, 99)
        answers = torch.tensor(kinds[selected])
        shape = (-1, 1) if method.ratios == "tokens" else (-1,)
        loss = method.loss(logp[answers].reshape(shape), reference[answers].reshape(shape), g, selected, N)
        loss = loss / (
            len(selected) if method.ratios == "tokens" else 1
        )  # those of tokens are divided by the batch's tokens
        gradients.append(torch.autograd.grad(loss, logits)[0])
    assert torch.allclose(*gradients)


def test_a_pair_is_the_best_against_two_deviations_below_the_mean_and_not_the_worst():
    g = group([0.0, *np.linspace(0.5, 1.0, 31)])
    best, bad = METHODS["dpo"].select(g, N, 2)
    aim = g.reward_M.mean() - 2 * g.reward_M.std()
    assert g.reward_M[best] == 1.0 and g.reward_M[bad] == 0.5 and 0.25 < aim < 0.5
    heavy = group([0.0, 0.4, 0.6, 1.0], counts=[12, 2, 1, 1])  # twelve draws of the worst are no outlier
    assert METHODS["dpo"].select(heavy, N, 2) == [3, 0]


def test_targets_are_cut_at_seven_nats_below_the_reference():
    g, quantile = group(np.arange(16.0)), (np.arange(16) + 0.5) / 16
    exact = np.exp(quantile / best_of_n.beta_for(16))
    assert np.log(exact / exact.mean())[0] < 1.5 * LEAST_TARGET
    policy = trained(METHODS["qrpo"], [g], torch.zeros(16, dtype=torch.float64), n=16, steps=4000)
    assert np.log(policy.numpy()[:4] * 16) == pytest.approx(LEAST_TARGET, abs=0.1)
