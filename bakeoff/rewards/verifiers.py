"""Programs that check a completion against a true answer. No model, no judgement: the same verdict every time."""

from collections.abc import Callable

from bakeoff.rewards.numbers import number
from bakeoff.rewards.quantity import quantity
from bakeoff.rewards.sql import sql
from bakeoff.rewards.words import contains, exact, json_schema, regex

VERIFIERS: dict[str, Callable[[str, str], bool]] = {
    "exact": exact,
    "contains": contains,
    "number": number,
    "quantity": quantity,
    "regex": regex,
    "json_schema": json_schema,
    "sql": sql,
}
"""Name to program: (completion, answer) to right or wrong. Each stands in a file that a worker can load by itself."""
