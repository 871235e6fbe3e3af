"""Choosing a scorer by its name, and the whole loop with others than the reward model."""

import json
import math
import random

import pytest
from conftest import write_jsonl

from bakeoff import config
from bakeoff.cli import main
from bakeoff.errors import UserError
from bakeoff.records import Completion, Message, Prompt, Score, read_table
from bakeoff.run import Run, open_run
from bakeoff.scorer import NOT_WHOLE, score_table
from bakeoff.scoring import choose
from bakeoff.settings import Recipe, Scoring

RECIPE = """
model = "{model}"
dtype = "float32"
[prompts]
sources = ["log.jsonl"]
heldout = 0.3
[sample]
group_size = 4
max_tokens = 12
stop = ["a", "e", "0", "T"]
[bake]
batch_size = 8
[evaluate]
samples = 2
"""
WORDS = ["revenue", "cash", "debt", "staff", "stores", "patents", "plants", "rent", "taxes", "margin"]
QUESTIONS = [" ".join(random.Random(i).sample(WORDS, 8)) + "?" for i in range(30)]  # no two share a passage
MINE = """
def vowels(prompt, completion):
    if len(completion) % 5 == 0:
        raise ValueError("a length that this function does not like")
    return sum(c in "aeiou" for c in completion)
"""


@pytest.fixture
def recipe(tmp_path, tiny_llama):
    write_jsonl(tmp_path / "log.jsonl", [{"prompt": q} for q in QUESTIONS])
    (tmp_path / "mine.py").write_text(MINE)
    path = tmp_path / "recipe.toml"
    path.write_text(RECIPE.format(model=tiny_llama))
    return path


def test_the_loop_by_a_function_of_the_users_without_picks(recipe, tmp_path, capsys):
    run = Run(tmp_path / "run")
    assert main(["run", str(recipe), "score.scorer=mine.py:vowels", "--out", str(run.folder)]) == 2
    assert "mine.py: cannot be read as Python" in capsys.readouterr().err  # an override is looked up from here
    recipe.write_text(recipe.read_text() + '[score]\nscorer = "mine.py:vowels"\n')
    assert main(["run", str(recipe), "--out", str(run.folder)]) == 0
    said = capsys.readouterr().out

    scores = read_table(run.table("scores"), Score)
    missing = [s for s in scores if s.reward is None]
    assert missing and {s.reason for s in missing} == {"raised: ValueError: a length that this function does not like"}
    assert len(missing) < len(scores) and not run.reward_model.exists()
    summary = json.loads(run.summary.read_text())
    assert summary["quality"] is None and summary["reward_model"] is None
    assert summary["scorer"]["name"] == "function"
    assert summary["scorer"]["missing"]["score"] == {"raised": len(missing)}
    assert any(f"without a reward in the stage score: {len(missing)} raised" in a for a in summary["alarms"])
    assert summary["reward"]["gain"]["n"] > 0 and "the reward model" not in said
    assert "the function both picks and measures" in run.report.read_text()


def test_a_scorer_that_fails_in_the_evaluation_ends_it_in_one_line(recipe, tmp_path, capsys):
    recipe.write_text(recipe.read_text() + '[score]\nscorer = "mine.py:vowels"\n')
    for stage in ("prompts", "sample", "score", "bake", "control"):
        assert main([stage, str(recipe), "--out", str(tmp_path / "run")]) == 0
    (tmp_path / "mine.py").write_text("def vowels(prompt, completion):\n    return None\n")
    assert main(["evaluate", str(recipe), "--out", str(tmp_path / "run")]) == 2
    assert "nothing to evaluate: no held-out prompt has a reward" in capsys.readouterr().err


def test_the_loop_by_a_blend(recipe, tmp_path):
    recipe.write_text(recipe.read_text() + '[score]\nscorer = {majority = 1, "mine.py:vowels" = 2}\n')
    run = Run(tmp_path / "run")
    assert main(["run", str(recipe), "--out", str(run.folder)]) == 0
    for name in ("scores", "reference_scores", "tuned_scores"):
        rows = read_table(run.table(name), Score)
        assert {s.scorer for s in rows} == {"blend"} and all(0 <= s.reward <= 1 for s in rows if s.reward is not None)
        assert {s.reason.partition(":")[0] for s in rows if s.reward is None} <= {"raised", "no answer"}
    means = [json.loads(run.summary.read_text())["reward"][f"{name}_at_1"]["value"] for name in ("reference", "tuned")]
    assert means[0] == pytest.approx(0.5, abs=0.05)  # what is measured on the scale of the reference's own answers


def test_the_loop_by_majority(recipe, tmp_path):
    gold = [{"prompt": q.upper(), "answer": "12", "verifier": "number"} for q in QUESTIONS[:6]]
    write_jsonl(tmp_path / "gold.jsonl", gold)
    recipe.write_text(recipe.read_text() + 'holdout = "gold.jsonl"\n[score]\nscorer = "majority"\nextract = "."\n')
    run = Run(tmp_path / "run")
    assert main(["run", str(recipe), "--out", str(run.folder)]) == 0
    for name, others in (("reference", 3), ("tuned", 4), ("tuned_greedy", 4)):  # all are counted by the same votes
        rewards = [s.reward for s in read_table(run.table(f"{name}_scores"), Score)]
        assert {r * others % 1 for r in rewards if r is not None} == {0}, name
    summary = json.loads(run.summary.read_text())
    assert summary["quality"]["gain"]["n"] == 6 and summary["quality"]["picker"] == "majority"
    assert "picked by the majority" in run.report.read_text()


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (["score.scorer=magic"], "unknown scorer 'magic'; known: reward_model, combined, likelihood, majority"),
        (["score.scorer=verifier:magic"], "unknown verifier 'magic'; known: exact"),
        (["score.scorer=verifier:exact"], "verifier:exact compares with answers; give their file as score.answers"),
        (["score.scorer=verifier:exact", "score.answers=/none.jsonl"], "/none.jsonl: no such file of true answers"),
        (["score.scorer=majority", "score.extract=("], "score.extract: not a regular expression"),
        (["score.scorer=[]"], "score.scorer: names no scorer"),
        (
            ["score.scorer={majority=1,logit_judge=0}"],
            "found {'majority': 1.0, 'logit_judge': 0.0}; give each a weight other than 0",
        ),
        (["score.scorer=yes"], "'yes' is now 'logit_judge'"),
        (["score.scorer=logit_judge:http://host/v1"], "'judge:URL' asks an endpoint"),
        (["score.scorer=judge:http://me:key@host/v1"], "score.scorer: expected a base URL"),
        (["score.rubric=/none.txt"], "score.rubric: /none.txt: cannot be read"),
        (["score.scorer=/none.py:f"], "/none.py: cannot be read as Python"),
        (["score.scorer={}/mine.py:consonants"], "defines no function 'consonants'; it defines ['vowels']"),
        (["score.scorer={}/odd.py:odd"], "odd.py:odd wants gold, by; a function can have prompt, messages, completion"),
    ],
)
def test_what_a_user_gets_wrong(recipe, tmp_path, settings, words):
    (tmp_path / "odd.py").write_text("def odd(completion, gold, answer, more=1, *, by, so=2): ...")
    with pytest.raises(UserError) as raised:
        choose.check_scorers(config.load(recipe, [s.replace("{}", str(tmp_path)) for s in settings]).score)
    assert words in str(raised.value)


def test_a_verifier_rewards_by_answers(recipe, tmp_path):
    from bakeoff.records import Completion, Message

    write_jsonl(tmp_path / "answers.jsonl", [{"prompt": "ask", "answer": "12"}])
    settings = ["score.scorer=verifier:number", f"score.answers={tmp_path}/answers.jsonl"]
    scorer = choose.make_scorer(Run(tmp_path), config.load(recipe, settings))
    rows = [Completion(t, "p", i, t, [], None, "stop") for i, t in enumerate(["It was 12.", "13"])]
    known, unknown = scorer.score([([Message("user", "ask")], rows), ([Message("user", "else")], rows)])
    assert [(s.reward, s.scorer) for s in known] == [(1.0, "verifier:number"), (0.0, "verifier:number")]
    assert [(s.reward, s.reason) for s in unknown] == [(None, "no answer: none is given for this prompt")] * 2


@pytest.mark.parametrize(("answers", "words"), [("gold.jsonl", "verifier"), ("schema.json", "check of form")])
def test_a_verifier_with_one_answer_to_all_prompts_knows_no_true_answers(answers, words):
    assert choose.scorer_noun(Recipe(score=Scoring(scorer="verifier:json_schema", answers=answers))) == words


PROMPTS = [Prompt(key, [Message("user", key)], "log:1", 1, "train") for key in "pqr"]
COMPLETIONS = [Completion(f"{p.id}{i}", p.id, i, "x", [i], -1.0, "stop") for p in PROMPTS for i in range(2)]


def test_a_scorer_without_a_single_reward_stops_the_scoring_with_its_reason(tmp_path):
    class Odd:
        def __init__(self, *rewards):
            self.rewards = rewards

        def score(self, groups):
            for _, group in groups:
                yield [Score(c.id, c.prompt_id, "odd", r, "") for c, r in zip(group, self.rewards, strict=True)]

    def table(folder, scorer):
        run = open_run(tmp_path / folder, Recipe())
        return run, lambda: score_table(run, "scores", PROMPTS, COMPLETIONS, lambda: scorer, needed=True)

    run, score = table("nothing", Odd(math.nan, math.inf))
    words = r"odd: not one of 6 completions got a reward \(3 times: no reward: odd gave nan\); correct the scorer"
    with pytest.raises(UserError, match=words):
        score()
    assert not run.table("scores").exists()
    score = table("nothing", Odd(1.0, math.nan))[1]  # the scorer was corrected: the same folder goes on
    assert [s.reward for s in score()] == [1.0, None] * 3
    not_asked = Odd(None, None)
    not_asked.score = lambda groups: ([Score(c.id, c.prompt_id, "", None, NOT_WHOLE) for c in g] for _, g in groups)
    assert {s.reward for s in table("cut", not_asked)[1]()} == {None}  # the bake says why
