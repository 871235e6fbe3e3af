"""A checkpoint is believed when it is whole, finite and not quantized; `bakeoff check` says what is wrong."""

import json
import shutil

import pytest
import torch
from conftest import CHAT, CONFIGS, byte_tokenizer, write_jsonl
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, BloomConfig, Lfm2Config

from bakeoff import cli
from bakeoff.errors import UserError
from bakeoff.models.load import load_policy, save_model
from bakeoff.preferences import reward_model
from bakeoff.settings import Recipe

PICKS = [{"prompt": f"Which letter, {i}?", "completions": ["x", "yy"], "pick": i % 2} for i in range(12)]


def changed(folder, to, change=None, **config):
    """A copy of a model's folder with other weights, where `change` alters their dict, or another config.json."""
    shutil.copytree(folder, to)
    if change:
        weights = load_file(to / "model.safetensors")
        change(weights)
        save_file(weights, to / "model.safetensors", {"format": "pt"})
    written = json.loads((to / "config.json").read_text())
    (to / "config.json").write_text(json.dumps(written | config))
    return to


def one_nan(weights):
    weights["model.layers.1.mlp.down_proj.weight"][3, 5] = torch.nan


def overflowing(weights):
    for name in ("up_proj", "down_proj"):
        weights[f"model.layers.1.mlp.{name}.weight"].mul_(1e20)


def renamed(weights):
    weights["score.modules_to_save.default.weight"] = weights.pop("score.weight")


def one_line(capsys, *words):
    error = capsys.readouterr().err
    lines = [line for line in error.splitlines() if line.startswith("bakeoff: ")]
    assert len(lines) == 1 and all(word in lines[0] for word in words) and "Traceback" not in error
    return True


@pytest.fixture
def judge(tiny_llama, tmp_path):
    scorer = reward_model.RewardModel.fresh(tiny_llama, Recipe(dtype="float32"))
    save_model(scorer.model, scorer.tokenizer, tmp_path / "judge")
    return tmp_path / "judge"


@pytest.fixture
def recipe(tmp_path):
    write_jsonl(tmp_path / "log.jsonl", [{"prompt": f"Which tea goes with cake {i}?"} for i in range(20)])
    path = tmp_path / "recipe.toml"
    path.write_text('dtype = "float32"\nprompts.sources = ["log.jsonl"]\nscore.scorer = "majority"\n')
    return path


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (one_nan, "values of model.layers.1.mlp.down_proj.weight are not finite"),
        (overflowing, "outputs are not finite in float32"),
        (lambda weights: weights.pop("model.layers.0.mlp.up_proj.weight"), "lacks model.layers.0.mlp.up_proj.weight"),
        (lambda weights: weights.pop("lm_head.weight"), "lacks lm_head.weight"),
    ],
)
def test_a_broken_policy_is_refused_before_any_sampling(change, words, tiny_llama, recipe, tmp_path, capsys):
    broken = changed(tiny_llama, tmp_path / "broken", change)
    assert cli.main(["run", str(recipe), "--out", str(tmp_path / "out"), f"model={broken}"]) == 2
    assert one_line(capsys, words) and not (tmp_path / "out" / "prompts.json").exists()
    assert cli.main(["check", str(broken), "dtype=float32"]) == 2
    assert words in capsys.readouterr().out


@pytest.mark.parametrize("change", [one_nan, overflowing])
def test_a_broken_base_trains_no_reward_model(change, tiny_llama, tmp_path, capsys):
    data, broken = write_jsonl(tmp_path / "picks.jsonl", PICKS), changed(tiny_llama, tmp_path / "broken", change)
    command = ["reward", "train", str(data), "--base", str(broken), "--out", str(tmp_path / "new"), "dtype=float32"]
    assert cli.main(command) == 2
    assert one_line(capsys, "not finite") and not (tmp_path / "new").exists()


@pytest.mark.parametrize("change", [renamed, lambda weights: weights.pop("score.weight")])
def test_a_reward_model_whose_head_is_lost_is_refused_before_any_work(
    change, judge, recipe, tiny_llama, tmp_path, capsys
):
    broken, data = changed(judge, tmp_path / "broken", change), write_jsonl(tmp_path / "picks.jsonl", PICKS)
    assert cli.main(["reward", "eval", str(broken), str(data), "--out", str(tmp_path / "eval")]) == 2
    assert one_line(capsys, "lacks score.weight")
    scorer = f"score.scorer=reward_model:{broken}"
    assert cli.main(["run", str(recipe), "--out", str(tmp_path / "out"), f"model={tiny_llama}", scorer]) == 2
    assert one_line(capsys, "lacks score.weight") and not (tmp_path / "out" / "prompts.json").exists()


@pytest.mark.parametrize(
    "config",
    [
        {"quant_method": "bitsandbytes", "load_in_4bit": True},
        {"quant_method": "gptq", "bits": 4},
        {"quant_method": "awq", "bits": 4},
        {"quant_method": "fp8", "activation_scheme": "dynamic"},
        {"quant_method": "compressed-tensors", "format": "int-quantized", "config_groups": {}},
    ],
)
def test_a_quantized_checkpoint_is_no_policy_and_no_base(config, tiny_llama, recipe, tmp_path, capsys):
    name, data = config["quant_method"], write_jsonl(tmp_path / "picks.jsonl", PICKS)
    packed = str(changed(tiny_llama, tmp_path / "packed", quantization_config=config))
    assert cli.main(["run", str(recipe), "--out", str(tmp_path / "out"), f"model={packed}"]) == 2
    assert one_line(capsys, f"quantized ({name})", "give the one that is not")
    assert cli.main(["reward", "train", str(data), "--base", packed, "--out", str(tmp_path / "new")]) == 2
    assert one_line(capsys, f"quantized ({name})")


def test_a_model_without_a_classifier_of_its_kind_is_no_base(recipe, tmp_path, capsys):
    kinds = {"layer_types": ["conv", "full_attention"], "num_hidden_layers": 2, "num_key_value_heads": 2}
    sizes = {"vocab_size": 300, "hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 4}
    config = Lfm2Config(**kinds, **sizes, eos_token_id=259, pad_token_id=259, bos_token_id=None)
    AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path / "hybrid")
    byte_tokenizer().save_pretrained(tmp_path / "hybrid")
    write_jsonl(tmp_path / "picks.jsonl", PICKS)
    out, words = tmp_path / "out", ("no sequence classifier of its kind (lfm2)", "reward.base")
    changes = ["score.scorer=reward_model", f"reward.picks=['{tmp_path}/picks.jsonl']", f"model={tmp_path}/hybrid"]
    assert cli.main(["run", str(recipe), *changes, "--anyway", "--out", str(out)]) == 2
    assert one_line(capsys, *words) and not (out / "completions.parquet").exists()
    train = [
        "reward",
        "train",
        str(tmp_path / "picks.jsonl"),
        "--base",
        str(tmp_path / "hybrid"),
        "--out",
        str(tmp_path / "judge"),
    ]
    assert cli.main(train) == 2 and one_line(capsys, *words)
    assert cli.main(["check", "--judge", str(tmp_path / "hybrid")]) == 2
    assert words[0] in capsys.readouterr().out


def test_a_head_of_two_outputs_is_neither_a_reward_model_nor_its_base(tiny_llama, tmp_path):
    model = AutoModelForSequenceClassification.from_pretrained(tiny_llama, num_labels=2)
    save_model(model, byte_tokenizer(), tmp_path / "two")
    with pytest.raises(UserError, match="with 2 outputs, where"):
        reward_model.RewardModel.load(tmp_path / "two")
    with pytest.raises(UserError, match="a classifier with 2 outputs; a reward model starts from"):
        reward_model.RewardModel.fresh(tmp_path / "two")


def test_tokens_and_padding_beyond_the_embeddings(tiny_llama, tmp_path):
    tokenizer = byte_tokenizer()
    tokenizer.add_tokens([f"<extra {i}>" for i in range(41)])
    tokenizer.save_pretrained(wide := changed(tiny_llama, tmp_path / "wide"))
    with pytest.raises(UserError, match="has 1 tokens, the first '<extra 40>', beyond the 300 of the embeddings"):
        load_policy(str(wide))
    policy, _ = load_policy(str(changed(tiny_llama, tmp_path / "pads", pad_token_id=300)))
    assert policy.config.pad_token_id is None


def test_a_training_that_is_no_longer_finite_ends_without_a_model(tiny_llama, tmp_path, capsys):
    data, out = write_jsonl(tmp_path / "picks.jsonl", PICKS), tmp_path / "new"
    command = ["reward", "train", str(data), "--base", str(tiny_llama), "--out", str(out), "dtype=float32"]
    assert cli.main([*command, "learning_rate=1e38", "epochs=3"]) == 2
    assert one_line(capsys, "not finite", "lower the learning rate") and not out.exists()
    model, _ = load_policy(str(tiny_llama))
    with torch.no_grad():
        model.lm_head.weight[0, 0] = torch.inf
    with pytest.raises(UserError, match="not saved: the training left weights that are not finite"):
        save_model(model, byte_tokenizer(), out)
    assert [p.name for p in tmp_path.iterdir() if "new" in p.name and "training" not in p.name] == []


def test_what_cannot_be_read_is_one_line(tiny_llama, tmp_path):
    cut = changed(tiny_llama, tmp_path / "cut")
    weights = (cut / "model.safetensors").read_bytes()
    (cut / "model.safetensors").write_bytes(weights[: len(weights) // 2])
    shape = changed(tiny_llama, tmp_path / "shape", intermediate_size=32)
    for broken in (cut, shape):
        with pytest.raises(UserError, match=r"^model '[^\n]*: cannot be loaded \([^\n]*\)$"):
            load_policy(str(broken))


def test_check_says_ok_of_a_sound_model_and_what_will_be_done_about_others(tiny, tmp_path, capsys):
    few = ("dtype=float32", "prompts.max_tokens=200", "sample.max_tokens=50")
    assert cli.main(["check", str(tiny), *few]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 13 and all(line.startswith("ok ") for line in lines), lines
    assert cli.main(["check", str(tiny), "--judge", *few]) == 0
    assert "(was <|end|>, where a text may end)" in capsys.readouterr().out
    folder = changed(tiny, tmp_path / "other")
    refuses = "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no') }}{% endif %}"
    (folder / "chat_template.jinja").write_text(refuses + CHAT.split("{% if add")[0])
    assert cli.main(["check", str(folder), "dtype=float32"]) == 0
    text = capsys.readouterr().out
    assert "warning  system turn: the template takes no system turn: it goes to the head of the first user turn" in text
    assert (
        "warning  answer: a prompt opens no turn of the assistant, so the policy writes '<|assistant|>' itself" in text
    )
    assert "warning  context window: 512 tokens; prompts.max_tokens and sample.max_tokens are together 1280" in text


def test_check_says_that_a_model_cannot_be_packed(tmp_path, capsys):
    config = BloomConfig(vocab_size=CONFIGS["llama"]().vocab_size, hidden_size=32, n_layer=2, n_head=4)
    AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path)
    byte_tokenizer().save_pretrained(tmp_path)
    assert cli.main(["check", str(tmp_path), "dtype=float32"]) == 0
    assert "warning  packing: " in (told := capsys.readouterr().out) and "row by row" in told


def test_a_folder_may_be_named_like_a_number_that_is_none(tiny_llama, tmp_path, monkeypatch, capsys):
    AutoModelForCausalLM.from_pretrained(tiny_llama).save_pretrained(tmp_path / "nan")
    byte_tokenizer().save_pretrained(tmp_path / "nan")
    (tmp_path / "recipe.toml").write_text('prompts.sources = ["none.jsonl"]\nscore.scorer = "majority"\n')
    monkeypatch.chdir(tmp_path)
    assert cli.main(["run", "recipe.toml", "model=nan"]) == 2
    assert one_line(capsys, "none.jsonl")
