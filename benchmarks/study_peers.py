"""Time to quality: how long until the first answer is as good as the reference's best of 16, beside TRL?

BAKEOFF_TRL names a Python interpreter of an environment with trl. All sides have the same model, prompts and reward
model, and the same threads. Ours is timed anew: sampling, scoring and the bake, with all loading. A trainer of TRL runs
`MOST` times as long, in float32 with bfloat16 products; its checkpoints are measured afterwards, by the same true
answers. BAKEOFF_PEERS names the arms, `TRAINER:LEARNING_RATE ...`; the fastest of all counts.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import studies

from bakeoff import models, splits, stats
from bakeoff.errors import UserError
from bakeoff.records import Prompt, read_table
from bakeoff.rewards import choose as scorers
from bakeoff.rewards.resume import by_prompt, score_table
from bakeoff.run import Run

ARMS = "grpo:1e-4 rloo:1e-4"
MOST, EVERY = 8, 1.0
"""A trainer of TRL has so many times our seconds, and leaves a checkpoint after each of them."""
PROMPTS_PER_STEP = 4
TRIES = 16
TIMED = ("sample", "score", "bake")


def study(seeds: Sequence[int], out: Path, overrides: Sequence[str]) -> None:
    """Ours and every arm on every seed; then the table."""
    python = os.environ.get("BAKEOFF_TRL", "")
    if not Path(python).is_file():
        raise UserError("study peers: set BAKEOFF_TRL to the Python interpreter of an environment with trl")
    arms = os.environ.get("BAKEOFF_PEERS", ARMS).split()
    rows = [row for seed in seeds for row in compared(studies.base(out, seed, overrides), python, arms)]
    studies.record("peers", rows, seeds, overrides)


def compared(of: studies.Base, python: str, arms: Sequence[str]) -> Iterator[dict[str, Any]]:
    """The rows of one seed."""
    seed = of.recipe.seed
    goal_P = best_of_n(of)
    goal = float(goal_P.mean())
    yield {"name": f"peers.target.seed{seed}"} | stats.bootstrap(goal_P, seed=0).as_dict()
    run, seconds = ours(of)
    right_P = studies.right(run, of.recipe, str(run.policy))
    yield {"name": f"peers.bakeoff.right.seed{seed}"} | stats.bootstrap(right_P, seed=0).as_dict()
    yield {"name": f"peers.bakeoff.seconds.seed{seed}", "value": round(seconds, 1)}
    print(f"seed {seed}: target {goal:.3f}, ours {right_P.mean():.3f} in {seconds:.0f} s", flush=True)
    found = []
    for arm in arms:
        best, reached, last = theirs(of, python, arm, goal, seconds)
        found.append(reached or last)
        state = "reached" if reached else "not_reached"
        yield {"name": f"peers.trl.{arm}.{state}_seconds.seed{seed}", "value": round(found[-1], 1)}
        yield {"name": f"peers.trl.{arm}.right.seed{seed}"} | stats.bootstrap(best, seed=0).as_dict()
    if right_P.mean() >= goal:
        yield {"name": f"time_to_quality_vs_trl.seed{seed}", "value": round(min(found) / seconds, 2)}


def ours(of: studies.Base) -> tuple[Run, float]:
    """The bake of the base once more, in one go, and the seconds of its stages."""
    run = studies.again(of, "peers-bakeoff", [])
    return run, sum(row["seconds"] for row in run.logged() if row["stage"] in TIMED and "seconds" in row)


def best_of_n(of: studies.Base) -> np.ndarray:
    """[P]: whether the reference's best try of 16 by the reward model is right, for each prompt with a true answer."""
    run, prompts = of.arm("peers-reference"), studies.gold_prompts(of.recipe)
    tries = studies.drawn(run, "reference", of.recipe, of.recipe.model, TRIES)
    scores = score_table(run, "reference_scores", prompts, tries, lambda: scorers.scorer(of.run, of.recipe))
    reward = {s.completion_id: -np.inf if s.reward is None else s.reward for s in scores}
    best = (max(group, key=lambda c: reward[c.id]) for group in by_prompt(tries).values())
    return studies.verified(of.recipe, best)


def theirs(
    of: studies.Base, python: str, arm: str, goal: float, seconds: float
) -> tuple[np.ndarray, float | None, float]:
    """([P] right first answers of the best checkpoint, seconds until the goal or None, seconds of the last one)."""
    folder = of.arm(f"peers-{arm.replace(':', '-')}").folder
    told = folder / "checkpoints.jsonl"
    if not (folder / "done").exists():
        job = _job(of, arm, seconds) | {"folder": str(folder.resolve())}
        script = Path(__file__).with_name("peer_trl_train.py")
        subprocess.run([python, script], input=json.dumps(job), text=True, check=True, env=_without_path())
        (folder / "done").touch()
    best, rows = np.zeros(0), [json.loads(line) for line in told.read_text().splitlines()]
    for row in rows:
        step = Run(folder / f"measured-{row['step']}")
        step.folder.mkdir(exist_ok=True)
        right_P = studies.right(step, of.recipe, str(folder / f"step-{row['step']}"))
        print(f"{arm}: {row} right {right_P.mean():.3f}", flush=True)
        best = right_P if not len(best) or right_P.mean() > best.mean() else best
        if right_P.mean() >= goal:
            return right_P, row["seconds"], rows[-1]["seconds"]
    return best, None, rows[-1]["seconds"]


def _job(of: studies.Base, arm: str, seconds: float) -> dict[str, Any]:
    trainer, rate = arm.split(":")
    prompts = splits.training(read_table(of.run.table("prompts"), Prompt), of.recipe)
    return {
        "trainer": trainer,
        "learning_rate": float(rate),
        "model": str(models.folder(of.recipe.model)),
        "scorer": str(of.run.reward_model.resolve()),
        "prompts": [[{"role": m.role, "content": m.content} for m in p.messages] for p in prompts],
        "prompts_per_step": PROMPTS_PER_STEP,
        "group_size": of.recipe.sample.group_size,
        "max_tokens": of.recipe.sample.max_tokens,
        "temperature": of.recipe.sample.temperature,
        "steps": 100_000,
        "most": MOST * seconds,
        "every": EVERY * seconds,
        "dtype": "float32",
        "seed": of.recipe.seed,
    }


def _without_path() -> dict[str, str]:
    """The environment, without what would lead another interpreter to this one's packages."""
    return {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
