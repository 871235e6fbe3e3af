"""Records of labelling tools and chat pages as the project's own rows."""

import itertools
import re
from collections.abc import Sequence
from typing import Any

from bakeoff.data.schema.prompt_columns import PROMPT, SYSTEM, asked_in
from bakeoff.errors import UserError
from bakeoff.preferences.native_format import NO_CHOICE, NONE_GOOD, OwnRow

FLAT = ".responses"
"""How the columns of a flattened Argilla record end that hold what people answered."""
NO_ANSWER = {*PROMPT, *SYSTEM, "text", "context", "id", "_server_id", "status"}
"""Columns that are no answers."""
ANSWER = ("response", "completion", "answer", "output", "generation")
_END = re.compile(r"[-_ ]?\d+$|[-_ ][A-Za-z]$")
_GOOD = re.compile(r"best|chosen|prefer|good|relevant|positive|top", re.IGNORECASE)


def argilla(row: OwnRow, source: str) -> list[OwnRow]:
    """What is submitted; a record that is pending holds drafts, where its responses do not say so themselves."""
    flat = [k.removesuffix(FLAT) for k in row if str(k).endswith(FLAT)]
    row = _unflattened(row, flat) if flat else row
    given = [r for of in (row["responses"] or {}).values() for r in of or [] if isinstance(r, dict)]
    default = "draft" if row.get("status") == "pending" else "submitted"
    said = [r.get("value") for r in given if (r.get("status") or default) == "submitted"]
    return _labelled(row["fields"], said, source, others=not flat)


def _unflattened(row: OwnRow, questions: Sequence[str]) -> OwnRow:
    """A record written with `flatten=True`, as one that is not."""
    responses = {}
    for name in questions:
        values = row[name + FLAT] or []
        status = row.get(f"{name}{FLAT}.status") or [None] * len(values)
        responses[name] = [{"value": v, "status": s} for v, s in zip(values, status, strict=True)]
    fields = {k: v for k, v in row.items() if "." not in str(k)}
    return {"fields": fields, "responses": responses, "status": row.get("status")}


def _labelled(fields: OwnRow, said: Sequence[Any], source: str, *, others: bool) -> list[OwnRow]:
    """What people answered who were shown the texts in `fields`: the name of one, a list of names, a rating.

    Those named alike are compared ("response1", "response2"); where there are none and `others`, all but the prompt.
    """
    texts = {k: v for k, v in fields.items() if isinstance(v, str) and k not in NO_ANSWER}
    named = [s for s in said if isinstance(s, str) and (s in texts or s in NONE_GOOD)]
    orders = [s for s in said if isinstance(s, list) and s and all(isinstance(n, str) and n in texts for n in s)]
    if not named and not orders:
        return _rated(fields, texts, said, source)
    stems = {_END.sub("", n) for n in (*named, *itertools.chain(*orders))}
    names = [k for k in texts if _END.sub("", k) in stems]
    if others and len(names) < 2:
        names = list(texts)
    shown = asked_in(fields) | {"completions": [texts[n] for n in names]}
    picks = [n if n in NONE_GOOD else names.index(n) for n in named]
    found = [{"pick": picks[0]} if len(picks) == 1 else {"picks": picks}] if picks else []
    return [shown | one for one in (*found, *(_ordered(order, names) for order in orders))]


def _ordered(order: Sequence[str], names: Sequence[str]) -> OwnRow:
    """A ranking names all; who names some says that these are good."""
    if len(order) == len(names):
        return {"ranking": [names.index(n) for n in order]}
    return {"ranks": [1 if n in order else 2 for n in names]}


def _rated(fields: OwnRow, texts: dict[str, str], said: Sequence[Any], source: str) -> list[OwnRow]:
    """The ratings of the one answer that is shown."""
    said = [s for s in said if s not in NO_CHOICE and s != []]
    answers = [k for k in ANSWER if k in texts] or list(texts)
    ratings = [s for s in said if type(s) in (int, float)]
    if said and (len(answers) != 1 or not ratings):
        raise UserError(f"{source}: the answers name no text among {', '.join(fields)}; found {said!r:.80}")
    return [asked_in(fields) | {"completions": [texts[answers[0]]], "rated": r} for r in ratings]


def label_studio(row: OwnRow, source: str) -> list[OwnRow]:
    """The annotations of a task of its full JSON that were not cancelled: Pairwise, Choices, Ranker."""
    data = row["data"]
    done = [a for a in row["annotations"] or [] if not a.get("was_cancelled")]
    results = [r for a in done for r in a.get("result") or [] if isinstance(r.get("value"), dict)]
    found = [_compared(r, data, source) for r in results if r["value"].get("selected") in ("left", "right")]
    found += [_ranked(r, data, source) for r in results if r["value"].get("ranker")]
    chosen = [c for r in results for c in r["value"].get("choices") or []]
    return [asked_in(data) | one for one in found] or _labelled(data, chosen, source, others=True)


def _compared(result: OwnRow, data: OwnRow, source: str) -> OwnRow:
    names = str(result.get("to_name")).split(",")
    if not all(isinstance(data.get(n), str) for n in names):
        names = [k for k, v in data.items() if isinstance(v, str) and k not in NO_ANSWER]
    if len(names) != 2:
        raise UserError(f"{source}: which two texts were compared? found {', '.join(data)}; keep two beside a prompt")
    return {"completions": [data[n] for n in names], "pick": ("left", "right").index(result["value"]["selected"])}


def _ranked(result: OwnRow, data: OwnRow, source: str) -> OwnRow:
    """A list of Label Studio's items in order, or in buckets: those in a good one before all others."""
    items = next((v for v in data.values() if isinstance(v, list) and all("id" in i for i in v)), [])
    keys = [str(item["id"]) for item in items]
    texts = [next((i[k] for k in ("body", "text", "html", "title") if i.get(k)), None) for i in items]
    order = result["value"]["ranker"]
    if isinstance(order, dict):
        order = order.get(str(result.get("from_name")), order)
    if isinstance(order, list):
        return {"completions": texts, "ranking": [keys.index(k) if k in keys else k for k in map(str, order)]}
    named = [k for k in order if k != "_"]
    good = [k for k in named if _GOOD.match(k)] or named
    if len(good) != 1:
        raise UserError(f"{source}: which bucket is the best? found {', '.join(named)}; call one of them best")
    best = set(map(str, order[good[0]]))
    return {"completions": texts, "ranks": [1 if k in best else 2 for k in keys]}


def open_webui(row: OwnRow, source: str) -> list[OwnRow]:
    """A thumb on an answer, which is better (or worse) than its siblings; rated where it has none."""
    chat = (row["snapshot"] or {}).get("chat") or {}
    turns = ((chat.get("chat") or chat).get("history") or {}).get("messages") or {}
    key, rating = (row.get("meta") or {}).get("message_id"), str((row["data"] or {}).get("rating"))
    if rating not in ("1", "-1") or (key in turns and not turns[key].get("content")):
        return []
    if key not in turns:
        raise UserError(f"{source}: the snapshot of the chat has no message {key!r}; export the feedback again")
    before: list[OwnRow] = []
    parent = turns[key].get("parentId")
    while parent in turns:
        before.insert(0, turns[parent])
        parent = turns[parent].get("parentId")
    others = [t for k, t in turns.items() if k != key and t.get("parentId") == turns[key].get("parentId")]
    texts = [t.get("content") for t in (turns[key], *others) if t.get("role") == "assistant" and t.get("content")]
    shown = {"messages": before, "completions": texts}
    if len(texts) < 2:
        return [shown | {"rated": float(rating)}] if texts else []
    return [shown | ({"pick": 0} if rating == "1" else {"ranks": [2, *[1] * (len(texts) - 1)]})]
