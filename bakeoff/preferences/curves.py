"""What more completions, and more picks, are worth with a scorer: the best of k by true answers, the learning curve."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from bakeoff.math import best_of_n, statistics
from bakeoff.preferences.gate import Judged


def best_of_k(groups: Sequence[Judged], *, seed: int) -> dict[str, Any]:
    """The true value of the completion that the scorer picks among k = 1..N, between random and an oracle.

    N is the size that half of the groups reach; smaller groups are left out. `turns_down` is the k from which more
    completions harm, when the fall from there to N is beyond its 95 % interval, else None: `fall` is that difference.
    """
    size = int(np.median([len(g.value) for g in groups]))
    groups = [g for g in groups if len(g.value) >= size]
    ks, owners = list(range(1, size + 1)), [g.prompt for g in groups]
    picked_PK = np.concatenate([best_of_n.best_of_k_curve(g.reward[None], g.value[None], ks) for g in groups])
    oracle_PK = np.concatenate([best_of_n.pass_at_k(g.value[None], ks) for g in groups])
    peak = int(picked_PK.mean(0).argmax())

    def measured(column_P: np.ndarray) -> dict[str, Any]:
        return statistics.bootstrap(column_P, seed=seed, owners=owners).as_dict()

    def rows(curve_PK: np.ndarray) -> list[dict[str, Any]]:
        return [{"k": k} | measured(column) for k, column in zip(ks, curve_PK.T, strict=True)]

    fall = measured(picked_PK[:, -1] - picked_PK[:, peak])
    return {
        "random": measured(oracle_PK[:, 0]),
        "curve": rows(picked_PK),
        "oracle": rows(oracle_PK),
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
