"""What the true answers say of a model: right first answers, and the best of its tries. The demo's maker knows more."""

from __future__ import annotations

import dataclasses
import json
import random
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from bakeoff.evaluation.holdout import answers
from bakeoff.math import best_of_n
from bakeoff.records import Completion, Prompt
from bakeoff.run import Run
from bakeoff.sampling import Sampling, choose
from bakeoff.sampling.resume import complete_table
from bakeoff.scorer import score_table
from bakeoff.scoring import choose as scorers
from bakeoff.scoring.verifiers import VERIFIERS
from bakeoff.settings import Recipe
from benchmarks import results

FILINGS = results.ROOT / "examples" / "filings"
DATA_SEED = 1
"""The seed that made the demo's files."""
ANSWERS = 4
"""First answers to each prompt with a true answer."""
sys.path.insert(0, str(FILINGS))  # the maker's modules import each other by their bare names


def right(run: Run, recipe: Recipe, model: str, table: str = "first_answers") -> np.ndarray:
    """[P]: the share of right first answers of a model to each prompt with a true answer; they stay in `run`."""
    return verified(recipe, drawn(run, table, recipe, model, ANSWERS)).reshape(-1, ANSWERS).mean(1)


def drawn(run: Run, name: str, recipe: Recipe, model: str, size: int) -> list[Completion]:
    """So many answers of a model to each prompt with a true answer, in the run's table `name`."""
    sampling = dataclasses.replace(Sampling.of(recipe.sample, recipe.seed + 1), group_size=size)
    return complete_table(run, name, prompts(recipe), sampling, lambda: choose.engine(model, recipe))


def prompts(recipe: Recipe) -> list[Prompt]:
    """The prompts with a true answer."""
    return [Prompt(a.prompt_id, a.messages, a.source, 1, "heldout", a.task) for a in answers(recipe)]


def verified(recipe: Recipe, completions: Iterable[Completion]) -> np.ndarray:
    """[M]: whether each completion is right by the true answer to its prompt."""
    return agrees({a.prompt_id: (a.answer, a.verifier) for a in answers(recipe)}, completions)


def agrees(truth: Mapping[str, tuple[str, str]], completions: Iterable[Completion]) -> np.ndarray:
    """[M]: whether each of the completions whose prompt has a (true answer, verifier) is right by it."""
    pairs = ((c.text, *truth[c.prompt_id]) for c in completions if c.prompt_id in truth)
    return np.array([VERIFIERS[verifier](text, answer) for text, answer, verifier in pairs], float)


def rewards(run: Run, name: str, recipe: Recipe, drawn: list[Completion], judge: Run) -> list[float | None]:
    """The rewards of answers to the prompts with a true one, by the recipe's scorer, that of the run `judge`."""
    scores = score_table(run, name, prompts(recipe), drawn, lambda: scorers.make_scorer(judge, recipe))
    return [s.reward for s in scores]


def best(rewards: Iterable[float | None], right_M: np.ndarray, size: int) -> np.ndarray:
    """[P]: whether the completion with the highest reward of each group of `size` is right; equal rewards share."""
    reward_M = np.array([-np.inf if reward is None else reward for reward in rewards])
    return best_of_n.best_of_k_curve(reward_M.reshape(-1, size), right_M.reshape(-1, size), [size])[:, 0]


def of_the_maker(prompts: Sequence[Prompt]) -> dict[str, tuple[str, str]]:
    """(true answer, verifier) by id of those prompts cleaned from the demo's log that its maker knows the answer to."""
    from make import answers_to

    found = zip(prompts, answers_to((p.messages[-1].content for p in prompts), DATA_SEED), strict=True)
    return {prompt.id: (case.answer, case.verifier) for prompt, case in found if case}


def picks(file: Path, numbers: range, model: str) -> Path:
    """The simulated tester's picks, written to `file` unless there, among a model's tries at some of the maker's cases.

    They are numbered as those of the demo's picks, and what comes after them.
    """
    from make import cases_of, picks_of, write_lines

    if not file.exists():
        asked = cases_of("picks", DATA_SEED, numbers.stop)[numbers.start :]
        made = picks_of(asked, random.Random(f"tester {numbers}"), DATA_SEED, model)
        write_lines(file, (json.dumps(row, ensure_ascii=False) for row in made))
    return file
