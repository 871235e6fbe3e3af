"""A function of the user's among the steps: what it returns is cleaned on, what it refuses or fails on is set aside."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from ingested import clean, lengths

from bakeoff.cli import main
from bakeoff.data.clean import user_step
from bakeoff.data.prepare import clean_into
from bakeoff.errors import UserError
from bakeoff.records import Prompt, read_table
from bakeoff.settings import Prompts

STEP = """
import os, time

def clean(prompts):
    out = []
    for text in prompts:
        if "ticket" in text:
            out.append((None, "a ticket of ann@example.com"))
        elif "secret" in text:
            out.append(None)
        else:
            out.append(text.replace("[PROD]", "  ").replace("MAIL", "bob@example.com"))
    return out

def picky(prompts, messages):
    if any("poison" in text for text in prompts):
        raise ValueError(f"cannot take {prompts}")
    if any("crash" in text for text in prompts):
        os._exit(3)
    return [f"{text} ({len(turns)})" for text, turns in zip(prompts, messages)]

def broken(prompts):
    return [text.no_such_thing for text in prompts]

def short(prompts):
    return prompts[1:] or [7]

def slow(prompts):
    time.sleep(60)
"""


@pytest.fixture
def step(tmp_path):
    (tmp_path / "mine.py").write_text(STEP)
    return lambda name: f"{tmp_path / 'mine.py'}:{name}"


def log(tmp_path, *texts) -> Path:
    path = tmp_path / "log.jsonl"
    path.write_text("".join(json.dumps({"prompt": t} if isinstance(t, str) else {"messages": t}) + "\n" for t in texts))
    return path


def asked(result):
    return [p.messages[-1].content for p in result.prompts]


def test_texts_are_cleaned_on_and_refusals_have_their_reason(tmp_path, step):
    path = log(
        tmp_path, "[PROD] Who wrote to MAIL?", "Where is my ticket now?", "What is the secret?", "[PROD] Hm", "{"
    )
    result = clean([path], Prompts(step=step("clean")))
    assert asked(result) == ["Who wrote to [EMAIL_1]?"]
    assert result.dropped == {"clean: a ticket of [EMAIL_1]": 1, "clean": 1, "one word": 1, "empty": 1}
    assert result.redacted == {"email": 1}
    assert not user_step._workers, "no process waits on"


def test_only_the_prompts_that_it_fails_on_are_set_aside(tmp_path, step):
    chat = [{"role": r, "content": "Is it like that?"} for r in ("user", "assistant", "user")]
    texts = [f"How high is the tower number {n}?" for n in range(70)]
    path = log(tmp_path, *texts[:20], "Is this one poison?", *texts[20:], "Does this one crash?", chat)
    result = clean([path], Prompts(step=step("picky")))
    assert asked(result) == [*(f"{t} (1)" for t in texts), "Is it like that? (3)"]
    assert result.dropped == {"picky failed: raised ValueError": 1, "picky failed: ended": 1}


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("broken", "broken: raised AttributeError: 'str' object has no attribute 'no_such_thing' .on 20 prompts"),
        ("short", r"returned 7; give a text, None, or \(None, why\)"),
        ("nothing", r"mine\.py defines no function 'nothing'; it defines \['broken', 'clean'"),
    ],
)
def test_a_function_that_cannot_work_is_one_clear_line(tmp_path, step, name, words):
    path = log(tmp_path, *[f"How high is the tower number {n}?" for n in range(20)])
    with pytest.raises(UserError, match=words):
        clean([path], Prompts(step=step(name)))


def test_one_that_hangs_is_ended_soon(tmp_path, step, monkeypatch):
    monkeypatch.setattr(user_step, "SECONDS", 0.2)
    monkeypatch.setattr(user_step, "ALONE", 0.1)
    path = log(tmp_path, *[f"How high is the tower number {n}?" for n in range(64)])
    with pytest.raises(UserError, match=r"timeout: not done within 0.1 s .on 8 prompts"):
        clean([path], Prompts(step=step("slow")))


def test_parts_made_before_the_file_changed_are_not_gone_on_with(tmp_path, step):
    path = log(tmp_path, "[PROD] Who wrote the first novel?")

    def stop(rows: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        clean_into(tmp_path / "out", [path], Prompts(step=step("clean")), count_tokens=lengths, progress=stop)
    (tmp_path / "mine.py").write_text(STEP.replace("[PROD]", "Who"))
    clean_into(tmp_path / "out", [path], Prompts(step=step("clean")), count_tokens=lengths)
    (prompt,) = read_table(tmp_path / "out" / "prompts.parquet", Prompt)
    assert prompt.messages[0].content == "[PROD] wrote the first novel?"


def test_from_the_command_line_and_a_recipe(tmp_path, step, capsys, monkeypatch):
    path = log(tmp_path, "[PROD] Who wrote the first novel?", "Where is my ticket now?")
    assert main(["prompts", str(path), f"step={step('clean')}", "--out", str(tmp_path / "a")]) == 0
    assert "2 rows: 1 prompts (0 held out); 1 clean: a ticket of [EMAIL_1]" in capsys.readouterr().out
    (tmp_path / "r.toml").write_text('model = ""\n[prompts]\nsources = ["log.jsonl"]\nstep = "mine.py:clean"\n')
    monkeypatch.chdir("/")
    assert main(["prompts", str(tmp_path / "r.toml"), "--out", str(tmp_path / "b")]) == 0
    first, second = (read_table(tmp_path / name / "prompts.parquet", Prompt) for name in "ab")
    assert first == second
    assert main(["prompts", str(path), "step=nowhere.py:f", "--out", str(tmp_path / "c")]) == 2
    error = capsys.readouterr().err
    assert "prompts.step: nowhere.py: cannot be read as Python" in error.splitlines()[-1]
