"""The numbers that a recipe may hold: limits.toml says which."""

import math
import operator
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bakeoff.errors import UserError
from bakeoff.settings import Recipe

LIMITS = tomllib.loads(Path(__file__).with_name("limits.toml").read_text(encoding="utf-8"))
LIMITS["tasks"] |= {name: LIMITS[name] for name in ("prompts", "score")}
WORDS = {
    "least": (operator.ge, "{} or more"),
    "above": (operator.gt, "more than {}"),
    "most": (operator.le, "at most {}"),
    "below": (operator.lt, "less than {}"),
    "also": (operator.ne, "or {}"),
}


def check(recipe: Recipe, where: str) -> None:
    """Raise UserError, begun by `where`, for a number that makes no sense."""
    _check(recipe, LIMITS, f"{where}: ")


def _check(section: Any, limits: Mapping[str, Any], where: str) -> None:
    for name, limit in limits.items():
        value = getattr(section, name)
        if not isinstance(value, int | float):
            for one in value if isinstance(value, list) else [value]:
                _check(one, limit, f"{where}{name}.")
        elif value != limit.get("also") and not (
            math.isfinite(value) and all(WORDS[word][0](value, bound) for word, bound in limit.items())
        ):
            said = ", ".join(WORDS[word][1].format(bound) for word, bound in limit.items())
            raise UserError(f"{where}{name}: {value}: give {said}")
