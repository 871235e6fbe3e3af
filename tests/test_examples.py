"""The demo's data: made by its committed script, companies disjoint, the tester simulated as it says."""

import json
import random
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

FILINGS = Path(__file__).parents[1] / "examples" / "filings"
sys.path.insert(0, str(FILINGS))
from companies import split_companies  # noqa: E402
from tester import pick, utility  # noqa: E402

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
