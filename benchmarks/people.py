"""What picks, reward models and scorers without labels are worth, by the demo's true answers.

`picks`: reward models taught by 50 to 400 picks of the simulated tester, over seeds: how often one agrees with her on
300 fresh groups (`pick_accuracy`), and how often the completion that it chooses among 16 is right, on held-out prompts
where a right one is among them (`right_of_16`). `scorers`: how often the one of the untouched model's 16 answers that
each scorer chooses is right; nothing is fitted. What is in the folder `--out` is read, not made again.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import random
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bakeoff import config
from bakeoff.errors import UserError
from bakeoff.math import statistics
from bakeoff.preferences import gate
from bakeoff.preferences import load as preferences
from bakeoff.preferences.evaluation import table_rewards
from bakeoff.preferences.stage import train_alone
from bakeoff.records import Completion
from bakeoff.run import Run, open_run
from bakeoff.scorer import by_prompt
from bakeoff.settings import Recipe
from benchmarks import answers, results

RECIPE = results.ROOT / "recipes" / "filings.toml"
PICKS, FRESH = 460, 300
"""How many picks the demo has; the groups beyond these on which the agreement is measured."""
Row = dict[str, Any]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["picks", "scorers"])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0], help="picks: other picks in another order of each")
    parser.add_argument("--sizes", type=int, nargs="+", default=[50, 100, 200, 400], help="picks: how many")
    parser.add_argument("--scorers", nargs="+", default=["majority", "logit_judge"], help="as score.scorer names them")
    parser.add_argument("--settings", nargs="*", default=[], help="changes to the demo's recipe: section.key=value")
    parser.add_argument("--out", type=Path, default=results.ROOT / "runs" / "people", help="folder to work in")
    parser.add_argument("--record", action="store_true", help="write the numbers to docs/results")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    recipe = config.load(RECIPE, args.settings)
    try:
        if args.what == "picks":
            rows = [row for size in args.sizes for row in taught(args.out, recipe, size, args.seeds)]
        else:
            rows = list(chosen(args.out, recipe, args.scorers))
    except UserError as error:
        raise SystemExit(f"people: {error}") from None
    results.finish("scorers" if args.what == "scorers" else "reward_model", rows, recorded=args.record)


def tries(out: Path, recipe: Recipe) -> tuple[list[Completion], np.ndarray]:
    """(the untouched model's answers to the prompts with a true one, [P, N] whether each is right)."""
    size = recipe.sample.group_size
    drawn = answers.drawn(Run(out), "gold", recipe, recipe.model, size)
    return drawn, answers.verified(recipe, drawn).reshape(-1, size)


def taught(out: Path, recipe: Recipe, size: int, seeds: Sequence[int]) -> Iterator[Row]:
    """For both quantities the mean of the seeds, its interval over prompts, then each seed."""
    file = answers.picks(out / "fresh_picks.jsonl", range(PICKS, PICKS + FRESH), recipe.model)
    fresh, (drawn, right_PN) = preferences.read_picks([str(file)]), tries(out, recipe)
    texts = {key: [c.text for c in group] for key, group in by_prompt(drawn).items()}
    groups = [(p.messages, texts[p.id]) for p in answers.prompts(recipe)]
    found: dict[str, list[np.ndarray]] = {"pick_accuracy": [], "right_of_16": []}
    lines = (answers.FILINGS / "picks.jsonl").read_text("utf-8").splitlines(keepends=True)
    for seed in seeds:
        folder = out / f"picks-{size}-{seed}"
        folder.with_suffix(".jsonl").write_text("".join(random.Random(seed).sample(lines, size)), encoding="utf-8")
        model = trained(folder, recipe, seed, folder.with_suffix(".jsonl"))
        judged = gate.judged(fresh, table_rewards(Run(out), model, [(p.messages, p.completions) for p in fresh]))
        found["pick_accuracy"].append(gate.column(gate.informative(judged), lambda g: g.right))
        best = np.array(table_rewards(Run(out), model, groups)).argmax(1)
        found["right_of_16"].append(right_PN[np.arange(len(best)), best][right_PN.any(1)])
    for name, columns in found.items():
        yield {"name": f"picks_{size}.{name}"} | statistics.bootstrap(np.mean(columns, axis=0), seed=0).as_dict()
        for seed, column in zip(seeds, columns, strict=True):
            yield {"name": f"picks_{size}.{name}.seed{seed}"} | statistics.bootstrap(column, seed=0).as_dict()


def trained(folder: Path, recipe: Recipe, seed: int, picks: Path) -> str:
    """The folder of a reward model that learns all of a file's picks as the recipe says."""
    settings = [f"seed={seed}", f"reward.picks={json.dumps([str(picks.resolve())])}", "reward.heldout=0.0"]
    train_alone(config.overridden(dataclasses.asdict(recipe), settings, "people"), folder)
    return str(folder)


def chosen(out: Path, recipe: Recipe, names: Sequence[str]) -> Iterator[Row]:
    """For each scorer the share of right choices, over all prompts and over those where any of the 16 is right."""
    open_run(out, recipe)
    drawn, right_PN = tries(out, recipe)
    exists, size = right_PN.any(1), recipe.sample.group_size
    reward: dict[str, list[float | None]] = {"random": [0.0] * len(drawn), "longest": [len(c.text) for c in drawn]}
    for name in names:
        one = config.overridden(dataclasses.asdict(recipe), [f"score.scorer={name}"], "people")
        kind = name.partition(":")[0]
        reward[kind] = answers.rewards(Run(out), f"gold_{kind}", one, drawn, Run(out))
    yield {"name": "scorers.any_right"} | statistics.bootstrap(exists, seed=0).as_dict()
    picked = {name: answers.best(values, right_PN, size) for name, values in reward.items()}
    for name, right_P in picked.items():
        yield {"name": f"scorers.{name}"} | statistics.bootstrap(right_P, seed=0).as_dict()
        yield {"name": f"scorers.{name}.where_any_right"} | statistics.bootstrap(right_P[exists], seed=0).as_dict()
        if name not in ("random", "longest"):
            apart = statistics.bootstrap(right_P - picked["random"], seed=0)
            yield {"name": f"scorers.{name}.over_random"} | apart.as_dict()


if __name__ == "__main__":
    main()
