import pytest
import torch
from torch import nn

from bakeoff.models.optimizer import MasterAdamW, schedule


def test_schedule_warms_up_and_decays_to_a_tenth():
    values = [schedule(i, 100) for i in range(100)]
    assert values[0] == pytest.approx(0.1) and max(values) == 1.0 and values.index(1.0) == 9
    assert values[-1] == pytest.approx(0.1, abs=0.01) and values[10:] == sorted(values[10:], reverse=True)


def test_small_updates_survive_in_bfloat16():
    weight = nn.Parameter(torch.ones(4, dtype=torch.bfloat16))
    optimizer = MasterAdamW([weight], learning_rate=1e-3, steps=1000)
    for _ in range(100):
        (weight * 1.0).sum().backward()
        optimizer.step()
    moved = 1 - optimizer.masters[0]
    assert (moved > 0.05).all()  # each step is far below bfloat16's resolution at 1 (0.0078)
    torch.testing.assert_close(weight, optimizer.masters[0].bfloat16())


def test_micro_batches_add_up():
    gradients = []
    for parts in (1, 4):
        weight = nn.Parameter(torch.zeros(3))
        optimizer = MasterAdamW([weight], learning_rate=0.0, steps=1)
        for x in torch.arange(12.0).reshape(4, 3).chunk(parts):
            (weight * x).sum().backward()
        gradients.append(optimizer.masters[0].grad)
        assert weight.grad is None
    torch.testing.assert_close(*gradients)


def test_what_has_had_no_gradient_yet_is_saved_and_goes_on(tmp_path):
    used, idle = nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(3))
    first = MasterAdamW([used, idle], learning_rate=0.1, steps=4)
    (used * 2).sum().backward()
    first.step()
    first.save(tmp_path / "state.safetensors")
    first.close()
    again = MasterAdamW([used, idle], learning_rate=0.1, steps=4)
    again.load(tmp_path / "state.safetensors")
    (used.sum() + idle.sum()).backward()
    again.step()
    assert again.taken == 2 and (idle < 1).all() and (used < 0.9).all()
    again.load(tmp_path / "state.safetensors", anew=True)
    assert again.taken == 0 and (idle == 1).all() and (used < 1).all()  # the weights stay, the schedule begins anew
