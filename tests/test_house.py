"""The rules of the house that a test can hold: imports point down the list, files and functions stay small."""

import ast
import dataclasses
import re
import typing
from pathlib import Path

import pytest

from bakeoff.settings import Fields, Recipe, Task, Variant

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "bakeoff"
ORDER = (
    ("errors", "progress"),
    ("records",),
    ("settings",),
    ("config", "tasks"),
    ("run", "sandbox_worker"),
    ("sandbox", "scorer"),
    ("math",),
    ("models",),
    ("data",),
    ("sampling",),
    ("preferences",),
    ("scoring",),
    ("training",),
    ("evaluation",),
    ("report",),
    ("check", "pipeline"),
    ("cli",),
    ("__main__", "__init__"),
)
"""Files and folders of the package from the bottom up: each imports only from lines above its own, or itself."""
LINES, PACKAGE_LINES, FUNCTION_LINES = 320, 18180, 55
FILES = sorted(PACKAGE.rglob("*.py"))
PARTS = {part for parts in ORDER for part in parts}


def level(part):
    return next(i for i, parts in enumerate(ORDER) if part in parts)


def imported(path):
    """The files or folders directly under the package that a module imports."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("bakeoff"):
            parts = node.module.split(".")
            yield from parts[1:2] or (alias.name for alias in node.names if alias.name in PARTS)
        elif isinstance(node, ast.Import):
            yield from (a.name.split(".")[1] for a in node.names if a.name.startswith("bakeoff."))


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_point_down(path):
    part = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    for other in set(imported(path)) - {part}:
        if part != "cli" and part != "__main__":  # these import what a command needs, when it runs
            assert level(other) < level(part), f"{part} imports {other}"


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_files_and_functions_are_small(path):
    text = path.read_text()
    assert text.count("\n") <= LINES
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef):
            assert node.end_lineno - node.lineno < FUNCTION_LINES, f"{node.name} is too long"


def test_the_package_is_small_and_well_named():
    assert sum(p.read_text().count("\n") for p in FILES) <= PACKAGE_LINES
    assert not {p.stem for p in FILES} & {
        "utils",
        "util",
        "common",
        "helpers",
        "base",
        "legacy",
        "experimental",
        "misc",
    }


def sections(section=Recipe):
    """The classes of a recipe's sections, each once, with what they inherit from."""
    found = dict.fromkeys(cls for cls in reversed(section.__mro__) if dataclasses.is_dataclass(cls))
    for hint in typing.get_type_hints(section).values():
        for inner in filter(dataclasses.is_dataclass, (hint, *typing.get_args(hint))):
            found |= sections(inner)
    return found


def own(section):
    """The settings that a class itself declares, without the sections in it."""
    hints = {name: typing.get_type_hints(section)[name] for name in section.__annotations__}
    return [name for name, hint in hints.items() if hint is Fields or not dataclasses.is_dataclass(hint)]


READ_AS = {"Recipe": "recipe", "Training": "settings", "Scoring": "score", "Fields": "fields|named"}
SETTINGS = [(section, name) for section in sections() for name in own(section)]


def test_there_are_few_settings():
    """A list of tables, and the table of fields, is one; what two sections inherit is one."""
    tables = {Fields, Variant, Task}
    assert sum(section not in tables for section, _ in SETTINGS) <= 45


@pytest.mark.parametrize("section, setting", SETTINGS, ids=lambda x: getattr(x, "__name__", x))
def test_every_setting_is_documented_and_read(section, setting):
    source = (PACKAGE / "settings.py").read_text()
    body = source[re.search(rf"class {section.__name__}\b", source).start() :].split("\n@dataclass")[0]
    one_of_fields = typing.get_type_hints(section)[setting] is Fields  # whose class says what it is
    assert one_of_fields or re.search(rf'^    {setting}: .*\n    """', body, re.MULTILINE), (
        f"{setting} has no docstring"
    )
    others = "".join(p.read_text() for p in FILES if p.name != "settings.py")
    name = READ_AS.get(section.__name__, section.__name__.lower())
    assert re.search(rf"\b(?:settings|recipe|sampling|{name})\.{setting}\b", others), f"{setting} is read by nothing"
