"""The studies as pictures: makes docs/results/study_*.svg from studies.json.

Numbers of something (tries, prompts, picks) become a line, with the reference's first answer beside it; sizes and
seconds a line for each side; the rest dots.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from bakeoff.math.statistics import Measured
from bakeoff.report.plots import Line, dots_svg, lines_svg
from bakeoff.report.wording import percent
from bakeoff.run import write_text
from benchmarks import results

LINES = {"tries": "tries", "prompts": "prompts", "picks": "picks of a simulated tester"}
"""Studies over numbers, with the name of the axis."""
DOTS = {
    "labels": "No labels against labels of which some are wrong",
    "dirt": "Dirt in the prompts",
    "multitask": "Two tasks, together and alone",
    "rounds": "The same tries, spent otherwise",
    "surest": "Which groups are baked",
    "tatqa": "Questions over real filings",
}
APART = re.compile("minus|taught|gap_closed")
NUMBERED = re.compile(r"[a-z](\d+)$")


def main() -> None:
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    refresh()


def refresh() -> None:
    """Write the picture of every study that has results."""
    for name, picture in pictures(results.read("studies")).items():
        write_text(results.RESULTS / f"study_{name}.svg", picture)


def pictures(rows: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """The picture of each study that the rows tell of."""
    made = {}
    for name in [*LINES, *DOTS, *SEEDED]:
        values = dict(_values(name, rows))
        if values:
            draw = _line if name in LINES else _dots if name in DOTS else SEEDED[name]
            made[name] = draw(name, values)
    return made


def _values(study: str, rows: Sequence[Mapping[str, Any]]) -> Iterator[tuple[str, Measured]]:
    """The arms of a study, without the differences between them and what they were taught."""
    for row in rows:
        name = row["name"].partition(".")[2]
        told = row["low"] is not None or study in SEEDED
        if row["name"].startswith(f"{study}.") and not APART.search(name) and told:
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


def _sizes(study: str, values: Mapping[str, Measured]) -> str:
    """A line for each figure over the number of weights, seed 0."""
    named = {"tuned_at_1": "tuned, first answer", "reference_best_of_n": "best of 16", "reference_at_1": "untuned"}
    kinds = dict(zip(named, ("tuned", "curve", "oracle"), strict=True))
    sizes = [name.split(".")[0] for name in values if name.endswith(".reference_at_1.seed0")]
    sizes.sort(key=lambda size: values[f"{size}.parameters.seed0"].value)
    millions = [round(values[f"{size}.parameters.seed0"].value / 1e6, 1) for size in sizes]
    lines = [
        Line(name, kinds[figure], millions, [values[f"{size}.{figure}.seed0"] for size in sizes])
        for figure, name in named.items()
    ]
    title = "Right answers by the size of the model"
    return lines_svg(lines, title=title, under="million weights", form=percent, log=True)


def _peers(study: str, values: Mapping[str, Measured]) -> str:
    """The right first answers of both sides over the seconds they took, on the seed that says least for us."""
    ours: dict[str, list[float]] = {}
    theirs: dict[str, list[float]] = {}
    for name, value in values.items():
        if (match := re.fullmatch(r"(bakeoff|trl)\..*_seconds\.(seed\d+)", name)) is not None:
            (ours if match[1] == "bakeoff" else theirs).setdefault(match[2], []).append(value.value)
    seed = min(sorted(ours), key=lambda seed: min(theirs.get(seed, [0.0])) / max(ours[seed]))
    mine = {name.removesuffix(f".{seed}"): value for name, value in values.items() if name.endswith(f".{seed}")}
    curves: dict[str, dict[float, Measured]] = {}
    for name, value in mine.items():
        if (match := re.fullmatch(r"bakeoff\.p\d+", name)) is not None:
            curves.setdefault("bakeoff", {})[mine[f"{name}_seconds"].value] = value
        elif (match := re.fullmatch(r"trl\.(\w+):(\S+):(\d+)(:mask)?\.after(\d+)", name)) is not None:
            step = "" if match[3] == "1" else f", {match[3]} a step"
            arm = f"{match[1].upper()} {match[2]}{step}{', masked' if match[4] else ''}"
            curves.setdefault(arm, {})[float(match[5])] = value
    lines = [
        Line(name, "tuned" if name == "bakeoff" else "curve", sorted(curve), [curve[x] for x in sorted(curve)])
        for name, curve in curves.items()
    ]
    seconds = sorted({x for curve in curves.values() for x in curve})
    ends = [seconds[0], seconds[-1]]
    lines += [
        Line(name, "oracle", ends, [mine[key]] * 2)
        for key, name in {"target": "best of 16", "reference": "untuned"}.items()
    ]
    title = f"Right first answers by the time spent, beside TRL (seed {seed[4:]})"
    return lines_svg(lines, title=title, under="seconds", form=percent)


SEEDED = {"sizes": _sizes, "peers": _peers}
"""Studies whose rows are told by seed."""


if __name__ == "__main__":
    main()
