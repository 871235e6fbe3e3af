"""Where memory runs out, a training goes on with less, and learns the same."""

import numpy as np
import pytest
import torch
from conftest import SHAPE
from transformers import AutoModelForCausalLM, LlamaConfig

from bakeoff.errors import UserError
from bakeoff.models import memory
from bakeoff.settings import Bake, Recipe, Sample
from bakeoff.training.methods import Group
from bakeoff.training.trainer import Training

RECIPE = Recipe(sample=Sample(group_size=4), bake=Bake(method="grpo", batch_size=4, learning_rate=1e-3))


def training():
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(LlamaConfig(**SHAPE)).eval()
    groups, prompts = [], []
    for i in range(4):
        tokens = [[10 * i + j, 3, 5, 7 + j] for j in range(4)]
        groups.append(Group(f"p{i}", tokens, np.arange(4.0), np.ones(4, int), np.ones(4, bool)))
        prompts.append([1, 2, 3, 4 + i])
    return model, Training(model, groups, prompts, RECIPE)


def small_device(model, most, failures):
    """Let passes of more tokens than `most` fail as they do on a card, in the middle of the model."""

    def check(module, args, kwargs):
        if kwargs["hidden_states"].shape[1] > most if "hidden_states" in kwargs else args[0].shape[1] > most:
            failures.append(1)
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")

    model.model.layers[1].register_forward_pre_hook(check, with_kwargs=True)


def test_half_of_the_tokens_are_read_at_once_until_they_fit(monkeypatch):
    monkeypatch.setattr(memory, "MIN_TOKENS", 8)
    (plain, once), (model, again), failures = training(), training(), []
    for _ in once.steps():
        pass
    again.memory.tokens = 4096
    small_device(model, 64, failures)
    for _ in again.steps():
        pass
    assert failures and again.memory.tokens <= 64
    for one, other in zip(plain.parameters(), model.parameters(), strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-4)


def test_a_model_that_never_fits_is_an_error_that_says_what_to_do(monkeypatch):
    monkeypatch.setattr(memory, "MIN_TOKENS", 8)
    model, trained = training()
    small_device(model, 4, [])
    with pytest.raises(UserError, match="out of memory: CUDA out of memory.*lora"):
        next(trained.steps())


def test_a_cpu_reads_as_many_tokens_as_always():
    model, trained = training()
    assert memory.pass_tokens(model, 2048) == memory.pass_tokens(model, 2048, backward=True) == 2048
    assert trained.memory.tokens == 2048
    assert memory.token_bytes(model, backward=True) > memory.token_bytes(model, backward=False) > 0
