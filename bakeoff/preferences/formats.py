"""Rows as trainers, data sets and labelling tools keep them, as those that `bakeoff.preferences.labels` reads."""

import functools
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from bakeoff.data.schema.prompt_columns import PROMPT, Turns, asked_in, dialogue, listed, messages
from bakeoff.errors import UserError
from bakeoff.preferences import labelling
from bakeoff.preferences.labels import is_missing, numbers
from bakeoff.records import Message

Rows = labelling.Rows
PAIRS = (
    ("chosen", "rejected"),
    ("chosen_response", "rejected_response"),
    ("preferred_output", "non_preferred_output"),
)
_ARENA = {"model_a": 0, "model_b": 1}
EITHER: dict[tuple[str, str, str], dict[Any, int]] = {
    ("response_0", "response_1", "better_response_id"): {0: 0, 1: 1},
    ("human_ref_A", "human_ref_B", "labels"): {1: 0, 0: 1},
    ("conversation_a", "conversation_b", "winner"): _ARENA,
    ("response_a", "response_b", "winner"): _ARENA,
}
"""Columns of two answers and of the better one: what that holds to its place."""


@dataclass(frozen=True, slots=True)
class Format:
    name: str
    columns: tuple[str, ...]
    read: Callable[[dict, str], Rows]
    """Rows of `completions` and what was said of them; none where nothing was. A row with `rated` is one completion."""


def rows(row: Any, source: str) -> Rows:
    """A row of any format as rows of `bakeoff.preferences.labels`; UserError names the source and the columns."""
    full = {k for k, v in row.items() if v is not None} if isinstance(row, dict) else set()
    if any(str(k).endswith(labelling.FLAT) for k in (row if full else ())):
        return _read(FORMATS[1], row, source)
    for there in (full, set(row) if full else full):  # a label may be null
        for kind in FORMATS:
            if there.issuperset(kind.columns):
                return _read(kind, row, source)
    known = "; ".join(f"{', '.join(kind.columns)} ({kind.name})" for kind in FORMATS)
    found = f"the columns {', '.join(map(str, row))}" if full else f"{row!r:.80}"
    raise UserError(
        f"{source}: a row needs a prompt or messages, and what people prefer; found {found}; known: {known}"
    )


def _read(kind: Format, row: dict, source: str) -> Rows:
    try:
        return kind.read(row, source)
    except (AttributeError, TypeError, KeyError, ValueError) as error:
        raise UserError(
            f"{source}: {', '.join(kind.columns)} are not as {kind.name} has them ({error!r:.80}); found {row!r:.80}; "
            "mend or remove the line"
        ) from None


def _pair(row: dict, source: str, names: tuple[str, str] = PAIRS[0]) -> Rows:
    """Two texts, messages, or whole dialogues, of which the first is the better."""
    if any(is_missing(row[name]) for name in names):
        return []
    (before, chosen), (other, rejected) = (_side(row[name], row, source) for name in names)
    if before != other:
        raise UserError(f"{source}: chosen and rejected answer different dialogues; give both the same turns before")
    whole = asked_in(row)
    if before:  # the dialogue tells more than a prompt beside it
        asked = messages(whole, source) if whole else []
        system = [m for m in asked[:1] if m.role == "system" and before[0].role != "system"]
        shorter = min(len(before), len(asked))
        told = isinstance(row.get("prompt"), str) or not any(isinstance(whole.get(k), list) for k in PROMPT)
        known = told or before[:shorter] == asked[:shorter]
        whole = {"messages": _records([*system, *before] if known else [*asked, *before])}
    whole["completions"] = [chosen, rejected]
    if row.get("votes") is not None:
        return [whole | {"votes": row["votes"]}]
    scores: list[Any] = [row.get("score_chosen"), row.get("score_rejected")]
    if not is_missing(row.get("margin")):
        scores = [row["margin"], 0.0]
    better, worse = numbers(scores, 2, source, "score_chosen and score_rejected, or margin,")
    scored = better is not None and worse is not None and better > worse
    return [whole | ({"ratings": scores} if scored else {"pick": 0})]


def _records(turns: Iterable[Message]) -> list[dict]:
    return [{"role": m.role, "content": m.content} for m in turns]


def _side(side: Any, row: dict, source: str) -> tuple[Turns, str]:
    """(the turns before, the text) of one side of a pair."""
    if isinstance(side, str):
        if asked_in(row):
            return [], side
        turns = dialogue(side)
    else:
        turns = listed([side] if isinstance(side, dict) else side, source)
    if not turns or (len(turns) > 1 and turns[-1].role != "assistant"):
        raise UserError(
            f"{source}: chosen and rejected must be texts beside a prompt, messages that end with an answer, or "
            f"dialogues of Human: and Assistant:; found {side!r:.80}"
        )
    return turns[:-1], turns[-1].content


def _either(names: tuple[str, str, str]) -> Callable[[dict, str], Rows]:
    def read(row: dict, source: str) -> Rows:
        said = row[names[2]]
        if is_missing(said) or str(said).startswith(("tie", "both", "neither")):
            return []
        if not isinstance(said, int | float | str) or said not in EITHER[names]:
            known = " or ".join(map(repr, EITHER[names]))
            raise UserError(f"{source}: {names[2]} must be {known}; found {said!r:.80}")
        first = EITHER[names][said]
        return _pair(asked_in(row) | {"chosen": row[names[first]], "rejected": row[names[1 - first]]}, source)

    return read


def _posts(row: dict, source: str) -> Rows:
    """OpenAI's comparisons of summaries."""
    info = row["info"] if isinstance(row["info"], dict) else {}
    texts = [s.get("text") if isinstance(s, dict) else s for s in row["summaries"]]
    return [{"prompt": info.get("post") or info.get("article"), "completions": texts, "pick": row["choice"]}]


def _answers(row: dict, source: str) -> Rows:
    """Nectar's `answers`, each with its `rank`, 1 for the best."""
    answers = row["answers"]
    if not isinstance(answers, list) or not all(isinstance(a, dict) for a in answers):
        raise UserError(f"{source}: answers must be a list of records with answer and rank; found {answers!r:.80}")
    return [
        asked_in(row) | {"completions": [a.get("answer") for a in answers], "ranks": [a.get("rank") for a in answers]}
    ]


def _unpaired(text: str, label: str) -> Callable[[dict, str], Rows]:
    """A completion and whether it is good, as KTO has them; where there is no `text`, the messages end with it."""

    def read(row: dict, source: str) -> Rows:
        said, asked = row[label], asked_in(row)
        if is_missing(said):
            return []
        if not isinstance(said, bool | int | float) or said not in (0, 1):
            raise UserError(f"{source}: {label} must be true or false; found {said!r:.80}")
        answer = row.get(text)
        if answer is None:
            *before, last = _records(messages(asked, source))
            asked, answer = {"messages": before}, [last]
        before_it, answer = _side(answer, asked or {"prompt": "."}, source)
        asked = {"messages": _records(before_it)} if before_it and not asked else asked
        return [asked | {"completions": [answer], "rated": float(said)}]

    return read


FORMATS = (
    Format("our own: pick, picks, votes, ranking, ranks or ratings", ("completions",), lambda row, source: [row]),
    Format("Argilla", ("fields", "responses"), labelling.argilla),
    Format("Label Studio's full JSON", ("data", "annotations"), labelling.label_studio),
    Format("Open WebUI's feedback", ("data", "snapshot"), labelling.open_webui),
    *(Format("pair", pair, functools.partial(_pair, names=pair)) for pair in PAIRS),
    *(Format("two answers", names, _either(names)) for names in EITHER),
    Format("Nectar", ("answers",), _answers),
    Format("OpenAI's summaries", ("info", "summaries", "choice"), _posts),
    Format("KTO", ("completion", "label"), _unpaired("completion", "label")),
    Format("KTO of LLaMA-Factory", ("kto_tag",), _unpaired("output", "kto_tag")),
)
"""Columns to what reads them, the first that fits."""
