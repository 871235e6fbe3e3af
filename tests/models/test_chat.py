"""What a model reads is what `apply_chat_template` writes, whatever the template does."""

import json

import pytest
import torch
from conftest import CHAT, CONFIGS, byte_tokenizer, write_jsonl
from tokenizers import processors
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer

from bakeoff import cli
from bakeoff.errors import UserError
from bakeoff.models import chat
from bakeoff.models.load import load_policy, load_reward_model, load_tokenizer, save_model
from bakeoff.preferences import reward_model
from bakeoff.records import Message, Prompt
from bakeoff.sampling import Sampling
from bakeoff.sampling.local import LocalEngine
from bakeoff.sampling.stop import end_tokens
from bakeoff.settings import Recipe

USER = [Message("user", "Which tea?")]
NO_SYSTEM = "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system turn') }}{% endif %}"
ALTERNATES = (
    "{% for m in messages %}{% if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('roles must alternate') }}{% endif %}{% endfor %}"
)
THINKS = CHAT.replace(
    "{{ m['content'] }}",
    "{% if loop.last and m['role'] == 'assistant' %}<think>\n\n</think>\n\n{% endif %}{{ m['content'] }}",
).replace("<|end|>", "<|end|>\n")
TEMPLATES = {
    "plain": CHAT,
    "strict": NO_SYSTEM + ALTERNATES + CHAT,
    "thinks": THINKS,
    "changes": CHAT.replace("m['content']", "m['content'] | trim | upper"),
    "no end": "{% for m in messages %}{{ m['content'] }}\n{% endfor %}",
    "ends with a text's token": "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}{% endfor %}",
    "opens no turn": CHAT.split("{% if add")[0],
    "several": {"default": CHAT, "tools": "{{ tools | tojson }}" + CHAT},
}
TEXTS = ["green", " black\n", "no!", ""]


def made(folder, template=CHAT, *, more=(), pad="<|end|>", eos="<|end|>", adds_eos=False, **config):
    """A tiny model whose tokenizer has further marks from 260 on."""
    tokenizer = byte_tokenizer()
    tokenizer.add_special_tokens({"additional_special_tokens": list(more)})
    tokenizer.chat_template, tokenizer.pad_token, tokenizer.eos_token = template, pad, eos
    if adds_eos:
        tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
            single="$A <|end|>", pair="$A $B <|end|>", special_tokens=[("<|end|>", 259)]
        )
    shape = CONFIGS["llama"]()
    shape.update({"initializer_range": 0.1, "eos_token_id": tokenizer.eos_token_id, "pad_token_id": None, **config})
    pad_id, shape.pad_token_id = shape.pad_token_id, None  # PyTorch makes no model with one beyond its embeddings
    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(shape).save_pretrained(folder)
    written = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(written | {"pad_token_id": pad_id}))
    tokenizer.save_pretrained(folder)
    return folder


def as_others_read(folder, messages, texts):
    """(rewards one by one, rewards in a batch padded on the right) by `transformers` alone."""
    tokenizer, plain = AutoTokenizer.from_pretrained(folder), AutoModelForSequenceClassification.from_pretrained(folder)
    turns = [{"role": m.role, "content": m.content} for m in messages]
    chats = [[*turns, {"role": "assistant", "content": text}] for text in texts]
    settings = {"return_dict": True, "return_tensors": "pt", "tokenizer_kwargs": {"padding_side": "right"}}
    with torch.inference_mode():
        one = [plain(**tokenizer.apply_chat_template(c, **settings)).logits.item() for c in chats]
        return one, plain(**tokenizer.apply_chat_template(chats, padding=True, **settings)).logits[:, 0].tolist()


@pytest.mark.parametrize("kind", TEMPLATES)
def test_rewards_are_those_that_transformers_reads_after_its_chat_template(kind, tmp_path):
    base = made(tmp_path / "base", TEMPLATES[kind])
    scorer = reward_model.RewardModel.fresh(base, Recipe(dtype="float32"))
    save_model(scorer.model, scorer.tokenizer, tmp_path / "judge")
    ours = reward_model.RewardModel.load(tmp_path / "judge", Recipe(dtype="float32"))
    found = ours.rewards([(USER, TEXTS)])[0]
    one, many = as_others_read(tmp_path / "judge", USER, TEXTS)
    assert found == pytest.approx(one, abs=1e-4) and found == pytest.approx(many, abs=1e-4)
    assert len({round(value, 4) for value in found}) > 1


@pytest.mark.parametrize(
    "changes",
    [
        {"more": ["<|endoftext|>"], "eos": "<|endoftext|>"},  # pads with its end of turn, which is not its end token
        {"pad_token_id": 300},  # beyond the embeddings
        {"more": ["[PAD]"], "pad": "[PAD]", "vocab_size": 260, "pad_token_id": 260},
        {"more": ["[PAD]"], "pad": "[PAD]", "vocab_size": 260, "pad_token_id": None},
        {"vocab_size": 260},  # no row is free for a new token
    ],
)
def test_the_padding_token_is_none_that_a_conversation_ends_in(changes, tmp_path):
    base = made(tmp_path / "base", **changes)
    scorer = reward_model.RewardModel.fresh(base, Recipe(dtype="float32"))
    save_model(scorer.model, scorer.tokenizer, tmp_path / "judge")
    found = reward_model.RewardModel.load(tmp_path / "judge", Recipe(dtype="float32")).rewards([(USER, TEXTS)])[0]
    one, many = as_others_read(tmp_path / "judge", USER, TEXTS)
    assert found == pytest.approx(one, abs=1e-4) and found == pytest.approx(many, abs=1e-4)
    config = json.loads((tmp_path / "judge" / "config.json").read_text())
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "judge")
    assert config["pad_token_id"] == tokenizer.pad_token_id < config["vocab_size"]
    assert tokenizer("a b!").input_ids == byte_tokenizer()("a b!").input_ids


@pytest.mark.parametrize("kind", TEMPLATES)
def test_a_prompt_and_an_answer_to_learn_are_what_the_template_writes(kind):
    tokenizer = byte_tokenizer()
    tokenizer.chat_template = TEMPLATES[kind]
    turns = [{"role": "user", "content": "Which tea?"}]
    settings = {"tokenize": True, "return_dict": False}
    prompt = tokenizer.apply_chat_template(turns, add_generation_prompt=True, **settings)
    assert chat.render(tokenizer, USER) == prompt
    whole = tokenizer.apply_chat_template([*turns, {"role": "assistant", "content": "green"}], **settings)
    learnt, ends = chat.answer_tokens(tokenizer, "green"), [] if 259 in whole[len(prompt) :] else [259]
    assert [*prompt, *learnt] == [*whole, *ends] and 259 in learnt


def test_what_a_template_refuses_is_joined():
    tokenizer, said = byte_tokenizer(), [Message("assistant", "One"), Message("assistant", "moment.")]
    tokenizer.chat_template = TEMPLATES["strict"]
    talk = [Message("system", "Be brief."), *USER, *said, Message("user", "And now?")]
    joined = [Message("user", "Be brief.\n\nWhich tea?"), Message("assistant", "One\n\nmoment."), talk[-1]]
    assert chat.render(tokenizer, talk) == chat.render(tokenizer, joined)
    tokenizer.chat_template = ALTERNATES.replace("loop.index0", "(loop.index0 - 1)") + CHAT  # which wants a system turn
    kept = [talk[0], *joined[1:]]
    assert "<|system|>Be brief.<|end|><|user|>Which tea?" in chat.rendered(tokenizer, [*talk[:2], *said, talk[-1]])
    tokenizer.chat_template = "{{ raise_exception('never') }}"
    with pytest.raises(chat.Refused, match=r"refuses the conversation \(never\)"):
        chat.render(tokenizer, kept)


def test_what_a_tokenizer_puts_behind_a_text_does_not_stand_before_the_answer(tmp_path):
    tokenizer = load_tokenizer(str(made(tmp_path, None, adds_eos=True)))
    plain = byte_tokenizer()
    assert tokenizer("x").input_ids[-1] == 259
    assert chat.render(tokenizer, USER) == plain("Which tea?\n\n").input_ids
    prompt, (one, other) = chat.answered(tokenizer, USER, ["green", ""])
    assert prompt + one == [*plain("Which tea?\n\ngreen").input_ids, 259] and other == [259]


def test_without_an_end_token_a_reward_is_read_where_the_answer_ends_and_a_run_is_refused(tmp_path, capsys):
    tokenizer = byte_tokenizer()
    tokenizer.chat_template = tokenizer.eos_token = tokenizer.pad_token = None
    base = made(tmp_path / "base", eos_token_id=None, pad_token_id=None)
    tokenizer.save_pretrained(base)
    (base / "chat_template.jinja").unlink()
    judge = reward_model.RewardModel.fresh(base, Recipe(dtype="float32"))
    ids = tokenizer("Which tea?\n\ngreen").input_ids
    with torch.inference_mode():
        assert judge.rewards([(USER, ["green"])])[0][0] == pytest.approx(judge.model(torch.tensor([ids])).logits.item())
    write_jsonl(tmp_path / "log.jsonl", [{"prompt": f"Which tea goes with cake {i}?"} for i in range(20)])
    (tmp_path / "recipe.toml").write_text('prompts.sources = ["log.jsonl"]\nscore.scorer = "majority"\n')
    command = ["run", str(tmp_path / "recipe.toml"), "--out", str(tmp_path / "out"), f"model={base}"]
    assert cli.main(command) == 2
    assert "name no end token" in (error := capsys.readouterr().err) and error.count("\n") == 1


def test_the_templates_end_of_turn_ends_a_completion_too(tmp_path):
    base = made(tmp_path, more=["<|endoftext|>"], eos="<|endoftext|>", pad="<|endoftext|>", eos_token_id=260)
    model, tokenizer = load_policy(str(base), Recipe(dtype="float32"))
    assert end_tokens(model, tokenizer) == [259, 260]
    asked, sampling = [Prompt("p", USER, "f:1", 1, "train")], Sampling(group_size=64, max_tokens=24, temperature=3.0)
    (group,) = LocalEngine(model, tokenizer).complete(asked, sampling)
    assert any(c.tokens[-1] == 259 and c.finish == "stop" for c in group)
    assert all(259 not in c.tokens[:-1] for c in group)


@pytest.mark.parametrize(
    ("template", "words"),
    [
        ({"chat": CHAT, "tools": CHAT}, "its chat templates are named chat, tools, and none is named default"),
        ("{% for m in messages %}{% for c in m['content'] %}{{ c['text'] }}{% endfor %}{% endfor %}", "leaves out"),
        ("{{ messages[0]['tools'][0] }}", "refuses the conversation"),
        ("{% for m in messages if m['role'] == 'user' %}{{ m['content'] }}{% endfor %}", "what the assistant says"),
    ],
)
def test_a_template_that_cannot_be_used_is_told_at_loading(template, words, tmp_path):
    base = str(made(tmp_path, template))
    with pytest.raises(UserError, match=words):
        load_reward_model(base, base=True)


def test_texts_that_a_reward_model_cannot_read_have_no_reward_and_are_no_picks(tmp_path, capsys):
    base = made(tmp_path / "base", max_position_embeddings=64)
    scorer = reward_model.RewardModel.fresh(base, Recipe(dtype="float32"))
    (values,) = scorer.each([(USER, ["green", "x" * 64])])
    assert values[0] == values[0] and values[1] != values[1]
    assert scorer.unread(USER, "x" * 64) == "too long: 78 tokens, and the model's context window has 64"
    rows = [{"prompt": f"Tea {i}?", "completions": ["green", "x" * (99 if i == 3 else 9)], "pick": 0} for i in range(8)]
    data = write_jsonl(tmp_path / "picks.jsonl", rows)
    assert cli.main(["reward", "train", str(data), "--base", str(base), "--out", str(tmp_path / "judge")]) == 2
    error = capsys.readouterr().err
    assert "picks.jsonl:4: too long" in error and error.count("\n") == 1 and not (tmp_path / "judge").exists()
