"""Time to quality: how long until the first answer is as good as the reference's best of 16, beside TRL?

BAKEOFF_TRL names a Python interpreter of an environment with trl. All sides have the same model, prompts, reward model
and threads, and are tried with growing budgets: the first that is as good by the true answers counts.

Ours are parts of the recipe's prompts, each baked from the start by the settings `QUICK`, and again from other prompts,
since a bake from few prompts is a matter of luck: the mean counts. Its seconds are those of sampling, scoring and the
bake, with all loading. TRL's are the seconds of one training, in float32 with bfloat16 products, which waits while a
checkpoint is measured; a straight line joins two checkpoints. It lasts at most `MOST` times our seconds, and no longer
than the fastest trainer before it took. BAKEOFF_PEERS names the trainers, `TRAINER:LEARNING_RATE:PROMPTS_PER_STEP ...`,
or with `:mask` behind, where completions that were cut short do not count; the fastest of all counts.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import random
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from bakeoff.data import splits
from bakeoff.errors import UserError
from bakeoff.math import statistics
from bakeoff.models.load import model_folder
from bakeoff.records import Prompt, read_table, write_table
from bakeoff.run import Run, read_json, write_json
from benchmarks import answers, peers, study

TRAINERS = "grpo:3e-5:1 grpo:3e-5:1:mask rloo:3e-5:1 grpo:1e-4:1:mask"
PARTS = (40, 32, 24, 20, 16, 8, 4, 2, 1)
"""We take so small a part of the recipe's prompts, then more, until the target is reached."""
QUICK = ("sample.group_size=8", "bake.agreement_quantile=0.5", "bake.epochs=2", "bake.learning_rate=2e-4")
"""What few prompts are best baked by, chosen on prompts held out of the log (docs/log.md)."""
AGAIN = (10_000, 20_000, 30_000, 40_000, 50_000, 60_000)
"""What is added to the seed for each bake of a part."""
MOST, EVERY = 50, 2
"""A trainer of TRL has so many times our seconds, and leaves a checkpoint after each so many of them."""
TIMED = ("sample", "score", "bake")
RATIO = "time_to_quality_vs_trl"

Curve = list[tuple[float, np.ndarray]]
"""(seconds, [P] right first answers) of a trainer's checkpoints."""


def compared(bases: Sequence[study.Base]) -> list[study.Row]:
    """The headline, then the rows of every seed."""
    python = os.environ.get("BAKEOFF_TRL", "")
    if not Path(python).is_file():
        raise UserError("study peers: set BAKEOFF_TRL to the Python interpreter of an environment with trl")
    trainers = os.environ.get("BAKEOFF_PEERS", TRAINERS).split()
    rows = [row for of in bases for row in of_seed(of, python, trainers)]
    return [worst(rows, len(bases)), *rows]


def worst(rows: Sequence[study.Row], seeds: int) -> study.Row:
    """The ratio of the seed that says least for us, under the name of all; unknown if on one we never were as good."""
    ratios = [row for row in rows if row["name"].startswith(RATIO)]
    if len(ratios) < seeds:
        return {"name": RATIO, "value": None}
    row = min(ratios, key=lambda row: row["value"])
    return row | {"name": row["name"].rpartition(".seed")[0]}


def of_seed(of: study.Base, python: str, trainers: Sequence[str]) -> Iterator[study.Row]:
    """The target, ours until it is as good, then each trainer; where none of these is, the ratio is `..._at_least`."""

    def row(name: str, values_P: np.ndarray | None = None, value: float | None = None) -> study.Row:
        found = {"value": value} if values_P is None else statistics.bootstrap(values_P, seed=0).as_dict()
        return {"name": f"peers.{name}.seed{of.recipe.seed}"} | found

    start_P = answers.right(of.arm("reference"), of.recipe, of.recipe.model, "first_model")
    goal_P = study.measured(of, "goal", study.Arm(policy="best_of_n"), lambda: of.run)["goal"]
    goal = float(goal_P.mean())
    yield from (row("reference", start_P), row("target", goal_P))
    for count in (of.recipe.sample.prompts // part for part in PARTS):
        bakes_BP, seconds = ours(of, count)
        right_P = bakes_BP.mean(0)
        print(f"target {goal:.3f}, ours {right_P.mean():.3f} in {seconds:.0f} s", flush=True)
        yield row(f"bakeoff.p{count}", right_P)
        yield row(f"bakeoff.p{count}_seconds", value=round(seconds, 1))
        yield row(f"bakeoff.p{count}_reached", value=float(np.mean(bakes_BP.mean(1) >= goal)))
        if right_P.mean() >= goal:
            break
    else:
        return
    curves, found, met = list[Curve](), list[float](), False
    for trainer in trainers:
        curves.append([(0.0, start_P)])
        for theirs_P, at in theirs(of, python, trainer, goal, (EVERY * seconds, min([MOST * seconds, *found]))):
            curves[-1].append((at, theirs_P))
            yield row(f"trl.{trainer}.after{at:.0f}", theirs_P)
        when = reached([(at, float(values_P.mean())) for at, values_P in curves[-1]], goal)
        found.append(curves[-1][-1][0] if when is None else when)
        met = met or when is not None
        yield row(f"trl.{trainer}.{'not_' * (when is None)}reached_seconds", value=round(found[-1], 1))
    name = f"{RATIO}.seed{of.recipe.seed}" if met else f"{RATIO}_at_least.seed{of.recipe.seed}"
    yield {"name": name} | ratio(curves, goal_P, right_P, seconds)


def ratio(curves: Sequence[Curve], goal_P: np.ndarray, right_P: np.ndarray, seconds: float) -> study.Row:
    """The seconds of the fastest trainer by ours, with its interval over prompts.

    On prompts on which ours is not as good as the goal, it has twice the seconds; a trainer that is not as good has
    all that it was followed for, so the interval's upper end may be higher yet.
    """

    def on(rows: np.ndarray) -> float:
        goal = float(goal_P[rows].mean())
        shares = ([(at, float(values_P[rows].mean())) for at, values_P in curve] for curve in curves)
        times = [curve[-1][0] if (when := reached(curve, goal)) is None else when for curve in shares]
        return min(times) / (seconds if right_P[rows].mean() >= goal else 2 * seconds)

    return statistics.interval(on, len(goal_P), seed=0).as_dict()


def reached(curve: Sequence[tuple[float, float]], goal: float) -> float | None:
    """The seconds at which the straight lines between (seconds, share) first reach a share, if they do."""
    for (t0, low), (t1, high) in zip(curve, curve[1:], strict=False):
        if high >= goal:
            return t0 + (t1 - t0) * max(0.0, goal - low) / (high - low) if high > low else t1
    return None


def ours(of: study.Base, count: int) -> tuple[np.ndarray, float]:
    """([B, P] right first answers of some bakes, the mean of the seconds of their stages)."""
    batch = max(1, of.recipe.bake.batch_size * count // of.recipe.sample.prompts)
    right, seconds = [], 0.0
    for seed in (of.recipe.seed + more for more in AGAIN):
        run = of.arm(f"peers-p{count}-{seed}")
        if not run.details("bake").exists():
            shutil.rmtree(run.folder)  # of one that was killed, a part of the seconds is lost
            run.folder.mkdir()
            write_table(run.table("prompts"), Prompt, some(of, count, seed))
        settings = [*QUICK, f"seed={seed}", f"sample.prompts={count}", f"bake.batch_size={batch}"]
        own = study.Study("peers", arms={"own": study.Arm(settings, keep="prompts", folder=f"peers-p{count}-{seed}")})
        right.append(answers.right(study.runs(own, of, [])["own"](), of.recipe, str(run.policy)))
        seconds += sum(line["seconds"] for line in run.logged() if line["stage"] in TIMED and "seconds" in line)
    print(f"{count} prompts: {[round(float(right_P.mean()), 3) for right_P in right]} right", flush=True)
    return np.array(right), seconds / len(AGAIN)


def some(of: study.Base, count: int, seed: int) -> list[Prompt]:
    """So many training prompts, drawn by the seed, and all that are held out."""
    prompts = read_table(of.run.table("prompts"), Prompt)
    kept = random.Random(f"peers {seed}").sample([p for p in prompts if p.split == "train"], count)
    return [p for p in prompts if p.split != "train" or p in kept]


def theirs(
    of: study.Base, python: str, trainer: str, goal: float, times: tuple[float, float]
) -> Iterator[tuple[np.ndarray, float]]:
    """([P] right first answers, seconds) of each checkpoint of a trainer, until one reaches the goal or time is over.

    `times` are the seconds between checkpoints, and those that it has. A trainer that was killed goes on from its last
    checkpoint, one of another job is trained again.
    """
    every, most = times
    folder, own = of.arm(f"peers-{trainer.replace(':', '-')}").folder, job(of, trainer)
    kept, told = Run(folder).details("job"), folder / "checkpoints.jsonl"
    if told.exists() and (not kept.exists() or read_json(kept) != own):
        print(f"{trainer}: what is there had another job: trained again", flush=True)
        shutil.rmtree(folder)
        folder.mkdir()
    write_json(kept, own)

    def measured(line: str) -> tuple[np.ndarray, float]:
        row = json.loads(line)
        step, policy = Run(folder / f"measured-{row['step']}"), folder / f"step-{row['step']}"
        step.folder.mkdir(exist_ok=True)
        right_P = answers.right(step, of.recipe, str(policy))
        shutil.rmtree(policy, ignore_errors=True)
        print(f"{trainer}: {row} right {right_P.mean():.3f}", flush=True)
        return right_P, row["seconds"]

    for line in told.read_text().splitlines() if told.exists() else []:
        right_P, last = measured(line)
        yield right_P, last
        if right_P.mean() >= goal or last >= most:
            return
    with peers.started(python, "trl_train", own | {"every": every, "folder": str(folder.resolve())}) as peer:
        for line in peer.stdout:
            right_P, last = measured(line)
            yield right_P, last
            peer.stdin.write("on\n" if right_P.mean() < goal and last < most else "stop\n")
            peer.stdin.flush()


def job(of: study.Base, trainer: str) -> peers.Job:
    kind, rate, per_step, *mask = trainer.split(":")
    prompts = splits.training(read_table(of.run.table("prompts"), Prompt), of.recipe)
    sampling = dataclasses.asdict(of.recipe.sample)
    return {name: sampling[name] for name in ("group_size", "max_tokens", "temperature")} | {
        "trainer": kind,
        "learning_rate": float(rate),
        "model": str(model_folder(of.recipe.model)),
        "scorer": str(of.run.reward_model.resolve()),
        "scores": hashlib.sha256(of.run.table("scores").read_bytes()).hexdigest(),
        "prompts": [[{"role": m.role, "content": m.content} for m in p.messages] for p in prompts],
        "prompts_per_step": int(per_step),
        "mask_truncated": mask == ["mask"],
        "rows": 8,  # completions in one forward and backward pass; more do not fit beside another training
        "steps": 100_000,
        "dtype": "float32",
        "seed": of.recipe.seed,
    }
