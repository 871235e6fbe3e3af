"""No float64 on a device that may have none (Apple's MPS): it stays on the CPU."""

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from bakeoff.preferences import reward_training
from bakeoff.records import Message, Pick
from bakeoff.sampling import Sampling
from bakeoff.sampling.sampler import draw
from bakeoff.training.methods import METHODS, Group

CPU = torch.device("cpu")
SAMPLINGS = [
    {"temperature": 0.0},
    {"temperature": 0.7},
    {"temperature": 1.0, "top_p": 0.9},
]


class NoFloat64(TorchDispatchMode):
    """The device `meta`, which computes shapes and types, as one that has no float64; what leaves it is zeros."""

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if function is torch.ops.aten._to_copy.default and args[0].is_meta and kwargs.get("device") == CPU:
            return torch.zeros(args[0].shape, dtype=kwargs.get("dtype") or args[0].dtype)
        out = function(*args, **kwargs)
        for tensor in tree_leaves(out):
            if isinstance(tensor, torch.Tensor) and tensor.dtype == torch.float64:
                assert tensor.device == CPU, f"{function} makes float64 on {tensor.device}"
        return out


@pytest.fixture
def device():
    with NoFloat64():
        yield torch.device("meta")


def test_the_check_sees_float64(device):
    with pytest.raises(AssertionError, match="makes float64 on meta"):
        torch.zeros(3, device=device).double()


@pytest.mark.parametrize("settings", SAMPLINGS)
def test_tokens_are_drawn_without_float64_on_the_device(device, settings):
    sampling = Sampling(group_size=1, max_tokens=4, seed=0, **settings)
    tokens, logps = draw(torch.randn(20, 300, device=device), torch.rand(20, dtype=torch.float64), sampling)
    assert tokens.device.type == logps.device.type == "cpu" and logps.dtype == torch.float64


@pytest.mark.parametrize("name", METHODS)
def test_methods_lose_without_float64_on_the_device(device, name):
    ok, method = np.array([True, True, True]), METHODS[name]
    group = Group("p", [[1], [2, 3], [4]], np.array([0.0, 1.0, 0.2]), np.array([3, 1, 2]), ok)
    selected = method.select(group, 4, 3)
    shape = (len(selected), 2) if method.by_token else (len(selected),)
    logp, ref = torch.randn(2, *shape, device=device)
    assert method.loss(logp, ref, group, selected, 4.0).device == device


@pytest.mark.parametrize("shape", ["pick", "votes"])  # the others look at values, which `meta` has none of
def test_reward_losses_are_without_float64_on_the_device(device, shape):
    pick = Pick([Message("user", "q")], ["a", "b", "c"], 0, "file", shape, [0.0, 1.0, 2.0])
    reward_training.pick_loss(torch.randn(3, device=device), pick)
