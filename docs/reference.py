"""Makes the reference from docstrings: `python docs/reference.py` writes docs/settings.md and docs/records.md.

With `--check` it writes nothing, and ends with 1 where a page differs from the source.
"""

import ast
import importlib
import re
import sys
import typing
from collections.abc import Iterator, Sequence
from pathlib import Path

DOCS = Path(__file__).resolve().parent
sys.path.insert(0, str(DOCS.parent))

SETTINGS = "bakeoff.settings"
RECORDS = "bakeoff.records"
SECTIONS = {
    "Recipe": "",
    "Prompts": "prompts",
    "Fields": "prompts.fields",
    "Sample": "sample",
    "Variant": "[sample.variants]",
    "Reward": "reward",
    "Scoring": "score",
    "Bake": "bake",
    "Evaluate": "evaluate",
    "Task": "[tasks]",
}
"""The classes of settings in the order of a run, with the table of a recipe that each stands for."""
TABLES = {
    "Message": "",
    "Prompt": "prompts.parquet",
    "SetAside": "set_aside.parquet",
    "LoggedPick": "picks.parquet",
    "Completion": "completions.parquet",
    "Failure": "completions_failed.parquet",
    "Score": "scores.parquet",
}
"""The records that lie in a run folder, with their files."""
SIGNS = {"ge": "≥", "gt": ">", "le": "≤", "lt": "<"}
HEAD = "<!-- Made by `python docs/reference.py`; edit the docstrings instead. -->\n"
SETTINGS_HEAD = """
# Settings

Look up what a recipe may set, and the default of what it leaves out. A recipe holds settings, and a command may follow
with others:

```sh
bakeoff run recipe.toml sample.group_size=8 bake.rounds=2
```

Relative paths are looked up from the recipe's folder. An unknown name is an error that suggests the nearest known one.
An editor that knows JSON schemas completes and checks a recipe whose first line is `#:schema recipe.schema.json`; the
file is [here](recipe.schema.json).
"""
RECORDS_HEAD = """
# Records

Read the tables of a run folder from your own programs. Each is a Parquet file; ids join them:

```python
import pyarrow.parquet as pq

rewards = {row["completion_id"]: row["reward"] for row in pq.read_table("runs/recipe/scores.parquet").to_pylist()}
for row in pq.read_table("runs/recipe/completions.parquet").to_pylist():
    print(rewards[row["id"]], row["text"])
```

A file that exists is complete. Ids are content hashes: equal content has equal ids in any run. `config.toml` beside
them holds every setting. `versions.json` holds the versions of bakeoff, torch, transformers and Python, and the
platform, of every process that worked on the run; a command that goes on with a run of another version says so.
"""


def main(arguments: Sequence[str]) -> int:
    """Write the pages, or with `--check` say which differ."""
    stale = 0
    for name, text in {"settings.md": settings(), "records.md": records()}.items():
        path = DOCS / name
        if "--check" in arguments:
            if not path.exists() or path.read_text(encoding="utf-8") != text:
                print(f"docs/{name} differs from the docstrings; run: python docs/reference.py", file=sys.stderr)
                stale = 1
        else:
            path.write_text(text, encoding="utf-8")
    return stale


def settings() -> str:
    """The page of all settings."""
    lines = [HEAD, SETTINGS_HEAD.strip("\n"), ""]
    module, classes = importlib.import_module(SETTINGS), _classes(SETTINGS)
    for name, section in SECTIONS.items():
        node, defaults = classes[name], getattr(module, name)()
        lines += [
            f"## `[{section}]`" if section else "## At the top of a recipe",
            "",
            ast.get_docstring(node) or "",
            "",
        ]
        lines += ["| setting | default | allowed | meaning |", "|---|---|---|---|"]
        for field in [f for of in [*map(ast.unparse, node.bases), name] for f in _fields(classes[of]) if f.text]:
            lines.append(
                f"| `{field.name}` | {_default(getattr(defaults, field.name))} | {field.bounds} | {field.text} |"
            )
        lines.append("")
    return _linked("\n".join(lines))


def records() -> str:
    """The page of the tables in a run folder."""
    lines = [HEAD, RECORDS_HEAD.strip("\n"), ""]
    classes = _classes(RECORDS)
    for name, file in TABLES.items():
        said = ast.get_docstring(classes[name]) or "One turn of a conversation."
        lines += [f"## `{file}`" if file else f"## {name}", "", said, ""]
        lines += ["| column | type | meaning |", "|---|---|---|"]
        lines += [f"| `{field.name}` | `{field.kind}` | {field.text} |" for field in _fields(classes[name])]
        lines.append("")
    return _linked("\n".join(lines))


def _classes(module: str) -> dict[str, ast.ClassDef]:
    path = DOCS.parent / f"{module.replace('.', '/')}.py"
    return {n.name: n for n in ast.parse(path.read_text(encoding="utf-8")).body if isinstance(n, ast.ClassDef)}


class Field(typing.NamedTuple):
    """An attribute of a class: its name, its type, the numbers that it may be, and its docstring in one line."""

    name: str
    kind: str
    bounds: str
    text: str


def _fields(node: ast.ClassDef) -> Iterator[Field]:
    for field, after in zip(node.body, [*node.body[1:], None], strict=True):
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name):
            documented = isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant)
            given = [word for word in ast.walk(field) if isinstance(word, ast.keyword) and word.arg in SIGNS]
            bounds = [f"{SIGNS[str(word.arg)]} {ast.unparse(word.value)}" for word in given]
            kind = ast.unparse(field.annotation).replace("|", "or")
            text = _cell(str(after.value.value)) if documented else ""
            yield Field(field.target.id, kind, ", ".join(bounds), text)


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def _default(value: object) -> str:
    """A default as TOML writes it; empty is said in words."""
    if value in ("", []):
        return "empty"
    if type(value).__name__ in SECTIONS:
        return "as the recipe's"
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    return f"`{value!r}`".replace("'", '"') if isinstance(value, str | list) else f"`{value}`"


def _linked(text: str) -> str:
    """With links to the pages that docstrings name."""
    return re.sub(r"\bdocs/(\w+)\.md", r"[\1](\1.md)", text).rstrip("\n") + "\n"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
