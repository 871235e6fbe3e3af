"""What is said of two policies, as functions of arrays: P prompts, M or S draws of each; numbers with intervals.

`value` is a measure (true answers, a judge, the reward), `reward` the scorer that picks. All intervals resample
prompts, the same ones for every quantity, so that differences are paired.
"""

import math
from collections.abc import Callable, Sequence

import numpy as np

from bakeoff.math import best_of_n, statistics
from bakeoff.models.incomplete import repetition

MAIN = ("reference", "tuned")
"""The policies that are compared; the others are reported beside them."""
GAP_AT = (8, 16)
"""Tries against which the gain is also told, where so many were drawn."""


def comparison(
    value: dict[str, np.ndarray], reward: dict[str, np.ndarray], told_P: np.ndarray | None = None, *, seed: int
) -> dict:
    """The keys of `summary.json`'s `quality` and `reward`: one measure of all policies, picked by one scorer.

    `value` and `reward` hold [P, draws] by policy; where `told_P` is false no reward could pick, and none is asked to.
    """
    ks = powers(value["reference"].shape[1])
    curve_PK = best_of_n.best_of_k_curve(reward["reference"], value["reference"], ks)
    at_1 = {name: values.mean(1) for name, values in value.items()}
    first, now = at_1["reference"], at_1["tuned"]
    wins_P = win_shares(reward["tuned"], reward["reference"])
    every = np.arange(len(first))
    told = every if told_P is None else np.flatnonzero(told_P)

    def measured(statistic: Callable[[np.ndarray], float], rows: np.ndarray = told) -> dict:
        return statistics.interval(lambda i: statistic(rows[i]), len(rows), seed=seed).as_dict()

    def mean(column_P: np.ndarray, rows: np.ndarray = every) -> dict:
        return measured(lambda i: float(column_P[i].mean()), rows)

    def gap_closed(best_P: np.ndarray) -> dict:
        def closed(i: np.ndarray) -> float:
            gap = best_P[i].mean() - first[i].mean()
            return (now[i].mean() - first[i].mean()) / gap if gap > 0 else math.nan

        return measured(closed)

    def curve(ks: list[int], curve_PK: np.ndarray, rows: np.ndarray = every) -> list[dict]:
        return [{"k": k} | mean(column, rows) for k, column in zip(ks, curve_PK.T, strict=True)]

    worth = measured(lambda i: best_of_n.equivalent_n(curve_PK[i].mean(0), ks, float(now[i].mean())))
    own_ks = powers(value["tuned"].shape[1])
    others = {f"{name}_at_1" if name == "control" else name: mean(at_1[name]) for name in at_1 if name not in MAIN}
    return {
        "reference_at_1": mean(first),
        "reference_best_of_n": mean(curve_PK[:, -1], told),
        "selection_gain": mean(curve_PK[:, -1] - first, told),
        "tuned_at_1": mean(now),
        "gain": mean(now - first),
        "gap_closed": gap_closed(curve_PK[:, -1]),
        **{f"gap_closed_at_{k}": gap_closed(curve_PK[:, ks.index(k)]) for k in GAP_AT if k in ks},
        "equivalent_n": worth | {"high": None if worth["high"] == ks[-1] else worth["high"]},
        "k_eff": _k_eff(wins_P[told], seed=seed),
        **dict(sorted(others.items())),
        **({"gain_over_control": mean(now - at_1["control"])} if "control" in at_1 else {}),
        **(
            {"greedy_gain": mean(at_1["tuned_greedy"] - at_1["reference_greedy"])}
            if at_1.keys() >= {"tuned_greedy", "reference_greedy"}
            else {}
        ),
        "curve": curve(ks, curve_PK, told),
        "oracle": curve(ks, best_of_n.pass_at_k(value["reference"], ks)),
        "tuned_curve": curve(own_ks, best_of_n.best_of_k_curve(reward["tuned"], value["tuned"], own_ks), told),
        "tuned_oracle": curve(own_ks, best_of_n.pass_at_k(value["tuned"], own_ks)),
    }


def wins(value: dict[str, np.ndarray], kl_P: np.ndarray, *, seed: int) -> dict:
    """`win_rate`, `k_eff` and `kl_efficiency` of the tuned policy's draws against the reference's, by one judge.

    `kl_efficiency` is the divergence that a best-of-`k_eff` needs at most, over the one that was spent (`kl_P`, nats).
    Where the judge holds no draws equal 1 is ideal, and less means that the policy also moved where the judge does not
    look; of right and wrong answers even an exact best-of-N has less (0.4 to 0.9).
    """
    wins_P = win_shares(value["tuned"], value["reference"])

    def measured(statistic: Callable[[np.ndarray], float]) -> dict:
        return statistics.interval(statistic, len(wins_P), seed=seed).as_dict()

    def efficiency(i: np.ndarray) -> float:
        tries, spent = best_of_n.k_eff(float(wins_P[i].mean())), float(kl_P[i].mean())
        return best_of_n.kl_bound(max(tries, 1.0)) / spent if spent > 0 and math.isfinite(tries) else math.nan

    return {
        "win_rate": measured(lambda i: float(wins_P[i].mean())),
        "k_eff": _k_eff(wins_P, seed=seed),
        "kl_efficiency": measured(efficiency),
    }


def _k_eff(wins_P: np.ndarray, *, seed: int) -> dict:
    share = statistics.bootstrap(wins_P, seed=seed)
    value, low, high = (best_of_n.k_eff(v) if 0 <= v <= 1 else v for v in (share.value, share.low, share.high))
    return statistics.Measured(value, low, high, share.n).as_dict()


def coverage(value: dict[str, np.ndarray], *, seed: int) -> dict:
    """The best of `k` draws by the measure itself, for as many as both policies have, and what the bake changed of it.

    A policy that gives one good answer always has lost the others: its first answer is up and its coverage down.
    """
    k = min(value["reference"].shape[1], value["tuned"].shape[1])
    before, after = (best_of_n.pass_at_k(value[name], [k])[:, 0] for name in ("reference", "tuned"))
    rows = {"reference": before, "tuned": after, "change": after - before}
    return {"k": k} | {name: statistics.bootstrap(column, seed=seed).as_dict() for name, column in rows.items()}


def agreement(value: dict[str, np.ndarray], reward: dict[str, np.ndarray], *, seed: int) -> dict:
    """How often the scorer orders two draws of a prompt as the measure does, ties of the scorer half, by policy.

    Draws that the measure holds equal, or of which one has no reward (NaN), do not count; `change` is the tuned
    policy's less the reference's, over prompts where both have two draws that differ. A fall says that the policy went
    where the scorer no longer knows.
    """
    found = {name: ordered_alike(value[name], reward[name]) for name in ("reference", "tuned")}
    rows = found | {"change": found["tuned"] - found["reference"]}
    known = {name: column[~np.isnan(column)] for name, column in rows.items()}
    return {name: statistics.bootstrap(column, seed=seed).as_dict() for name, column in known.items()}


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


def style(tokens: Sequence[Sequence[Sequence[int]]], logps: Sequence[Sequence[float | None]], *, seed: int) -> dict:
    """What answers look like, from groups of their tokens and of their log-probabilities: lengths, variety, loops.

    `distinct` is the share of a prompt's completions that differ; `entropy` nats per token, by the completions' own
    log-probabilities (absent when the engine gives none); `repetition` see below.
    """
    lengths = np.array([np.mean([len(t) for t in group]) for group in tokens])
    columns = {
        "length": lengths,
        "distinct": np.array([len({tuple(t) for t in group}) / len(group) for group in tokens]),
        "repetition": np.array([np.mean([repetition(t) for t in group]) for group in tokens]),
    }
    rows = {name: statistics.bootstrap(column, seed=seed).as_dict() for name, column in columns.items()}
    if all(logp is not None for group in logps for logp in group):
        nats = np.array([-np.mean(group) for group in logps])  # type: ignore[arg-type]
        rows["entropy"] = statistics.ratio_of_sums(nats, lengths, seed=seed)
    return rows


def powers(size: int) -> list[int]:
    """1, 2, 4 ... and `size` itself."""
    ks = [2**i for i in range(int(math.log2(size)) + 1)]
    return ks if ks[-1] == size else [*ks, size]
