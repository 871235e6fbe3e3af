"""Where a scorer is weakest: its figures on parts of the data that a reader could have named beforehand."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from bakeoff.preferences.gate import FEW, Judged, column, ratio
from bakeoff.records import Pick

KINDS = 6
"""A feature of at most so many different values is cut by value, a finer one in thirds."""
Feature = float | str


def features(pick: Pick) -> dict[str, Feature]:
    """What a group is cut by."""
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
    """Each slice of at least `trust.FEW` groups, the worst first: `by`, `name`, `pick_accuracy`, `chance` and `lift`.

    `lift` is how far the pick accuracy comes from chance (0) to always right (1): slices with other numbers of
    completions can be compared by it. With this many slices the worst one's interval is too hopeful: it was chosen.
    """
    told = [(g, cut) for g, cut in zip(groups, cuts, strict=True) if not g.best.all()]
    found = []
    for by in told[0][1] if told else ():
        for name, inside in _parts([cut[by] for _, cut in told]):
            part = [g for (g, _), kept in zip(told, inside, strict=True) if kept]
            if FEW <= len(part) < len(told):
                found.append({"by": by, "name": name} | _figures(part, seed=seed))
    return sorted(found, key=lambda row: row["lift"]["value"])


def _figures(groups: Sequence[Judged], *, seed: int) -> dict[str, Any]:
    right, chance = column(groups, lambda g: float(g.chosen @ g.best)), column(groups, lambda g: g.best.mean())
    return {
        "pick_accuracy": ratio(groups, right, seed=seed).as_dict(),
        "chance": ratio(groups, chance, seed=seed).as_dict(),
        "lift": ratio(groups, right - chance, 1 - chance, seed=seed).as_dict(),
    }


def _parts(values: Sequence[Feature]) -> Iterator[tuple[str, list[bool]]]:
    """(name, which groups) of every part that a feature's values make."""
    kinds = sorted(set(values), key=lambda v: (isinstance(v, str), v))
    if len(kinds) <= KINDS or any(isinstance(v, str) for v in kinds):
        yield from ((f"{kind:g}" if not isinstance(kind, str) else kind, [v == kind for v in values]) for kind in kinds)
        return
    low, high = np.quantile(np.array(values, float), [1 / 3, 2 / 3])
    tests: dict[str, Callable[[float], bool]] = {
        f"up to {low:.3g}": lambda v: v <= low,
        f"{low:.3g} to {high:.3g}": lambda v: low < v <= high,
        f"over {high:.3g}": lambda v: v > high,
    }
    yield from ((name, [test(float(v)) for v in values]) for name, test in tests.items())
