"""Runs a study, an experiment with its table, and goes on where it stopped.

`python -m benchmarks.study NAME [section.key=value ...] [--seeds 0 1 2] [--out DIR]`, from a checkout of the source.

benchmarks/studies/NAME.toml holds the study: the settings of a base run, the arms that start from its tables, and what
is compared. What an arm needs beyond settings, a function in benchmarks/studies/NAME.py makes. In a setting, `<base>`
or an arm's name in brackets is that run's folder, `<demo>` that of the demo up to its reward model, `<NAME>` an
environment variable. The true answers are opened to measure alone. What is in `--out` already is not made again.
"""

from __future__ import annotations

import argparse
import fnmatch
import functools
import hashlib
import json
import math
import os
import random
import re
import shutil
import sys
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from safetensors import safe_open

from bakeoff import config, pipeline, tasks
from bakeoff.errors import UserError
from bakeoff.math import statistics
from bakeoff.records import Completion, Prompt, Score, read_table, write_table
from bakeoff.run import Run, open_run, read_json, write_json
from bakeoff.settings import Recipe
from benchmarks import answers, pictures, results
from benchmarks.studies import FOLDER, Arm, Base, Row, Study, read

TRIES = 16
KEPT = {"nothing": (), "prompts": ("prompts",), "sample": ("prompts", "completions", "sample")}
KEPT |= {"score": (*KEPT["sample"], "scores")}
"""The tables of a run that is done up to a stage."""
Runs = dict[str, Callable[[], Run]]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a study; 0 when it went well, 2 after a one-line error that the user can mend."""
    known = sorted(path.stem for path in FOLDER.glob("*.toml"))
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", metavar="NAME", help=f"one of {', '.join(known)}")
    parser.add_argument("overrides", nargs="*", metavar="section.key=value", help="settings of all its runs")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0], help="a run of each (default: 0)")
    parser.add_argument("--arms", nargs="+", help="run and print only these; docs/results stays as it is")
    parser.add_argument("--out", type=Path, default=Path("runs/studies"), help="folder of the runs")
    parsed = parser.parse_intermixed_args(arguments)
    try:
        if parsed.name not in known:
            raise UserError(f"unknown study {parsed.name!r}; known: {', '.join(known)}")
        study = read(parsed.name)
        if parsed.arms and (unknown := set(parsed.arms) - study.arms.keys()):
            raise UserError(f"{study.name}: no arm {', '.join(sorted(unknown))}; known: {', '.join(study.arms)}")
        rows = studied(study, parsed.seeds, parsed.out, parsed.overrides, parsed.arms)
    except UserError as error:
        print(f"study: {error}", file=sys.stderr)
        return 2
    print(results.lines(rows))
    if not parsed.arms:
        results.record(study.topic, rows, replaced=study.replaces or [f"{study.name}.*"])
        results.refresh()
        pictures.refresh()
    return 0


def studied(
    study: Study, seeds: Sequence[int], out: Path, overrides: Sequence[str], only: Sequence[str] | None = None
) -> list[Row]:
    """The rows of a study: every arm on every seed, what is compared, and what is quoted."""
    found, rows, bases = dict[str, list[np.ndarray]](), list[Row](), list[Base]()
    for seed in seeds:
        bases.append(of := base(study, seed, out, overrides))
        for name, make in runs(study, of, overrides).items():
            if only and name not in only:
                continue
            for key, right_P in measured(of, name, study.arms[name], make).items():
                found.setdefault(key, []).append(right_P)
                print(f"seed {seed}: {key}: {right_P.mean():.3f} right", flush=True)
            rows += [row | {"name": f"{study.name}.{name}.{row['name']}.seed{seed}"} for row in quoted(study, of, make)]
    pairs = [(one, other) for one, others in study.compare for other in (found if others == "*" else [others])]
    rows = [*compared(study.name, found, [p for p in pairs if p[0] != p[1] and {*p} <= found.keys()]), *rows]
    if study.rows and not only:
        rows += study.function(study.rows)(bases)
    for name, pattern in study.lowest.items():
        matching = [row for row in rows if fnmatch.fnmatchcase(row["name"], pattern)]
        rows += [min(matching, key=lambda r: -np.inf if r["value"] is None else r["value"]) | {"name": name}]
    return rows


def base(study: Study, seed: int, out: Path, overrides: Sequence[str]) -> Base:
    """The run that the arms start from."""
    folder = out / f"{study.base}-{seed}"
    given = filled([f"seed={seed}", *study.settings, *overrides], {"demo": _demo(seed, out, overrides)})
    if study.data:
        given += study.function(study.data)(folder.with_name(f"{folder.name}-data"), given)
    recipe = config.load(results.ROOT / study.recipe, given)
    return Base(upto(folder, recipe, study.until), recipe)


def _demo(seed: int, out: Path, overrides: Sequence[str]) -> Callable[[], Run]:
    return lambda: base(Study("demo", until="reward"), seed, out, overrides).run


def filled(settings: Sequence[str], named: Runs) -> list[str]:
    """The settings with the folders and environment variables that they name."""

    def value(match: re.Match[str]) -> str:
        if match[1] in named:
            return str(named[match[1]]().folder.resolve())
        if found := os.environ.get(match[1]):
            return found
        raise UserError(f"{match.string}: set the environment variable {match[1]}")

    return [re.sub(r"<([\w-]+)>", value, setting) for setting in settings]


def upto(folder: Path, recipe: Recipe, last: str) -> Run:
    """A run with all its stages up to `last`; what the gate thinks of the reward model stops no study."""
    pipeline.check(recipe)
    run = open_run(folder, recipe)
    for stage in pipeline.STAGES:
        if stage.wanted(recipe) and not stage.made(run).exists():
            pipeline.run_stage(run, recipe, stage)
        if stage.name == last:
            break
    return run


def runs(study: Study, of: Base, overrides: Sequence[str]) -> Runs:
    """By arm, what makes its run or finds it."""
    named: Runs = {"base": lambda: of.run, "root": lambda: Run(results.ROOT)}
    named["demo"] = _demo(of.recipe.seed, of.run.folder.parent, overrides)
    for name in study.arms:
        named[name] = functools.cache(functools.partial(arm_run, study, of, name, named))
    return {name: named[name] for name in study.arms}


def arm_run(study: Study, of: Base, name: str, named: Runs) -> Run:
    """The run of an arm, done up to its last stage.

    Where the settings say nothing else, the base's reward model scores, and there is no control. Raises UserError for
    one that was made from other tables or by other settings.
    """
    arm = study.arms[name]
    start = named[arm.start]()
    if not arm.until:
        return start
    run, scorer = of.arm(arm.folder or f"{study.name}-{name}"), of.recipe.score.scorer
    if scorer == "reward_model":
        scorer = f"reward_model:{of.run.reward_model.resolve()}"
    given = ["bake.control=false", "reward.picks=[]", f"score.scorer={json.dumps(scorer)}"]
    given += filled(arm.settings, named)
    given += study.function(arm.make)(of, run, **arm.values) if arm.make else []
    recipe = config.overridden(tomllib.loads(config.dump(of.recipe)), given, f"{study.name}.{name}")
    same_source(run, [start.table(table) for table in KEPT[arm.keep]])
    take(start, run, arm, of.recipe.seed)
    return upto(run.folder, recipe, arm.until)


def take(start: Run, run: Run, arm: Arm, seed: int) -> None:
    """Copy the tables that an arm keeps, or the part of them that it wants, but for those that are there."""
    if (arm.prompts or arm.tries or arm.task) and not run.table("scores").exists():
        prompts, completions, scores = tables(start)
        order = sorted({c.prompt_id for c in completions})
        random.Random(f"prompts {seed}").shuffle(order)
        kept = set(order[: arm.prompts or None]) & {p.id for p in prompts if arm.task in ("", p.task)}
        rows = [c for c in completions if c.prompt_id in kept and (not arm.tries or c.index < arm.tries)]
        ids = {c.id for c in rows}
        write_groups(run, rows, [s for s in scores if s.completion_id in ids])
    for file in (file for table in KEPT[arm.keep] for file in start.folder.glob(f"{table}.*")):
        if not (run.folder / file.name).exists():
            shutil.copy(file, run.folder / file.name)


def write_groups(run: Run, completions: Sequence[Completion], scores: Sequence[Score]) -> None:
    """Write what a bake learns from; the scores last: where they are, both are."""
    write_table(run.table("completions"), Completion, completions)
    write_table(run.table("scores"), Score, scores)


def tables(run: Run) -> tuple[list[Prompt], list[Completion], list[Score]]:
    """The prompts, completions and rewards of a run."""
    prompts, completions = read_table(run.table("prompts"), Prompt), read_table(run.table("completions"), Completion)
    return prompts, completions, read_table(run.table("scores"), Score)


def same_source(run: Run, tables: Sequence[Path]) -> None:
    """Note which tables an arm is made from; raises UserError where it was made from others."""
    source = {file.stem: hashlib.sha256(file.read_bytes()).hexdigest() for file in tables if file.exists()}
    if not run.details("arm").exists():
        write_json(run.details("arm"), {**source, "commit": results.commit()})
    found = read_json(run.details("arm"))
    if changed := [key for key in source if found.get(key) != source[key]]:
        raise UserError(f"{run.folder}: was made (at {found['commit']}) from other {', '.join(changed)}; remove it")


def measured(of: Base, name: str, arm: Arm, make: Callable[[], Run]) -> dict[str, np.ndarray]:
    """By name, and task if there are several, [P] right first answers to the prompts with a true answer."""
    if arm.policy in ("best_of_n", "any_of_n"):
        run = of.arm("reference")
        tries = answers.drawn(run, "tries", of.recipe, of.recipe.model, TRIES)
        right_M = answers.verified(of.recipe, tries)
        if arm.policy == "any_of_n":
            return {name: right_M.reshape(-1, TRIES).max(1)}
        return {name: answers.best(answers.rewards(run, "tries_scores", of.recipe, tries, of.run), right_M, TRIES)}
    run = of.arm("reference") if arm.policy == "model" else make()
    model = {"policy": str(run.policy), "control": str(run.control), "model": of.recipe.model}.get(arm.policy)
    found = {}
    for task, alone in tasks.each(of.recipe).items() if model else ():
        if arm.task in ("", task):
            key = f"{task}_{name}" if task and not arm.task else name
            found[key] = answers.right(run, alone, model, "_".join(["first", *filter(None, (arm.policy, task))]))
    return found


def quoted(study: Study, of: Base, make: Callable[[], Run]) -> Iterator[Row]:
    """What the study quotes of an arm: of its evaluation, the reward model that scored it, its size, its training."""
    if not study.figures:
        return
    run = make()
    seconds = sum(line.get("seconds", 0.0) for line in run.logged() if line["stage"] == "bake")
    found = {"parameters": {"value": parameters(run.policy)}, "seconds": {"value": round(seconds, 1)}}
    for name, judge in (("reward_model", of.run), ("reward_model", run), ("evaluation", run)):
        if judge.details(name).exists():
            figures = read_json(judge.details(name))
            found |= figures.get("quality") or figures
    for name in study.figures:
        if name in found:
            yield {"name": name} | {key: found[name][key] for key in results.MEASURED if key in found[name]}


def parameters(folder: Path) -> int:
    """The number of weights of a saved model."""
    with safe_open(folder / "model.safetensors", "numpy") as file:
        return sum(math.prod(file.get_slice(name).get_shape()) for name in file.keys())  # noqa: SIM118


def compared(study: str, found: Mapping[str, list[np.ndarray]], pairs: Sequence[tuple[str, str]]) -> list[Row]:
    """Each arm's value per prompt, one array a seed, and the paired differences between arms, as rows.

    A prompt is one observation: its mean over the seeds. `seeds` holds the means of each seed, which differ by the luck
    of a training too.
    """
    values = dict(found)
    for one, other in pairs:
        values[f"{one}_minus_{other}"] = [a - b for a, b in zip(found[one], found[other], strict=True)]
    return [
        {"name": f"{study}.{name}"}
        | statistics.bootstrap(np.mean(parts, axis=0), seed=0).as_dict()
        | {"seeds": [round(float(part.mean()), 4) for part in parts]}
        for name, parts in values.items()
    ]


if __name__ == "__main__":
    sys.exit(main())
