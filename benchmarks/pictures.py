"""The studies as pictures: `python benchmarks/pictures.py` makes docs/results/study_*.svg from studies.json.

Numbers of something (tries, prompts, picks) become a line, with the reference's first answer beside it; the rest dots.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import results

from bakeoff.report.plots import Line, dots_svg, lines_svg
from bakeoff.report.wording import percent
from bakeoff.run import write_text
from bakeoff.stats import Measured

LINES = {"tries": "tries", "prompts": "prompts", "picks": "picks of a simulated tester"}
"""Studies over numbers, with the name of the axis."""
DOTS = {
    "labels": "No labels against labels of which some are wrong",
    "dirt": "Dirt in the prompts",
    "multitask": "Two tasks, together and alone",
    "rounds": "The same tries, spent otherwise",
}
NUMBERED = re.compile(r"[a-z](\d+)$")


def main() -> None:
    """Write the picture of every study that has results."""
    for name, picture in pictures(results.read("studies")).items():
        write_text(results.RESULTS / f"study_{name}.svg", picture)


def pictures(rows: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """The picture of each study that the rows tell of."""
    made = {}
    for name in [*LINES, *DOTS]:
        values = dict(_values(name, rows))
        if values:
            made[name] = _line(name, values) if name in LINES else _dots(name, values)
    return made


def _values(study: str, rows: Sequence[Mapping[str, Any]]) -> Iterator[tuple[str, Measured]]:
    """The arms of a study, without the differences between them."""
    for row in rows:
        name = row["name"].partition(".")[2]
        if row["name"].startswith(f"{study}.") and "minus" not in name and row["low"] is not None:
            yield name, Measured.of(row)


def _line(study: str, values: Mapping[str, Measured]) -> str:
    found = {int(match[1]): value for name, value in values.items() if (match := NUMBERED.match(name))}
    xs = sorted(found)
    lines = [Line("tuned, first answer", "curve", xs, [found[x] for x in xs])]
    if "reference" in values:
        lines.append(Line("untuned", "oracle", xs, [values["reference"]] * len(xs)))
    return lines_svg(lines, title=f"Right first answers by {study}", under=LINES[study], form=percent, log=True)


def _dots(study: str, values: Mapping[str, Measured]) -> str:
    rows = [(name.replace("_", " "), value) for name, value in values.items()]
    return dots_svg(rows, title=f"{DOTS[study]}: right first answers", form=percent)


if __name__ == "__main__":
    main()
