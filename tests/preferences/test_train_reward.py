"""`bakeoff reward train`: any shape in, a plain transformers folder out, killed and resumed, read alike by others."""

import json
import random

import pytest
import torch
from conftest import CHAT, byte_tokenizer, write_jsonl
from safetensors.torch import load_file
from transformers import AutoModelForSequenceClassification, AutoTokenizer, BertConfig

from bakeoff import cli
from bakeoff.errors import UserError
from bakeoff.models.chat import answer_tokens
from bakeoff.models.load import merge_lora, save_model
from bakeoff.models.optimizer import MasterAdamW
from bakeoff.preferences import reward_model, reward_training
from bakeoff.preferences.reward_training import RewardTraining, training_items
from bakeoff.records import Message, Pick
from bakeoff.settings import Recipe, Reward

USER = [Message("user", "Which letter?")]


def rows(count):
    """Simulated people who like an answer of more "x", in every shape."""
    rng = random.Random(0)
    found = []
    for i in range(count):
        prompt, texts = f"Which letter, {i}?", ["xx" + "y" * rng.randint(0, 2), "y" * rng.randint(1, 5), "xz"]
        ratings = [float(t.count("x")) for t in texts]
        both = {"prompt": prompt, "completions": texts}
        shapes = [
            {**both, "pick": 0},
            {"prompt": prompt, "chosen": texts[0], "rejected": texts[1]},
            {**both, "ratings": ratings},
            {**both, "ranking": [0, 2, 1]},
            {**both, "votes": [4, 0, 1]},
            {**both, "pick": None},  # says nothing
        ]
        found.append(shapes[i % len(shapes)])
    return found


def train(*arguments):
    return cli.main(["reward", "train", *map(str, arguments)])


QUICK = ("dtype=float32", "epochs=2", "learning_rate=3e-3")


def test_the_command_learns_from_every_shape_and_is_read_by_transformers(tiny, tmp_path, capsys):
    data, out = write_jsonl(tmp_path / "mixed.jsonl", rows(120)), tmp_path / "scorer"
    assert train(data, *QUICK, "--base", tiny, "--out", out) == 0
    assert "picks: 79 trained on, 21 held out; 20 rows that say nothing passed over" in capsys.readouterr().out
    told = json.loads((out / "training.json").read_text())
    assert told["figures"]["pair_accuracy"]["value"] > 0.9 and told["settings"]["reward"]["epochs"] == 2
    assert sorted(p.name for p in tmp_path.iterdir()) == ["mixed.jsonl", "scorer"]

    texts = ["xx", "y", "xxyyyyyyyyyy", "z z"]
    ours = reward_model.RewardModel.load(out, Recipe(dtype="float32"))
    found = ours.rewards([(USER, texts)])[0]
    plain = AutoModelForSequenceClassification.from_pretrained(out, dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(out)
    assert plain.config.num_labels == 1 and tokenizer.pad_token_id == plain.config.pad_token_id
    turns = [[{"role": "user", "content": "Which letter?"}, {"role": "assistant", "content": t}] for t in texts]
    for side in ("left", "right"):
        tokenizer.padding_side = side
        whole = tokenizer(
            [tokenizer.apply_chat_template(t, tokenize=False) for t in turns],
            add_special_tokens=False,
            padding=True,
            return_tensors="pt",
        )
        with torch.inference_mode():
            assert plain(**whole).logits[:, 0].tolist() == pytest.approx(found, abs=1e-4), side
    alone = [ours.rewards([(USER, [t])])[0][0] for t in texts]
    crowd = ours.rewards([([Message("user", "Another " * 20)], ["w" * 50]), (USER, texts[::-1]), (USER, texts)])
    assert alone == pytest.approx(found, abs=1e-4)
    assert crowd[2] == pytest.approx(found, abs=1e-4) and crowd[1][::-1] == pytest.approx(found, abs=1e-4)


def test_an_encoder_from_elsewhere_is_a_scorer_too(tmp_path):
    torch.manual_seed(0)
    shape = {"vocab_size": 300, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2}
    config = BertConfig(**shape, num_attention_heads=4, num_labels=1, initializer_range=0.5)
    AutoModelForSequenceClassification.from_config(config).save_pretrained(tmp_path)
    byte_tokenizer().save_pretrained(tmp_path)
    scorer, texts = reward_model.RewardModel.load(tmp_path, Recipe(dtype="float32")), ["good", "bad " * 9, "x"]
    alone = [scorer.rewards([(USER, [text])])[0][0] for text in texts]
    assert scorer.rewards([([Message("user", "p")], ["other"]), (USER, texts)])[1] == pytest.approx(alone, abs=1e-4)
    ids = torch.tensor([scorer.tokenizer("Which letter?", "good").input_ids])
    assert scorer.model(ids).logits[0, 0].item() == pytest.approx(alone[0], abs=1e-4)
    assert len({round(a, 3) for a in alone}) == 3
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"bakeoff_length_slope": 0.1}))
    with pytest.raises(UserError, match="was trained with length_control, which this version no longer has"):
        reward_model.RewardModel.load(tmp_path)
    with pytest.raises(UserError, match="an encoder is no base"):
        RewardTraining(scorer, [Pick(USER, ["a", "b"], 0, "f")], Reward(), seed=0)


@pytest.mark.parametrize(
    ("template", "end"),
    [
        (CHAT, [259]),
        (CHAT.replace("<|end|>", "<|end|>\n"), [259, 10]),
        (CHAT.replace("{{ m['content'] }}", "{{ m['content'] | upper }}!"), [33, 259]),
        ("{% for m in messages %}{{ m['content'] }}{% endfor %}", [259]),  # no end of turn: the tokenizer's own
        (None, [259]),
    ],
)
def test_an_answer_ends_where_the_chat_template_ends_it(template, end):
    tokenizer = byte_tokenizer()
    tokenizer.chat_template = template
    newline = tokenizer("\n!").input_ids
    plain = tokenizer("AB").input_ids
    expected = [{10: newline[0], 33: newline[1]}.get(token, token) for token in end]
    assert answer_tokens(tokenizer, "AB") == [*plain, *expected]


def test_a_killed_training_goes_on_to_the_same_weights(tiny_llama, tmp_path, monkeypatch, capsys):
    data = write_jsonl(tmp_path / "mixed.jsonl", rows(60))
    settings = (data, *QUICK, "--base", tiny_llama, "--out")
    assert train(*settings, tmp_path / "whole") == 0
    monkeypatch.setattr("bakeoff.models.optimizer.CHECKPOINT_SECONDS", 0.0)
    step, left = MasterAdamW.step, [5]

    def killed(self):
        if not left[0]:
            raise KeyboardInterrupt
        left[0] -= 1
        return step(self)

    monkeypatch.setattr(MasterAdamW, "step", killed)
    assert train(*settings, tmp_path / "again") == 130
    assert not (tmp_path / "again").exists()
    monkeypatch.setattr(MasterAdamW, "step", step)
    assert train(*settings, tmp_path / "again") == 0
    whole, again = (load_file(tmp_path / name / "model.safetensors") for name in ("whole", "again"))
    assert all(torch.equal(whole[name], again[name]) for name in whole)
    assert train(*settings, tmp_path / "again") == 0  # done already
    assert train(*settings, tmp_path / "again", "seed=1") == 2
    assert "exists and was made otherwise" in capsys.readouterr().err


def test_adapters_leave_a_plain_model_with_other_weights_in_the_trained_layers_alone(tiny, tmp_path):
    scorer = reward_model.RewardModel.fresh(tiny)
    before = {name: p.clone() for name, p in scorer.model.state_dict().items()}
    picks = [Pick(USER, ["xx", "y"], 0, "f:1")] * 16
    training = RewardTraining(scorer, picks, Reward(learning_rate=1e-2), seed=0, lora=4)
    assert sum(m.numel() for m in training.optimizer.masters) < 0.3 * sum(p.numel() for p in before.values())
    list(training.steps())
    within = scorer.rewards([(USER, ["xx", "y"])])[0]
    merge_lora(scorer.model)
    save_model(scorer.model, scorer.tokenizer, tmp_path / "merged")
    again = reward_model.RewardModel.load(tmp_path / "merged")
    assert again.rewards([(USER, ["xx", "y"])])[0] == pytest.approx(within, abs=3e-2)
    after = load_file(tmp_path / "merged" / "model.safetensors")
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert set(after) == set(before) and any("layers.1" in n for n in changed)
    assert not any("layers.0" in n or "embed" in n or "norm" in n for n in changed)


def test_rewards_are_pulled_to_the_centre(tiny_llama, monkeypatch):
    def mean(centre):
        monkeypatch.setattr(reward_training, "CENTRE_PENALTY", centre)
        scorer = reward_model.RewardModel.fresh(tiny_llama)
        with torch.no_grad():
            scorer.model.model.norm.weight.mul_(3)
        picks = [Pick([Message("user", str(i))], ["xx", "y"], i % 2, "f") for i in range(32)]
        list(RewardTraining(scorer, picks, Reward(learning_rate=3e-3), seed=0).steps())
        return abs(sum(scorer.rewards([(p.messages, p.completions) for p in picks])[0]))

    assert mean(1.0) < 0.5 * mean(0.0)


def test_what_nobody_found_good_is_rewarded_below_0_and_what_was_chosen_above(tiny_llama, tmp_path, monkeypatch):
    """Groups of "b" with a "c" are good, groups of "y" with a "z" never: a choice within groups could not tell."""
    monkeypatch.setattr(reward_training, "ERROR_RATE", 0.0)
    kinds = [(["bbb", "c"], 0), (["yyy", "z"], "none is good")]
    rows = [{"prompt": f"Which, {i}?", "completions": kinds[i % 2][0], "pick": kinds[i % 2][1]} for i in range(96)]
    data, out = write_jsonl(tmp_path / "picks.jsonl", rows), tmp_path / "scorer"
    assert train(data, *QUICK, "--base", tiny_llama, "--out", out) == 0
    found = reward_model.RewardModel.load(out).rewards([([Message("user", "Which, 7?")], ["bbb", "c", "yyy", "z"])])[0]
    assert found[0] > 0.5 and found[0] > found[1] and max(found[2:]) < -0.5


def test_what_was_said_of_one_prompt_is_read_once():
    many = [Pick(USER, [str(i), str(i + 1)], 0, "f") for i in range(20)]
    other = Pick([Message("user", "other")], ["a", "b"], 0, "f")
    items = training_items([many[0], other, *many[1:]])
    assert [len(item) for item in items] == [15, 5, 1]
    assert max(len(reward_training.texts_of_item(item)) for item in items) == reward_training.TEXTS_PER_ITEM


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["none.jsonl"], "no such file of picks"),
        ([], "no data given"),
        (["rows.jsonl", "epoch=2"], "did you mean 'epochs'"),
        (["rows.jsonl", "heads=3"], "reward.heads was dropped; reward.ensemble trains several models"),
        (["rows.jsonl", "learning_rate=nan"], "reward.learning_rate: found 'nan'; give a number"),
        (["rows.jsonl", "ensemble=2"], "train each with a seed of its own"),
        (["rows.jsonl", "heldout=1.0"], "leaves no picks to train on"),
    ],
)
def test_bad_input_is_one_line(arguments, words, tiny_llama, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    write_jsonl(tmp_path / "rows.jsonl", rows(3))
    assert train(*arguments, "--base", tiny_llama, "--out", tmp_path / "scorer") == 2
    assert words in (error := capsys.readouterr().err) and error.count("\n") == 1
