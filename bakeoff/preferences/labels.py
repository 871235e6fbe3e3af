"""From a row of completions and what people said of them to what they prefer.

A row holds a prompt (`bakeoff.data.schema.prompt_columns`), `completions`, and one of
- `pick` (index of the best) or `picks` (an index for each person), `votes` (a count for each completion),
- `ranking` (indices, the best first; those left out share the last place) or `ranks` (a place for each, 1 is the best),
- `ratings` (a number for each; or completions are records with `text` and `score`, or with UltraFeedback's `response`
  and `overall_score`).
How others keep such rows is read in `bakeoff.preferences.formats`. What is NaN is not there.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from bakeoff.data.schema.prompt_columns import PROMPT, mended, messages
from bakeoff.errors import UserError
from bakeoff.records import Pick

NO_CHOICE, NONE_GOOD = (None, -1, "", "cannot tell", "tie"), ("none", "none is good")
"""A `pick` that says nothing, and is passed over; one that says that all are too bad."""
LARGEST = 1e30
"""Numbers beyond this are no ratings: their differences would not be finite."""
_TEXT, _SCORE = ("text", "content", "response"), ("score", "rating", "overall_score")


def pick_of(row: Any, source: str) -> Pick | None:
    """What a row says people prefer; None when it says nothing ("cannot tell", equal texts, equal ratings).

    Raises UserError naming the source, what was found there and what to do.
    """
    if not row.keys() & set(PROMPT):
        raise UserError(f"{source}: a row needs a prompt or messages; found the columns {', '.join(row)}")
    completions, row = _completions(row, source)
    name = next((name for name in SHAPES if row.get(name) is not None), "pick" if "pick" in row else None)
    if name is None:
        raise UserError(f"{source}: completions need one of {', '.join(SHAPES)} beside them; found {sorted(row)}")
    if len(set(completions)) < 2:
        return None
    found = SHAPES[name](row[name], completions, source)
    if found is None:
        return None
    shape, kept, values, *none = found
    sign = -1 if shape == "ranking" else 1
    best = max(range(len(kept)), key=lambda i: sign * values[i])
    texts = [completions[i] for i in kept]
    return Pick(messages(row, source), texts, best, source, shape, [] if shape == "pick" else values, *none)


def rated_of(row: dict, source: str) -> Pick:
    """A single completion with its rating: it prefers nothing until others of its prompt are beside it."""
    (rating,) = numbers([row["rated"]], 1, source, "rating")
    if not isinstance(row["completions"][0], str) or rating is None:
        raise UserError(f"{source}: a rating needs a text and a number; found {row!r:.80}")
    return Pick(messages(row, source), [mended(row["completions"][0])], 0, source, "ratings", [rating])


def _completions(row: dict, source: str) -> tuple[list[str], dict]:
    """The texts, and the row with the `ratings` that stood in the same records."""
    found = row["completions"]
    if isinstance(found, list) and found and all(isinstance(c, dict) for c in found):
        row = {"ratings": [next((c[k] for k in _SCORE if k in c), None) for c in found]} | row
        found = [next((c[k] for k in _TEXT if k in c), None) for c in found]
    if not isinstance(found, list) or len(found) < 2 or not all(isinstance(c, str) for c in found):
        raise UserError(f"{source}: completions must be a list of two or more strings; found {str(found)[:80]!r}")
    return [mended(c) for c in found], row


Found = tuple[str, list[int], list[float]] | tuple[str, list[int], list[float], float]
"""(shape, the places of the completions that it speaks of, a value for each, perhaps how many found none good)."""


def _one(pick: Any, completions: Sequence[str], source: str) -> Found | None:
    if _says_nothing(pick):
        return None
    if isinstance(pick, str) and pick in NONE_GOOD:
        return _each([pick], completions, source)
    best = _index(pick, len(completions), source, "pick")
    return "pick", [*range(len(completions))], [float(i == best) for i in range(len(completions))]


def _each(picks: Any, completions: Sequence[str], source: str) -> Found | None:
    """A pick of each person; who could not tell has no vote."""
    said = [p for p in _list(picks, source, "picks") if not _says_nothing(p)]
    chosen = [_index(p, len(completions), source, "picks") for p in said if p not in NONE_GOOD]
    votes = [float(chosen.count(i)) for i in range(len(completions))]
    if len(chosen) < len(said):
        return "votes", [*range(len(completions))], votes, float(len(said) - len(chosen))
    return _votes(votes, completions, source) if chosen else None


def _votes(votes: Any, completions: Sequence[str], source: str) -> Found | None:
    counts = numbers(votes, len(completions), source, "votes")
    if any(c is None or c < 0 for c in counts):
        raise UserError(f"{source}: votes must be counts of 0 or more; found {votes!r:.80}")
    return ("votes", [*range(len(completions))], [float(c or 0) for c in counts]) if any(counts) else None


def _ranking(order: Any, completions: Sequence[str], source: str) -> Found | None:
    order = [_index(i, len(completions), source, "ranking") for i in _list(order, source, "ranking")]
    if not order or len(set(order)) < len(order):
        raise UserError(f"{source}: ranking must name each completion once, the best first; found {order!r:.80}")
    places = [float(order.index(i) if i in order else len(order)) for i in range(len(completions))]
    return "ranking", [*range(len(completions))], places


def _ranks(ranks: Any, completions: Sequence[str], source: str) -> Found | None:
    """Equal ranks are not compared; those without one share the last place."""
    found = numbers(ranks, len(completions), source, "ranks")
    order = sorted({rank for rank in found if rank is not None})
    places = [float(len(order) if rank is None else order.index(rank)) for rank in found]
    return ("ranking", [*range(len(completions))], places) if len(set(places)) > 1 else None


def _ratings(ratings: Any, completions: Sequence[str], source: str) -> Found | None:
    """Those that have no rating are left out; what is rated alike prefers nothing."""
    found = numbers(ratings, len(completions), source, "ratings")
    kept = [i for i, rating in enumerate(found) if rating is not None]
    values = [r for r in found if r is not None]
    return ("ratings", kept, values) if differ(values) else None


SHAPES: dict[str, Callable[[Any, Sequence[str], str], Found | None]] = {
    "pick": _one,
    "picks": _each,
    "votes": _votes,
    "ranking": _ranking,
    "ranks": _ranks,
    "ratings": _ratings,
}
"""Column beside `completions` to what reads it; the first that a row has counts."""


def differ(values: Sequence[float]) -> bool:
    """Whether a model could tell some of the values apart: it learns in float32."""
    return len({float(np.float32(value)) for value in values}) > 1


def is_missing(value: Any) -> bool:
    """Whether a cell is empty: null, or the NaN that a table of numbers has for it."""
    return value is None or value != value


def _says_nothing(pick: Any) -> bool:
    return is_missing(pick) or (isinstance(pick, int | float | str) and type(pick) is not bool and pick in NO_CHOICE)


def _index(found: Any, size: int, source: str, name: str) -> int:
    """An index, which a column of numbers with a gap keeps as 1.0; raises UserError for anything else."""
    if type(found) not in (int, float) or found not in range(size):
        raise UserError(
            f"{source}: {name} must be an index from 0 to {size - 1}; found {found!r}; mend or remove the line"
        )
    return int(found)


def _list(found: Any, source: str, name: str) -> list:
    if not isinstance(found, list):
        raise UserError(f"{source}: {name} must be a list; found {found!r:.80}")
    return found


def numbers(found: Any, size: int, source: str, name: str) -> list[float | None]:
    """A number for each of `size` completions, None where there is none; raises UserError for what is not finite."""
    values = [None if is_missing(v) else v for v in _list(found, source, name)]
    if len(values) != size or not all(v is None or type(v) in (int, float) for v in values):
        raise UserError(f"{source}: {name} must hold a number for each of the {size} completions; found {found!r:.80}")
    if not all(v is None or abs(v) <= LARGEST for v in values):
        raise UserError(f"{source}: {name} must be finite numbers; found {found!r:.80}; mend or remove the line")
    return [None if v is None else float(v) for v in values]
