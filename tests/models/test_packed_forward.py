"""Every model reads packed groups as it reads plain rows, or is refused by name: windows, hybrids, other positions."""

import warnings

import numpy as np
import pytest
import torch
import transformers
from conftest import SHAPE, byte_tokenizer
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, DynamicCache

from bakeoff.errors import UserError
from bakeoff.models import packed_forward, packed_logps, packed_ways, packing
from bakeoff.models.load import freeze_layers
from bakeoff.models.packing import SharedPrefix
from bakeoff.sampling.local import LocalEngine
from bakeoff.settings import Bake, Recipe, Sample
from bakeoff.training.methods import Group
from bakeoff.training.trainer import PolicyTraining

WIDE = SHAPE | {"initializer_range": 0.15}
SLIDING = WIDE | {"sliding_window": 8}
MIXED = {"layer_types": ["sliding_attention", "full_attention"], "head_dim": 8}
GEMMA = SLIDING | {"head_dim": 8, "query_pre_attn_scalar": 8}
OLD = {"vocab_size": 300, "initializer_range": 0.15}
PACKED = {
    "llama": lambda: transformers.LlamaConfig(**WIDE),
    "gpt2": lambda: transformers.GPT2Config(**OLD, n_embd=32, n_layer=2, n_head=4),
    "opt": lambda: transformers.OPTConfig(
        vocab_size=300, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, ffn_dim=64, word_embed_proj_dim=32
    ),
    "mistral": lambda: transformers.MistralConfig(**SLIDING),
    "qwen2": lambda: transformers.Qwen2Config(**SLIDING, use_sliding_window=True, max_window_layers=0),
    "qwen3": lambda: transformers.Qwen3Config(**SLIDING, head_dim=8, use_sliding_window=True, max_window_layers=1),
    "gemma2": lambda: transformers.Gemma2Config(**GEMMA),
    "gemma3_text": lambda: transformers.Gemma3TextConfig(**GEMMA, layer_types=MIXED["layer_types"]),
    "llama4_text": lambda: transformers.Llama4TextConfig(
        **WIDE, head_dim=8, intermediate_size_mlp=64, attention_chunk_size=8, num_local_experts=2
    ),
}
ROWS = {
    "bloom": lambda: transformers.BloomConfig(**OLD, hidden_size=32, n_layer=2, n_head=4),
    "lfm2": lambda: transformers.Lfm2Config(
        **WIDE, block_auto_adjust_ff_dim=False, layer_types=["conv", "full_attention"]
    ),
    "mamba": lambda: transformers.MambaConfig(**OLD, hidden_size=32, num_hidden_layers=2, state_size=4),
    "gpt_neo": lambda: transformers.GPTNeoConfig(
        **OLD, hidden_size=32, num_layers=2, num_heads=4, attention_types=[[["global", "local"], 1]], window_size=40
    ),
}
DRAW = torch.Generator().manual_seed(0)
GROUPS = [
    SharedPrefix(key, torch.randint(0, 256, (prompt,), generator=DRAW).tolist(), completions)
    for key, prompt, completions in [
        (0, 30, [list(range(10, 22)), [5], list(range(40, 60))]),
        (1, 13, [list(range(80, 90)), list(range(90, 99))]),
    ]
]


def made(kind, auto=AutoModelForCausalLM):
    config = (PACKED | ROWS)[kind]()
    config.num_labels = 1
    torch.manual_seed(0)
    return auto.from_config(config).eval()


def plain_logps(model, group, completion):
    ids = torch.tensor([group.prompt + completion])
    logps = model(ids, use_cache=False).logits.log_softmax(-1)[0, len(group.prompt) - 1 : -1]
    return logps.gather(-1, torch.tensor(completion)[:, None])[:, 0]


def read_before(model, group, completion):
    """The same with a prompt that was read before, without gradient."""
    cache = DynamicCache()
    with torch.no_grad():
        model(torch.tensor([group.prompt[:-1]]), past_key_values=cache)
    row = torch.tensor([[group.prompt[-1], *completion]])
    return model(row, past_key_values=cache).logits.log_softmax(-1)[0, :-1].gather(-1, row[0, 1:, None])[:, 0]


def each(model, logps, packed):
    return torch.cat([logps(model, group, group.completions[number]) for _, group, number, _ in packed.starts()])


def assert_same_gradients(model, found, expected):
    weights = dict(model.named_parameters())
    for name, a, b in zip(
        weights,
        *(torch.autograd.grad(x.sum(), list(weights.values()), allow_unused=True) for x in (found, expected)),
        strict=True,
    ):
        assert (a is None) == (b is None), name
        if a is not None:
            torch.testing.assert_close(a, b, atol=1e-3, rtol=1e-3, msg=name)


@pytest.mark.filterwarnings("ignore:.*packing is off")
@pytest.mark.parametrize("kind", [*PACKED, *ROWS])
def test_logps_and_gradients_are_those_of_plain_rows(kind):
    model = made(kind)
    packed = packing.pack(GROUPS, model)
    expected = each(model, plain_logps, packed)
    found, _ = packed_logps.token_logps(model, packed)
    torch.testing.assert_close(found, expected, atol=5e-5, rtol=0)
    assert_same_gradients(model, found, expected)
    trained, _ = packed_logps.token_logps(model, packed, through_prompt=False)
    torch.testing.assert_close(trained, expected, atol=5e-5, rtol=0)
    before = read_before if kind in PACKED else plain_logps
    if kind != "llama4_text":  # a plain cache does not know its chunks
        assert_same_gradients(model, trained, each(model, before, packed))


@pytest.mark.parametrize("kind", PACKED)
def test_what_is_packed_says_nothing(kind):
    model = made(kind)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        packed_forward.hidden(model, packing.pack(GROUPS, model))
        assert packed_forward.verify(model) is None
    config = PACKED[kind]()
    assert getattr(model.config, "sliding_window", None) == getattr(config, "sliding_window", None)


@pytest.mark.parametrize("kind", ROWS)
def test_what_is_not_packed_says_so_once(kind):
    packed_forward._warn.cache_clear()
    with pytest.warns(UserWarning, match=f"^{kind}: packing is off .*N times the work") as said:
        for model in (made(kind), made(kind)):
            packed_forward.hidden(model, packing.pack(GROUPS, model))
    assert len(said) == 1 and packed_forward.verify(model) in str(said[0].message)


@pytest.mark.filterwarnings("ignore:.*packing is off")
@pytest.mark.parametrize("kind", ["llama", "mistral", "gemma2", "gemma3_text", "qwen3", "gpt2", "opt", "bloom"])
def test_rewards_are_those_of_plain_rows(kind):
    model = made(kind, AutoModelForSequenceClassification)
    model.config.pad_token_id = 0
    packed = packing.pack(GROUPS, model)
    alone = [model(torch.tensor([t.prompt + t.completions[n]])).logits[0, 0] for _, t, n, _ in packed.starts()]
    torch.testing.assert_close(packed_logps.rewards(model, packed), torch.stack(alone), atol=5e-5, rtol=0)


@pytest.mark.filterwarnings("ignore:.*packing is off")
@pytest.mark.parametrize("kind", ROWS)
def test_a_step_without_packing_is_that_of_the_plain_loss(kind, monkeypatch):
    monkeypatch.setattr(packed_ways, "ROW_TOKENS", 64)
    model, whole = made(kind), np.array([True, True])
    groups = [
        Group(str(i), t.completions[:2], np.array([0.0, 1.0]), np.array([2, 1]), whole) for i, t in enumerate(GROUPS)
    ]
    recipe = Recipe(bake=Bake(method="qrpo", batch_size=2), sample=Sample(group_size=3))
    freeze_layers(model, 0.0)
    work = PolicyTraining(model, groups, [t.prompt for t in GROUPS], recipe)
    logps = [torch.stack([plain_logps(model, t, b).sum() for b in t.completions]) for t in work.prefixes]
    loss = torch.stack([work._loss(t.key, x) for t, x in zip(work.prefixes, logps, strict=True)]).mean()
    expected = torch.autograd.grad(loss, work.optimizer.parameters)
    assert work._accumulate(work.prefixes) == pytest.approx(float(loss.detach()), rel=1e-4)
    for master, gradient in zip(work.optimizer.masters, expected, strict=True):
        torch.testing.assert_close(master.grad, gradient, atol=1e-4, rtol=1e-3)


def test_positions_that_depend_on_a_text_s_length_are_those_of_the_text_alone():
    scaling = {"type": "longrope", "short_factor": [1.0] * 4, "long_factor": [4.0] * 4}
    config = transformers.Phi3Config(**WIDE, rope_scaling=scaling, original_max_position_embeddings=36)
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config).eval()
    assert LocalEngine(model, byte_tokenizer()).longest_shared == 36
    packed = packing.pack(GROUPS, model)  # of 50, 42 and 31, and of 23 and 22 tokens
    logps, _ = packed_logps.token_logps(model, packed)
    alone = each(model, plain_logps, packed)
    kept = torch.tensor(
        [place != packed.before for place in packed_logps.completion_tokens(packed)[0]]
    )  # in each row another
    torch.testing.assert_close(logps[kept], alone[kept], atol=5e-5, rtol=0)


class Doubled(transformers.LlamaForCausalLM):
    """A head that no config tells of."""

    def forward(self, *args, **settings):
        out = super().forward(*args, **settings)
        out.logits = 2 * out.logits
        return out


def test_what_rows_are_not_right_for_either_is_refused_by_name():
    both = transformers.Gemma3TextConfig(**GEMMA, layer_types=MIXED["layer_types"], use_bidirectional_attention=True)
    broken = made("llama")
    with torch.no_grad():
        broken.model.norm.weight[0] = torch.nan
    for model, said in [
        (AutoModelForCausalLM.from_config(both).eval(), r"\(gemma3_text\): is not causal"),
        (Doubled(transformers.LlamaConfig(**WIDE)).eval(), r"\(llama\): it changes what its head gives"),
        (AutoModelForCausalLM.from_config(transformers.RwkvConfig(**OLD, hidden_size=32, num_hidden_layers=2)), "head"),
        (broken, "not finite"),
    ]:
        with pytest.raises(UserError, match=said):
            packed_forward.verify(model)
