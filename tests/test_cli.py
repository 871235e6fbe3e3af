"""The help of the command line: every command stands in a part of the loop and shows an example that can be given."""

import shlex
from pathlib import Path

import pytest

from bakeoff import cli

ROOT = Path(__file__).parents[1]
NAMES = [name for commands in cli.COMMANDS.values() for name in commands]


def shown(*words, capsys):
    with pytest.raises(SystemExit) as ended:
        cli.main([*words, "--help"])
    assert ended.value.code == 0
    return capsys.readouterr().out


def test_the_commands_stand_in_the_order_of_the_loop(capsys):
    lines = shown(capsys=capsys).splitlines()
    groups = [line[:-1] for line in lines if line in {f"{group}:" for group in cli.COMMANDS}]
    assert groups == list(cli.COMMANDS)
    assert [n for line in lines for n in NAMES if line.startswith(f"  {n:<13} ")] == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_every_command_shows_an_example_that_it_takes(name, capsys):
    (example,) = [line for line in shown(*name.split(), capsys=capsys).splitlines() if line.startswith("  bakeoff ")]
    words = shlex.split(example)[1:]
    assert " ".join(words[: len(name.split())]) == name
    words[: len(name.split())] = [name]
    parsed, rest = cli._parser().parse_known_args(words)
    assert parsed.stage == name and all("=" in word for word in rest)
    for word in words:
        assert not word.startswith(("recipes/", "examples/")) or (ROOT / word).exists()
