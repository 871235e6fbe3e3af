"""Judges over a real HTTP server and over a tiny model in this process."""

import json
from collections import Counter

import pytest
import test_endpoint
from conftest import write_jsonl
from test_endpoint import QUICK, choice
from test_scorers import QUESTIONS, RECIPE

from bakeoff.cli import main
from bakeoff.errors import UserError
from bakeoff.models.chat import render
from bakeoff.models.load import load_policy
from bakeoff.records import Completion, Message, Score, read_table
from bakeoff.run import Run
from bakeoff.sampling.endpoint import EndpointEngine
from bakeoff.sampling.local import LocalEngine
from bakeoff.scoring import judge
from bakeoff.settings import Recipe

serve = test_endpoint.serve
USAGE = {"prompt_tokens": 100, "completion_tokens": 3}


def group(*texts, prompt="p"):
    rows = [Completion(f"{prompt}{i}", prompt, i, t, [], None, "stop") for i, t in enumerate(texts)]
    return [Message("user", "Which is the largest planet?")], rows


def answers(body):
    """What stands between an answer's heading and the next heading, in the order shown."""
    parts = body["messages"][-1]["content"].split("\n\n")
    return [p.split(":\n", 1)[1] for p in parts if p.startswith("Answer")]


def endpoint(server):
    return EndpointEngine(server.url, "", judge.NoTokenizer(), QUICK, "score.scorer")


def reply(text):
    return 200, {}, {"choices": [choice(text)], "usage": USAGE}


@pytest.mark.parametrize(
    ("said", "score"),
    [
        ("7", 7),
        ("Score: 8", 8),
        ("**Rating:** 9/10", 9),
        ("I would give 3 out of 10.", 3),
        ("It has 2 faults. Score: 6", 6),
        ("2 faults, 3 merits", None),
        ("0", None),
        ("11", None),
        ("good", None),
        ("", None),
    ],
)
def test_reading_a_number(said, score):
    assert judge.number_in(said) == score


def test_single_scores_with_what_cannot_be_read_asked_again_and_then_missing(serve):
    def script(body, number):
        (text,) = answers(body)
        if text == "late":
            return reply("4" if number == 2 else "let me think")
        if text == "refused":
            return 400, {}, {"error": "no"}
        return reply({"Jupiter": "10", "Mars": "2"}.get(text, "words, words"))

    server = serve(script)
    scorer = judge.Judge(endpoint(server), "Is it right?")
    (scores,) = scorer.score([group("Jupiter", "Mars", "late", "mute", "refused", "Jupiter")])
    assert [s.reward for s in scores] == [10, 2, 4, None, None, 10]
    assert scores[3].reason == "unreadable: the judge said 'words, words'"
    assert scores[4].reason.startswith("refused: ")
    # Jupiter, Mars, refused once (refused ones cost nothing), late and mute three times
    assert scorer.used == Counter(calls=8, prompt_tokens=800, completion_tokens=24)
    asked = [body for _, _, body, _ in server.seen]
    assert all("Is it right?" in b["messages"][-1]["content"] and b["model"] == "tiny" for b in asked)
    assert {b["temperature"] for b in asked if answers(b) == ["Mars"]} == {0}
    assert sorted(b["temperature"] for b in asked if answers(b) == ["mute"]) == [0, 0.7, 0.7]


def test_a_judge_in_this_process_counts_its_tokens(tiny_llama):
    model, tokenizer = load_policy(str(tiny_llama), Recipe(dtype="float32"))
    scorer = judge.Judge(LocalEngine(model, tokenizer), "Good?", tokens=4, tokenizer=tokenizer)
    (scores,) = scorer.score([group("a", "b")])
    assert all(s.reason.startswith("unreadable") for s in scores if s.reward is None)  # random weights say anything
    text = judge.judge_prompt([Message("user", "Which is the largest planet?")], "a", "Good?", judge.ONE_TO_TEN)
    once = len(render(tokenizer, [Message("user", text)]))
    assert 2 <= (calls := scorer.used["calls"]) <= 6 and scorer.used["prompt_tokens"] == calls * once
    assert calls <= scorer.used["completion_tokens"] <= 4 * calls


def test_the_loop_by_a_judge_behind_an_endpoint_tells_what_it_cost(serve, tmp_path, tiny_llama):
    server = serve(lambda body, number: reply(str(1 + len(body["messages"][-1]["content"]) % 10)))
    write_jsonl(tmp_path / "log.jsonl", [{"prompt": q} for q in QUESTIONS])
    (tmp_path / "rubric.txt").write_text("Is it long?")
    path = tmp_path / "recipe.toml"
    path.write_text(
        RECIPE.format(model=tiny_llama) + f'[score]\nscorer = "judge:{server.url}"\nrubric = "rubric.txt"\n'
    )
    run = Run(tmp_path / "run")
    small = [
        "sample.prompts=6",
        "sample.group_size=2",
        "evaluate.prompts=3",
        "evaluate.samples=1",
        "bake.control=false",
    ]
    assert main(["run", str(path), "--out", str(run.folder), *small]) == 0
    used = json.loads(run.summary.read_text())["scorer"]["used"]
    assert used == {"calls": len(server.seen), "prompt_tokens": 100 * len(server.seen)} | {
        "completion_tokens": 3 * len(server.seen)
    }
    assert {s.scorer for s in read_table(run.table("scores"), Score)} == {"judge"}
    assert f"{used['calls']:,}" in run.report.read_text()


def test_a_judge_that_refuses_the_key_is_one_line_about_the_judge(serve, monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    server = serve(lambda body, number: (401, {}, {}))
    with pytest.raises(UserError, match="^score.scorer: http.* it wants a key"):
        list(judge.Judge(endpoint(server)).score([group("a")]))
