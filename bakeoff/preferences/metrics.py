"""What `bakeoff reward eval` measures beside agreement: calibration, length, slices, the best of k, more picks."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from bakeoff.math import best_of_n, statistics
from bakeoff.preferences.gate import ENOUGH_PROMPTS, Judged, column, informative, pairs, ratio
from bakeoff.records import Pick

TEMPERATURES = np.geomspace(0.01, 100, 461)
"""Those tried, in steps of 2 %."""
BINS, BIN_GROUPS = 10, 15
"""Most bins of the reliability curve, of equal numbers of groups, and the fewest groups of one."""
CATEGORIES = 6
"""A feature of at most so many different values is cut by value, a finer one in thirds."""
Feature = float | str


def calibration(groups: Sequence[Judged], *, seed: int) -> dict[str, Any]:
    """A temperature fitted on half of the prompts; on the other half, calibration as it is (`raw`) and with it.

    A scorer's confidence is its share of the choice, softmax(reward / T). Each half holds `error`, the expected
    calibration error (which is never 0: chance alone makes some), `loss`, the mean negative log-likelihood of people's
    choice in nats, and the `curve` of confidence and accuracy.
    """
    fitting, measuring = halves(informative(groups))
    temperature = fitted_temperature(fitting, seed=seed)
    return {
        "temperature": temperature.as_dict(),
        "raw": _calibrated(measuring, 1.0, seed=seed),
        "fitted": _calibrated(measuring, temperature.value if fitting else 1.0, seed=seed),
    }


def halves(groups: Sequence[Judged]) -> tuple[list[Judged], list[Judged]]:
    """Two halves by the last digit of the prompt's id, so that no prompt is in both."""
    sides: tuple[list[Judged], list[Judged]] = ([], [])
    for group in groups:
        sides[int(group.prompt[-1], 16) % 2].append(group)
    return sides


def fitted_temperature(groups: Sequence[Judged], *, seed: int) -> statistics.Measured:
    """The temperature under which people's choices are likeliest (Guo et al., arXiv:1706.04599)."""
    loss_GT = np.array([choice_loss(g, TEMPERATURES) for g in groups]).reshape(-1, len(TEMPERATURES))

    def best(rows: np.ndarray) -> float:
        return float(TEMPERATURES[loss_GT[rows].sum(0).argmin()]) if len(rows) else np.nan

    return statistics.interval(best, len(groups), seed=seed, owners=[g.prompt for g in groups])


def choice_shares(group: Judged, temperature: float | np.ndarray) -> np.ndarray:
    """softmax(reward / T) over the group, a row for each temperature: [..., K]."""
    logit = (group.reward - group.reward.max()) / np.asarray(temperature, float)[..., None]
    weight = np.exp(logit)
    return weight / weight.sum(-1, keepdims=True)


def choice_loss(group: Judged, temperature: float | np.ndarray) -> np.ndarray:
    """-log of the share of the best completions: [...]; Luce's choice, equal texts counted together."""
    return -np.log(np.maximum(choice_shares(group, temperature)[..., group.best].sum(-1), 1e-300))


def choice_confidence(group: Judged, temperature: float) -> float:
    """The share that the scorer gives to its choice, with what ties with it."""
    return float(choice_shares(group, temperature)[group.chosen > 0].sum())


def expected_error(confidence_G: np.ndarray, right_G: np.ndarray) -> float:
    """The mean over bins of equal size of |mean confidence - accuracy|, weighted by size."""
    errors = (len(b) * abs(confidence_G[b].mean() - right_G[b].mean()) for b in reliability_bins(confidence_G))
    return float(sum(errors)) / max(1, len(confidence_G))


def reliability_bins(confidence_G: np.ndarray) -> list[np.ndarray]:
    """The indices of the groups from the least confident to the most, in bins of equal size."""
    number = int(np.clip(len(confidence_G) // BIN_GROUPS, 1, BINS))
    return [b for b in np.array_split(np.argsort(confidence_G, kind="stable"), number) if len(b)]


def _calibrated(groups: Sequence[Judged], temperature: float, *, seed: int) -> dict[str, Any]:
    share, right = column(groups, lambda g: choice_confidence(g, temperature)), column(groups, lambda g: g.right)
    losses, owners = column(groups, lambda g: float(choice_loss(g, temperature))), [g.prompt for g in groups]
    error = statistics.interval(lambda i: expected_error(share[i], right[i]), len(groups), seed=seed, owners=owners)
    return {
        "error": error.as_dict(),
        "loss": ratio(groups, losses, seed=seed).as_dict(),
        "curve": [
            {"confidence": round(float(share[b].mean()), 4)}
            | ratio([groups[i] for i in b], right[b], seed=seed).as_dict()
            for b in reliability_bins(share)
        ],
    }


def length_bias(groups: Sequence[Judged], *, seed: int) -> dict[str, statistics.Measured]:
    """Correlation with length within groups, of the rewards and of people's own values, and accuracy on pairs in which
    the shorter or the longer completion is the better one; 95 % intervals over prompts."""
    groups = informative(groups)
    by_pair = [pairs(g) for g in groups]

    def accuracy(sign: int) -> statistics.Measured:
        sides = [sign * longer > 0 for _, longer in by_pair]
        won = np.array([right[side].sum() for (right, _), side in zip(by_pair, sides, strict=True)])
        return ratio(groups, won, np.array([side.sum() for side in sides], float), seed=seed)

    return {
        "reward_correlation": length_correlation(groups, [g.reward for g in groups], seed=seed),
        "value_correlation": length_correlation(groups, [g.value for g in groups], seed=seed),
        "shorter_better": accuracy(-1),
        "longer_better": accuracy(1),
    }


def length_correlation(groups: Sequence[Judged], columns: Sequence[np.ndarray], *, seed: int) -> statistics.Measured:
    """Pearson's correlation with length of what is left when each group's own mean is taken off."""
    centred = [(g.length - g.length.mean(), c - c.mean()) for g, c in zip(groups, columns, strict=True)]
    moments = np.array([(a @ a, a @ b, b @ b) for a, b in centred], float).reshape(-1, 3)

    def pearson(rows: np.ndarray) -> float:
        length, both, other = moments[rows].sum(0)
        return float(both / np.sqrt(length * other))

    return statistics.interval(pearson, len(groups), seed=seed, owners=[g.prompt for g in groups])


def features(pick: Pick) -> dict[str, Feature]:
    """What the slices are cut by."""
    lengths = [len(text) for text in pick.completions]
    return {
        "source": pick.source.rsplit(":", 1)[0],
        "turns": len(pick.messages),
        "prompt, characters": sum(len(m.content) for m in pick.messages),
        "completions": len(pick.completions),
        "mean length, characters": round(float(np.mean(lengths)), 1),
        "longest over shortest": round(max(lengths) / max(1, min(lengths)), 2),
    }


def slices(groups: Sequence[Judged], cuts: Sequence[Mapping[str, Feature]], *, seed: int) -> list[dict[str, Any]]:
    """Figures on parts of the data that a reader could have named beforehand, the worst first, each of at least
    `ENOUGH_PROMPTS` groups: `by`, `name`, `pick_accuracy`, `chance` and `lift`.

    `lift` is how far the pick accuracy comes from chance (0) to always right (1): slices with other numbers of
    completions can be compared by it. With this many slices the worst one's interval is too hopeful: it was chosen.
    """
    known = [(g, cut) for g, cut in zip(groups, cuts, strict=True) if not g.best.all()]
    found = []
    for by in known[0][1] if known else ():
        for name, inside in _parts([cut[by] for _, cut in known]):
            part = [g for (g, _), kept in zip(known, inside, strict=True) if kept]
            if ENOUGH_PROMPTS <= len(part) < len(known):
                right, chance = column(part, lambda g: g.right), column(part, lambda g: g.best.mean())
                figures = {
                    "pick_accuracy": ratio(part, right, seed=seed),
                    "chance": ratio(part, chance, seed=seed),
                    "lift": ratio(part, right - chance, 1 - chance, seed=seed),
                }
                found.append({"by": by, "name": name} | {key: value.as_dict() for key, value in figures.items()})
    return sorted(found, key=lambda row: row["lift"]["value"])


def _parts(values: Sequence[Feature]) -> Iterator[tuple[str, list[bool]]]:
    """(name, which groups) of every part that a feature's values make."""
    kinds = sorted(set(values), key=lambda v: (isinstance(v, str), v))
    if len(kinds) <= CATEGORIES or any(isinstance(v, str) for v in kinds):
        yield from ((f"{kind:g}" if not isinstance(kind, str) else kind, [v == kind for v in values]) for kind in kinds)
        return
    numbers = np.array(values, float)
    low, high = np.quantile(numbers, [1 / 3, 2 / 3])
    yield f"up to {low:.3g}", list(numbers <= low)
    yield f"{low:.3g} to {high:.3g}", list((low < numbers) & (numbers <= high))
    yield f"over {high:.3g}", list(numbers > high)


def best_of_k(groups: Sequence[Judged], *, seed: int) -> dict[str, Any]:
    """The true value of the completion that the scorer picks among k = 1..N, between random and an oracle.

    N is the size that half of the groups reach; smaller groups are left out. `turns_down` is the k from which more
    completions harm, when the fall from there to N is beyond its 95 % interval, else None: `fall` is that difference.
    """
    size = int(np.median([len(g.value) for g in groups]))
    groups = [g for g in groups if len(g.value) >= size]
    ks = list(range(1, size + 1))
    picked_PK = np.concatenate([best_of_n.best_of_k_curve(g.reward[None], g.value[None], ks) for g in groups])
    oracle_PK = np.concatenate([best_of_n.pass_at_k(g.value[None], ks) for g in groups])
    peak = int(picked_PK.mean(0).argmax())

    def measured(column_P: np.ndarray) -> dict[str, Any]:
        return ratio(groups, column_P, seed=seed).as_dict()

    fall = measured(picked_PK[:, -1] - picked_PK[:, peak])
    return {
        "random": measured(oracle_PK[:, 0]),
        "curve": [{"k": k} | measured(column_P) for k, column_P in zip(ks, picked_PK.T, strict=True)],
        "oracle": [{"k": k} | measured(column_P) for k, column_P in zip(ks, oracle_PK.T, strict=True)],
        "peak": ks[peak],
        "fall": fall,
        "turns_down": ks[peak] if fall["high"] is not None and fall["high"] < 0 else None,
    }


def per_doubling(
    sizes: Sequence[int], right_SP: np.ndarray, owners: Sequence[str], *, seed: int
) -> statistics.Measured:
    """What twice as many picks add to a figure: the least-squares slope over log2(picks); right_SP [sizes, groups].

    The interval is over prompts; what other picks of the same number would have taught is not in it.
    """
    steps = np.log2(np.array(sizes, float))
    weight_S = (steps - steps.mean()) / ((steps - steps.mean()) ** 2).sum()
    return statistics.bootstrap(weight_S @ right_SP, seed=seed, owners=owners)
