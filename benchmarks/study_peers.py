"""Time to quality: how long until the first answer is as good as the reference's best of 16, beside TRL?

BAKEOFF_TRL names a Python interpreter of an environment with trl. All sides have the same model, prompts, reward
model and threads, and both are tried with growing budgets: the first that is as good by the true answers counts.

Ours are parts of the recipe's prompts, each baked from the start by the settings `QUICK`, and again from other prompts,
since a bake from few prompts is a matter of luck: the mean counts. Its seconds are those of sampling, scoring and the
bake, with all loading. TRL's are the seconds of one training, in float32 with bfloat16 products, which waits while a
checkpoint is measured; a straight line joins two checkpoints. It lasts at most `MOST` times our seconds, and no longer
than the fastest arm before it took.
BAKEOFF_PEERS names the arms, `TRAINER:LEARNING_RATE:PROMPTS_PER_STEP ...`, or with `:mask` behind, where completions
that were cut short do not count; the fastest of all counts.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import studies

from bakeoff.data import splits
from bakeoff.errors import UserError
from bakeoff.math import statistics
from bakeoff.models import load as models
from bakeoff.records import Prompt, read_table, write_table
from bakeoff.run import Run, read_json, write_json
from bakeoff.scorer import by_prompt, score_table
from bakeoff.scoring import choose as scorers

ARMS = "grpo:3e-5:1 grpo:3e-5:1:mask rloo:3e-5:1 grpo:1e-4:1:mask"
PARTS = (40, 32, 24, 20, 16, 8, 4, 2, 1)
"""We take so small a part of the recipe's prompts, then more, until the target is reached."""
QUICK = ["sample.group_size=8", "bake.agreement_quantile=0.5", "bake.epochs=2", "bake.learning_rate=2e-4"]
"""What few prompts are best baked by, chosen on prompts held out of the log (docs/log.md)."""
AGAIN = (10_000, 20_000, 30_000, 40_000, 50_000, 60_000)
"""What is added to the seed for each bake of a part."""
MOST, EVERY = 50, 2
"""A trainer of TRL has so many times our seconds, and leaves a checkpoint after each so many of them."""
TRIES = 16
TIMED = ("sample", "score", "bake")
RATIO = "time_to_quality_vs_trl"
LEAST = f"{RATIO}_at_least"
"""Where no trainer reached the target: the seconds that it was followed for, by ours."""

Curve = list[tuple[float, np.ndarray]]
"""(seconds, [P] right first answers) of a trainer's checkpoints."""


def study(seeds: Sequence[int], out: Path, overrides: Sequence[str]) -> None:
    """Ours and every arm on every seed; then the table."""
    python = os.environ.get("BAKEOFF_TRL", "")
    if not Path(python).is_file():
        raise UserError("study peers: set BAKEOFF_TRL to the Python interpreter of an environment with trl")
    arms = os.environ.get("BAKEOFF_PEERS", ARMS).split()
    rows = [row for seed in seeds for row in compared(studies.base(out, seed, overrides), python, arms)]
    studies.record("peers", [worst(rows, len(seeds)), *rows], seeds, overrides, replaced=["peers.*", f"{RATIO}*"])


def compared(of: studies.Base, python: str, arms: Sequence[str]) -> Iterator[dict[str, Any]]:
    """The rows of one seed."""

    def row(name: str, values_P: np.ndarray) -> dict[str, Any]:
        return {"name": f"peers.{name}.seed{of.recipe.seed}"} | statistics.bootstrap(values_P, seed=0).as_dict()

    def timed(name: str, seconds: float) -> dict[str, Any]:
        return {"name": f"peers.{name}_seconds.seed{of.recipe.seed}", "value": round(seconds, 1)}

    start_P = studies.right(of.arm("reference"), of.recipe, of.recipe.model)
    goal_P = best_of_n(of)
    goal = float(goal_P.mean())
    yield row("reference", start_P)
    yield row("target", goal_P)
    for count in (of.recipe.sample.prompts // part for part in PARTS):
        bakes_BP, seconds = ours(of, count)
        right_P = bakes_BP.mean(0)
        print(f"target {goal:.3f}, ours {right_P.mean():.3f} in {seconds:.0f} s", flush=True)
        yield row(f"bakeoff.p{count}", right_P)
        yield timed(f"bakeoff.p{count}", seconds)
        yield {
            "name": f"peers.bakeoff.p{count}_reached.seed{of.recipe.seed}",
            "value": float(np.mean(bakes_BP.mean(1) >= goal)),
        }
        if right_P.mean() >= goal:
            break
    else:
        return
    found, curves, met = list[float](), list[Curve](), False
    for arm in arms:
        curve: Curve = [(0.0, start_P)]
        every, most = EVERY * seconds, min([MOST * seconds, *found])
        for theirs_P, at in theirs(of, python, arm, goal, (every, most)):
            curve.append((at, theirs_P))
            yield row(f"trl.{arm}.after{at:.0f}", theirs_P)
        when = reached([(at, float(values_P.mean())) for at, values_P in curve], goal)
        found.append(curve[-1][0] if when is None else when)
        curves.append(curve)
        met = met or when is not None
        yield timed(f"trl.{arm}.{'not_' * (when is None)}reached", found[-1])
    yield {"name": f"{RATIO if met else LEAST}.seed{of.recipe.seed}"} | ratio(curves, goal_P, right_P, seconds)


def ratio(curves: Sequence[Curve], goal_P: np.ndarray, right_P: np.ndarray, seconds: float) -> dict[str, Any]:
    """The seconds of the fastest trainer by ours, with its interval over prompts.

    On prompts on which ours is not as good as the goal, it has twice the seconds; a trainer that
    is not as good has all that it was followed for, so the interval's upper end may be higher yet.
    """

    def on(rows: np.ndarray) -> float:
        goal = float(goal_P[rows].mean())
        shares = ([(at, float(values_P[rows].mean())) for at, values_P in curve] for curve in curves)
        times = [curve[-1][0] if (when := reached(curve, goal)) is None else when for curve in shares]
        return min(times) / (seconds if right_P[rows].mean() >= goal else 2 * seconds)

    return statistics.interval(on, len(goal_P), seed=0).as_dict()


def worst(rows: Sequence[dict[str, Any]], seeds: int) -> dict[str, Any]:
    """The ratio of the seed that says least for us, under the name of all; unknown if on one we never were as good."""
    ratios = [row for row in rows if row["name"].startswith(RATIO)]
    if len(ratios) < seeds:
        return {"name": RATIO, "value": None}
    row = min(ratios, key=lambda row: row["value"])
    return row | {"name": row["name"].rpartition(".seed")[0]}


def ours(of: studies.Base, count: int) -> tuple[np.ndarray, float]:
    """([B, P] right first answers of some bakes, the mean of the seconds of their stages)."""
    batch = max(1, of.recipe.bake.batch_size * count // of.recipe.sample.prompts)
    right, seconds = [], 0.0
    for more in AGAIN:
        seed = of.recipe.seed + more
        settings = [*QUICK, f"seed={seed}", f"sample.prompts={count}", f"bake.batch_size={batch}"]
        name = f"peers-p{count}-{more}"
        run = of.arm(name)
        if not run.details("bake").exists():
            shutil.rmtree(run.folder)  # of one that was killed, a part of the seconds is lost
            write_table(of.arm(name).table("prompts"), Prompt, some(of, count, seed))
        run = studies.again(of, name, settings)
        right.append(studies.right(run, of.recipe, str(run.policy)))
        seconds += sum(line["seconds"] for line in run.logged() if line["stage"] in TIMED and "seconds" in line)
    print(f"{count} prompts: {[round(float(right_P.mean()), 3) for right_P in right]} right", flush=True)
    return np.array(right), seconds / len(AGAIN)


def some(of: studies.Base, count: int, seed: int) -> list[Prompt]:
    """So many training prompts, drawn by the seed, and all that are held out."""
    prompts = read_table(of.run.table("prompts"), Prompt)
    kept = random.Random(f"peers {seed}").sample([p for p in prompts if p.split == "train"], count)
    return [p for p in prompts if p.split != "train" or p in kept]


def reached(curve: Sequence[tuple[float, float]], goal: float) -> float | None:
    """The seconds at which the straight lines between (seconds, share) first reach a share, if they do."""
    for (t0, low), (t1, high) in zip(curve, curve[1:], strict=False):
        if high >= goal:
            return t0 + (t1 - t0) * max(0.0, goal - low) / (high - low) if high > low else t1
    return None


def best_of_n(of: studies.Base) -> np.ndarray:
    """[P]: whether the reference's best try of 16 by the reward model is right, for each prompt with a true answer."""
    run, prompts = of.arm("peers-reference"), studies.gold_prompts(of.recipe)
    tries = studies.drawn(run, "reference", of.recipe, of.recipe.model, TRIES)
    scores = score_table(run, "reference_scores", prompts, tries, lambda: scorers.make_scorer(of.run, of.recipe))
    reward = {s.completion_id: -np.inf if s.reward is None else s.reward for s in scores}
    best = (max(group, key=lambda c: reward[c.id]) for group in by_prompt(tries).values())
    return studies.verified(of.recipe, best)


def theirs(
    of: studies.Base, python: str, arm: str, goal: float, times: tuple[float, float]
) -> Iterator[tuple[np.ndarray, float]]:
    """([P] right first answers, seconds) of each checkpoint of a trainer, until one reaches the goal or time is over.

    `times` are the seconds between checkpoints, and those that it has. A trainer that was killed goes on from its last
    checkpoint, one of another job is trained again.
    """
    every, most = times
    folder = of.arm(f"peers-{arm.replace(':', '-')}").folder
    job = _job(of, arm)
    kept, told = Run(folder).details("job"), folder / "checkpoints.jsonl"
    if told.exists() and (not kept.exists() or read_json(kept) != job):
        print(f"{arm}: what is there had another job: trained again", flush=True)
        shutil.rmtree(folder)
        folder.mkdir()
    write_json(kept, job)

    def measured(row: dict[str, Any]) -> tuple[np.ndarray, float]:
        step, policy = Run(folder / f"measured-{row['step']}"), folder / f"step-{row['step']}"
        step.folder.mkdir(exist_ok=True)
        right_P = studies.right(step, of.recipe, str(policy))
        shutil.rmtree(policy, ignore_errors=True)
        print(f"{arm}: {row} right {right_P.mean():.3f}", flush=True)
        return right_P, row["seconds"]

    last = 0.0
    for line in told.read_text().splitlines() if told.exists() else []:
        right_P, last = measured(json.loads(line))
        yield right_P, last
        if right_P.mean() >= goal or last >= most:
            return
    script = Path(__file__).with_name("peer_trl_train.py")
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, "env": _without_path()}
    with subprocess.Popen([python, script], **pipes) as peer:
        peer.stdin.write(json.dumps(job | {"every": every, "folder": str(folder.resolve())}) + "\n")
        peer.stdin.flush()
        for line in peer.stdout:
            right_P, last = measured(json.loads(line))
            yield right_P, last
            on = right_P.mean() < goal and last < most
            peer.stdin.write("on\n" if on else "stop\n")
            peer.stdin.flush()
    if peer.returncode:
        raise UserError(f"study peers: {arm}: the trainer ended with {peer.returncode}; its messages are above")


def _job(of: studies.Base, arm: str) -> dict[str, Any]:
    trainer, rate, per_step, *mask = arm.split(":")
    prompts = splits.training(read_table(of.run.table("prompts"), Prompt), of.recipe)
    return {
        "trainer": trainer,
        "learning_rate": float(rate),
        "model": str(models.folder(of.recipe.model)),
        "scorer": str(of.run.reward_model.resolve()),
        "scores": studies.content(of.run.table("scores")),
        "prompts": [[{"role": m.role, "content": m.content} for m in p.messages] for p in prompts],
        "prompts_per_step": int(per_step),
        "mask_truncated": mask == ["mask"],
        "group_size": of.recipe.sample.group_size,
        "max_tokens": of.recipe.sample.max_tokens,
        "temperature": of.recipe.sample.temperature,
        "steps": 100_000,
        "dtype": "float32",
        "seed": of.recipe.seed,
    }


def _without_path() -> dict[str, str]:
    """The environment, without what would lead another interpreter to this one's packages."""
    return {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
