"""Invented companies, places, people and firms. Any likeness to a real one is chance."""

from __future__ import annotations

import random

from wording import WORDING

_NAMES = WORDING["names"]


def companies(seed: int, n: int = 640) -> list[str]:
    """`n` different company names, no two with the same first word."""
    rng = random.Random(f"companies {seed}")
    first_words = list(dict.fromkeys(head + tail for head in _NAMES["heads"] for tail in _NAMES["tails"]))
    heads = rng.sample(first_words, n)
    return [f"{head} {rng.choice(_NAMES['trades'])}" for head in heads]


def split_companies(seed: int) -> dict[str, list[str]]:
    """The companies of each file, `log`, `gold` and `picks`; none stands in two."""
    names = companies(seed)
    return {"log": names[:400], "gold": names[400:480], "picks": names[480:]}


def person(rng: random.Random) -> str:
    return f"{rng.choice(_NAMES['first'])} {rng.choice(_NAMES['last'])}"


def auditor(rng: random.Random) -> str:
    """An invented audit firm."""
    first, second = rng.sample(_NAMES["last"], 2)
    return rng.choice([f"{first} & {second} LLP", f"{first} {second} LLP", f"{first}, {second} & Co"])
