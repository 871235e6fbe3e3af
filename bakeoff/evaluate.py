"""Stage: reference and tuned policy in, the honest figures of the difference out."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
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


MAIN = {"reference", "tuned"}
"""The policies that are compared; the others are reported beside them."""


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
        name: _draws(run, recipe, name, prompts, (model, settings))
        for name, (model, settings) in _policies(run, recipe)
    }
    failed = Counter({f.prompt_id: f.reason for name in drawn for f in failures(run, name)}.values())
    prompts, drawn = answered_by_all(prompts, drawn)
    kl_P = divergence(run, recipe, prompts, drawn["tuned"])
    made = figures(recipe, answers, prompts, drawn, kl_P)
    write_json(run.details("evaluation"), made | {"leaked": leaked, "failed": failed})


def _policies(run: Run, recipe: Recipe) -> Iterator[tuple[str, tuple[str, Sampling]]]:
    """(name, (model, how it is sampled)): first answers, greedy ones, and those of the control."""
    sampling = dataclasses.replace(Sampling.of(recipe.sample, recipe.seed + 1), group_size=recipe.evaluate.samples)
    greedy = dataclasses.replace(sampling, temperature=0.0, group_size=1)
    tuned = str(run.policy)
    yield "reference", (recipe.model, dataclasses.replace(sampling, group_size=recipe.sample.group_size))
    yield "tuned", (tuned, sampling)
    yield "reference_greedy", (recipe.model, greedy)
    yield "tuned_greedy", (tuned, greedy)
    if recipe.bake.control:
        yield "control", (str(run.control), sampling)


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


def _draws(run: Run, recipe: Recipe, name: str, prompts: list[Prompt], policy: tuple[str, Sampling]) -> Draws:
    model, sampling = policy
    completions = complete_table(run, name, prompts, sampling, lambda: choose.engine(model, recipe))
    scores = score_table(
        run, f"{name}_scores", prompts, completions, lambda: reward_model.load(run.reward_model, recipe)
    )
    size = sampling.group_size
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
    recipe: Recipe, answers: dict[str, Answer], prompts: Sequence[Prompt], drawn: dict[str, Draws], kl_P: np.ndarray
) -> dict:
    """Everything the report and `summary.json` say about quality, reward, divergence and length."""
    seed = recipe.seed
    with_gold = np.array([p.id in answers for p in prompts])
    rewards = {name: draws.reward_PM for name, draws in drawn.items()}
    quality = None
    if with_gold.any():
        correct = {name: _correct(answers, draws)[with_gold] for name, draws in drawn.items()}
        quality = {"metric": "correct"} | comparison(correct, {n: r[with_gold] for n, r in rewards.items()}, seed=seed)
    return {
        "quality": quality,
        "reward": {"metric": "reward"} | comparison(rewards, rewards, seed=seed),
        "kl": {
            "tuned": stats.bootstrap(kl_P, seed=seed).as_dict(),
            "best_of_n": bestofn.kl_bound(recipe.sample.group_size),
        },
        "length": {
            name: stats.bootstrap(_lengths(drawn[name]).mean(1), seed=seed).as_dict() for name in ("reference", "tuned")
        },
        "truncated": {name: _truncated(drawn[name]) for name in ("reference", "tuned")},
    }


def _truncated(draws: Draws) -> float:
    """The share of completions that were cut short."""
    return sum(c.finish == "length" for group in draws.completions for c in group) / draws.reward_PM.size


def _correct(answers: dict[str, Answer], draws: Draws) -> np.ndarray:
    """1 where a completion is right by its prompt's verifier, else 0; prompts without a true answer are 0."""
    rows = []
    for group in draws.completions:
        answer = answers.get(group[0].prompt_id)
        rows.append([float(answer and VERIFIERS[answer.verifier](c.text, answer.answer) or 0) for c in group])
    return np.array(rows)


def _lengths(draws: Draws) -> np.ndarray:
    return np.array([[len(c.tokens) for c in group] for group in draws.completions], dtype=float)


def comparison(value: dict[str, np.ndarray], reward: dict[str, np.ndarray], *, seed: int) -> dict:
    """The keys of `summary.json`'s `quality` and `reward`: one measure of all policies, picked by one scorer.

    `value` and `reward` hold [P, draws] by policy. All intervals resample prompts, the same ones for every quantity, so
    that differences are paired.
    """
    ks = _powers(value["reference"].shape[1])
    curve_PK = bestofn.best_of_k_curve(reward["reference"], value["reference"], ks)
    at_1 = {name: values.mean(1) for name, values in value.items()}
    first, best, now = at_1["reference"], curve_PK[:, -1], at_1["tuned"]
    wins_P = np.array([_win_share(t, r) for t, r in zip(reward["tuned"], reward["reference"], strict=True)])

    def measured(statistic: Callable[[np.ndarray], float]) -> dict:
        return stats.interval(statistic, len(first), seed=seed).as_dict()

    def mean(column_P: np.ndarray) -> dict:
        return measured(lambda i: float(column_P[i].mean()))

    def gap_closed(i: np.ndarray) -> float:
        gap = best[i].mean() - first[i].mean()
        return (now[i].mean() - first[i].mean()) / gap if gap else math.nan

    def curve(ks: list[int], curve_PK: np.ndarray) -> list[dict]:
        return [{"k": k} | mean(column) for k, column in zip(ks, curve_PK.T, strict=True)]

    own_ks = _powers(value["tuned"].shape[1])
    others = {f"{name}_at_1" if name == "control" else name: mean(at_1[name]) for name in at_1.keys() - MAIN}
    return {
        "reference_at_1": mean(first),
        "reference_best_of_n": mean(best),
        "tuned_at_1": mean(now),
        "gain": mean(now - first),
        "gap_closed": measured(gap_closed),
        "equivalent_n": measured(lambda i: bestofn.equivalent_n(curve_PK[i].mean(0), ks, float(now[i].mean()))),
        "k_eff": measured(lambda i: bestofn.k_eff(float(wins_P[i].mean()))),
        **dict(sorted(others.items())),
        **({"gain_over_control": mean(now - at_1["control"])} if "control" in at_1 else {}),
        "curve": curve(ks, curve_PK),
        "oracle": curve(ks, bestofn.pass_at_k(value["reference"], ks)),
        "tuned_curve": curve(own_ks, bestofn.best_of_k_curve(reward["tuned"], value["tuned"], own_ks)),
    }


def _powers(size: int) -> list[int]:
    """1, 2, 4 ... and `size` itself."""
    ks = [2**i for i in range(int(math.log2(size)) + 1)]
    return ks if ks[-1] == size else [*ks, size]


def _win_share(tuned: np.ndarray, reference: np.ndarray) -> float:
    """The share of (tuned, reference) pairs in which the tuned completion has the higher reward, ties half."""
    difference = tuned[:, None] - reference[None, :]
    return float(((difference > 0) + 0.5 * (difference == 0)).mean())
