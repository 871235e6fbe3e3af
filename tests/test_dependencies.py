"""What the package imports is what a bare `pip install .` brings; what extras bring is imported when it is used."""

import ast
import importlib.metadata
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
FILES = sorted((ROOT / "bakeoff").rglob("*.py"))


def normal(name):
    return re.sub(r"[-_.]+", "-", name).lower()


def named(requirements):
    return {normal(re.match(r"[\w.-]+", r).group()) for r in requirements if "extra ==" not in r}


def closure(names):
    """The distributions that installing some brings, as far as they are installed here."""
    found, todo = set(), set(names)
    while todo:
        name = todo.pop()
        found.add(name)
        try:
            todo |= named(importlib.metadata.requires(name) or []) - found
        except importlib.metadata.PackageNotFoundError:  # of another platform
            continue
    return found


BARE = closure(named(PROJECT["dependencies"]))
PROVIDED = importlib.metadata.packages_distributions()


def brought(module):
    root = module.split(".")[0]
    return (
        root in sys.stdlib_module_names or root == "bakeoff" or bool({normal(d) for d in PROVIDED.get(root, [])} & BARE)
    )


COMES_WITH = {"psutil": "vllm"}
"""Packages that need no catch of their own in a module that catches the lack of another, which brings them."""


def imports(tree, *, guarded=False):
    """(module, whether a `try` with an `except ImportError` is around it, or a check for type checkers alone)."""
    for node in ast.iter_child_nodes(tree):
        inside = guarded or (isinstance(node, ast.Try) and "ImportError" in ast.unparse(node.handlers))
        inside = inside or (isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test))
        if isinstance(node, ast.Import):
            yield from ((alias.name, inside) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module, inside
        yield from imports(node, guarded=inside)


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_what_the_bare_install_does_not_bring_is_imported_with_a_word_on_what_to_install(path):
    found = [(module.split(".")[0], guarded) for module, guarded in imports(ast.parse(path.read_text()))]
    caught = {root for root, guarded in found if guarded}
    for root, _ in found:
        assert brought(root) or COMES_WITH.get(root, root) in caught, f"{root} is an extra's; catch its ImportError"


def test_the_rule_tells_the_two_apart():
    unguarded = "def f():\n    import duckdb"
    guarded = "try:\n    import duckdb\nexcept ImportError:\n    pass"
    assert [g or brought(m) for m, g in imports(ast.parse(unguarded))] == [False]
    assert [g or brought(m) for m, g in imports(ast.parse(guarded))] == [True]
    assert brought("torch") and brought("jinja2") and not brought("pytest") and not brought("peft")


def test_help_needs_no_torch():
    code = """
import sys, bakeoff.cli
try:
    bakeoff.cli.main(["--help"])
except SystemExit:
    assert "torch" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)
