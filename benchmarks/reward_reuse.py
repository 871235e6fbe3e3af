"""A reward model used again for another policy, without new labels: `python benchmarks/reward_reuse.py`.

1. A reward model is trained on 400 of the demo's picks as the demo's recipe says, all over completions of its model.
2. Another policy: the same model tuned to repeat the words of the question (`restates.py`), so that its answers differ.
3. The whole loop from that policy: sample, reward by the model of 1, bake, evaluate with true answers.

`reuse.gain` is by how much the other policy's first answer got better. What is in the folder `--out` is not made again.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

import results
import reward_model as picks

from bakeoff import config
from bakeoff.run import Run, read_json

FIGURES = ("gain", "gain_over_control", "reference_at_1", "reference_best_of_n", "tuned_at_1")
TASTE = Path(__file__).with_name("restates.py")


def main() -> None:
    """Make what is missing, record the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=results.ROOT / "runs" / "reward_model", help="folder to work in")
    parser.add_argument("--prompts", type=int, default=320, help="training prompts of both bakes")
    parser.add_argument("--settings", nargs="*", default=[], help="changes to the recipe of 3: section.key=value")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    judge = picks.trained(args.out / "judge", config.load(picks.RECIPE), picks.picked(400, 0), 0).reward_model
    settings = [f"sample.prompts={args.prompts}"]
    other, again = args.out / "other", args.out / "reuse"
    for stage in ("prompts", "sample", "score", "bake"):
        bakeoff(stage, other, [*settings, f"score.scorer={TASTE}:restates"])
    scorer = f"score.scorer=reward_model:{judge.resolve()}"
    bakeoff("run", again, [*settings, *args.settings, scorer, f"model={(other / 'policy').resolve()}"])
    summary = read_json(Run(again).summary)
    results.record("reward_model", [{"name": f"reuse.{name}"} | summary["quality"][name] for name in FIGURES])
    results.main()
    print(results.table([row for row in results.read("reward_model") if row["name"].startswith("reuse.")]))


def bakeoff(command: str, out: Path, settings: list[str]) -> None:
    subprocess.run(
        [sys.executable, "-m", "bakeoff", command, str(picks.RECIPE), *settings, "--out", str(out)], check=True
    )


if __name__ == "__main__":
    main()
