"""Cleaning, step by step: each step takes a batch of drafts and gives it back, some of them set aside."""

import dataclasses
import json
from collections.abc import Callable, Sequence
from typing import Any

from bakeoff.data.clean import filters, repair
from bakeoff.data.clean.draft import Draft
from bakeoff.data.clean.language import language
from bakeoff.data.clean.redact import redact
from bakeoff.data.clean.user_step import user_step
from bakeoff.data.read import containers
from bakeoff.data.read.lines import Row, decode
from bakeoff.data.schema import conversations, threads, traces
from bakeoff.data.schema.feedback import feedback, standing
from bakeoff.data.schema.nested import parse
from bakeoff.data.schema.turns import NO_USER, SHOWN
from bakeoff.data.schema.turns import asked as up_to_question
from bakeoff.records import SetAside
from bakeoff.settings import PERSONAL, Prompts

SKIPPABLE = ("template_tokens", "short", "noise", "health_checks", "near_duplicates", "feedback")
"""What `prompts.skip` may name."""
MIN_WORDS = 3
"""A first turn of fewer words is set aside: there is nothing in it to answer."""
STRATUM = 60
"""Characters of the name of a stratum that are looked at."""
EXCERPT = 200
"""Characters of a set-aside row that are kept to be looked at."""


Step = Callable[[list[Draft], Prompts], list[Draft]]
CountTokens = Callable[[list[str]], list[int]]


def drafts(rows: Sequence[Row], settings: Prompts) -> list[Draft]:
    """Rows as drafts that hold a conversation, or say why there is none; one for each record of a row."""
    return [_draft(record, settings) for row in rows for record in records(row, settings.fields.prompt)]


def records(row: Row, prompt_field: str = "") -> list[Row]:
    """The record of a row, parsed; those of a container or of a line that has several, rows of one message each joined.

    What cannot be read is a record, too, and says why.
    """
    found = [
        (record, reason)
        for value, reason in _parsed(row)
        for record in (not reason and containers.nested_records(value, prompt_field)) or [value]
    ]
    if len(found) == 1:
        return [Row(row.source, *found[0])]
    rows = (Row(f"{row.source}:{i}", *record) for i, record in enumerate(found, 1))
    return list(threads.joined(rows, prompt_field))


def _parsed(row: Row) -> list[tuple[Any, str]]:
    value = row.value
    if not isinstance(value, bytes):
        return [(value, row.reason)]
    text = decode(value)
    if row.reason:
        return [(text, row.reason)]
    *found, (last, reason) = parse(text)
    mended = None
    if reason == "broken JSON":
        mended = traces.vllm(last) or repair.completed_json(last, conversations.ANSWER_KEYS)
    return [*found, (last, reason) if mended is None else (mended, "")]


def _draft(record: Row, settings: Prompts) -> Draft:
    source, value = record.source, record.value
    if record.reason:
        return Draft(source, reason=record.reason, raw=value)
    if traces.other_call(value):
        return Draft(source, reason="no model call", raw=value)
    turns = conversations.all_turns(value, settings.fields.prompt)
    if isinstance(turns, str):
        return Draft(source, reason=turns, raw=value)
    said = [] if "feedback" in settings.skip else feedback(value, turns, settings.fields)
    asked = up_to_question(standing(turns))
    if not asked or asked[-1].content == SHOWN:
        return Draft(source, reason="images only" if asked else NO_USER, raw=value)
    return Draft(source, asked, feedback=said, stratum=_stratum(value, asked[-1].content, settings))


def _stratum(value: Any, text: str, settings: Prompts) -> str:
    if not settings.fields.stratify:
        return ""
    found = conversations.field(value, settings.fields.stratify)
    if found is None:
        return language(text) if settings.fields.stratify == "language" else ""
    (name,), _ = redact([repair.tidy(str(found))], settings.redact and PERSONAL)
    return name[:STRATUM]


def _each(change: Callable[[Draft, Prompts], Draft]) -> Step:
    """The step that changes every draft which is not set aside yet."""
    return lambda batch, settings: [d if d.reason else change(d, settings) for d in batch]


def _each_text(change: Callable[[str], str]) -> Step:
    return _each(lambda d, _: d.rewritten(map(change, d.texts)))


def _each_question(why: Callable[[str, Draft, Prompts], str]) -> Step:
    return _each(lambda d, settings: dataclasses.replace(d, reason=why(d.messages[-1].content, d, settings)))


def _short(text: str, draft: Draft, settings: Prompts) -> str:
    """A later turn may be short ("And in 2021?"); a first one must say what it is about."""
    first = all(m.role != "assistant" for m in draft.messages)
    return filters.short(text, MIN_WORDS if first and "short" not in settings.skip else 1)


def _foreign(text: str, draft: Draft, settings: Prompts) -> str:
    found = language(text) if settings.languages else ""
    return "other language" if found and found not in settings.languages else ""


def _redacted(draft: Draft, settings: Prompts) -> Draft:
    texts, counts = redact(draft.texts, settings.redact)
    return dataclasses.replace(draft.rewritten(texts), redacted=tuple(counts.elements())) if counts else draft


STEPS: dict[str, Step] = {
    "tidy": _each_text(repair.tidy),
    "step": user_step,
    "template_tokens": _each_text(repair.neutral),
    "redact": _each(_redacted),
    "length": _each_question(_short),
    "health_checks": _each_question(lambda text, *_: "health check" if filters.probe(text) else ""),
    "noise": _each_question(lambda text, *_: "keyboard noise" if filters.noise(text) else ""),
    "language": _each_question(_foreign),
}
"""The order of cleaning."""


def cleaned(rows: Sequence[Row], settings: Prompts) -> list[Draft]:
    """A batch of rows through every step that is not skipped."""
    batch = drafts(rows, settings)
    for name, step in STEPS.items():
        if name not in settings.skip:
            batch = step(batch, settings)
    return batch


def too_long(batch: list[Draft], settings: Prompts, count_tokens: CountTokens) -> list[Draft]:
    """Set aside conversations of too many tokens; a token is a byte or more, so most need no counting."""
    texts = {i: "\n".join(m.content for m in d.messages) for i, d in enumerate(batch) if not d.reason}
    doubtful = {i: text for i, text in texts.items() if len(text.encode()) > settings.max_tokens}
    counts = dict(zip(doubtful, count_tokens(list(doubtful.values())) if doubtful else [], strict=True))
    return [
        dataclasses.replace(d, reason="too long") if counts.get(i, 0) > settings.max_tokens else d
        for i, d in enumerate(batch)
    ]


def set_aside(draft: Draft, settings: Prompts) -> SetAside:
    """The row's excerpt, redacted: nothing personal reaches the disk because a row was broken."""
    text = draft.messages[-1].content if draft.messages else draft.raw
    text = text if isinstance(text, str) else json.dumps(text, ensure_ascii=False, default=str)
    text = repair.tidy(text[: 10 * EXCERPT])
    (text,), _ = redact([text], settings.redact and PERSONAL)
    return SetAside(draft.reason, draft.source, text[:EXCERPT])
