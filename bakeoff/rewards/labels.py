"""From a row of labelled data, in any of the shapes people keep them in, to what people prefer.

A row holds `prompt` (text or messages) or `messages`, and one of
- `completions` with `pick` (index of the best), `picks` (an index for each person), `votes` (a count for each
  completion), `ranking` (indices, the best first; those left out share the last place) or `ratings` (a number for each;
  or completions are records with `text` and `score`, or with UltraFeedback's `response` and `overall_score`);
- `chosen` and `rejected`, texts or messages, perhaps with `score_chosen` and `score_rejected`, or `votes` for each.
  Without a prompt they are whole dialogues: messages, or text with "Human:" and "Assistant:" as in HH.
"""

import re
from collections.abc import Callable, Sequence
from typing import Any

from bakeoff.errors import UserError
from bakeoff.records import Message, Pick

NO_CHOICE, NONE_GOOD = (None, -1, "", "cannot tell", "tie"), ("none", "none is good")
"""A `pick` that says nothing, and is passed over; one that says that all are too bad."""
PROMPT = {"prompt", "messages", "instruction"}
_TEXT, _SCORE = ("text", "content", "response"), ("score", "rating", "overall_score")
_TURN = re.compile(r"\n\n(Human|Assistant):[ \t]?")
_ROLES = {"Human": "user", "Assistant": "assistant"}


def pick_of(row: Any, source: str) -> Pick | None:
    """What a row says people prefer; None when it says nothing ("cannot tell", equal texts, equal ratings).

    Raises UserError naming the source, what was found there and what to do.
    """
    if isinstance(row, dict) and row.get("completions") is None and {"chosen", "rejected"} <= row.keys():
        row = _pair(row, source)
    if not isinstance(row, dict) or row.get("completions") is None or not row.keys() & PROMPT:
        raise UserError(
            f"{source}: a row needs prompt or messages, with completions and pick, picks, votes, ranking or ratings, "
            f"or with chosen and rejected; found {str(row):.80}"
        )
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


def messages(row: dict, source: str) -> list[Message]:
    """The conversation of a row with `prompt` (text, or messages) or `messages` (role, content).

    Raises UserError naming the source when it is neither.
    """
    prompt = row.get("prompt", row.get("instruction"))
    turns = row.get("messages") or (prompt if isinstance(prompt, list) else [{"role": "user", "content": prompt}])
    try:
        found = [Message(turn["role"], turn["content"]) for turn in turns]
    except (TypeError, KeyError):
        raise UserError(f"{source}: messages must be a list of role and content; found {turns!r:.80}") from None
    if not found or not all(isinstance(m.role, str) and isinstance(m.content, str) and m.content for m in found):
        raise UserError(f"{source}: prompt or messages hold no text; found {turns!r:.80}")
    return found


def _completions(row: dict, source: str) -> tuple[list[str], dict]:
    """The texts, and the row with the `ratings` that stood in the same records."""
    found = row["completions"]
    if isinstance(found, list) and found and all(isinstance(c, dict) for c in found):
        row = {"ratings": [next((c[k] for k in _SCORE if k in c), None) for c in found]} | row
        found = [next((c[k] for k in _TEXT if k in c), None) for c in found]
    if not isinstance(found, list) or len(found) < 2 or not all(isinstance(c, str) for c in found):
        raise UserError(f"{source}: completions must be a list of two or more strings; found {str(found)[:80]!r}")
    return found, row


Found = tuple[str, list[int], list[float]] | tuple[str, list[int], list[float], float]
"""(shape, the places of the completions that it speaks of, a value for each, perhaps how many found none good)."""


def _one(pick: Any, completions: Sequence[str], source: str) -> Found | None:
    if not isinstance(pick, list) and type(pick) is not bool and pick in NO_CHOICE:
        return None
    if isinstance(pick, str) and pick in NONE_GOOD:
        return _each([pick], completions, source)
    _check_index(pick, len(completions), source, "pick")
    return "pick", [*range(len(completions))], [float(i == pick) for i in range(len(completions))]


def _each(picks: Any, completions: Sequence[str], source: str) -> Found | None:
    """A pick of each person; who could not tell has no vote."""
    said = [p for p in _list(picks, source, "picks") if isinstance(p, list) or p not in NO_CHOICE]
    chosen = [p for p in said if isinstance(p, list) or p not in NONE_GOOD]
    for pick in chosen:
        _check_index(pick, len(completions), source, "picks")
    votes = [float(chosen.count(i)) for i in range(len(completions))]
    if len(chosen) < len(said):
        return "votes", [*range(len(completions))], votes, float(len(said) - len(chosen))
    return _votes(votes, completions, source) if chosen else None


def _votes(votes: Any, completions: Sequence[str], source: str) -> Found | None:
    counts = _numbers(votes, len(completions), source, "votes")
    if any(c is None or c < 0 for c in counts):
        raise UserError(f"{source}: votes must be counts of 0 or more; found {votes!r:.80}")
    return ("votes", [*range(len(completions))], [float(c or 0) for c in counts]) if any(counts) else None


def _ranking(order: Any, completions: Sequence[str], source: str) -> Found | None:
    order = _list(order, source, "ranking")
    for place in order:
        _check_index(place, len(completions), source, "ranking")
    if not order or len(set(order)) < len(order):
        raise UserError(f"{source}: ranking must name each completion once, the best first; found {order!r:.80}")
    places = [float(order.index(i) if i in order else len(order)) for i in range(len(completions))]
    return "ranking", [*range(len(completions))], places


def _ratings(ratings: Any, completions: Sequence[str], source: str) -> Found | None:
    """Those that have no rating are left out; what is rated alike prefers nothing."""
    found = _numbers(ratings, len(completions), source, "ratings")
    kept = [i for i, rating in enumerate(found) if rating is not None]
    values = [r for r in found if r is not None]
    return ("ratings", kept, values) if len(set(values)) > 1 else None


SHAPES: dict[str, Callable[[Any, Sequence[str], str], Found | None]] = {
    "pick": _one,
    "picks": _each,
    "votes": _votes,
    "ranking": _ranking,
    "ratings": _ratings,
}
"""Column beside `completions` to what reads it; the first that a row has counts."""


def _pair(row: dict, source: str) -> dict:
    """A row of `chosen` and `rejected` as one of `completions`."""
    (before, chosen), (other, rejected) = (_last(row[side], row, source) for side in ("chosen", "rejected"))
    if before != other:
        raise UserError(f"{source}: chosen and rejected answer different dialogues; give both the same turns before")
    whole = {k: row[k] for k in PROMPT if row.get(k)}
    if before and not isinstance(row.get("prompt"), list):  # the dialogue tells more than a prompt beside it
        whole = {"messages": before}
    whole["completions"] = [chosen, rejected]
    if row.get("votes") is not None:
        return whole | {"votes": row["votes"]}
    scores = [row.get("score_chosen"), row.get("score_rejected")]
    if row.get("margin") is not None:
        scores = [row["margin"], 0.0]
    if None not in scores and scores[0] != scores[1]:
        return whole | {"ratings": scores}
    return whole | {"pick": 0}


def _last(side: Any, row: dict, source: str) -> tuple[list[dict], str]:
    """(the turns before, the text) of one side of a pair."""
    turns = [side] if isinstance(side, dict) else side
    if isinstance(side, str) and not row.keys() & PROMPT:
        parts = _TURN.split(side)
        turns = [{"role": _ROLES[r], "content": t} for r, t in zip(parts[1::2], parts[2::2], strict=True)]
    elif isinstance(side, str):
        return [], side
    if not isinstance(turns, list) or not turns or not all(isinstance(t, dict) and "content" in t for t in turns):
        raise UserError(
            f"{source}: chosen and rejected must be texts beside a prompt, messages, or dialogues of Human: and "
            f"Assistant:; found {side!r:.80}"
        )
    return turns[:-1], turns[-1]["content"]


def _check_index(found: Any, size: int, source: str, name: str) -> None:
    if type(found) is not int or not 0 <= found < size:
        raise UserError(
            f"{source}: {name} must be an index from 0 to {size - 1}; found {found!r}; mend or remove the line"
        )


def _list(found: Any, source: str, name: str) -> list:
    if not isinstance(found, list):
        raise UserError(f"{source}: {name} must be a list; found {found!r:.80}")
    return found


def _numbers(found: Any, size: int, source: str, name: str) -> list[float | None]:
    values = _list(found, source, name)
    if len(values) != size or not all(v is None or type(v) in (int, float) for v in values):
        raise UserError(f"{source}: {name} must hold a number for each of the {size} completions; found {found!r:.80}")
    return [None if v != v else v for v in values]  # what is NaN is no number
