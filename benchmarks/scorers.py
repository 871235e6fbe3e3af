"""What scorers without a labelled answer choose: python benchmarks/scorers.py [--run DIR] [--record]

The untouched policy answers each of the demo's gold prompts 16 times; each scorer picks one of the 16, ties shared, and
the true answers say how often the pick is right. Nothing is fitted or tuned. The completions stay in `--out` and are
not drawn again. `--run` is a finished run of the demo, whose reward model is measured too.
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import results

from bakeoff import config
from bakeoff.evaluation.holdout import read_gold
from bakeoff.math import best_of_n, statistics
from bakeoff.records import Answer, Completion, Prompt
from bakeoff.run import Run, open_run
from bakeoff.sampling import Sampling, choose
from bakeoff.sampling.resume import complete_table
from bakeoff.scorer import score_table
from bakeoff.scoring import choose as scorers
from bakeoff.scoring.verifiers import VERIFIERS
from bakeoff.settings import Recipe

RECIPE = results.ROOT / "recipes" / "filings.toml"
SEED = 0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=results.ROOT / "runs" / "scorers", help="where completions stay")
    parser.add_argument("--run", type=Path, help="a finished run of the demo")
    parser.add_argument("--scorers", nargs="+", default=["majority", "logit_judge"], help="as score.scorer names them")
    parser.add_argument("--record", action="store_true", help="write docs/results/scorers.json")
    args = parser.parse_args()
    recipe = config.load(RECIPE, [f"seed={SEED}"])
    run = open_run(args.out, recipe)
    answers = read_gold(Path(recipe.evaluate.holdout))
    prompts = [Prompt(a.prompt_id, a.messages, a.source, 1, "heldout") for a in answers]
    sampling = Sampling.of(recipe.sample, SEED)
    drawn = complete_table(run, "gold", prompts, sampling, lambda: choose.engine(recipe.model, recipe))
    names = args.scorers + ([f"reward_model:{args.run / 'reward_model'}"] if args.run else [])
    rewards = {"random": np.zeros(len(drawn)), "longest": np.array([len(c.text) for c in drawn], float)}
    rewards |= {name.partition(":")[0]: rewarded(run, recipe, name, (prompts, drawn)) for name in names}
    rows = list(figures(rewards, right(answers, drawn), recipe.sample.group_size))
    print(results.table([dict.fromkeys(results.STAMPED) | row for row in rows]))
    if args.record:
        results.record("scorers", rows)
        results.main()


def rewarded(run: Run, recipe: Recipe, name: str, table: tuple[Sequence[Prompt], Sequence[Completion]]) -> np.ndarray:
    """The rewards by one scorer; what is missing is never picked."""
    given = config.load(RECIPE, [f"seed={SEED}", f"score.scorer={name}"])
    scores = score_table(run, f"gold_{name.partition(':')[0]}", *table, lambda: scorers.make_scorer(run, given))
    return np.array([-np.inf if s.reward is None else s.reward for s in scores])


def right(answers: Sequence[Answer], drawn: Sequence[Completion]) -> np.ndarray:
    known = {a.prompt_id: a for a in answers}
    return np.array([float(VERIFIERS[a.verifier](c.text, a.answer)) for c in drawn for a in [known[c.prompt_id]]])


def figures(rewards: dict[str, np.ndarray], right: np.ndarray, size: int):
    """For each scorer the share of right picks, over all prompts and over those where any of the 16 is right."""
    right_PM = right.reshape(-1, size)
    exists = right_PM.any(1)
    yield {"name": "scorers.any_right"} | statistics.bootstrap(exists, seed=SEED).as_dict()
    for name, reward in rewards.items():
        picked_P = best_of_n.best_of_k_curve(reward.reshape(-1, size), right_PM, [size])[:, 0]
        yield {"name": f"scorers.{name}"} | statistics.bootstrap(picked_P, seed=SEED).as_dict()
        yield {"name": f"scorers.{name}.where_any_right"} | statistics.bootstrap(picked_P[exists], seed=SEED).as_dict()
    for one, other in itertools.product(sorted(rewards.keys() - {"random", "longest"}), ["random"]):
        picked = (best_of_n.best_of_k_curve(rewards[n].reshape(-1, size), right_PM, [size])[:, 0] for n in (one, other))
        yield {"name": f"scorers.{one}.over_{other}"} | statistics.bootstrap(np.subtract(*picked), seed=SEED).as_dict()


if __name__ == "__main__":
    main()
