"""The README's commands are real: its make targets exist, its bakeoff commands run (on a tiny model, a small part)."""

import re
import shlex
from pathlib import Path

import pytest
from conftest import CONFIGS, byte_tokenizer
from transformers import AutoModelForCausalLM

from bakeoff import cli

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
COMMANDS = [line.split("#")[0].strip() for line in re.findall(r"^    ((?:make|bakeoff) .*)$", README, re.MULTILINE)]
SMALL = ("sample.prompts=8", "sample.group_size=4", "sample.max_tokens=8", "reward.epochs=1", "evaluate.samples=1")
STOPS = "sample.stop=['a','e','i','o','u','0','1','2','3','A','T','S','.',',']"  # so that some completions end


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A tiny model that can read a whole filing, byte by byte."""
    folder = tmp_path_factory.mktemp("readme")
    config = CONFIGS["llama"]()
    config.max_position_embeddings = 4096
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    byte_tokenizer().save_pretrained(folder)
    return folder


def test_the_readme_shows_the_main_commands():
    assert {"make demo", "make test"} <= set(COMMANDS)
    assert any(command.startswith("bakeoff run recipes/") for command in COMMANDS)


@pytest.mark.parametrize("command", [c for c in COMMANDS if c.startswith("make ")])
def test_make_targets_exist(command):
    assert re.search(rf"^{command.split()[1]}:", (ROOT / "Makefile").read_text(), re.MULTILINE)


def test_the_commands_run(model, tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    for command in (c for c in COMMANDS if c.startswith("bakeoff ")):
        arguments = [a.replace("runs/filings", str(tmp_path / "run")) for a in shlex.split(command)[1:]]
        anyway = ["--anyway"] if arguments[0] == "run" else []  # a tiny random model learns no picks
        settings = [f"model={model}", *SMALL, STOPS]
        if arguments[0] == "reward":
            settings = ["--base", str(model), "heldout=0.9"] if arguments[1] == "train" else []
        out = tmp_path / ("judge" if arguments[:2] == ["reward", "train"] else "run")
        assert cli.main([*arguments, *anyway, *settings, "--out", str(out)]) == 0, command
