"""What a reward model learns from the demo's picks: `python benchmarks/reward_model.py [--seeds 0 1 2]`.

For 50, 100, 200 and 400 picks of the simulated tester: how often the reward model agrees with her on 300 fresh groups,
and how often the answer that it chooses among 16 is right, on held-out prompts where a right one is among them. Each
seed takes other picks and another order. Whatever is in the folder `--out` is read, not made again.
"""

from __future__ import annotations

import argparse
import random
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import results
import studies

from bakeoff import config
from bakeoff.evaluation.holdout import read_gold
from bakeoff.math import statistics
from bakeoff.models import load as models
from bakeoff.models.optimizer import follow
from bakeoff.preferences import gate, reward_model
from bakeoff.preferences import load as people
from bakeoff.preferences.evaluation import table_rewards
from bakeoff.preferences.reward_training import RewardTraining
from bakeoff.records import Answer, Pick, Prompt
from bakeoff.run import Run
from bakeoff.sampling import Sampling
from bakeoff.sampling.local import LocalEngine
from bakeoff.sampling.resume import complete_table
from bakeoff.scoring.verifiers import VERIFIERS
from bakeoff.settings import Recipe

SIZES = (50, 100, 200, 400)
FRESH = 300
"""Groups of which the simulated tester picks one, beyond those in picks.jsonl: what the agreement is measured on."""
Groups = list[tuple[list[Any], list[str]]]


def main() -> None:
    """Train on every number of picks with every seed, record the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES)
    parser.add_argument("--settings", nargs="*", default=[], help="changes to the recipe: section.key=value")
    parser.add_argument("--out", type=Path, default=results.ROOT / "runs" / "reward_model", help="folder to work in")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    recipe = config.load(studies.RECIPE, args.settings)
    fresh, (groups, right_PM) = fresh_picks(args.out, recipe.model), gold_groups(Run(args.out), recipe)
    for size in args.sizes:
        found = []
        for seed in args.seeds:
            run = trained(args.out / f"picks-{size}-{seed}", recipe, picked(size, seed), seed)
            found.append(columns(run, fresh, groups, right_PM))
        results.record("reward_model", rows(f"picks_{size}", args.seeds, found))
    results.main()
    print(results.table([row for row in results.read("reward_model") if row["name"].startswith("picks_")]))


def picked(size: int, seed: int) -> list[Pick]:
    """So many of the demo's picks, drawn by the seed."""
    return random.Random(seed).sample(people.read_picks([str(studies.FILINGS / "picks.jsonl")]), size)


def fresh_picks(out: Path, model: str) -> list[Pick]:
    """The simulated tester's picks on the prompts that come after those of picks.jsonl, of the same companies."""
    sys.path.insert(0, str(studies.FILINGS))
    from make import PICKS

    file = studies.picked(out / "fresh_picks.jsonl", range(PICKS, PICKS + FRESH), model)
    return people.read_picks([str(file)])


def gold_groups(run: Run, recipe: Recipe) -> tuple[Groups, np.ndarray]:
    """16 answers of the demo's model to each prompt with a true answer, and whether each is right [P, 16]."""
    answers = read_gold(Path(recipe.evaluate.holdout))
    prompts = [Prompt(a.prompt_id, a.messages, a.source, 1, "heldout") for a in answers]
    sampling = Sampling.of(recipe.sample, recipe.seed + 1)
    drawn = complete_table(run, "gold", prompts, sampling, lambda: LocalEngine(*models.load_policy(recipe.model)))
    size = sampling.group_size
    texts = [[c.text for c in drawn[i : i + size]] for i in range(0, len(drawn), size)]
    groups = [(a.messages, group) for a, group in zip(answers, texts, strict=True)]
    return groups, np.array([[_right(a, t) for t in group] for a, group in zip(answers, texts, strict=True)])


def _right(answer: Answer, text: str) -> bool:
    return VERIFIERS[answer.verifier](text, answer.answer)


def trained(folder: Path, recipe: Recipe, picks: list[Pick], seed: int) -> Run:
    """A folder with a reward model trained on the picks as the recipe says."""
    run = Run(folder)
    folder.mkdir(exist_ok=True)
    if not run.reward_model.exists():
        scorer = reward_model.RewardModel.fresh(recipe.model, recipe)
        training = RewardTraining(scorer, picks, recipe.reward, seed=seed)
        follow(run, "reward", training.optimizer, training.steps())
        models.save(scorer.model, scorer.tokenizer, run.reward_model)
    return run


def columns(run: Run, fresh: Sequence[Pick], groups: Groups, right_PM: np.ndarray) -> dict[str, np.ndarray]:
    """One number per group: agreement with the fresh picks; right among 16 where there is a right one."""
    model = str(run.reward_model)
    judged = gate.judged(fresh, table_rewards(run, model, [(p.messages, p.completions) for p in fresh]))
    best = np.array(table_rewards(run, model, groups)).argmax(1)
    right_P = right_PM[np.arange(len(best)), best]
    return {
        "pick_accuracy": gate.column(gate.informative(judged), lambda g: g.right),
        "right_of_16": right_P[right_PM.any(1)],
    }


def rows(name: str, seeds: Sequence[int], found: list[dict[str, np.ndarray]]) -> Iterator[dict[str, Any]]:
    """For each quantity the mean of the seeds, its interval over prompts, then each seed."""
    for key in found[0]:
        by_seed = np.array([columns[key] for columns in found], float)
        yield {"name": f"{name}.{key}"} | statistics.bootstrap(by_seed.mean(0), seed=0).as_dict()
        for seed, column in zip(seeds, by_seed, strict=True):
            yield {"name": f"{name}.{key}.seed{seed}"} | statistics.bootstrap(column, seed=0).as_dict()


if __name__ == "__main__":
    main()
