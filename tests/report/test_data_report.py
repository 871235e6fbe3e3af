"""The data report: what it shows follows from the tables, and no secret is in it."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from test_report import SUMMARY

from bakeoff.cli import main
from bakeoff.report.advice import advice
from bakeoff.report.data import data_text, describe_data, topics
from bakeoff.report.page import render_report
from bakeoff.run import Run

KEY = "sk-abcdefghijklmnopqrstuvwx123"


@pytest.fixture
def cleaned(tmp_path, capsys):
    """A log of 30 rows, cleaned by the command, and what it printed."""
    rows = [{"prompt": f"How do I renew passport number {i} at the embassy in Vienna?"} for i in range(12)]
    rows += [{"prompt": f"Which tomato grows best in pot {i} on a balcony?"} for i in range(8)]
    rows += [{"prompt": "Please tell me the opening hours."}] * 4
    rows += [{"prompt": "Wie lange dauert es und was kostet das, bitte?"}]
    rows += [{"prompt": f"Why is my key {KEY} refused? Write to <b>ann@example.com</b>."}]
    log = tmp_path / "log.jsonl"
    log.write_text("".join(json.dumps(r) + "\n" for r in rows) + f'{{"prompt": "broken {KEY}\n' * 3 + "\n")
    assert main(["prompts", str(log), "--out", str(tmp_path / "out")]) == 0
    return Run(tmp_path / "out"), capsys.readouterr().out


def test_every_figure_follows_from_the_rows(cleaned):
    run, printed = cleaned
    data = describe_data(run)
    shown = {section.title: dict(section.rows) for section in data.sections}
    assert shown["From rows to prompts"] == {"read": 30, "kept": 23, "to train on": 21, "held out": 2}
    assert shown["Not kept, by reason"] == {"duplicate": 3, "broken JSON": 3, "empty": 1}
    assert shown["Said most often"] == {"Please tell me the opening hours.": 4}
    assert shown["Redacted, by kind"] == {"key": 1, "email": 1}
    assert shown["Words in the question"] == {"up to 10": 11, "11 to 30": 12}
    assert shown["Languages"]["en"] >= 20 and shown["Languages"]["de"] == 1
    assert list(shown["Topics, by key terms"].values())[:2] == [12, 8]
    assert data_text(data) in printed and "23 prompts (2 held out)" in printed


def test_the_page_shows_examples_and_no_secret(cleaned):
    run, printed = cleaned
    page = (run.folder / "prompts.html").read_text()
    assert "broken [KEY_1]" in page and "log.jsonl:27" in page
    for secret in (KEY, "ann@example.com"):
        assert secret not in page and secret not in printed
    assert "<b>" not in page.split("</header>")[1].replace("</b>", "")
    assert page.count("Revoke the keys") == 1 == printed.count("Revoke the keys")


def test_the_report_of_a_run_holds_it(cleaned):
    run, _ = cleaned
    page = render_report(SUMMARY, describe_data(run))
    assert "Topics, by key terms" in page and "broken [KEY_1]" in page and page.count(">Not kept, by reason<") == 1


def test_topics_claim_each_text_once():
    texts = ["renew my passport at the embassy"] * 6 + ["tomato plants on a balcony"] * 5 + ["passport and tomato"] * 2
    found = topics(texts + ["what else is there"] * 30)
    assert [n for _, n in found] == [8, 5]
    assert "passport" in found[0][0] and "embassy" in found[0][0] and "tomato" in found[1][0]


COUNTS = {"read": 10_000, "kept": 9_000, "train": 8_000, "heldout": 1_000, "dropped": {}, "redacted": {}}


@pytest.mark.parametrize(
    "changed, languages, repeated, told",
    [
        ({}, [("en", 9_000)], [("hi", 40)], []),
        ({"train": 50}, [], [], ["Gather more prompts: 50"]),
        ({"heldout": 49}, [], [], ["Hold out more prompts (prompts.heldout): with 49, a share is known to within 14"]),
        ({"heldout": 0}, [], [], ["Hold out some prompts"]),
        ({"dropped": {"broken JSON": 501, "too long": 400}}, [], [], ["5.0\N{NO-BREAK SPACE}% of the rows are 'br"]),
        ({}, [("en", 90), ("de", 9), ("fr", 1)], [], ["The prompts are in en and de"]),
        ({}, [], [("hi", 501)], ["One prompt makes 5.0"]),
        ({"redacted": {"key": 3}}, [], [], ["Revoke the keys and passwords that users pasted (3 found)"]),
    ],
)
def test_advice_follows_from_the_counts(changed, languages, repeated, told):
    found = list(advice(COUNTS | changed, languages, repeated))
    assert len(found) == len(told) and all(a.startswith(b) for a, b in zip(found, told, strict=True)), found


def test_help_does_not_wait_for_the_report():
    code = "import bakeoff.cli, sys; sys.exit(any(m in sys.modules for m in ('torch', 'jinja2', 'numpy')))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
