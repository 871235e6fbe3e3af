"""Measured numbers have one home: docs/results/TOPIC.json, written by the command that measured them.

`python -m benchmarks.results` makes the tables of README.md and docs/*.md again. In those files

    <!-- results: TOPIC name1 "a label=name2" OTHER/name3 -->
    <!-- end -->

holds a table of the named results. `demo.seed*` takes all that match. A row may have a label, and come from another
topic. Within a sentence, `<!-- value: TOPIC name --><!-- end -->` holds one number. A result keeps the command that
measured it, also where that has another name now.
"""

from __future__ import annotations

import argparse
import datetime
import fnmatch
import json
import math
import os
import platform
import re
import shlex
import subprocess
import sys
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from bakeoff.math.statistics import Measured
from bakeoff.records import atomic

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "docs" / "results"
MEASURED = ("name", "value", "low", "high", "n")
STAMPED = ("command", "commit", "date", "machine")
WIDTH = 100
"""Characters of a command that are shown under a table; docs/results has all of it."""
MARKER = re.compile(r"<!-- (results|value): (\S+) (.+?) -->(.*?)<!-- end -->", re.DOTALL)

Row = Mapping[str, Any]


def record(topic: str, rows: Iterable[Row], results: Path = RESULTS, replaced: Sequence[str] = ()) -> None:
    """Write results {name, value, low, high, n} (low, high and n may be absent) to TOPIC.json, each name once.

    Command, commit, date and machine are those of this process; a row may name the `command` that a person would type,
    the `machine`, and the values by seed, `seeds`. Results of other names stay, except those that match a pattern of
    `replaced`.
    Raises ValueError for a row without name and value, or with an unknown key.
    """
    path = results / f"{topic}.json"
    before = read(topic, results) if path.exists() else []
    kept = {r["name"]: r for r in before if not any(fnmatch.fnmatch(r["name"], pattern) for pattern in replaced)}
    stamp = {"command": command(sys.argv), "commit": commit(), "date": today(), "machine": machine()}
    for row in rows:
        unknown = row.keys() - {*MEASURED, "command", "seeds", "machine"}
        if unknown or "name" not in row or "value" not in row:
            raise ValueError(f"{topic}: a result is {MEASURED} and perhaps command; found {dict(row)!r}")
        kept[row["name"]] = dict.fromkeys(MEASURED) | stamp | dict(row)
    results.mkdir(parents=True, exist_ok=True)
    with atomic(path) as beside:
        lines = ",\n".join(json.dumps(row, ensure_ascii=False) for row in kept.values())
        beside.write_text(f"[\n{lines}\n]\n", encoding="utf-8")


def finish(topic: str, rows: Sequence[Row], *, recorded: bool) -> None:
    """Print measured rows and, where they are to be recorded, write them and the documents' tables."""
    print(lines(rows))
    if recorded:
        record(topic, rows)
        refresh()


def read(topic: str, results: Path = RESULTS) -> list[dict[str, Any]]:
    """The results of a topic, in the order they were first recorded."""
    return json.loads((results / f"{topic}.json").read_text(encoding="utf-8"))


def render(text: str, results: Path = RESULTS) -> str:
    """A document with what stands between its markers made from the results again.

    Raises ValueError for a topic or name that has no result.
    """

    def made(marker: re.Match[str]) -> str:
        kind, topic, names, _ = marker.groups()
        rows = _named(topic, shlex.split(names), results)
        body = number(rows[0]["value"]) if kind == "value" else f"\n{table(rows)}\n"
        return f"<!-- {kind}: {topic} {names} -->{body}<!-- end -->"

    return MARKER.sub(made, text)


def table(rows: Sequence[Row]) -> str:
    """A Markdown table of results, and under it what measured them."""
    sources = dict.fromkeys(tuple(row[key] for key in STAMPED) for row in rows)
    shown = [(textwrap.shorten(command, WIDTH, placeholder=" …"), *rest) for command, *rest in sources]
    told = [f"`{command}` at {commit}, {date}, on {machine}." for command, commit, date, machine in shown]
    return "\n".join([lines(rows), "", *told])


def lines(rows: Iterable[Row]) -> str:
    """A Markdown table of results, recorded or not."""
    made = ["| result | value | 95 % interval | n |", "| --- | ---: | :---: | ---: |"]
    for row in rows:
        bounds = [row.get("low"), row.get("high")]
        interval = " to ".join(map(number, bounds)) if any(b is not None for b in bounds) else ""
        name = row.get("label") or f"`{row['name']}`"
        made.append(f"| {name} | {number(row['value'])} | {interval} | {row.get('n') or ''} |")
    return "\n".join(made)


def number(value: float | None) -> str:
    """Three significant digits, whole numbers and large ones in full; what is unknown is a dash."""
    if value is None:
        return "–"
    if isinstance(value, int) or abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:#.3g}".rstrip(".")


def documents() -> list[Path]:
    """The files whose tables are made from results."""
    return [path for path in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))) if path.exists()]


def command(arguments: list[str]) -> str:
    """What a person would type in the repository to run this process: no path outside it is told."""
    script, *rest = (_relative(a) for a in arguments)
    module = script.removesuffix(".py").replace("/", ".")
    start = [script] if module == script else ["python", "-m", module] if "/" in script else ["python", script]
    return shlex.join([*start, *rest])


def _relative(argument: str) -> str:
    path = Path(argument)
    if argument.endswith(".py") or path.is_absolute():
        path = path.resolve()
        return str(path.relative_to(ROOT)) if path.is_relative_to(ROOT) else path.name
    return argument


def commit() -> str:
    """The commit that is checked out, `-dirty` when code differs from it."""
    git = ["git", "-C", str(ROOT)]
    head = subprocess.run([*git, "rev-parse", "--short=12", "HEAD"], capture_output=True, text=True, check=False)
    if head.returncode:
        return "unknown"
    code = subprocess.run([*git, "diff", "--quiet", "HEAD", "--", ".", ":!docs", ":!*.md"], check=False)
    return head.stdout.strip() + ("-dirty" if code.returncode else "")


def today() -> str:
    return datetime.datetime.now(datetime.UTC).date().isoformat()


def machine() -> str:
    """The processor and how many of its cores this process may use; never a host's name."""
    model = platform.machine()
    if (info := Path("/proc/cpuinfo")).exists():
        found = re.search(r"^model name\s*:\s*(.+)$", info.read_text(encoding="utf-8"), re.MULTILINE)
        model = found.group(1).strip() if found else model
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return f"{model}, {cores} cores"


def _named(topic: str, names: list[str], results: Path) -> list[dict[str, Any]]:
    found = []
    for word in names:
        label, _, place = word.rpartition("=")
        other, _, name = place.rpartition("/")
        found += [row | {"label": label} for row in _matching(other or topic, name, results)]
    return found


def _matching(topic: str, name: str, results: Path) -> list[dict[str, Any]]:
    if not (results / f"{topic}.json").exists():
        raise ValueError(f"docs/results/{topic}.json does not exist; run the command that measures it")
    rows = [row for row in read(topic, results) if fnmatch.fnmatchcase(row["name"], name)]
    if not rows:
        raise ValueError(f"docs/results/{topic}.json holds no {name!r}; run the command that measures it")
    return rows


def main() -> None:
    """Make every table of the documents again."""
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    refresh()


def refresh() -> None:
    """Make every table of the documents again."""
    for path in documents():
        old = path.read_text(encoding="utf-8")
        if (new := render(old)) != old:
            path.write_text(new, encoding="utf-8")
            print(f"{path.relative_to(ROOT)}: tables made again")


def proportion(k: float, n: int) -> Measured:
    """The Wilson (1927) score interval of k out of n; k may hold halves (ties), n = 0 excludes nothing in [0, 1].

    Raises ValueError when k is not in [0, n].
    """
    if not 0 <= k <= n:
        raise ValueError(f"a proportion of {k!r} out of {n!r}: expected 0 <= k <= n")
    if n == 0:
        return Measured(math.nan, 0.0, 1.0, 0)
    z = 1.959964
    share = k / n
    centre = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    return Measured(share, max(0.0, centre - half), min(1.0, centre + half), n)


if __name__ == "__main__":
    main()
