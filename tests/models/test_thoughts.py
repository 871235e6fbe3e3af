"""Thoughts within texts: what an answer says after them, for each family of models, and who looks at it."""

import json
from pathlib import Path

import pytest
from ingested import lengths
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from bakeoff.data.prepare import clean_into
from bakeoff.models import thoughts
from bakeoff.models.incomplete import fault
from bakeoff.records import Completion, LoggedPick, Message, Prompt, read_table
from bakeoff.run import Run
from bakeoff.sampling.stop import Stops, Writer
from bakeoff.scoring.choose import make_scorer
from bakeoff.scoring.majority import Majority
from bakeoff.scoring.verifiers import VERIFIERS
from bakeoff.settings import Prompts, Recipe, Scoring

FAMILIES = {
    "DeepSeek-R1, Qwen3": "<think>\nSix eights: 48, not 46.\n</think>\n\n{}",
    "opened by the prompt": "Six eights: 48, not 46.\n</think>\n\n{}",
    "twice": "<think>\nSix.\n</think>\n<think>Eights.</think>\n{}",
    "Qwen3 that does not think": "<think>\n\n</think>\n\n{}",
    "Magistral": "[THINK]48, not 46.[/THINK]{}",
    "EXAONE Deep": "<thought>\n48, not 46\n</thought>\n\n{}",
    "Seed-OSS": "<seed:think>48, not 46</seed:think>{}",
    "Kimi": "◁think▷48, not 46◁/think▷{}",
    "Cohere": "<|START_THINKING|>48, not 46<|END_THINKING|><|START_RESPONSE|>{}<|END_RESPONSE|>",
    "Gemma 4": "<|channel>thought\n48, not 46<channel|>{}",
    "Apertus": "<|inner_prefix|>48, not 46<|inner_suffix|>{}",
    "Hunyuan": "<think>\n48, not 46\n</think>\n<answer>\n{}\n</answer>",
    "Granite 3.2": "Here is my thought process: 48, not 46.\n\nHere is my response: {}",
    "Granite 3.3": "<think>48, not 46</think><response>{}</response>",
    "OpenThinker": "<|begin_of_thought|>46?<|end_of_thought|>\n<|begin_of_solution|>\n{}\n<|end_of_solution|>",
    "gpt-oss": "<|channel|>analysis<|message|>46?<|end|><|start|>assistant<|channel|>final<|message|>{}<|return|>",
    "gpt-oss, a call": "<|channel|>commentary to=functions.f <|constrain|>json<|message|>46<|call|>"
    "<|start|>assistant<|channel|>final<|message|>{}",
    "gpt-oss without special tokens": "analysisWe need 46?assistantfinal{}",
}


@pytest.mark.parametrize("text", FAMILIES.values(), ids=list(FAMILIES))
def test_an_answer_is_what_follows_the_thoughts_of_every_family(text):
    assert thoughts.answer(text.format("It is 48.")) == "It is 48."


@pytest.mark.parametrize(
    "text",
    [
        "<think>\nThat is 48",
        "[THINK]48",
        "  <seed:think>48",
        "Here's my thought process: 48.",
        "<|channel|>analysis<|message|>48",
        "<|channel>thought\n48",
        "analysisWe say 48",
        '<think>The mark "</think>" ends it, 48',
    ],
)
def test_a_thought_that_never_ends_holds_no_answer(text):
    assert thoughts.answer(text) is None
    assert fault(text, [1, 2, 3], "stop") == "unfinished"
    assert not any(VERIFIERS[name](text, answer) for name, answer in (("number", "48"), ("regex", ".*")))


@pytest.mark.parametrize(
    "text",
    [
        "",
        " It is 48. ",
        "Qwen writes <think> and </think> around its thoughts.",
        "Use `text.split('</think>')[-1]`, or the tag `</think>` is left.",
        "```\n<think>\n48\n</think>\n```",
        "analysis of variance: 48",
        "<answer>48</answer>",
        "Here is my response: 48",
    ],
)
def test_a_text_that_only_speaks_of_thoughts_is_left_alone(text):
    assert thoughts.answer(text) == text


def test_a_thought_alone_is_an_empty_completion():
    assert fault("<think>\n48\n</think>\n", [1, 2, 3], "stop") == "empty"


@pytest.mark.parametrize(
    "name, answer, said",
    [
        ("number", "48", "48 in all."),
        ("contains", "forty-eight", "It makes forty-eight."),
        ("exact", "Vienna", "Vienna"),
        ("regex", "^48$", "48"),
        ("json_schema", '{"required": ["total"]}', '{"total": 48}'),
        ("quantity", "48 kg", "48 kg"),
    ],
)
def test_verifiers_look_at_what_is_said_after_the_thought(name, answer, said):
    thought = f"<think>\n46 kg, no, 45. {'Hm. ' * 30}\n</think>\n\n"
    assert VERIFIERS[name](thought + said, answer)
    assert not VERIFIERS[name](f"<think>\n{said}\n</think>\n\nI cannot tell.", answer)


def test_where_the_prompt_begins_the_thoughts_one_without_a_mark_never_ended():
    assert thoughts.answers(["Hm, 46.\n</think>\n48", "Hm, 48", "<think>46"]) == ["48", None, None]
    assert thoughts.answers(["48", "Hm, 48", "<think>46</think>48"]) == ["48", "Hm, 48", "48"]
    assert thoughts.answers(["</think> 48", *["48"] * 30])[1:] == ["48"] * 30, "a stray mark says nothing of the others"
    assert thoughts.answers([]) == []


def completion(text: str) -> Completion:
    return Completion(text, "p", 0, text, [1], 0.0, "stop")


def test_the_scorer_of_a_verifier_and_the_majority_do_the_same(tmp_path):
    texts = ["<think>46?</think>48", "<think></think>48", "<think>48", "Hm, 48.\n</think>\n46", "Hm, 46 or 48"]
    group = [([Message("user", "6 times 8?")], list(map(completion, texts)))]
    (tmp_path / "a.txt").write_text("48")
    recipe = Recipe(score=Scoring(scorer="verifier:number", answers=str(tmp_path / "a.txt")))
    (verified,) = make_scorer(Run(tmp_path), recipe).score(group)
    assert [s.reward for s in verified] == [1.0, 1.0, 0.0, 0.0, 0.0]
    (voted,) = Majority().score(group)
    assert [s.reward for s in voted][:4] == [1 / 3, 1 / 3, None, 0.0]


def cleaned(folder: Path, *rows: dict) -> Path:
    (folder / "log.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    clean_into(folder, [folder / "log.jsonl"], Prompts(heldout=0), count_tokens=lengths)
    return folder


ASKED = "Which tags, <think> or [THINK], does this model write?"


def test_earlier_answers_come_without_their_thoughts_and_what_a_user_writes_stays(tmp_path):
    legs, last = {"role": "user", "content": "How many legs have two spiders?"}, {"role": "user", "content": ASKED}
    said = {"role": "assistant", "content": "<think>\nEight each.\n</think>\n\nSixteen."}
    cut = {"role": "assistant", "content": "<think>\nEight each."}
    out = cleaned(tmp_path, {"messages": [legs, said, last]}, {"messages": [legs, cut, last]})
    kept = read_table(out / "prompts.parquet", Prompt)
    assert [m.content for m in kept[0].messages] == [legs["content"], "Sixteen.", ASKED]
    assert [m.role for m in kept[1].messages] == ["user", "user"], "a thought that was cut is no turn"


def test_old_answers_become_picks_without_their_thoughts(tmp_path):
    rows = [
        {"prompt": ASKED, "response": f"<think>\n{thought}\n</think>\n\n{said}", "feedback": thumb}
        for thought, said, thumb in (
            ("Hm.", "Both.", "thumbs_up"),
            ("No idea.", "None.", "thumbs_down"),
            ("", "", "thumbs_down"),
        )
    ]
    (pick,) = read_table(cleaned(tmp_path, *rows) / "picks.parquet", LoggedPick)
    assert sorted(zip(pick.completions, pick.ratings, strict=True)) == [("Both.", 1.0), ("None.", 0.0)]


def test_the_text_of_a_completion_keeps_the_marks_though_they_are_special_tokens():
    words = ["[THINK]", "[/THINK]", "</s>", "Sixty", "or", "48"]
    fast = Tokenizer(models.WordLevel({w: i for i, w in enumerate(words)}, unk_token="or"))
    fast.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=fast, eos_token="</s>", additional_special_tokens=["[THINK]", "[/THINK]"]
    )
    made = Writer(tokenizer, [2], Stops(tokenizer, [])).completion("p", 0, [0, 3, 1, 5, 2], 0.0)
    assert made.text == "[THINK] Sixty [/THINK] 48" and made.finish == "stop"
    assert thoughts.answer(made.text) == "48"
