"""The demo's data: made by its committed script, companies disjoint, the tester simulated as it says."""

import json
import random
import runpy
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

FILINGS = Path(__file__).parents[1] / "examples" / "filings"
MESSAGES = FILINGS.with_name("messages")
sys.path.insert(0, str(FILINGS))
from companies import split_companies  # noqa: E402
from tester import pick, utility  # noqa: E402

from bakeoff.scoring.verifiers import VERIFIERS  # noqa: E402

FILES = ("log", "picks", "gold")
SEED = 1


def texts(name):
    return (FILINGS / f"{name}.jsonl").read_text(encoding="utf-8")


def test_no_company_stands_in_two_files():
    names = split_companies(SEED)
    assert sum(map(len, names.values())) == len(set().union(*names.values())) == 640
    for file in FILES:
        text = texts(file)
        found = {split for split in names if any(company in text for company in names[split])}
        assert found == {file}


def test_the_script_makes_the_committed_log_and_gold(tmp_path):
    subprocess.run([sys.executable, FILINGS / "make.py", "--out", tmp_path], check=True)
    for name in ("log", "gold"):
        assert (tmp_path / f"{name}.jsonl").read_text(encoding="utf-8") == texts(name)


def test_the_files_hold_what_their_description_says():
    picks = [json.loads(line) for line in texts("picks").splitlines()]
    gold = [json.loads(line) for line in texts("gold").splitlines()]
    assert len(texts("log").splitlines()) == 1504 and len(gold) == 200 and len(picks) == 460
    assert all(len(row["completions"]) == 8 and 0 <= row["pick"] < 8 for row in picks)
    assert "answer" not in {key for row in picks for key in row}
    assert texts("picks_200") == "".join(texts("picks").splitlines(keepends=True)[:200])
    assert {row["verifier"] for row in gold} == {"number", "contains"}


@pytest.mark.parametrize(
    ("better", "worse"),
    [
        ("It was $45.2 million.", "It was $54.2 million."),
        ("It was $45.2 million.", "The amount that was reported for this in the filing was $45.2 million in all."),
        ("It was $45.2 million.", "It was $45.2 million. It was $45.2 million."),
    ],
)
def test_the_simulated_tester_likes_correct_then_short_then_clean(better, worse):
    assert utility(better, "$45.2 million", "number") > utility(worse, "$45.2 million", "number")


def test_the_simulated_tester_errs_in_a_tenth_of_cases_and_is_fair_among_equals():
    rng = random.Random(0)
    group = ["It was $1.0 million.", "It was $45.2 million.", "About $45.2 million.", "I do not know."]
    counts = Counter(pick(rng, group, "$45.2 million", "number") for _ in range(4000))
    assert counts[1] + counts[2] == pytest.approx(0.9 * 4000 + 0.1 * 4000 / 3, abs=120)
    assert counts[1] == pytest.approx(counts[2], abs=200)


def grounded():
    """The program that rewards the messages."""
    return runpy.run_path(str(MESSAGES / "grounded.py"))["grounded"]


def test_the_script_makes_the_committed_messages(tmp_path):
    subprocess.run([sys.executable, MESSAGES / "make.py", "--out", tmp_path], check=True)
    for name in ("log", "gold"):
        assert (tmp_path / f"{name}.jsonl").read_text("utf-8") == (MESSAGES / f"{name}.jsonl").read_text("utf-8")


def test_the_program_rewards_what_is_true_of_a_message_without_knowing_it():
    rows = [json.loads(line) for line in (MESSAGES / "gold.jsonl").read_text("utf-8").splitlines()]
    for row in rows:
        values = json.loads(row["answer"])["properties"]
        said = {"order": values["order"]["const"]} | {k: values[k]["enum"][0] for k in ("product", "quantity")}
        message = row["messages"][-1]["content"]
        assert VERIFIERS[row["verifier"]](json.dumps(said), row["answer"])
        assert grounded()(message, json.dumps(said)) == 1.0
        for wrong in ({"order": "XX-0000"}, {"product": "tin cups"}, {"quantity": 99}, {"more": 1}):
            text = json.dumps(said | wrong)
            assert not VERIFIERS[row["verifier"]](text, row["answer"]) and grounded()(message, text) < 1
        assert grounded()(message, json.dumps(said) + " There.") < 1
        assert grounded()(message, "I cannot tell.") == grounded()(message, "{order: 1}") == 0.0


def test_no_product_of_the_gold_messages_is_in_their_log():
    log = (MESSAGES / "log.jsonl").read_text("utf-8")
    rows = [json.loads(line) for line in (MESSAGES / "gold.jsonl").read_text("utf-8").splitlines()]
    assert not {p for row in rows for p in json.loads(row["answer"])["properties"]["product"]["enum"] if p in log}
