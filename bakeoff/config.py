"""Recipes: read, with overrides, checked and written. What may be set is in settings.py.

`python -m bakeoff.config` prints the JSON schema, by which editors complete and check a recipe.
"""

import dataclasses
import json
import math
import tomllib
import typing
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import tomli_w
from pydantic import TypeAdapter, ValidationError

from bakeoff.errors import UserError, hint
from bakeoff.settings import FORMER, Recipe, Training

RECIPE = TypeAdapter(Recipe)
PATHS = {
    "prompts": ("sources", "decontaminate", "step"),
    "reward": ("picks",),
    "score": ("scorer", "answers", "rubric"),
    "evaluate": ("holdout",),
}
"""Settings that name files: relative ones are looked up from the recipe's folder. Of scorers, those that are a file."""
WANTED = {
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "finite_number": "a finite number",
    "string_type": "a string",
    "bool_type": "true or false",
    "list_type": "a list",
    "dict_type": "a table",
    "dataclass_type": "a section of settings",
    "greater_than": "more than {gt:g}",
    "greater_than_equal": "{ge:g} or more",
    "less_than": "less than {lt:g}",
    "less_than_equal": "{le:g} or less",
    "value_error": "{error}",
}
"""What to give in place of a mistake, by pydantic's kinds of errors."""


def load(recipe: Path, overrides: Sequence[str] = ()) -> Recipe:
    """Read a recipe and apply `section.key=value` overrides (values as in TOML; a bare word is a string).

    Raises UserError naming the file, the setting, what was found and what to give.
    """
    try:
        values = tomllib.loads(recipe.read_text(encoding="utf-8"))
    except (FileNotFoundError, IsADirectoryError):
        raise UserError(f"{recipe}: no such recipe; give the path of a TOML file") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{recipe}: not valid TOML ({error})") from None
    return overridden(_located(values, recipe.parent), overrides, str(recipe))


def overridden(values: dict[str, Any], overrides: Sequence[str], where: str) -> Recipe:
    """The recipe of nested settings and `section.key=value` overrides; `where` names their origin in errors."""
    for override in overrides:
        _apply(values, override)
    for name in _names(values):
        if instead := FORMER.get(name) or FORMER.get(name.removeprefix("tasks.")):
            raise UserError(f"{where}: {name} {instead}")
    try:
        return RECIPE.validate_json(json.dumps(_inherited(values), default=str))
    except ValidationError as error:
        raise UserError(f"{where}: {_mistake(error)}") from None


def dump(recipe: Recipe) -> str:
    """Every setting as TOML: what `config.toml` of a run holds."""
    return tomli_w.dumps(dataclasses.asdict(recipe))


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """One line `name: old -> new` per setting that differs between two nested dicts of settings.

    A setting that one of them lacks counts as left at its default.
    """
    was, now = (dict(_flat(dataclasses.asdict(Recipe()))) | dict(_flat(values)) for values in (old, new))
    return [f"{n}: {was.get(n)!r} -> {now.get(n)!r}" for n in sorted(was | now) if was.get(n) != now.get(n)]


def schema() -> dict[str, Any]:
    """The JSON schema of a recipe, with each setting's docstring."""
    made, shared = RECIPE.json_schema(), TypeAdapter(Training).json_schema()["properties"]
    for section in ("Reward", "Bake"):  # pydantic does not look for the docstrings of a base class
        made["$defs"][section]["properties"] |= shared
    return made


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _names(values: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    """The names of all sections and settings; those of tables in a list without their number."""
    for name, value in values.items():
        yield f"{prefix}{name}"
        for table in value if isinstance(value, list) else [value]:
            if isinstance(table, dict):
                yield from _names(table, f"{prefix}{name}.")


def _mistake(found: ValidationError) -> str:
    """The first mistake as a sentence: the setting, what was found, and what to give."""
    first, names = found.errors()[0], list[str]()
    section: Any = Recipe
    for depth, part in enumerate(first["loc"], 1):
        if isinstance(part, int):
            names[-1] += f" {part + 1}"
        elif dataclasses.is_dataclass(section):  # what stands behind a setting is one of the forms it may take
            known = typing.get_type_hints(section)
            names, setting = [*names, part], first["loc"][:depth]
            section = next(iter(typing.get_args(known.get(part))), known.get(part))
    if first["type"] == "unexpected_keyword_argument":
        return f"unknown setting {'.'.join(names)!r}; {hint(names[-1], known)}"
    forms = [e for e in found.errors() if e["loc"][: len(setting)] == setting]
    wanted = dict.fromkeys(WANTED.get(e["type"], e["msg"]).format(**e.get("ctx", {})) for e in forms)
    return f"{'.'.join(names)}: found {first['input']!r}; give {' or '.join(wanted)}"


def _inherited(values: dict[str, Any]) -> dict[str, Any]:
    """The settings, where each task has those of the recipe's [prompts] and [score] that it does not give."""
    if not isinstance(values.get("tasks"), list):
        return values
    tasks = [_with_sections(values, task) if isinstance(task, dict) else task for task in values["tasks"]]
    return values | {"tasks": tasks}


def _with_sections(values: Mapping[str, Any], task: dict[str, Any]) -> dict[str, Any]:
    sections = {name: (values.get(name, {}), task.get(name, {})) for name in ("prompts", "score")}
    return task | {n: own if not isinstance(own, dict) else common | own for n, (common, own) in sections.items()}


def _located(values: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """The settings with the paths in them, those of the tasks included, seen from the recipe's folder."""
    located = dict(values)
    for section, keys in PATHS.items():
        if isinstance(values.get(section), dict):
            located[section] = {k: _paths(folder, v, k) if k in keys else v for k, v in values[section].items()}
    if isinstance(values.get("tasks"), list):
        located["tasks"] = [_located(task, folder) if isinstance(task, dict) else task for task in values["tasks"]]
    if "holdout" in values:
        located["holdout"] = _paths(folder, values["holdout"], "holdout")
    return located


def _paths(folder: Path, value: Any, key: str) -> Any:
    if isinstance(value, list):
        return [_paths(folder, v, key) for v in value]
    if isinstance(value, dict):
        return {_paths(folder, name, key): weight for name, weight in value.items()}
    return _path(folder, value, key) if value and isinstance(value, str) else value


def _path(folder: Path, path: str, key: str) -> str:
    """A path from the recipe's folder; of a scorer or a database, that of its file or folder, if it has one."""
    if key == "sources" and path.startswith(("duckdb:", "hf:")):
        scheme, _, rest = path.partition(":")
        file, mark, query = rest.partition("?")
        return f"{scheme}:{(folder / file).resolve()}{mark}{query}" if file and scheme == "duckdb" else path
    if key != "scorer" or ".py:" in path:
        return str((folder / path).resolve())
    kind, colon, model = path.partition(":")
    return f"{kind}:{(folder / model).resolve()}" if colon and (folder / model).is_dir() else path


def _apply(values: dict[str, Any], override: str) -> None:
    name, equals, text = override.partition("=")
    if not equals:
        raise UserError(f"{override!r}: an override is section.key=value")
    *sections, key = name.split(".")
    for section in sections:
        values = values.setdefault(section, {})
        if not isinstance(values, dict):
            raise UserError(f"{override!r}: {section!r} is a setting, not a section")
    try:
        value = tomllib.loads(f"v = {text}")["v"]
        values[key] = value if not isinstance(value, float) or math.isfinite(value) else text  # a folder named nan
    except tomllib.TOMLDecodeError:
        values[key] = text


if __name__ == "__main__":
    print(json.dumps(schema(), indent=2))
