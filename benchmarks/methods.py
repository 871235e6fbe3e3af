"""Ways to bake, side by side on the same completions and rewards: `python benchmarks/methods.py --runs A B C`.

Each of the runs is one of the demo, done up to the stage score, of a seed of its own:
`bakeoff score recipes/filings.toml seed=1 --out runs/methods-1` after the stages before it.

`--choose METHOD:LEARNING_RATE:COMPLETIONS:PROMPTS[:BATCH_SIZE] ...` bakes each on the first run and measures the
reward, and how often the demo's maker finds the first answer right, on prompts held out of the log. `--compare` takes
settings chosen so, one for each method, bakes them on every run, and only then opens the true answers: right first
answers, paired over prompts, on all seeds together. Trainings that are there already are read, not made again; one that
was killed starts anew, for its seconds count.
"""

from __future__ import annotations

import argparse
import dataclasses
import shutil
import time
from pathlib import Path

import numpy as np
import results
import studies

from bakeoff import config
from bakeoff.math import statistics
from bakeoff.records import Completion, Prompt, Score, read_table
from bakeoff.run import Run, read_json, write_json
from bakeoff.settings import Recipe
from bakeoff.training import rounds
from bakeoff.training import stage as bake
from bakeoff.training.methods import METHODS

TABLES = ("prompts", "completions", "scores")


def main() -> None:
    """Choose settings by reward, or compare chosen ones by true answers."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=Path, nargs="+", required=True)
    parser.add_argument("--out", type=Path, default=results.ROOT / "runs" / "methods")
    parser.add_argument("--choose", nargs="*", default=[])
    parser.add_argument("--compare", nargs="*", default=[])
    parser.add_argument("--name", default="methods", help="how the rows begin: runs of another task need another")
    args = parser.parse_args()
    rows = []
    for setting in args.choose:
        rows += chosen(trial(args.runs[0], args.out, setting), setting)
        print(*rows[-4:], sep="\n", flush=True)
    if args.compare:
        rows += compared(args.runs, args.out, args.compare)
        print("\n".join(map(str, rows)))
    results.record("methods", [row | {"name": f"{args.name}.{row['name']}"} for row in rows])
    results.main()


def trial(source: Path, out: Path, setting: str) -> tuple[Run, Recipe]:
    """One pass by one setting over a run's completions and rewards, with the seconds it took."""
    method, rate, completions, prompts, *batch = setting.split(":")
    METHODS[method] = dataclasses.replace(METHODS[method], most=int(completions))
    base = config.load(source / "config.toml")
    settings = dataclasses.replace(
        base.bake,
        method=method,
        learning_rate=float(rate),
        batch_size=int(*batch) or base.bake.batch_size,
        agreement_quantile=1.0,
        epochs=1,
        control=False,
    )
    recipe = dataclasses.replace(base, bake=settings)
    run, whole = Run(out / f"{source.name}-{setting.replace(':', '-')}"), Run(source)
    if run.folder.exists() and not (run.folder / "seconds.json").exists():
        shutil.rmtree(run.folder)  # it was killed: its seconds would be those of the remainder
    run.folder.mkdir(parents=True, exist_ok=True)
    studies.same_source(run, {"scores": studies.content(whole.table("scores"))})
    if not run.reward_model.exists():
        run.reward_model.symlink_to(whole.reward_model.resolve())
    if not run.details("bake").exists():
        records = (Prompt, Completion, Score)
        tables = [read_table(whole.table(name), record) for name, record in zip(TABLES, records, strict=True)]
        some = set(sorted({c.prompt_id for c in tables[1]})[: int(prompts)])
        drawn, scores = ([row for row in table if row.prompt_id in some] for table in tables[1:])
        start = time.perf_counter()
        bake.train(run, recipe, bake.Lesson(recipe.model, tables[0], drawn, scores, recipe.seed), "bake", run.policy)
        write_json(run.folder / "seconds.json", {"seconds": time.perf_counter() - start})
    return run, recipe


def chosen(made: tuple[Run, Recipe], setting: str) -> list[dict]:
    """First answers to the prompts held out of the log: reward, divergence, and share that the maker finds right.

    The seconds of the training come last.
    """
    run, recipe = made
    prompts = read_table(run.reward_model.resolve().parent / "prompts.parquet", Prompt)
    heldout = [p for p in prompts if p.split == "heldout"]
    figures = rounds.validated(run, recipe, str(run.policy), heldout)
    rows = [{"name": f"choose.{setting}.{key}"} | figures[key] for key in ("reward", "kl")]
    drawn = read_table(run.table("validation"), Completion)
    shares = studies.agrees(studies.filings_answers(heldout), drawn).reshape(-1, rounds.SAMPLES).mean(1)
    rows.append({"name": f"choose.{setting}.right"} | statistics.bootstrap(shares, seed=0).as_dict())
    seconds = round(read_json(run.folder / "seconds.json")["seconds"], 1)
    return [*rows, {"name": f"choose.{setting}.seconds", "value": seconds}]


def compared(sources: list[Path], out: Path, settings: list[str]) -> list[dict]:
    """Right first answers of each setting over all seeds, and the paired difference of the first from each other."""
    right = {s: np.concatenate([correct(trial(source, out, s)) for source in sources]) for s in settings}
    seconds = {
        s: np.mean([read_json(trial(source, out, s)[0].folder / "seconds.json")["seconds"] for source in sources])
        for s in settings
    }
    per_prompt = {s: values.reshape(len(sources), -1).mean(0) for s, values in right.items()}
    rows = []
    for s in settings:
        method = s.split(":")[0]
        rows.append({"name": f"{method}.right"} | statistics.bootstrap(per_prompt[s], seed=0).as_dict())
        rows.append({"name": f"{method}.seconds", "value": round(float(seconds[s]), 1)})
        rows += [
            {"name": f"{method}.right.{source.name}", "value": float(part.mean())}
            for source, part in zip(sources, right[s].reshape(len(sources), -1), strict=True)
        ]
        if s != settings[0]:
            apart = statistics.bootstrap(per_prompt[s] - per_prompt[settings[0]], seed=0).as_dict()
            rows.append({"name": f"{method}_minus_{settings[0].split(':')[0]}"} | apart)
    return rows


def correct(made: tuple[Run, Recipe]) -> np.ndarray:
    """The share of right first answers to each prompt with a true answer."""
    run, recipe = made
    return studies.right(run, recipe, str(run.policy))


if __name__ == "__main__":
    main()
