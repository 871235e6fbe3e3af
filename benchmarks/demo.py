"""The demo on several seeds, then docs/results/demo.json.

`--full` runs the full recipe and draws demo.svg; its figures are named `demo_full.*`. Each seed is a run of its own
under `--out`; a run that is there already is read, not made again, so seeds can be measured one by one. The headline of
each quantity is the worst of the seeds.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from bakeoff.math.statistics import Measured
from bakeoff.report.page import Curve
from bakeoff.report.picture import curve_svg
from bakeoff.run import Run, read_json, write_json, write_text
from benchmarks import results

RECIPES = {"demo": "quick.toml", "demo_full": "filings.toml"}
WORST = {
    "gap_closed": min,
    "tuned_at_1": min,
    "reference_at_1": max,
    "reference_best_of_n": max,
    "equivalent_n": min,
    "reference_greedy": max,
    "tuned_greedy": min,
    "greedy_gain": min,
    "minutes": max,
    "peak_memory_mb": max,
}
"""Which of the seeds is the worst for each quantity: the highest starting point makes the smallest step."""


def main() -> None:
    """Run a recipe on every seed, record its figures and draw the first seed's picture."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--full", action="store_true", help="the full recipe instead of the quick one")
    parser.add_argument("--out", type=Path, default=results.ROOT / "runs", help="folder of the runs")
    args = parser.parse_args()
    name = "demo_full" if args.full else "demo"
    runs = [demo(name, args.out / f"{name}-{seed}", seed) for seed in args.seeds]
    results.finish("demo", rows(name, args.seeds, [figures(run) for run in runs]), recorded=True)
    if args.full:
        write_text(results.RESULTS / "demo.svg", picture(runs[0]))


def demo(name: str, out: Path, seed: int) -> Run:
    """The finished run of one seed, in a process of its own, whose seconds it keeps (start and report included)."""
    run, started = Run(out), time.perf_counter()
    done = run.details("wall").exists()
    recipe = results.ROOT / "recipes" / RECIPES[name]
    command = [sys.executable, "-m", "bakeoff", "run", str(recipe), f"seed={seed}", "--out", str(out)]
    subprocess.run(command, check=True)
    if not done:
        write_json(run.details("wall"), {"seconds": time.perf_counter() - started})
    return run


def figures(run: Run) -> dict[str, dict[str, Any]]:
    """The quantities of `WORST` of one run, as measured."""
    summary = read_json(run.summary)
    found = {name: summary["quality"][name] for name in WORST if name in summary["quality"]}
    found["minutes"] = {"value": round(read_json(run.details("wall"))["seconds"] / 60, 2)}
    found["peak_memory_mb"] = {"value": summary["peak_memory_mb"]}
    return found


def rows(name: str, seeds: list[int], measured: list[dict[str, dict[str, Any]]]) -> list[dict[str, Any]]:
    """For each quantity the worst of the seeds, then each seed."""
    worst = [
        {"name": f"{name}.{what}"} | choose((figures[what] for figures in measured), key=lambda row: row["value"])
        for what, choose in WORST.items()
    ]
    single = [
        {"name": f"{name}.{what}.seed{seed}"} | figures[what]
        for what in WORST
        for seed, figures in zip(seeds, measured, strict=True)
    ]
    return worst + single


def picture(run: Run) -> str:
    """The run's one picture, as in its report."""
    quality = read_json(run.summary)["quality"]
    curve = Curve.of(quality)
    return curve_svg(curve.ks, curve.picked, curve.oracle, Measured.of(quality["tuned_at_1"]), metric=quality["metric"])


if __name__ == "__main__":
    main()
