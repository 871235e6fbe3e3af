"""Rows as trainers, data sets and labelling tools keep them, as the rows that `bakeoff.rewards.labels` reads."""

import functools
import itertools
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from bakeoff.errors import UserError
from bakeoff.records import Message
from bakeoff.rewards.labels import NO_CHOICE, NONE_GOOD, is_missing, numbers
from bakeoff.rewards.turns import PROMPT, SYSTEM, Turns, dialogue, listed, messages

Rows = list[dict[str, Any]]
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
ASIDE = {*PROMPT, *SYSTEM, "text", "context", "id", "_server_id", "status"}
"""Columns of labelling tools that are no answers."""
ANSWER = ("response", "completion", "answer", "output", "generation")
_END = re.compile(r"[-_ ]?\d+$|[-_ ][A-Za-z]$")
_GOOD = re.compile(r"best|chosen|prefer|good|relevant|positive|top", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Format:
    name: str
    columns: tuple[str, ...]
    read: Callable[[dict, str], Rows]
    """Rows of `completions` and what was said of them; none where nothing was. A row with `rated` is one completion."""


def rows(row: Any, source: str) -> Rows:
    """A row of any format as rows of `bakeoff.rewards.labels`; raises UserError naming the source and the columns."""
    row = _unflattened(row) if isinstance(row, dict) else row
    full = {k for k, v in row.items() if v is not None} if isinstance(row, dict) else set()
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
            f"{source}: {', '.join(kind.columns)} are not as {kind.name} has them ({error!r:.80}); found {row!r:.80}"
        ) from None


def _asked(row: dict) -> dict:
    return {k: row[k] for k in (*PROMPT, *SYSTEM) if row.get(k)}


def _pair(row: dict, source: str, names: tuple[str, str] = PAIRS[0]) -> Rows:
    """Two texts, messages, or whole dialogues, of which the first is the better."""
    if any(is_missing(row[name]) for name in names):
        return []
    (before, chosen), (other, rejected) = (_side(row[name], row, source) for name in names)
    if before != other:
        raise UserError(f"{source}: chosen and rejected answer different dialogues; give both the same turns before")
    whole = _asked(row)
    if before:  # the dialogue tells more than a prompt beside it
        asked = messages(whole, source) if whole else []
        system = [m for m in asked[:1] if m.role == "system" and before[0].role != "system"]
        shorter = min(len(before), len(asked))
        known = isinstance(row.get("prompt"), str) or before[:shorter] == asked[:shorter]
        whole = {"messages": _records([*system, *before] if known else [*asked, *before])}
    whole["completions"] = [chosen, rejected]
    if row.get("votes") is not None:
        return [whole | {"votes": row["votes"]}]
    scores: list[Any] = [row.get("score_chosen"), row.get("score_rejected")]
    if not is_missing(row.get("margin")):
        scores = [row["margin"], 0.0]
    better, worse = numbers(scores, 2, source, "score_chosen and score_rejected, or margin,")
    told = better is not None and worse is not None and better > worse
    return [whole | ({"ratings": scores} if told else {"pick": 0})]


def _records(turns: Iterable[Message]) -> list[dict]:
    return [{"role": m.role, "content": m.content} for m in turns]


def _side(side: Any, row: dict, source: str) -> tuple[Turns, str]:
    """(the turns before, the text) of one side of a pair."""
    if isinstance(side, str):
        if _asked(row):
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
        return _pair(_asked(row) | {"chosen": row[names[first]], "rejected": row[names[1 - first]]}, source)

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
        _asked(row) | {"completions": [a.get("answer") for a in answers], "ranks": [a.get("rank") for a in answers]}
    ]


def _unpaired(text: str, label: str) -> Callable[[dict, str], Rows]:
    """A completion and whether it is good, as KTO has them; where there is no `text`, the messages end with it."""

    def read(row: dict, source: str) -> Rows:
        said, asked = row[label], _asked(row)
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


def _unflattened(row: dict) -> dict:
    """An Argilla record written with `flatten=True`, as one that is not; any other row as it is."""
    questions = [k.removesuffix(".responses") for k in row if str(k).endswith(".responses")]
    if not questions:
        return row
    responses = {}
    for name in questions:
        values = row[f"{name}.responses"] or []
        status = row.get(f"{name}.responses.status") or [None] * len(values)
        responses[name] = [{"value": v, "status": s} for v, s in zip(values, status, strict=True)]
    fields = {k: v for k, v in row.items() if "." not in str(k)}
    return {"fields": fields, "responses": responses, "status": row.get("status"), "flat": True}


def _argilla(row: dict, source: str) -> Rows:
    """What is submitted; a record that is pending holds drafts, where its responses do not say so themselves."""
    fields, responses = row["fields"], row["responses"] or {}
    given = [r for of in responses.values() for r in of or [] if isinstance(r, dict)]
    default = "draft" if row.get("status") == "pending" else "submitted"
    said = [r.get("value") for r in given if (r.get("status") or default) == "submitted"]
    return _labelled(fields, said, source, others=not row.get("flat"))


def _labelled(fields: dict, said: Sequence[Any], source: str, *, others: bool) -> Rows:
    """What people answered who were shown the texts in `fields`: the name of one, a list of names, a rating.

    Those named alike are compared ("response1", "response2"); where there are none and `others`, all but the prompt.
    """
    texts = {k: v for k, v in fields.items() if isinstance(v, str) and k not in ASIDE}
    named = [s for s in said if isinstance(s, str) and (s in texts or s in NONE_GOOD)]
    orders = [s for s in said if isinstance(s, list) and s and all(isinstance(n, str) and n in texts for n in s)]
    if not named and not orders:
        return _rated(fields, texts, said, source)
    stems = {_END.sub("", n) for n in (*named, *itertools.chain(*orders))}
    names = [k for k in texts if _END.sub("", k) in stems]
    if others and len(names) < 2:
        names = list(texts)
    shown = _asked(fields) | {"completions": [texts[n] for n in names]}
    picks = [n if n in NONE_GOOD else names.index(n) for n in named]
    found = [{"pick": picks[0]} if len(picks) == 1 else {"picks": picks}] if picks else []
    return [shown | one for one in (*found, *(_ordered(order, names) for order in orders))]


def _ordered(order: Sequence[str], names: Sequence[str]) -> dict:
    """A ranking names all; who names some says that these are good."""
    if len(order) == len(names):
        return {"ranking": [names.index(n) for n in order]}
    return {"ranks": [1 if n in order else 2 for n in names]}


def _rated(fields: dict, texts: dict[str, str], said: Sequence[Any], source: str) -> Rows:
    """The ratings of the one answer that is shown."""
    told = [s for s in said if s not in NO_CHOICE and s != []]
    answers = [k for k in ANSWER if k in texts] or list(texts)
    if told and (len(answers) != 1 or not any(type(s) in (int, float) for s in told)):
        raise UserError(f"{source}: the answers name no text among {', '.join(fields)}; found {told!r:.80}")
    ratings = [s for s in told if type(s) in (int, float)]
    return [_asked(fields) | {"completions": [texts[answers[0]]], "rated": r} for r in ratings]


def _label_studio(row: dict, source: str) -> Rows:
    """The annotations of a task of its full JSON that were not cancelled: Pairwise, Choices, Ranker."""
    data, found = row["data"], []
    done = [a for a in row["annotations"] or [] if not a.get("was_cancelled")]
    results = [r for a in done for r in a.get("result") or [] if isinstance(r.get("value"), dict)]
    pairs = [r for r in results if r["value"].get("selected") in ("left", "right")]
    for result in pairs:
        names = str(result.get("to_name")).split(",")
        if not all(isinstance(data.get(n), str) for n in names):
            names = [k for k, v in data.items() if isinstance(v, str) and k not in ASIDE]
        if len(names) != 2:
            raise UserError(
                f"{source}: which two texts were compared? found {', '.join(data)}; keep two beside a prompt"
            )
        side = ("left", "right").index(result["value"]["selected"])
        found.append(_asked(data) | {"completions": [data[n] for n in names], "pick": side})
    chosen = [c for r in results for c in r["value"].get("choices") or []]
    for result in results:
        if order := result["value"].get("ranker"):
            found.append(_asked(data) | _ranked(order, data, str(result.get("from_name")), source))
    return found or _labelled(data, chosen, source, others=True)


def _ranked(order: Any, data: dict, name: str, source: str) -> dict:
    """A list of Label Studio's items in order, or in buckets: those in a good one before all others."""
    items = next((v for v in data.values() if isinstance(v, list) and all("id" in i for i in v)), [])
    keys = [str(item["id"]) for item in items]
    texts = [next((i[k] for k in ("body", "text", "html", "title") if i.get(k)), None) for i in items]
    if isinstance(order, dict) and name in order:
        order = order[name]
    if isinstance(order, list):
        return {"completions": texts, "ranking": [keys.index(k) if k in keys else k for k in map(str, order)]}
    named = [k for k in order if k != "_"]
    good = [k for k in named if _GOOD.match(k)] or named
    if len(good) != 1:
        raise UserError(f"{source}: which bucket is the best? found {', '.join(named)}; call one of them best")
    best = set(map(str, order[good[0]]))
    return {"completions": texts, "ranks": [1 if k in best else 2 for k in keys]}


def _open_webui(row: dict, source: str) -> Rows:
    """A thumb on an answer, which is better (or worse) than its siblings; rated where it has none."""
    chat = (row["snapshot"] or {}).get("chat") or {}
    history = (chat.get("chat") or chat).get("history") or {}
    turns, key = history.get("messages") or {}, (row.get("meta") or {}).get("message_id")
    rating = str((row["data"] or {}).get("rating"))
    if rating not in ("1", "-1") or (key in turns and not turns[key].get("content")):
        return []
    if key not in turns:
        raise UserError(f"{source}: the snapshot of the chat has no message {key!r}; export the feedback again")
    before: list[dict] = []
    parent = turns[key].get("parentId")
    while parent in turns:
        before.insert(0, turns[parent])
        parent = turns[parent].get("parentId")
    others = [t for k, t in turns.items() if k != key and t.get("parentId") == turns[key].get("parentId")]
    texts = [t.get("content") for t in (turns[key], *others) if t.get("role") == "assistant" and t.get("content")]
    shown = {"messages": before, "completions": texts}
    if len(texts) < 2:
        return [shown | {"rated": float(rating)}] if texts else []
    return [shown | ({"pick": 0} if rating == "1" else {"ranks": [2, *[1] * len(others)][: len(texts)]})]


FORMATS = (
    Format("our own: pick, picks, votes, ranking, ranks or ratings", ("completions",), lambda row, source: [row]),
    Format("Argilla", ("fields", "responses"), _argilla),
    Format("Label Studio's full JSON", ("data", "annotations"), _label_studio),
    Format("Open WebUI's feedback", ("data", "snapshot"), _open_webui),
    *(Format("pair", pair, functools.partial(_pair, names=pair)) for pair in PAIRS),
    *(Format("two answers", names, _either(names)) for names in EITHER),
    Format("Nectar", ("answers",), _answers),
    Format("OpenAI's summaries", ("info", "summaries", "choice"), _posts),
    Format("KTO", ("completion", "label"), _unpaired("completion", "label")),
    Format("KTO of LLaMA-Factory", ("kto_tag",), _unpaired("output", "kto_tag")),
)
"""Columns to what reads them, the first that fits."""
