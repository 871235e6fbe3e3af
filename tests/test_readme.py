"""The README is short, its commands are real, and its recipe of one's own runs (on a tiny model, a small part)."""

import re
import shlex
from pathlib import Path

import pytest
from conftest import CONFIGS, byte_tokenizer
from transformers import AutoModelForCausalLM

from bakeoff import cli

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
SHELL = [
    line.split("#")[0].strip()
    for block in re.findall(r"^```sh\n(.*?)^```$", README, re.M | re.S)
    for line in block.splitlines()
]
SMALL = ("sample.prompts=8", "sample.group_size=4", "sample.max_tokens=8", "reward.epochs=1")
SMALL += ("evaluate.samples=1", "evaluate.prompts=8")
STOPS = "sample.stop=['a','e','i','o','u','0','1','2','3','A','T','S','.',',']"  # so that some completions end


def block(kind):
    """The one block of a kind."""
    (found,) = re.findall(rf"^```{kind}\n(.*?)^```$", README, re.M | re.S)
    return found


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A tiny model that can read a whole filing, byte by byte."""
    folder = tmp_path_factory.mktemp("readme")
    config = CONFIGS["llama"]()
    config.max_position_embeddings = 4096
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    byte_tokenizer().save_pretrained(folder)
    return folder


def test_it_takes_three_minutes():
    assert README.count("\n") <= 120


def test_it_shows_the_main_commands():
    assert SHELL == [
        "make demo",
        ".venv/bin/bakeoff run recipes/filings.toml",
        "bakeoff run recipe.toml",
        "vllm serve runs/recipe/policy",
    ]
    assert len(block("toml").strip().splitlines()) <= 10


def test_the_full_recipe_runs(model, tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    command = [
        *shlex.split(SHELL[1])[1:],
        "--anyway",
        f"model={model}",
        *SMALL,
        STOPS,
    ]  # a tiny random model learns no picks
    assert cli.main([*command, "--out", str(tmp_path / "run")]) == 0


def test_the_recipe_of_ones_own_runs_and_the_model_loads(model, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    filings = ROOT / "examples" / "filings"
    Path("logs").mkdir()
    Path("logs/log.jsonl").write_text("".join((filings / "log.jsonl").read_text().splitlines(keepends=True)[:120]))
    Path("picks.jsonl").write_text((filings / "picks_200.jsonl").read_text())
    Path("recipe.toml").write_text(block("toml"))
    command = [*shlex.split(SHELL[2])[1:], "--anyway", f"model={model}", *SMALL, STOPS]
    assert cli.main(command) == 0
    assert Path("runs/recipe/report.html").exists() and Path("runs/recipe/summary.json").exists()
    exec(compile(block("python"), "README.md", "exec"), {})
