"""The simulated tester: it picks the best of a group as a person might, errors included. No person has picked here."""

from __future__ import annotations

import random
from collections.abc import Sequence

from bakeoff.scoring.verifiers import VERIFIERS

ERROR_RATE = 0.10


def pick(rng: random.Random, completions: Sequence[str], answer: str, verifier: str) -> int:
    """The index of the simulated tester's choice: one of the best at random or, in 10 % of cases, any other one."""
    liking = [utility(c, answer, verifier) for c in completions]
    best = rng.choice([i for i, u in enumerate(liking) if u == max(liking)])
    if rng.random() < ERROR_RATE:
        return rng.choice([i for i in range(len(completions)) if i != best])
    return best


def utility(completion: str, answer: str, verifier: str) -> tuple[bool, int, bool]:
    """What the simulated tester likes, in this order: correct, short (three levels), clean."""
    return VERIFIERS[verifier](completion, answer), _brevity(completion), is_clean(completion)


def is_clean(completion: str) -> bool:
    """Whether a completion is one line, repeats no three words, and ends: with a stop, or after at most six words."""
    words = completion.split()
    triples = list(zip(words, words[1:], words[2:], strict=False))
    ends = completion.rstrip().endswith((".", "!", '."')) or len(words) <= 6
    return bool(words) and ends and "\n" not in completion.strip() and len(set(triples)) == len(triples)


def _brevity(completion: str) -> int:
    """2 for up to 12 words, 1 for up to 24, else 0; nothing at all is not short but useless."""
    words = len(completion.split())
    return 2 if 0 < words <= 12 else 1 if 0 < words <= 24 else 0
