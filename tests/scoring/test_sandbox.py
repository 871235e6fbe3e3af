"""Functions of a user's as scorers: real processes, with functions that hang, raise, exit and eat memory."""

import os
import time
from collections import Counter
from pathlib import Path

import pytest

from bakeoff.data.seal import sealed
from bakeoff.errors import UserError
from bakeoff.records import Completion, Message
from bakeoff.sandbox import Limits
from bakeoff.scoring.user_function import FunctionScorer
from bakeoff.scoring.verifiers.answers import answers_of

FUNCTIONS = """
import fractions, os, subprocess, sys, time

def reward(prompt, completion):
    print("noise on the output that answers go to")
    if completion == "hang":
        time.sleep(60)
    if completion == "spin":
        while True:
            pass
    if completion == "raise":
        raise ValueError("two\\nlines")
    if completion == "exit":
        sys.exit(3)
    if completion == "die":
        os._exit(3)
    if completion == "eat":
        return len(bytearray(10**10))
    if completion == "crash":
        os.abort()
    if completion == "read":
        return len(sys.stdin.read())
    odd = {"none": None, "nan": float("nan"), "word": "good", "yes": True, "endless": float("inf")}
    odd |= {"digits": "7", "bytes": b"7", "list": [1, 2], "half": fractions.Fraction(1, 2), "huge": 10**400}
    return odd.get(completion, len(completion) + len(prompt))

def child(completion):
    print(subprocess.Popen(["sleep", "60"]).pid, file=open(completion, "w"))
    time.sleep(60)

def checked(completion, answer, messages):
    return completion == answer and len(messages)

def pid(completion):
    time.sleep(0.1)
    return os.getpid()

def opens(completion):
    return len(open(completion).read())

def wants(completion, gold):
    return 0
"""


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(FUNCTIONS)
    return path


def group(*texts, prompt="ask"):
    rows = [Completion(f"{prompt}{i}", prompt, i, t, [], None, "stop") for i, t in enumerate(texts)]
    return [Message("user", prompt)], rows


def outcomes(scorer, *groups):
    return [[(s.reward, s.reason) for s in scores] for scores in scorer.score(groups)]


def test_every_way_to_fail_is_a_missing_reward_with_its_reason_and_the_others_are_rewarded(file):
    texts = ["hang", "ok", "raise", "exit", "die", "eat", "crash", "spin", "none", "nan", "word", "yes", "read", "fine"]
    texts += ["endless", "digits", "bytes", "list", "half", "huge"]
    scorer = FunctionScorer(file, "reward", limits=Limits(seconds=0.5, memory_mb=512))
    start = time.monotonic()
    scores = list(scorer.score([group(*texts)]))[0]
    assert time.monotonic() - start < 30
    assert [s.completion_id for s in scores] == [f"ask{i}" for i in range(len(texts))]
    found = {text: (s.reward, s.reason) for text, s in zip(texts, scores, strict=True)}
    assert found == {
        "hang": (None, "timeout: not done within 0.5 s"),
        "spin": (None, "timeout: not done within 0.5 s"),
        "raise": (None, "raised: ValueError: two lines"),
        "exit": (None, "raised: SystemExit: 3"),
        "die": (None, "ended: the process exited with 3"),
        "eat": (None, "raised: MemoryError"),
        "crash": (None, "ended: by SIGABRT"),
        "none": (None, "no reward: the function returned None"),
        "nan": (None, "no reward: the function returned nan"),
        "endless": (None, "no reward: the function returned inf"),
        "word": (None, "no reward: the function returned 'good', which is no number"),
        "digits": (None, "no reward: the function returned '7', which is no number"),
        "bytes": (None, "no reward: the function returned b'7', which is no number"),
        "list": (None, "no reward: the function returned [1, 2], which is no number"),
        "huge": (None, f"no reward: the function returned {'1'.ljust(80, '0')}, which is no number"),
        "half": (0.5, ""),
        "yes": (1.0, ""),
        "read": (0.0, ""),
        "ok": (5.0, ""),
        "fine": (7.0, ""),
    }
    assert {s.scorer for s in scores} == {"mine.py:reward"}


def test_groups_come_in_order_and_workers_work_side_by_side(file):
    scorer = FunctionScorer(file, "pid")
    scorer.size = 2
    start = time.monotonic()
    rows = outcomes(scorer, group("a", "b"), group("c", "d", prompt="other"))
    assert [len(row) for row in rows] == [2, 2]
    workers = Counter(reward for row in rows for reward, _ in row)
    assert len(workers) <= 2 and time.monotonic() - start < 10
    assert workers.keys() == Counter(r for row in outcomes(scorer, group("e", "f", "g", "h")) for r, _ in row).keys()


def test_what_a_function_that_hangs_has_started_ends_with_it(file, tmp_path):
    told = tmp_path / "pid"
    assert outcomes(FunctionScorer(file, "child", limits=Limits(0.5)), group(str(told)))[0][0][0] is None
    stat = Path(f"/proc/{told.read_text().strip()}/stat")
    while stat.exists() and stat.read_text().split()[2] != "Z":
        time.sleep(0.01)


def test_leaving_early_leaves_no_process(file):
    scorer = FunctionScorer(file, "pid")
    rows = scorer.score([group(*map(str, range(4))), group(*map(str, range(40)), prompt="q")])
    workers = {int(s.reward) for s in next(rows)}
    rows.close()
    del scorer, rows
    for pid in workers:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


def test_answers_by_prompt_and_for_all(file, tmp_path):
    by_prompt = tmp_path / "answers.jsonl"
    by_prompt.write_text('{"prompt": "ask", "answer": "a"}\n')
    rows = outcomes(
        FunctionScorer(file, "checked", answers_of(str(by_prompt))), group("a", "b"), group("a", prompt="q")
    )
    assert rows == [[(1.0, ""), (0.0, "")], [(0.0, "")]]
    for_all = tmp_path / "answer.txt"
    for_all.write_text("b")
    assert outcomes(FunctionScorer(file, "checked", answers_of(str(for_all))), group("a", "b"))[0] == [(0, ""), (1, "")]


def test_true_answers_are_sealed_for_functions_too(file, tmp_path):
    gold = tmp_path / "gold.jsonl"
    gold.write_text("{}")
    with sealed([str(gold)]):
        ((reward, reason),) = outcomes(FunctionScorer(file, "opens"), group(str(gold)))[0]
    assert reward is None and "sealed" in reason
    assert outcomes(FunctionScorer(file, "opens"), group(str(gold))) == [[(2.0, "")]]


@pytest.mark.parametrize(
    ("source", "name", "words"),
    [
        ("import nothing_like_it", "f", "nothing_like_it"),
        ("f = 1", "f", "not a callable"),
        ("def f(completion, gold): ...", "f", "wants gold; a function can have prompt, messages, completion, answer"),
        ("import os; os._exit(1)", "f", "exited with 1"),
    ],
)
def test_a_function_that_cannot_be_loaded_is_one_line(tmp_path, source, name, words):
    path = tmp_path / "mine.py"
    path.write_text(source)
    with pytest.raises(UserError, match=words):
        outcomes(FunctionScorer(path, name), group("a"))


def test_a_function_and_a_verifier_import_what_any_program_does(tmp_path):
    """A file of the package has the name of a module that many others import."""
    path = tmp_path / "mine.py"
    path.write_text("import fractions, numbers\ndef f(completion):\n    return isinstance(1, numbers.Number)\n")
    assert outcomes(FunctionScorer(path, "f"), group("a")) == [[(1.0, "")]]
    pytest.importorskip("jsonschema")
    scorer = FunctionScorer.verifier("json_schema", lambda messages: '{"type": "integer"}', Limits())
    assert outcomes(scorer, group("1", "one")) == [[(1.0, ""), (0.0, "")]]


def test_an_answer_on_which_a_verifier_hangs_costs_little_time():
    scorer = FunctionScorer.verifier("regex", lambda messages: messages[-1].content, Limits(seconds=0.5))
    bad, good = group(*["a" * 40 + "!"] * 8, prompt="^(a+)+$"), group("a", "b", prompt="^a")
    (hung, right) = outcomes(scorer, bad, good)
    assert {reward for reward, _ in hung} == {None} and right == [(1.0, ""), (0.0, "")]
    assert {"timeout: not done within 0.5 s", "timeout: not asked again after 2 times"} == {why for _, why in hung}


def test_a_file_of_this_folder_imports_its_neighbours(file, tmp_path, monkeypatch):
    file.write_text("from weights import vowel\n\ndef reward(completion):\n    return vowel * completion.count('a')\n")
    (tmp_path / "weights.py").write_text("vowel = 2\n")
    monkeypatch.chdir(tmp_path)
    assert outcomes(FunctionScorer(Path("mine.py"), "reward"), group("aha")) == [[(4.0, "")]]
