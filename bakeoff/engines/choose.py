"""Which engine draws the completions: what `sample.engine` names."""

from __future__ import annotations

from bakeoff import models
from bakeoff.config import Recipe
from bakeoff.engines import Engine
from bakeoff.engines.local import LocalEngine
from bakeoff.errors import UserError


def local(model: str, recipe: Recipe) -> Engine:
    return LocalEngine(*models.load_policy(model, recipe))


ENGINES = {"local": local}


def engine(model: str, recipe: Recipe) -> Engine:
    """The engine that `sample.engine` names, for `model`; made now, which may take a while."""
    return ENGINES[kind(recipe.sample.engine)](model, recipe)


def kind(setting: str) -> str:
    """The name in `ENGINES` of a `sample.engine` setting; raises UserError when it is none."""
    if setting not in ENGINES:
        raise UserError(f"sample.engine: unknown engine {setting!r}; known: {', '.join(ENGINES)}")
    return setting
