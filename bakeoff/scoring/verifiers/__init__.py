"""Programs that check a completion against a true answer. No model, no judgement: the same verdict every time."""

import functools
from collections.abc import Callable

from bakeoff.models import thoughts
from bakeoff.scoring.verifiers.numbers import number
from bakeoff.scoring.verifiers.quantity import quantity
from bakeoff.scoring.verifiers.sql import sql
from bakeoff.scoring.verifiers.words import contains, exact, json_schema, regex

__all__ = ["VERIFIERS"]


def _of_answer(program: Callable[[str, str], bool]) -> Callable[[str, str], bool]:
    """The verifier that looks at what a completion says after its thoughts; one that never ended them is wrong."""

    @functools.wraps(program)
    def verdict(completion: str, answer: str) -> bool:
        said = thoughts.answer(completion)
        return said is not None and program(said, answer)

    return verdict


VERIFIERS = {p.__name__: _of_answer(p) for p in (exact, contains, number, quantity, regex, json_schema, sql)}
"""Name to verifier: (completion, answer) to right or wrong. Each wraps a program in a file that a worker can load."""
