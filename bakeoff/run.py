"""The run folder: the only file that knows its paths."""

import contextlib
import importlib.metadata
import json
import operator
import os
import platform
import re
import resource
import shutil
import sys
import time
import tomllib
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

from bakeoff import __version__, config
from bakeoff.errors import UserError
from bakeoff.progress import Progress
from bakeoff.records import atomic, read_table, write_table
from bakeoff.settings import Recipe

G = TypeVar("G")
R = TypeVar("R")

GROUPS_PER_PART = 64
"""Prompts a killed process loses at most."""


class Run:
    """One folder: its settings, one Parquet table per stage, its models, metrics and report."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.config = folder / "config.toml"
        self.versions = folder / "versions.json"
        self.metrics = folder / "metrics.jsonl"
        self.policy = folder / "policy"
        self.control = folder / "control"
        self.reward_model = folder / "reward_model"
        self.referee = folder / "referee"
        self.summary = folder / "summary.json"
        self.report = folder / "report.html"

    def members(self, count: int) -> list[Path]:
        """The folders of an ensemble's reward models, the first learnt from all picks."""
        return [self.reward_model, *(self.folder / f"reward_model_{number}" for number in range(2, count + 1))]

    def round(self, stage: str, number: int) -> "Run":
        """The folder of one round of a bake; 0 is the reference."""
        return Run(self.folder / "rounds" / f"{stage}-{number}")

    def task(self, name: str) -> "Run":
        """The folder in which the prompts of one of several tasks are cleaned."""
        return Run(self.folder / "tasks" / name)

    def whole(self) -> "Run":
        """The run that a round belongs to; itself when it is none."""
        ours = self.folder.parent.name == "rounds" and re.fullmatch(r"(bake|control)-\d+", self.folder.name)
        return Run(self.folder.parent.parent) if ours else self

    def table(self, name: str) -> Path:
        return self.folder / f"{name}.parquet"

    def part(self, name: str, number: int) -> Path:
        """Part of a table whose stage is under way; gone when the table is whole."""
        return self.folder / "parts" / f"{name}-{number:05d}.parquet"

    def checkpoint(self, stage: str) -> Path:
        """The state of a training that is under way; gone when its model is saved, or the next round has it."""
        return self.folder / f"{stage}.safetensors"

    def parts(self, name: str) -> list[Path]:
        """The parts of a table that are there, in order."""
        return sorted(self.folder.glob(f"parts/{name}-*.parquet"))

    def details(self, name: str) -> Path:
        """Figures of a stage that the report quotes."""
        return self.folder / f"{name}.json"

    def log(self, stage: str, **values: object) -> None:
        """Append one line to `metrics.jsonl`."""
        line = json.dumps({"stage": stage, "time": round(time.time(), 3), **values}) + "\n"
        with self.metrics.open("ab+") as file:
            whole = file.tell() == 0 or (file.seek(-1, os.SEEK_END) >= 0 and file.read(1) == b"\n")
            file.write(line.encode() if whole else b"\n" + line.encode())  # what was cut short spoils no other line

    def logged(self) -> list[dict]:
        """The lines of `metrics.jsonl`; a line cut short by a kill is passed over."""
        lines = []
        if self.metrics.exists():
            for line in self.metrics.read_text(encoding="utf-8").splitlines():
                with contextlib.suppress(json.JSONDecodeError):
                    lines.append(json.loads(line))
        return lines

    def steps(self, stage: str) -> list[dict]:
        """The logged steps of a training, each once, as last taken."""
        return list(
            {line["step"]: line for line in self.logged() if line["stage"] == stage and "step" in line}.values()
        )

    @contextlib.contextmanager
    def timed(self, stage: str) -> Iterator[None]:
        """Log the seconds a stage took, finished or not, so that resumed stages add up, but for a SIGKILL."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.log(stage, seconds=round(time.perf_counter() - start, 2), peak_memory_mb=peak_memory_mb())


def open_run(folder: Path, recipe: Recipe) -> Run:
    """Make the folder, or go on with it if its settings are the same or nothing is in it; else UserError lists the
    differences.

    What a killed process was writing is removed: one process works on a run at a time.
    """
    run = Run(folder)
    if folder.exists() and not folder.is_dir():
        raise UserError(f"{folder}: is a file; --out names a folder")
    for unfinished in list(folder.rglob(".*.tmp")):
        shutil.rmtree(unfinished) if unfinished.is_dir() else unfinished.unlink()
    new = config.dump(recipe)
    if run.config.exists():
        try:
            old = tomllib.loads(run.config.read_text(encoding="utf-8"))
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise UserError(f"{run.config}: damaged ({error}); mend it, or take another --out") from None
        changed = config.differences(old, tomllib.loads(new))
        begun = any(p.is_file() and p not in (run.config, run.versions, run.metrics) for p in folder.rglob("*"))
        if changed and begun:
            raise UserError(
                f"{folder}: was made with other settings ({'; '.join(changed)}); "
                "use the same settings to go on, or another --out"
            )
        if not changed:
            _note_versions(run, [] if not begun else [{"bakeoff": "of no known version"}])
            return run
    folder.mkdir(parents=True, exist_ok=True)
    write_text(run.config, new)
    _note_versions(run, [])
    return run


def other_versions(run: Run) -> Iterator[str]:
    """A sentence for each other version of bakeoff that has worked on the run."""
    for version in dict.fromkeys(made["bakeoff"] for made in read_json(run.versions)["made_by"]):
        if version != __version__:
            yield f"{run.folder}: bakeoff {version} worked on it, this is {__version__}: a new --out mixes no versions"


def _note_versions(run: Run, before: list[dict[str, str]]) -> None:
    """Add what this process runs on to `versions.json`, unless it stands there; `before`: what there is without it."""
    made = read_json(run.versions)["made_by"] if run.versions.exists() else before
    own = {"bakeoff": __version__, **{name: importlib.metadata.version(name) for name in ("torch", "transformers")}}
    own |= {"python": platform.python_version(), "platform": platform.platform()}
    if own not in made:
        write_json(run.versions, {"made_by": [*made, own]})


def table_in_parts(
    run: Run,
    name: str,
    record: type[R],
    groups: Sequence[G],
    make: Callable[[Sequence[G], Callable[[], object]], Iterable[R]],
) -> list[R]:
    """The run's table `name`, made from `groups` in parts that a stopped process leaves behind and the next one keeps.

    `make` gives the rows of some groups, in their order, and calls its second argument as each group is done.
    """
    if run.table(name).exists():
        return read_table(run.table(name), record)
    chunks = [groups[i : i + GROUPS_PER_PART] for i in range(0, len(groups), GROUPS_PER_PART)]
    paths = [run.part(name, number) for number in range(len(chunks))]
    run.part(name, 0).parent.mkdir(exist_ok=True)
    made = sum(len(chunk) for chunk, path in zip(chunks, paths, strict=True) if path.exists())
    with Progress(name, len(groups), initial=made, unit="prompts", in_waves=True) as bar:
        for chunk, path in zip(chunks, paths, strict=True):
            if not path.exists():
                write_table(path, record, make(chunk, bar.update))
                bar.mark()
    rows = [row for path in paths for row in read_table(path, record)]
    write_table(run.table(name), record, rows)
    for path in paths:
        path.unlink()
    return rows


def write_text(path: Path, text: str) -> None:
    """Write a text file atomically."""
    with atomic(path) as beside:
        beside.write_text(text, encoding="utf-8")


def write_json(path: Path, value: object) -> None:
    """Write JSON atomically; what is not plain, as a measured quantity, says itself what it is by `as_dict`."""
    write_text(path, json.dumps(value, indent=2, default=operator.methodcaller("as_dict")) + "\n")


def read_json(path: Path) -> dict:
    return json.loads(path.read_text(encoding="utf-8"))


def peak_memory_mb() -> int:
    """The most memory this process has held at once, in MB (10^6 bytes)."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(peak / 1e6) if sys.platform == "darwin" else round(peak * 1024 / 1e6)
