"""What the file of a study may say; `python -m benchmarks.study NAME` runs it."""

from __future__ import annotations

import dataclasses
import importlib
import tomllib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from bakeoff.errors import UserError
from bakeoff.run import Run
from bakeoff.settings import Recipe

FOLDER = Path(__file__).parent
Row = dict[str, Any]


@dataclasses.dataclass(frozen=True, slots=True)
class Arm:
    """A run that takes over another's tables and goes on by its own settings; then one of its policies is measured."""

    settings: Sequence[str] = ()
    start: str = "base"  # the run whose tables it takes over: the base, or an arm before it
    keep: str = "score"  # up to which stage it takes them over: nothing, prompts, sample, score
    until: str = "bake"  # its last stage; with none, the arm is the run that it starts from
    policy: str = "policy"  # what is measured: policy, control; of the untouched model: model, best_of_n, any_of_n
    prompts: int = 0  # so many of the groups that it takes over, others for each seed
    tries: int = 0  # the first so many completions of each group
    task: str = ""  # of several tasks, the one that it learns from and is measured on
    make: str = ""  # a function (base, run, **values) -> settings; it may write tables that are then not taken over
    values: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    folder: str = ""  # the end of its folder's name; studies share what has the same


@dataclasses.dataclass(frozen=True, slots=True)
class Study:
    """What a study's file says. Functions are those of its module, or MODULE.FUNCTION of another study's."""

    name: str
    about: str = ""
    arms: dict[str, Arm] = dataclasses.field(default_factory=dict)
    compare: Sequence[Sequence[str]] = ()  # pairs of arms, the first less the second; * is every other arm
    figures: Sequence[str] = ()  # quoted from the evaluation of the arms that have one, and their reward model
    lowest: Mapping[str, str] = dataclasses.field(default_factory=dict)  # a row that repeats the lowest of a pattern
    recipe: str = "recipes/filings.toml"
    base: str = "base"  # how the base's folder begins; studies share what has the same
    settings: Sequence[str] = (
        "bake.agreement_quantile=1.0",
        "bake.epochs=1",
    )  # of the base: all groups are baked, once
    until: str = "score"  # the base's last stage
    data: str = ""  # a function (folder, settings) -> more settings, which makes the base's data in its own folder
    rows: str = ""  # a function (bases) -> more rows
    topic: str = "studies"  # the file in docs/results for the rows
    replaces: Sequence[str] = ()  # patterns of rows that go; by default all of the study's name

    def function(self, name: str) -> Callable[..., Any]:
        module, _, own = name.rpartition(".")
        return getattr(importlib.import_module(f"benchmarks.studies.{module or self.name}"), own)


@dataclasses.dataclass(frozen=True, slots=True)
class Base:
    """The run of one seed that the arms start from."""

    run: Run
    recipe: Recipe

    def arm(self, name: str) -> Run:
        """A folder beside the base's."""
        run = Run(self.run.folder.with_name(f"{self.run.folder.name}-{name}"))
        run.folder.mkdir(parents=True, exist_ok=True)
        return run


def read(name: str) -> Study:
    """A study's file; raises UserError for unknown names in it."""
    values = tomllib.loads((FOLDER / f"{name}.toml").read_text(encoding="utf-8"))
    try:
        arms = {arm: Arm(**own) for arm, own in values.pop("arms", {}).items()}
        return Study(name, arms=arms, **values)
    except TypeError as error:
        raise UserError(f"{name}.toml: {error}") from None
