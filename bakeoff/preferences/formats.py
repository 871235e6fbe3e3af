"""Rows as trainers, data sets and labelling tools keep them, turned into the project's own."""

import functools
from collections.abc import Callable, Iterable
from typing import Any

from bakeoff.data.schema.prompt_columns import PROMPT, Turns, asked_in, dialogue, listed, messages
from bakeoff.errors import UserError
from bakeoff.preferences import labelling_tools
from bakeoff.preferences.native_format import OwnRow, is_missing, numbers
from bakeoff.records import Message

Reader = Callable[[OwnRow, str], list[OwnRow]]
"""From a row and its source to own rows, none where it says nothing. One with `rated` is a single completion."""
_ARENA = {"model_a": 0, "model_b": 1}
BETTER: dict[tuple[str, str, str], dict[Any, int]] = {
    ("response_0", "response_1", "better_response_id"): {0: 0, 1: 1},
    ("human_ref_A", "human_ref_B", "labels"): {1: 0, 0: 1},
    ("conversation_a", "conversation_b", "winner"): _ARENA,
    ("response_a", "response_b", "winner"): _ARENA,
}
"""Columns of two answers and of the better one, with the values of that: the place of the better one."""


def own_rows(row: Any, source: str) -> list[OwnRow]:
    """A row of any format as the project's own; UserError names the source and the columns."""
    full = {k for k, v in row.items() if v is not None} if isinstance(row, dict) else set()
    if any(str(k).endswith(labelling_tools.FLAT) for k in (row if full else ())):
        return _read(("fields", "responses"), row, source)
    for present in (full, set(row) if full else full):  # a label may be null
        for columns in COLUMNS:
            if present.issuperset(columns):
                return _read(columns, row, source)
    known = "; ".join(f"{', '.join(columns)} ({name})" for columns, (name, _) in COLUMNS.items())
    found = f"the columns {', '.join(map(str, row))}" if full else f"{row!r:.80}"
    raise UserError(
        f"{source}: a row needs a prompt or messages, and what people prefer; found {found}; known: {known}"
    )


def _read(columns: tuple[str, ...], row: OwnRow, source: str) -> list[OwnRow]:
    name, read = COLUMNS[columns]
    try:
        return read(row, source)
    except (AttributeError, TypeError, KeyError, ValueError) as error:
        raise UserError(
            f"{source}: {', '.join(columns)} are not as {name} has them ({error!r:.80}); found {row!r:.80}; "
            "mend or remove the line"
        ) from None


def _pair(row: OwnRow, source: str, names: tuple[str, str] = ("chosen", "rejected")) -> list[OwnRow]:
    """Two texts, messages, or whole dialogues, of which the first is the better."""
    if any(is_missing(row[name]) for name in names):
        return []
    (before, chosen), (other, rejected) = (_side(row[name], row, source) for name in names)
    if before != other:
        raise UserError(f"{source}: chosen and rejected answer different dialogues; give both the same turns before")
    asked = _asked_before(before, row, source) | {"completions": [chosen, rejected]}
    if row.get("votes") is not None:
        return [asked | {"votes": row["votes"]}]
    scores: list[Any] = [row.get("score_chosen"), row.get("score_rejected")]
    if not is_missing(row.get("margin")):
        scores = [row["margin"], 0.0]
    better, worse = numbers(scores, 2, source, "score_chosen and score_rejected, or margin,")
    scored = better is not None and worse is not None and better > worse
    return [asked | ({"ratings": scores} if scored else {"pick": 0})]


def _asked_before(before: Turns, row: OwnRow, source: str) -> OwnRow:
    """What was asked: the turns before both answers count, where a prompt beside them does not say more."""
    beside = asked_in(row)
    if not before:
        return beside
    asked = messages(beside, source) if beside else []
    system = [m for m in asked[:1] if m.role == "system" and before[0].role != "system"]
    shorter = min(len(before), len(asked))
    is_text = isinstance(row.get("prompt"), str) or not any(isinstance(beside.get(k), list) for k in PROMPT)
    repeated = is_text or before[:shorter] == asked[:shorter]
    return {"messages": _records([*system, *before] if repeated else [*asked, *before])}


def _records(turns: Iterable[Message]) -> list[dict]:
    return [{"role": m.role, "content": m.content} for m in turns]


def _side(side: Any, row: OwnRow, source: str) -> tuple[Turns, str]:
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


def _either(row: OwnRow, source: str, names: tuple[str, str, str]) -> list[OwnRow]:
    said = row[names[2]]
    if is_missing(said) or str(said).startswith(("tie", "both", "neither")):
        return []
    if not isinstance(said, int | float | str) or said not in BETTER[names]:
        known = " or ".join(map(repr, BETTER[names]))
        raise UserError(f"{source}: {names[2]} must be {known}; found {said!r:.80}")
    first = BETTER[names][said]
    return _pair(asked_in(row) | {"chosen": row[names[first]], "rejected": row[names[1 - first]]}, source)


def _summaries(row: OwnRow, source: str) -> list[OwnRow]:
    info = row["info"] if isinstance(row["info"], dict) else {}
    texts = [s.get("text") if isinstance(s, dict) else s for s in row["summaries"]]
    return [{"prompt": info.get("post") or info.get("article"), "completions": texts, "pick": row["choice"]}]


def _ranked_answers(row: OwnRow, source: str) -> list[OwnRow]:
    answers = row["answers"]
    if not isinstance(answers, list) or not all(isinstance(a, dict) for a in answers):
        raise UserError(f"{source}: answers must be a list of records with answer and rank; found {answers!r:.80}")
    columns = {name: [a.get(key) for a in answers] for name, key in (("completions", "answer"), ("ranks", "rank"))}
    return [asked_in(row) | columns]


def _unpaired(row: OwnRow, source: str, *, text: str, label: str) -> list[OwnRow]:
    """A completion and whether it is good; where there is no `text`, the messages end with it."""
    said, asked = row[label], asked_in(row)
    if is_missing(said):
        return []
    if not isinstance(said, bool | int | float) or said not in (0, 1):
        raise UserError(f"{source}: {label} must be true or false; found {said!r:.80}")
    answer = row.get(text)
    if answer is None:
        *before, last = _records(messages(asked, source))
        asked, answer = {"messages": before}, [last]
    turns, answer = _side(answer, asked or {"prompt": "."}, source)
    asked = {"messages": _records(turns)} if turns and not asked else asked
    return [asked | {"completions": [answer], "rated": float(said)}]


COLUMNS: dict[tuple[str, ...], tuple[str, Reader]] = {
    ("completions",): ("our own: pick, picks, votes, ranking, ranks or ratings", lambda row, source: [row]),
    ("fields", "responses"): ("Argilla", labelling_tools.argilla),
    ("data", "annotations"): ("Label Studio's full JSON", labelling_tools.label_studio),
    ("data", "snapshot"): ("Open WebUI's feedback", labelling_tools.open_webui),
    ("chosen", "rejected"): ("pair", _pair),
    **{
        names: ("pair", functools.partial(_pair, names=names))
        for names in (("chosen_response", "rejected_response"), ("preferred_output", "non_preferred_output"))
    },
    **{names: ("two answers", functools.partial(_either, names=names)) for names in BETTER},
    ("answers",): ("Nectar", _ranked_answers),
    ("info", "summaries", "choice"): ("OpenAI's summaries", _summaries),
    ("completion", "label"): ("KTO", functools.partial(_unpaired, text="completion", label="label")),
    ("kto_tag",): ("KTO of LLaMA-Factory", functools.partial(_unpaired, text="output", label="kto_tag")),
}
"""Columns to the format that has them and what reads it; the first that fits."""
