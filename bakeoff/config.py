"""Recipes: read, with overrides, and written; unknown names are errors. What may be set is in settings.py."""

import dataclasses
import math
import tomllib
import typing
from pathlib import Path

import tomli_w

from bakeoff import limits
from bakeoff.errors import UserError
from bakeoff.settings import DROPPED, Recipe
from bakeoff.typed import build

PATHS = ("prompts.sources", "prompts.avoid", "prompts.step", "reward.picks", "score.scorer", "score.answers",
         "score.rubric", "evaluate.gold")  # fmt: skip
"""Settings that name files: relative ones are looked up from the recipe's folder. Of scorers, those that are a file."""
OF_TASK = ("prompts", "score")
"""Sections that a task has of its own: what it leaves out is as in the recipe's."""


def load(recipe: Path, overrides: typing.Sequence[str] = ()) -> Recipe:
    """Read a recipe and apply `section.key=value` overrides (values as in TOML; a bare word is a string).

    Raises UserError naming the file or override, the setting, and the nearest known name.
    """
    try:
        values = tomllib.loads(recipe.read_text(encoding="utf-8"))
    except (FileNotFoundError, IsADirectoryError):
        raise UserError(f"{recipe}: no such recipe; give the path of a TOML file") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{recipe}: not valid TOML ({error})") from None
    return overridden(_located(values, recipe.parent), overrides, str(recipe))


def overridden(values: dict, overrides: typing.Sequence[str], where: str) -> Recipe:
    """The recipe of nested settings and `section.key=value` overrides; `where` names their origin in errors."""
    for override in overrides:
        _apply(values, override)
    for name, instead in DROPPED.items():
        section, _, key = name.partition(".")
        if isinstance(values.get(section), dict) and key in values[section]:
            raise UserError(f"{where}: {name} was dropped; {instead}")
    recipe = build(Recipe, _inherited(values), where)
    limits.check(recipe, where)
    return recipe


def dump(recipe: Recipe) -> str:
    """Every setting as TOML: what `config.toml` of a run holds."""
    return tomli_w.dumps(dataclasses.asdict(recipe))


def differences(old: dict, new: dict) -> list[str]:
    """One line `name: old -> new` per setting that differs between two nested dicts of settings.

    A setting that one of them lacks counts as left at its default.
    """
    return _differences(_filled(old, _DEFAULTS), _filled(new, _DEFAULTS), "")


def _filled(values: dict, defaults: dict) -> dict:
    """The settings, with those that are missing at their defaults."""
    return values | {
        name: _filled(values[name], value)
        if isinstance(value, dict) and isinstance(values.get(name), dict)
        else values.get(name, value)
        for name, value in defaults.items()
    }


_DEFAULTS = dataclasses.asdict(Recipe())


def _differences(old: dict, new: dict, prefix: str) -> list[str]:
    lines = []
    for name in sorted(old.keys() | new.keys()):
        a, b = old.get(name), new.get(name)
        if isinstance(a, dict) and isinstance(b, dict):
            lines += _differences(a, b, f"{prefix}{name}.")
        elif a != b:
            lines.append(f"{prefix}{name}: {a!r} -> {b!r}")
    return lines


def _inherited(values: dict) -> dict:
    """The settings, where each task has those of the recipe that it does not give."""
    if not isinstance(values.get("tasks"), list):
        return values
    tasks = [_with_sections(values, task) if isinstance(task, dict) else task for task in values["tasks"]]
    return values | {"tasks": tasks}


def _with_sections(values: dict, task: dict) -> dict:
    sections = {name: (values.get(name, {}), task.get(name, {})) for name in OF_TASK}
    return task | {n: own if not isinstance(own, dict) else common | own for n, (common, own) in sections.items()}


def _located(values: dict, folder: Path) -> dict:
    located = {k: dict(v) if isinstance(v, dict) else v for k, v in values.items()}
    for section, key in (name.split(".") for name in PATHS):
        if isinstance(located.get(section), dict):
            _locate(located[section], key, folder)
    tasks = located.get("tasks")
    if isinstance(tasks, list):
        located["tasks"] = [_located(task, folder) if isinstance(task, dict) else task for task in tasks]
    _locate(located, "gold", folder)
    return located


def _locate(values: dict, key: str, folder: Path) -> None:
    paths = values.get(key)
    if isinstance(paths, str) and paths:
        values[key] = _path(folder, paths, key)
    elif isinstance(paths, list):
        values[key] = [_path(folder, p, key) if isinstance(p, str) else p for p in paths]


def _path(folder: Path, path: str, key: str) -> str:
    """A path from the recipe's folder; of a scorer or a database, that of its file or folder, if it has one."""
    if key == "sources" and path.startswith(("duckdb:", "hf:")):
        scheme, _, rest = path.partition(":")
        file, mark, query = rest.partition("?")
        return f"{scheme}:{(folder / file).resolve()}{mark}{query}" if file and scheme == "duckdb" else path
    kind, file = ("reward_model:", path[13:]) if key == "scorer" and path.startswith("reward_model:") else ("", path)
    named = (folder / file).is_dir() if kind else key != "scorer" or ".py:" in file
    return f"{kind}{(folder / file).resolve()}" if named else path


def _apply(values: dict, override: str) -> None:
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
