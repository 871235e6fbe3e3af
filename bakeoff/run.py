"""The run folder: the only file that knows its paths."""

from __future__ import annotations

import contextlib
import json
import resource
import sys
import time
import tomllib
from collections.abc import Iterator
from pathlib import Path

from bakeoff import config
from bakeoff.errors import UserError
from bakeoff.records import atomic


class Run:
    """One folder: its settings, one Parquet table per stage, its models, metrics and report."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.config = folder / "config.toml"
        self.metrics = folder / "metrics.jsonl"
        self.policy = folder / "policy"
        self.reward_model = folder / "reward_model"
        self.summary = folder / "summary.json"
        self.report = folder / "report.html"

    def table(self, name: str) -> Path:
        return self.folder / f"{name}.parquet"

    def part(self, name: str, number: int) -> Path:
        """Part of a table whose stage is under way; gone when the table is whole."""
        return self.folder / "parts" / f"{name}-{number:05d}.parquet"

    def details(self, name: str) -> Path:
        """Figures of a stage that the report quotes."""
        return self.folder / f"{name}.json"

    def log(self, stage: str, **values: object) -> None:
        """Append one line to `metrics.jsonl`."""
        line = json.dumps({"stage": stage, "time": round(time.time(), 3), **values})
        with self.metrics.open("a", encoding="utf-8") as file:
            file.write(line + "\n")

    def logged(self) -> list[dict]:
        """The lines of `metrics.jsonl`; a line cut short by a kill is passed over."""
        lines = []
        if self.metrics.exists():
            for line in self.metrics.read_text(encoding="utf-8").splitlines():
                with contextlib.suppress(json.JSONDecodeError):
                    lines.append(json.loads(line))
        return lines

    @contextlib.contextmanager
    def timed(self, stage: str) -> Iterator[None]:
        """Log the seconds a stage took, finished or not, so that the times of resumed stages add up."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.log(stage, seconds=round(time.perf_counter() - start, 2), peak_memory_mb=peak_memory_mb())


def open_run(folder: Path, recipe: config.Recipe) -> Run:
    """Make the folder, or go on with it if its settings are the same; else UserError lists the differences."""
    run = Run(folder)
    new = config.dump(recipe)
    if run.config.exists():
        old = tomllib.loads(run.config.read_text(encoding="utf-8"))
        changed = config.differences(old, tomllib.loads(new))
        if changed:
            raise UserError(
                f"{folder}: was made with other settings ({'; '.join(changed)}); "
                "use the same settings to go on, or another --out"
            )
        return run
    folder.mkdir(parents=True, exist_ok=True)
    write_text(run.config, new)
    return run


def write_text(path: Path, text: str) -> None:
    """Write a text file atomically."""
    with atomic(path) as beside:
        beside.write_text(text, encoding="utf-8")


def write_json(path: Path, value: object) -> None:
    write_text(path, json.dumps(value, indent=2) + "\n")


def read_json(path: Path) -> dict:
    return json.loads(path.read_text(encoding="utf-8"))


def peak_memory_mb() -> int:
    """The most memory this process has held at once, in MB (10^6 bytes)."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(peak / 1e6) if sys.platform == "darwin" else round(peak * 1024 / 1e6)
