"""The project's own rows of preferences: a prompt (`bakeoff.data.schema.prompt_columns`), `completions`, and one of
- `pick` (index of the best) or `picks` (an index for each person), `votes` (a count for each completion),
- `ranking` (indices, the best first; those left out share the last place) or `ranks` (a place for each, 1 is the best),
- `ratings` (a number for each; or completions are records with `text` and `score`, or with UltraFeedback's `response`
  and `overall_score`).
NaN is a missing value. `bakeoff.preferences.formats` turns the rows of others into these.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from bakeoff.data.schema.prompt_columns import PROMPT, mended, messages
from bakeoff.errors import UserError
from bakeoff.records import Pick

OwnRow = dict[str, Any]
NO_CHOICE, NONE_GOOD = (None, -1, "", "cannot tell", "tie"), ("none", "none is good")
"""A `pick` that says nothing, and is passed over; one that says that all are too bad."""
LARGEST_RATING = 1e30
"""Differences of numbers beyond this would not be finite."""
_TEXT, _SCORE = ("text", "content", "response"), ("score", "rating", "overall_score")


def pick_of(row: OwnRow, source: str) -> Pick | None:
    """What a row says people prefer; None when it says nothing ("cannot tell", equal texts, equal ratings).

    Raises UserError naming the source, what was found there and what to do.
    """
    if not row.keys() & set(PROMPT):
        raise UserError(f"{source}: a row needs a prompt or messages; found the columns {', '.join(row)}")
    completions, row = _completions(row, source)
    name = next((name for name in SHAPES if row.get(name) is not None), "pick" if "pick" in row else None)
    if name is None:
        raise UserError(f"{source}: completions need one of {', '.join(SHAPES)} beside them; found {sorted(row)}")
    found = SHAPES[name](row[name], len(completions), source) if len(set(completions)) > 1 else None
    if found is None:
        return None
    shape, values, *none = found
    known = {i: value for i, value in enumerate(values) if value is not None}
    places = list(known)
    best = (min if shape == "ranking" else max)(range(len(places)), key=lambda i: known[places[i]])
    texts = [completions[i] for i in places]
    return Pick(messages(row, source), texts, best, source, shape, [*known.values()] if shape != "pick" else [], *none)


def rated_of(row: OwnRow, source: str) -> Pick:
    """A single completion with its rating: a preference only beside others of its prompt."""
    (rating,) = numbers([row["rated"]], 1, source, "rating")
    if not isinstance(row["completions"][0], str) or rating is None:
        raise UserError(f"{source}: a rating needs a text and a number; found {row!r:.80}")
    return Pick(messages(row, source), [mended(row["completions"][0])], 0, source, "ratings", [rating])


def _completions(row: OwnRow, source: str) -> tuple[list[str], OwnRow]:
    """The texts, and the row with the `ratings` that stood in the same records."""
    found = row["completions"]
    if isinstance(found, list) and found and all(isinstance(c, dict) for c in found):
        row = {"ratings": [next((c[k] for k in _SCORE if k in c), None) for c in found]} | row
        found = [next((c[k] for k in _TEXT if k in c), None) for c in found]
    if not isinstance(found, list) or len(found) < 2 or not all(isinstance(c, str) for c in found):
        raise UserError(f"{source}: completions must be a list of two or more strings; found {str(found)[:80]!r}")
    return [mended(c) for c in found], row


Shape = tuple[str, Sequence[float | None]] | tuple[str, Sequence[float | None], float]
"""(`Pick.shape`, a value for each completion or None, and perhaps how many people found none good)."""


def _pick(pick: Any, size: int, source: str) -> Shape | None:
    if not _says_something(pick):
        return None
    if isinstance(pick, str) and pick in NONE_GOOD:
        return _picks([pick], size, source)
    best = _index(pick, size, source, "pick")
    return "pick", [float(i == best) for i in range(size)]


def _picks(picks: Any, size: int, source: str) -> Shape | None:
    """Who could not tell has no vote."""
    said = [p for p in _list(picks, source, "picks") if _says_something(p)]
    chosen = [_index(p, size, source, "picks") for p in said if p not in NONE_GOOD]
    votes, none = [float(chosen.count(i)) for i in range(size)], len(said) - len(chosen)
    return ("votes", votes, float(none)) if none else ("votes", votes) if chosen else None


def _votes(votes: Any, size: int, source: str) -> Shape | None:
    counts = numbers(votes, size, source, "votes")
    if any(c is None or c < 0 for c in counts):
        raise UserError(f"{source}: votes must be counts of 0 or more; found {votes!r:.80}")
    return ("votes", counts) if any(counts) else None


def _ranking(order: Any, size: int, source: str) -> Shape | None:
    order = [_index(i, size, source, "ranking") for i in _list(order, source, "ranking")]
    if not order or len(set(order)) < len(order):
        raise UserError(f"{source}: ranking must name each completion once, the best first; found {order!r:.80}")
    return "ranking", [float(order.index(i) if i in order else len(order)) for i in range(size)]


def _ranks(ranks: Any, size: int, source: str) -> Shape | None:
    """Equal ranks are not compared; those without one share the last place."""
    found = numbers(ranks, size, source, "ranks")
    order = sorted({rank for rank in found if rank is not None})
    places = [float(len(order) if rank is None else order.index(rank)) for rank in found]
    return ("ranking", places) if len(set(places)) > 1 else None


def _ratings(ratings: Any, size: int, source: str) -> Shape | None:
    found = numbers(ratings, size, source, "ratings")
    return ("ratings", found) if distinct([r for r in found if r is not None]) else None


SHAPES: dict[str, Callable[[Any, int, str], Shape | None]] = {
    "pick": _pick,
    "picks": _picks,
    "votes": _votes,
    "ranking": _ranking,
    "ranks": _ranks,
    "ratings": _ratings,
}
"""Column beside `completions` to what reads it for so many completions; the first that a row has counts."""


def distinct(values: Sequence[float]) -> bool:
    """Whether some of the values differ in float32, in which a model learns."""
    return len({float(np.float32(value)) for value in values}) > 1


def is_missing(value: Any) -> bool:
    """Whether a cell is empty: null, or the NaN that a table of numbers has for it."""
    return value is None or value != value


def _says_something(pick: Any) -> bool:
    return not is_missing(pick) and (type(pick) not in (int, float, str) or pick not in NO_CHOICE)


def _index(found: Any, size: int, source: str, name: str) -> int:
    """An index, which a column of numbers with a gap keeps as 1.0."""
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
    if not all(v is None or abs(v) <= LARGEST_RATING for v in values):
        raise UserError(f"{source}: {name} must be finite numbers; found {found!r:.80}; mend or remove the line")
    return [None if v is None else float(v) for v in values]
