import itertools
import math

import numpy as np
import pytest
import torch

from bakeoff.math import best_of_n, losses


def test_luce_at_equal_rewards_is_log_k():
    loss = losses.luce(torch.zeros(2, 8), torch.tensor([0, 7]))
    assert loss.tolist() == pytest.approx([math.log(8)] * 2)
    assert losses.luce(torch.zeros(8), 3, 0.1).item() == pytest.approx(math.log(8))


def test_luce_by_hand_with_a_tester_who_slips():
    reward = torch.tensor([[math.log(3.0), 0.0]])  # softmax 3/4, 1/4
    assert losses.luce(reward, torch.tensor([0])).item() == pytest.approx(-math.log(3 / 4))
    assert losses.luce(reward, torch.tensor([0]), 0.1).item() == pytest.approx(-math.log(0.9 * 3 / 4 + 0.05))
    assert losses.luce(reward, torch.tensor([1]), 1.0).item() == pytest.approx(math.log(2))
    # however sure the reward model is, one slip costs at most log(K / e)
    assert losses.luce(torch.tensor([[99.0, -99.0]]), torch.tensor([1]), 0.1).item() == pytest.approx(math.log(20))


def test_luce_does_not_see_padding_or_a_shift():
    reward = torch.tensor([[1.0, 2.0, 0.5]])
    padded = torch.cat([reward + 7, torch.full((1, 2), 1e9)], -1).requires_grad_()
    mask = torch.tensor([[True, True, True, False, False]])
    loss = losses.luce(padded, torch.tensor([1]), 0.1, mask)
    assert loss.item() == pytest.approx(losses.luce(reward, torch.tensor([1]), 0.1).item(), rel=1e-5)
    loss.sum().backward()
    assert padded.grad[0, 3:].tolist() == [0, 0]
    assert torch.isfinite(padded.grad).all() and padded.grad[0, 1] < 0 < padded.grad[0, 0]


def test_luce_between_two_is_bradley_terry():
    chosen, rejected = torch.tensor([0.3, -2.0]), torch.tensor([1.0, 0.5])
    pair = losses.luce(torch.stack([chosen, rejected], -1), torch.tensor([0, 0]))
    assert torch.allclose(pair, -torch.nn.functional.logsigmoid(chosen - rejected))
    even = losses.luce(torch.stack([chosen, chosen], -1), torch.tensor([0, 0]))
    assert even.tolist() == pytest.approx([math.log(2)] * 2)


def test_votes_are_a_soft_target():
    reward, share = torch.tensor([math.log(3.0), 0.0]), torch.tensor([3.0, 1.0])  # softmax 3/4, 1/4: the votes' shares
    entropy = -(0.75 * math.log(0.75) + 0.25 * math.log(0.25))
    assert losses.votes(reward, share).item() == pytest.approx(entropy)
    assert losses.votes(reward + 1, share).item() == pytest.approx(entropy)
    for other in (torch.tensor([2.0, 0.0]), torch.tensor([0.5, 0.0])):
        assert losses.votes(other, share) > entropy
    one = losses.votes(torch.tensor([0.2, -1.0, 3.0]), torch.tensor([0.0, 0.0, 7.0]), 0.1)
    assert one.item() == pytest.approx(losses.luce(torch.tensor([0.2, -1.0, 3.0]), 2, 0.1).item())


def test_none_is_a_choice_too_worth_a_reward_of_0():
    """With rewards log 2 and log 3, none, 1, is chosen in 1 of 1 + 2 + 3 cases."""
    reward = torch.tensor([math.log(2.0), math.log(3.0)], requires_grad=True)
    none = losses.votes(losses.outside(reward), torch.tensor([0.0, 0.0, 1.0]))
    none.backward()
    assert none.item() == pytest.approx(math.log(6)) and reward.grad.tolist() == pytest.approx([2 / 6, 3 / 6])
    assert losses.luce(losses.outside(reward), 1).item() == pytest.approx(-math.log(3 / 6))
    shares = losses.votes(losses.outside(reward), torch.tensor([2.0, 3.0, 1.0]))
    reward.grad = None
    shares.backward()  # least where the shares of the votes are those of Luce's choice, none included
    assert reward.grad.tolist() == pytest.approx([0, 0], abs=1e-6)


def test_a_ranking_is_picks_one_after_the_other():
    reward = torch.tensor([math.log(2.0), math.log(3.0), 0.0])
    ranking = losses.plackett_luce(reward, torch.tensor([1.0, 0.0, 2.0]))
    assert ranking.item() == pytest.approx(-math.log(3 / 6) - math.log(2 / 3))
    slips = losses.plackett_luce(reward, torch.tensor([1.0, 0.0, 2.0]), 0.1)
    assert slips.item() == pytest.approx(-math.log(0.9 * 3 / 6 + 0.1 / 3) - math.log(0.9 * 2 / 3 + 0.05))
    pick = losses.plackett_luce(reward, torch.tensor([1.0, 0.0, 1.0]), 0.1)
    assert pick.item() == pytest.approx(losses.luce(reward, 1, 0.1).item())


def test_the_likelihoods_of_all_rankings_sum_to_one():
    reward = torch.randn(4, generator=torch.Generator().manual_seed(0))
    for error_rate in (0.0, 0.2):
        chances = [
            math.exp(-losses.plackett_luce(reward, torch.tensor(p).float(), error_rate))
            for p in itertools.permutations(range(4))
        ]
        assert sum(chances) == pytest.approx(1, abs=1e-5)


def test_margins_ask_for_the_difference_of_the_ratings():
    rating = torch.tensor([1.0, 0.0])
    assert losses.margins(torch.tensor([1.0, 0.0]), rating).item() == pytest.approx(math.log(2))
    assert losses.margins(torch.tensor([0.0, 0.0]), rating).item() == pytest.approx(math.log(1 + math.e))
    pair = -torch.nn.functional.logsigmoid(torch.tensor(0.7 - -0.2 - 1.0))
    assert losses.margins(torch.tensor([0.7, -0.2]), rating).item() == pytest.approx(pair.item())
    three = losses.margins(torch.tensor([0.5, 0.5, 0.0]), torch.tensor([0.5, 0.5, 0.0]))
    assert three.item() == pytest.approx(math.log(2))  # two pairs; those rated alike are not compared


def test_off_centre_by_hand():
    assert losses.off_centre(torch.tensor([[1.0, 3.0], [-1.0, 1.0]])).tolist() == [4, 0]


def test_dpo_starts_at_log_2_and_falls_with_the_gap():
    ref = torch.tensor([[-3.0, -5.0]])
    assert losses.dpo(ref, ref, 0.1).tolist() == pytest.approx([math.log(2)])
    gap = losses.dpo(ref + torch.tensor([1.0, -2.0]), ref, 0.1)
    assert gap.tolist() == pytest.approx([math.log(1 + math.exp(-0.3))])


def test_dpo_raises_the_chosen_and_lowers_the_rejected():
    logp = torch.tensor([[-3.0, -5.0]], requires_grad=True)
    losses.dpo(logp, logp.detach(), 0.1).sum().backward()
    assert logp.grad[0, 0] < 0 < logp.grad[0, 1] == -logp.grad[0, 0]


def test_advantages_keep_their_law():
    utility = torch.tensor([[0.1, 0.9, 0.5, 0.5], [2.0, 2.0, 2.0, 2.0]], dtype=torch.float64)
    advantage = losses.group_advantage(utility, 0.11)
    assert torch.exp(advantage / 0.11).mean(-1).tolist() == pytest.approx([1, 1])
    assert advantage[1].tolist() == pytest.approx([0] * 4)
    assert torch.allclose(losses.group_advantage(utility + 5, 0.11), advantage)
    assert advantage.max() <= 0.11 * math.log(4)


def test_counting_duplicates_equals_repeating_them():
    repeated = losses.group_advantage(torch.tensor([[0.2, 0.2, 0.2, 0.8]]), 0.2)
    counted = losses.group_advantage(torch.tensor([[0.2, 0.8, 99.0]]), 0.2, torch.tensor([[3.0, 1.0, 0.0]]))
    assert torch.allclose(counted[0, :2], repeated[0, [0, 3]])


def test_qrpo_raises_what_is_better_than_the_group():
    logp = torch.tensor([[-4.0, -4.0, -4.0]], requires_grad=True)
    advantage = losses.group_advantage(torch.tensor([[1 / 6, 3 / 6, 5 / 6]]), 0.11)
    loss = losses.qrpo(logp, logp.detach(), advantage, 0.11)
    assert torch.allclose(loss, advantage**2)
    loss.sum().backward()
    assert logp.grad[0, 0] > 0 > logp.grad[0, 2]
    assert torch.allclose(logp.grad, -2 * 0.11 * advantage)


def test_rank_based_targets_do_not_see_a_monotone_change_of_the_reward():
    rewards = np.array([[0.3, -1.0, 2.0, 0.3]])
    plain, bent = (torch.tensor(best_of_n.quantiles(r)) for r in (rewards, np.exp(3 * rewards)))
    assert torch.equal(losses.group_advantage(plain, 0.1), losses.group_advantage(bent, 0.1))


def test_a_group_without_spread_has_no_standardised_rewards():
    flat = torch.tensor([[0.1] * 3, [0.7] * 3, [0.3] * 3], dtype=torch.float64)
    assert (flat - flat.mean(-1, keepdim=True)).any()  # the mean is rounded
    assert not losses.group_standardised(flat).any()
    assert losses.group_standardised(torch.tensor([[1.0, 0.0]])).tolist() == [[1.0, -1.0]]
