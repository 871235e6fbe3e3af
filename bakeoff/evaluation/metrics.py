"""What is said of two policies, as functions of arrays: P prompts, M or S draws of each; numbers with intervals.

`value` is a measure (true answers, a judge, the reward), `reward` the scorer that picks. All intervals resample
prompts, the same ones for every quantity, so that differences are paired.
"""

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from bakeoff.evaluation.figures import MAIN, Change, Coverage, Wins
from bakeoff.math import best_of_n, statistics
from bakeoff.math.statistics import Measured
from bakeoff.models.incomplete import repetition
from bakeoff.records import Completion

GAP_AT = (8, 16)
"""Tries against which the gain is also measured, where so many were drawn."""


def comparison(
    value: dict[str, np.ndarray], reward: dict[str, np.ndarray], rewarded_P: np.ndarray | None = None, *, seed: int
) -> dict[str, Any]:
    """`summary.json`'s `quality` or `reward` but for its names: one measure of all policies, picked by one scorer.

    `value` and `reward` hold [P, draws] by policy; where `rewarded_P` is false no reward could pick, and none does.
    """
    ks = powers(value["reference"].shape[1])
    curve_PK = best_of_n.best_of_k_curve(reward["reference"], value["reference"], ks)
    at_1 = {name: values.mean(1) for name, values in value.items()}
    first, now, best = at_1["reference"], at_1["tuned"], curve_PK[:, -1]
    every = np.arange(len(first))
    picked = every if rewarded_P is None else np.flatnonzero(rewarded_P)

    def measured(statistic: Callable[[np.ndarray], float], rows: np.ndarray = picked) -> Measured:
        return statistics.interval(lambda i: statistic(rows[i]), len(rows), seed=seed)

    def mean(column_P: np.ndarray, rows: np.ndarray = every) -> Measured:
        return measured(lambda i: float(column_P[i].mean()), rows)

    def gap_closed(best_P: np.ndarray) -> Measured:
        def closed(i: np.ndarray) -> float:
            gap = best_P[i].mean() - first[i].mean()
            return (now[i].mean() - first[i].mean()) / gap if gap > 0 else math.nan

        return measured(closed)

    def curve(name: str, by: dict[str, np.ndarray], rows: np.ndarray) -> list[dict[str, Any]]:
        columns = best_of_n.best_of_k_curve(by[name], value[name], own := powers(value[name].shape[1])).T
        return [{"k": k} | mean(column, rows).as_dict() for k, column in zip(own, columns, strict=True)]

    worth = measured(lambda i: best_of_n.equivalent_n(curve_PK[i].mean(0), ks, float(now[i].mean())))
    found = {
        "reference_at_1": mean(first),
        "reference_best_of_n": mean(best, picked),
        "selection_gain": mean(best - first, picked),
        "tuned_at_1": mean(now),
        "gain": mean(now - first),
        "gap_closed": gap_closed(best),
        **{f"gap_closed_at_{k}": gap_closed(curve_PK[:, ks.index(k)]) for k in GAP_AT if k in ks},
        "equivalent_n": dataclasses.replace(worth, high=math.inf) if worth.high == ks[-1] else worth,
        "k_eff": _k_eff(win_shares(reward["tuned"], reward["reference"])[picked], seed=seed),
        **{f"{name}_at_1" if name == "control" else name: mean(at_1[name]) for name in sorted(at_1.keys() - set(MAIN))},
    }
    if "control" in at_1:
        found["gain_over_control"] = mean(now - at_1["control"])
    if at_1.keys() >= {"tuned_greedy", "reference_greedy"}:
        found["greedy_gain"] = mean(at_1["tuned_greedy"] - at_1["reference_greedy"])
    return {
        **found,
        "curve": curve("reference", reward, picked),
        "oracle": curve("reference", value, every),
        "tuned_curve": curve("tuned", reward, picked),
        "tuned_oracle": curve("tuned", value, every),
    }


def wins(judge: str, value: dict[str, np.ndarray], kl_P: np.ndarray, *, seed: int) -> Wins:
    """`win_rate`, `k_eff` and `kl_efficiency` of the tuned policy's draws against the reference's, by one judge.

    `kl_efficiency` is the divergence that a best-of-`k_eff` needs at most, divided by the measured one (`kl_P`, nats).
    Where the judge holds no draws equal 1 is ideal, and less means that the policy also moved where the judge does not
    look; of right and wrong answers even an exact best-of-N has less (0.4 to 0.9).
    """
    wins_P = win_shares(value["tuned"], value["reference"])

    def efficiency(i: np.ndarray) -> float:
        tries, moved = best_of_n.k_eff(float(wins_P[i].mean())), float(kl_P[i].mean())
        return best_of_n.kl_bound(max(tries, 1.0)) / moved if moved > 0 and math.isfinite(tries) else math.nan

    return {
        "judge": judge,
        "win_rate": statistics.bootstrap(wins_P, seed=seed),
        "k_eff": _k_eff(wins_P, seed=seed),
        "kl_efficiency": statistics.interval(efficiency, len(wins_P), seed=seed),
    }


def _k_eff(wins_P: np.ndarray, *, seed: int) -> Measured:
    share = statistics.bootstrap(wins_P, seed=seed)
    value, low, high = (best_of_n.k_eff(v) if 0 <= v <= 1 else v for v in (share.value, share.low, share.high))
    return Measured(value, low, high, share.n)


def coverage(value: dict[str, np.ndarray], *, seed: int) -> Coverage:
    """The best of `k` draws by the measure itself, for as many as both policies have, and what the bake changed of it.

    A policy that gives one good answer always has lost the others: its first answer is up and its coverage down.
    """
    k = min(value["reference"].shape[1], value["tuned"].shape[1])
    before, after = (best_of_n.pass_at_k(value[name], [k])[:, 0] for name in MAIN)
    return {"k": k, **_change(before, after, seed=seed)}


def order_agreement(value: dict[str, np.ndarray], reward: dict[str, np.ndarray], *, seed: int) -> Change:
    """How often the scorer orders two draws of a prompt as the measure does, ties of the scorer half, by policy.

    Draws that the measure holds equal, or of which one has no reward (NaN), do not count; `change` is the tuned
    policy's less the reference's, over prompts where both have two draws that differ. A fall says that the policy went
    where the scorer no longer knows.
    """
    before, after = (ordered_alike(value[name], reward[name]) for name in MAIN)
    return _change(before, after, seed=seed)


def _change(before_P: np.ndarray, after_P: np.ndarray, *, seed: int) -> Change:
    """The means of the prompts that have a value, before and after, and of the differences where both have one."""

    def mean(column: np.ndarray) -> Measured:
        return statistics.bootstrap(column[~np.isnan(column)], seed=seed)

    return {"reference": mean(before_P), "tuned": mean(after_P), "change": mean(after_P - before_P)}


def ordered_alike(value_PM: np.ndarray, reward_PM: np.ndarray) -> np.ndarray:
    """[P]: of the pairs of draws that differ in value, the share that the reward orders alike; NaN without a pair."""
    apart = reward_PM[:, :, None] - reward_PM[:, None, :]
    above = (value_PM[:, :, None] > value_PM[:, None, :]) & ~np.isnan(apart)
    right = ((apart > 0) + 0.5 * (apart == 0)) * above
    with np.errstate(invalid="ignore"):
        return right.sum((1, 2)) / above.sum((1, 2))


def win_shares(tuned_PS: np.ndarray, reference_PM: np.ndarray) -> np.ndarray:
    """[P]: the share of (tuned, reference) pairs in which the tuned draw is the higher, ties half.

    Draws of one index share their random stream, so that such a pair says little: it counts only where it is the only.
    """
    apart = tuned_PS[:, :, None] - reference_PM[:, None, :]
    same = np.eye(*apart.shape[1:]) > 0
    return ((apart > 0) + 0.5 * (apart == 0))[:, same if same.all() else ~same].mean(1)


def style(groups: Sequence[Sequence[Completion]], *, seed: int) -> dict[str, Measured]:
    """What answers look like: their length in tokens, variety and loops.

    `distinct` is the share of a prompt's completions that differ; `entropy` nats per token, by the completions' own
    log-probabilities (absent when the engine gives none); `repetition` see `incomplete.repetition`.
    """
    lengths = np.array([np.mean([len(c.tokens) for c in group]) for group in groups])
    columns = {
        "length": lengths,
        "distinct": np.array([len({tuple(c.tokens) for c in group}) / len(group) for group in groups]),
        "repetition": np.array([np.mean([repetition(c.tokens) for c in group]) for group in groups]),
    }
    rows = {name: statistics.bootstrap(column, seed=seed) for name, column in columns.items()}
    logps = [[c.logp for c in group if c.logp is not None] for group in groups]
    if list(map(len, logps)) == list(map(len, groups)):
        rows["entropy"] = statistics.ratio_of_sums(np.array([-np.mean(row) for row in logps]), lengths, seed=seed)
    return rows


def powers(size: int) -> list[int]:
    """1, 2, 4 ... and `size` itself."""
    ks = [2**i for i in range(int(math.log2(size)) + 1)]
    return ks if ks[-1] == size else [*ks, size]
