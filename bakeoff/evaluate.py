"""Stage: reference and tuned policy in, the honest figures of the difference out."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from bakeoff import bestofn, models, stats, trees
from bakeoff.config import Recipe
from bakeoff.engines import Sampling, choose
from bakeoff.engines.resume import complete_table, failures
from bakeoff.errors import UserError
from bakeoff.gold import read_gold
from bakeoff.records import Answer, Completion, Prompt, prompt_id, read_table
from bakeoff.rewards import model as reward_model
from bakeoff.rewards.picks import read_picks
from bakeoff.rewards.resume import score_table
from bakeoff.rewards.verifiers import VERIFIERS
from bakeoff.run import Run, write_json

KL_TOKENS = 2048
"""Padded tokens per pass when the divergence of the two policies is measured."""


@dataclasses.dataclass(frozen=True, slots=True)
class Draws:
    """What one policy answered: per prompt its completions, in order, and the scorer's rewards of them."""

    completions: list[list[Completion]]
    reward_PM: np.ndarray

    def of(self, ids: set[str]) -> Draws:
        """The draws for some prompts only."""
        kept = [group[0].prompt_id in ids for group in self.completions]
        return Draws(list(itertools.compress(self.completions, kept)), self.reward_PM[kept])


def evaluate(run: Run, recipe: Recipe) -> None:
    """Sample first answers of both policies on held-out prompts, score and verify them; writes `evaluation.json`."""
    answers, leaked = held_out_answers(run, recipe)
    prompts = evaluation_prompts(run, recipe, answers)
    if not prompts:
        raise UserError("nothing to evaluate: no prompt was held out; raise prompts.heldout or give evaluate.gold")
    drawn = {
        "reference": _draws(run, recipe, "reference", recipe.model, prompts, recipe.sample.group_size),
        "tuned": _draws(run, recipe, "tuned", str(run.policy), prompts, recipe.evaluate.samples),
    }
    failed = Counter({f.prompt_id: f.reason for name in drawn for f in failures(run, name)}.values())
    prompts, drawn = answered_by_all(prompts, drawn)
    kl_P = divergence(run, recipe, prompts, drawn["tuned"])
    made = figures(recipe, answers, prompts, drawn["reference"], drawn["tuned"], kl_P)
    write_json(run.details("evaluation"), made | {"leaked": leaked, "failed": failed})


def answered_by_all(prompts: Sequence[Prompt], drawn: dict[str, Draws]) -> tuple[list[Prompt], dict[str, Draws]]:
    """The prompts that every policy has a whole group for, and their draws: so that all comparisons stay paired.

    Raises UserError when there is none.
    """
    ids = set.intersection(*({group[0].prompt_id for group in draws.completions} for draws in drawn.values()))
    if not ids:
        raise UserError(
            "nothing to evaluate: no held-out prompt could be completed by every policy; see *_failed.parquet"
        )
    return [p for p in prompts if p.id in ids], {name: draws.of(ids) for name, draws in drawn.items()}


def held_out_answers(run: Run, recipe: Recipe) -> tuple[dict[str, Answer], int]:
    """(true answers by prompt id, how many were left out because their prompt was trained on)."""
    if not recipe.evaluate.gold:
        return {}, 0
    answers = {a.prompt_id: a for a in read_gold(Path(recipe.evaluate.gold))}
    seen = {p.id for p in read_table(run.table("prompts"), Prompt) if p.split == "train"}
    seen |= {prompt_id(pick.messages) for pick in read_picks(recipe.reward.picks)}
    kept = {key: answer for key, answer in answers.items() if key not in seen}
    return kept, len(answers) - len(kept)


def evaluation_prompts(run: Run, recipe: Recipe, answers: dict[str, Answer]) -> list[Prompt]:
    """The prompts with true answers, then those held out of the log, up to `evaluate.prompts`."""
    gold = [Prompt(a.prompt_id, a.messages, a.source, 1, "heldout") for a in answers.values()]
    held_out = [p for p in read_table(run.table("prompts"), Prompt) if p.split == "heldout" and p.id not in answers]
    return gold + held_out[: recipe.evaluate.prompts]


def _draws(run: Run, recipe: Recipe, name: str, model: str, prompts: list[Prompt], size: int) -> Draws:
    sampling = dataclasses.replace(Sampling.of(recipe.sample, recipe.seed + 1), group_size=size)
    completions = complete_table(run, name, prompts, sampling, lambda: choose.engine(model, recipe))
    scores = score_table(
        run, f"{name}_scores", prompts, completions, lambda: reward_model.load(run.reward_model, recipe)
    )
    groups = [completions[i : i + size] for i in range(0, len(completions), size)]
    return Draws(groups, np.array([s.reward for s in scores]).reshape(-1, size))


def divergence(run: Run, recipe: Recipe, prompts: Sequence[Prompt], tuned: Draws) -> np.ndarray:
    """KL(tuned || reference) of each prompt in nats per sequence, from its first two tuned completions.

    At every token of a sampled completion the exact divergence of the two next-token distributions, summed over the
    completion (Amini, Vieira & Cotterell, arXiv:2504.10637): unbiased, and of less variance than the log-ratio.
    """
    policy, tokenizer = models.load_policy(str(run.policy), recipe)
    reference, _ = models.load_policy(recipe.model, recipe)
    packed = [
        trees.Tree(i, models.render(tokenizer, p.messages), [c.tokens for c in group[:2] if c.tokens])
        for i, (p, group) in enumerate(zip(prompts, tuned.completions, strict=True))
    ]
    total_P = np.zeros(len(prompts))
    temperature = recipe.sample.temperature or 1.0
    for batch in tqdm(trees.batches(packed, KL_TOKENS), desc="divergence", unit="batch"):
        with torch.inference_mode():
            for owner, kl in _batch_divergence(policy, reference, trees.pack(batch, policy), temperature):
                total_P[owner] += kl
    return total_P / np.array([max(1, len(t.branches)) for t in packed])


def _batch_divergence(policy, reference, packed: trees.Packed, temperature: float):
    owner = np.array([tree.key for _, tree, _, _ in packed.starts()])
    sums = torch.zeros(len(owner))
    pairs = zip(
        trees.next_token_logps(policy, packed, temperature),
        trees.next_token_logps(reference, packed, temperature),
        strict=True,
    )
    for (logp, branch), (ref_logp, _) in pairs:
        kl = (logp.exp() * (logp - ref_logp)).sum(-1)
        sums.index_add_(0, branch.cpu(), kl.cpu())
    return zip(owner.tolist(), sums.tolist(), strict=True)


def figures(
    recipe: Recipe,
    answers: dict[str, Answer],
    prompts: Sequence[Prompt],
    reference: Draws,
    tuned: Draws,
    kl_P: np.ndarray,
) -> dict:
    """Everything the report and `summary.json` say about quality, reward, divergence and length."""
    seed, size = recipe.seed, recipe.sample.group_size
    with_gold = np.array([p.id in answers for p in prompts])
    quality = None
    if with_gold.any():
        correct = [_correct(answers, draws)[with_gold] for draws in (reference, tuned)]
        rewards = [draws.reward_PM[with_gold] for draws in (reference, tuned)]
        quality = {"metric": "correct"} | comparison(*correct, *rewards, seed=seed)
    return {
        "quality": quality,
        "reward": {"metric": "reward"}
        | comparison(reference.reward_PM, tuned.reward_PM, reference.reward_PM, tuned.reward_PM, seed=seed),
        "kl": {
            "tuned": stats.bootstrap(kl_P, seed=seed).as_dict(),
            "best_of_n": bestofn.kl_bound(size),
        },
        "length": {
            name: stats.bootstrap(_lengths(draws).mean(1), seed=seed).as_dict()
            for name, draws in (("reference", reference), ("tuned", tuned))
        },
        "truncated": {
            name: sum(c.finish == "length" for group in draws.completions for c in group) / draws.reward_PM.size
            for name, draws in (("reference", reference), ("tuned", tuned))
        },
    }


def _correct(answers: dict[str, Answer], draws: Draws) -> np.ndarray:
    """1 where a completion is right by its prompt's verifier, else 0; prompts without a true answer are 0."""
    rows = []
    for group in draws.completions:
        answer = answers.get(group[0].prompt_id)
        rows.append([float(answer and VERIFIERS[answer.verifier](c.text, answer.answer) or 0) for c in group])
    return np.array(rows)


def _lengths(draws: Draws) -> np.ndarray:
    return np.array([[len(c.tokens) for c in group] for group in draws.completions], dtype=float)


def comparison(
    reference_PM: np.ndarray,
    tuned_PS: np.ndarray,
    reference_reward_PM: np.ndarray,
    tuned_reward_PS: np.ndarray,
    *,
    seed: int,
) -> dict:
    """The keys of `summary.json`'s `quality` and `reward`: one measure of both policies, picked by one scorer.

    All intervals resample prompts, the same ones for every quantity, so that differences are paired.
    """
    ks = _powers(reference_PM.shape[1])
    curve_PK = bestofn.best_of_k_curve(reference_reward_PM, reference_PM, ks)
    first, best, now = reference_PM.mean(1), curve_PK[:, -1], tuned_PS.mean(1)
    wins_P = np.array([_win_share(t, r) for t, r in zip(tuned_reward_PS, reference_reward_PM, strict=True)])

    def measured(statistic: Callable[[np.ndarray], float]) -> dict:
        return stats.interval(statistic, len(first), seed=seed).as_dict()

    def mean(column_P: np.ndarray) -> Callable[[np.ndarray], float]:
        return lambda i: float(column_P[i].mean())

    def gain(i: np.ndarray) -> float:
        return mean(now)(i) - mean(first)(i)

    def gap_closed(i: np.ndarray) -> float:
        gap = mean(best)(i) - mean(first)(i)
        return gain(i) / gap if gap else math.nan

    def curve(ks: list[int], curve_PK: np.ndarray) -> list[dict]:
        return [{"k": k} | measured(mean(column)) for k, column in zip(ks, curve_PK.T, strict=True)]

    return {
        "reference_at_1": measured(mean(first)),
        "reference_best_of_n": measured(mean(best)),
        "tuned_at_1": measured(mean(now)),
        "gain": measured(gain),
        "gap_closed": measured(gap_closed),
        "equivalent_n": measured(lambda i: bestofn.equivalent_n(curve_PK[i].mean(0), ks, mean(now)(i))),
        "k_eff": measured(lambda i: bestofn.k_eff(mean(wins_P)(i))),
        "curve": curve(ks, curve_PK),
        "oracle": curve(ks, bestofn.pass_at_k(reference_PM, ks)),
        "tuned_curve": curve(
            own_ks := _powers(tuned_PS.shape[1]), bestofn.best_of_k_curve(tuned_reward_PS, tuned_PS, own_ks)
        ),
    }


def _powers(size: int) -> list[int]:
    """1, 2, 4 ... and `size` itself."""
    ks = [2**i for i in range(int(math.log2(size)) + 1)]
    return ks if ks[-1] == size else [*ks, size]


def _win_share(tuned: np.ndarray, reference: np.ndarray) -> float:
    """The share of (tuned, reference) pairs in which the tuned completion has the higher reward, ties half."""
    difference = tuned[:, None] - reference[None, :]
    return float(((difference > 0) + 0.5 * (difference == 0)).mean())
