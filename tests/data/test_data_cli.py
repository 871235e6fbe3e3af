"""`bakeoff prompts SOURCE... --out DIR`: from a log to clean prompts without a recipe."""

from __future__ import annotations

import json
import os
import time

import pytest

from bakeoff.cli import main
from bakeoff.records import Prompt, read_table


@pytest.fixture
def log(tmp_path):
    path = tmp_path / "log.csv"
    rows = [("Rivers", f"Which river number {n} is longest? ask ann{n}@example.com") for n in range(20)]
    path.write_text("title,body\n" + "".join(f"{a},{b}\n" for a, b in rows) + ",ok\n")
    return path


def test_sources_without_a_recipe(log, tmp_path, capsys):
    out = tmp_path / "out"
    command = ["prompts", str(log), "--prompt-field", "{title}:\\n{body}", "--out", str(out), "heldout=0.25"]
    assert main(command) == 0
    said = capsys.readouterr().out
    assert said.startswith(f"{log}: field '{{title}}:\\n{{body}}' (21), \"Rivers: Which river number 0")
    assert "21 rows: 20 prompts (5 held out); 1 one word" in said
    prompts = read_table(out / "prompts.parquet", Prompt)
    assert prompts[0].messages[0].content == "Rivers:\nWhich river number 0 is longest? ask [EMAIL_1]"
    assert sum(p.split == "heldout" for p in prompts) == 5
    assert json.loads((out / "prompts.json").read_text())["redacted"] == {"email": 20}
    before = (out / "prompts.parquet").read_bytes()
    capsys.readouterr()
    assert main(command) == 0, "the same command again"
    assert (out / "prompts.parquet").read_bytes() == before
    assert capsys.readouterr().err == ""
    os.utime(log, (time.time() + 60,) * 2)
    assert main(command) == 0 and (out / "prompts.parquet").read_bytes() == before
    assert f"warning: {log} is newer than {out / 'prompts.json'}" in capsys.readouterr().err


def test_a_recipe_goes_on_working(log, tmp_path, capsys):
    recipe = tmp_path / "r.toml"
    recipe.write_text(f'model = ""\n[prompts]\nsources = ["{log.name}"]\nfields.prompt = "body"\n')
    assert main(["prompts", str(recipe), "prompts.heldout=0.5", "--out", str(tmp_path / "run")]) == 0
    assert len(read_table(tmp_path / "run" / "prompts.parquet", Prompt)) == 20


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["log.csv"], "give --out DIR"),
        (["nowhere.jsonl", "--out", "o"], "nowhere.jsonl: no such file"),
        (["log.csv", "redakt=[]", "--out", "o"], "did you mean 'redact'"),
        (["log.csv", 'languages=["eng"]', "--out", "o"], "did you mean 'en'"),
    ],
)
def test_what_cannot_be_is_one_line(log, tmp_path, capsys, monkeypatch, arguments, said):
    monkeypatch.chdir(tmp_path)
    assert main(["prompts", *arguments]) == 2
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == 1


def test_picks_are_shown_before_and_after(tmp_path, capsys):
    path = tmp_path / "log.jsonl"
    things = ["apples", "rivers", "stones", "clouds", "horses", "trains"]
    rows = [{"prompt": f"Where are {t} from?", "response": "No.", "edited": f"{t} are from far."} for t in things]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert main(["prompts", str(path), "--out", str(tmp_path / "out")]) == 0
    said = capsys.readouterr().out
    assert "field 'prompt' (6); of old answers: edit (6), \"Where are apples" in said
    assert "picks.parquet: 6, from what users said of old answers: 6 edit" in said
