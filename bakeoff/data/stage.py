"""Stage: dirty logs in, clean prompts out, some of them held out."""

import dataclasses
import functools
import itertools
import json
import os
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from bakeoff import tasks
from bakeoff.data import prepare
from bakeoff.data.clean.redact import redact
from bakeoff.data.clean.repair import tidy
from bakeoff.data.clean.steps import EXCERPT, records
from bakeoff.data.read import readers, sources
from bakeoff.data.schema import conversations, threads
from bakeoff.data.schema.feedback import feedback
from bakeoff.data.schema.turns import NO_USER, asked
from bakeoff.data.seal import questions
from bakeoff.progress import Progress
from bakeoff.records import LoggedPick, Message, Prompt, SetAside, read_table, write_table
from bakeoff.run import Run, read_json, write_json
from bakeoff.settings import PERSONAL, Prompts, Recipe

OF_ANOTHER = "of another task"
"""Why a prompt is set aside that an earlier task of the recipe has, too."""


def prompts(run: Run, recipe: Recipe) -> None:
    """Clean the logs of `prompts.sources` into the tables `prompts` and `set_aside`; every row is in one of them.

    Those of several tasks are cleaned apart, each in its folder under `tasks/`, and then put together.
    """
    held_out = [question for path in tasks.gold_files(recipe).values() for question in questions(path)]
    if not recipe.tasks:
        return _clean(run, recipe, held_out)
    alone = tasks.each(recipe)
    made = {name: run.task(name) for name in alone}
    for name, one in made.items():
        if not one.details("prompts").exists():
            one.folder.mkdir(parents=True, exist_ok=True)
            _clean(one, alone[name], held_out)
    together(run, made)


def _clean(run: Run, recipe: Recipe, held_out: Sequence[Sequence[Message]]) -> None:
    """Clean the logs of one task; what any task's true answers are of is set aside."""
    sources = [Path(p) for p in recipe.prompts.sources]
    print("\n".join(preview(sources, recipe.prompts)))
    with Progress("prompts", unit="rows") as bar:
        prepare.clean_into(
            run.folder,
            sources,
            recipe.prompts,
            count_tokens=Tokens(recipe.model),
            gold=held_out,
            seed=recipe.seed,
            workers=cores(),
            progress=bar.update,
        )


def together(run: Run, made: Mapping[str, Run]) -> None:
    """One set of tables from those of each task; a prompt that several tasks ask belongs to the first of them."""
    rows: dict[str, Prompt] = {}
    aside, logged, counts = list[SetAside](), list[LoggedPick](), list[dict[str, Any]]()
    for name, one in made.items():
        own = read_table(one.table("prompts"), Prompt)
        again = [p for p in own if rows.setdefault(p.id, dataclasses.replace(p, task=name)).task != name]
        aside += read_table(one.table("set_aside"), SetAside)
        aside += [SetAside(OF_ANOTHER, p.source, p.messages[-1].content[:EXCERPT]) for p in again]
        logged += read_table(one.table("picks"), LoggedPick) if one.table("picks").exists() else []
        counts.append(_without(read_json(one.details("prompts")), again))
    write_table(run.table("set_aside"), SetAside, aside)
    if logged:
        write_table(run.table("picks"), LoggedPick, logged)
    write_table(run.table("prompts"), Prompt, rows.values())
    by_task = dict(zip(made, counts, strict=True))
    write_json(run.details("prompts"), functools.reduce(_added, counts) | {"tasks": by_task})


def _without(counts: dict[str, Any], prompts: Sequence[Prompt]) -> dict[str, Any]:
    """The counts of a task without the prompts that belong to another."""
    lost = Counter(p.split for p in prompts)
    less = {"kept": lost.total(), "train": lost["train"], "heldout": lost["heldout"]}
    dropped = counts["dropped"] | ({OF_ANOTHER: sum(p.count for p in prompts)} if prompts else {})
    return counts | {name: counts[name] - n for name, n in less.items()} | {"dropped": dropped}


def _added(one: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    """Two tasks' counts as one."""
    return {
        name: dict((Counter(value) + Counter(other[name])).most_common())
        if isinstance(value, dict)
        else value + other[name]
        for name, value in one.items()
    }


@dataclasses.dataclass(frozen=True, slots=True)
class Tokens:
    """Counts the tokens of texts by a model's tokenizer, which each process loads when it first needs it."""

    model: str
    """As in the recipe; empty: no model yet, a token is taken for four bytes."""

    def __call__(self, texts: list[str]) -> list[int]:
        if not self.model:
            return [len(text.encode()) // 4 for text in texts]
        tokenizer = _tokenizer(self.model)
        if not _splits_at_spaces(self.model):
            return [len(ids) for ids in tokenizer(texts).input_ids]
        return _by_words(texts, tokenizer.backend_tokenizer, _known_words(self.model))


@functools.cache
def _tokenizer(model: str) -> Any:
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # the rows are in several processes already
    from bakeoff.models.load import load_tokenizer

    return load_tokenizer(model)


@functools.cache
def _splits_at_spaces(model: str) -> bool:
    """Whether the tokenizer cuts before a space and word before it looks for tokens (GPT-2's expression and its like).

    Then a text has the tokens of its words, whichever stand beside each other.
    """
    backend = getattr(_tokenizer(model), "backend_tokenizer", None)
    if backend is None:
        return False
    probe = 'a bc, (d) 12 3.4 e-f \u00e9t\u00e9 \u6f22\u5b57 \U0001f600 x=1; "q" it\'s\n\nA b'
    steps = json.loads(backend.to_str())
    cuts = getattr(backend.pre_tokenizer, "pre_tokenize_str", None)
    if steps["normalizer"] or cuts is None or "ByteLevel" not in json.dumps(steps["pre_tokenizer"]):
        return False
    starts = {start for _, (start, _) in cuts(probe)}
    return all(i in starts for i, c in enumerate(probe) if c == " ")


@functools.cache
def _known_words(model: str) -> dict[str, int]:
    """How many tokens a word after a space has, for the words met so far."""
    return {}


_RUN = re.compile(r" (?:\s|(?<=\s ))")
"""A space beside other white space, which may share a token with it."""


def _by_words(texts: list[str], backend: Any, known: dict[str, int]) -> list[int]:
    """The tokens of each text: those of its first word, and of each other word with the space before it."""
    if len(known) > 1 << 17:
        known.clear()
    cut = [[text] if _RUN.search(text) else text.split(" ") for text in texts]
    fresh = list({w for first, *words in cut for w in words if w not in known})
    known.update(zip(fresh, _lengths(backend, [f" {w}" for w in fresh]), strict=True))
    special = len(backend.encode("").ids)
    firsts = _lengths(backend, [words[0] for words in cut])
    return [special + n + sum(map(known.__getitem__, words[1:])) for n, words in zip(firsts, cut, strict=True)]


def _lengths(backend: Any, texts: list[str]) -> list[int]:
    return [len(e.ids) for e in backend.encode_batch_fast(texts, add_special_tokens=False)]


def cores() -> int:
    """How many processes may work at once; cleaning gains little from more than eight, as one of them reads."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(8, allowed)


LOOKED_AT, FILES, SHOWN = 50, 12, 70


def preview(paths: Sequence[Path], settings: Prompts) -> Iterator[str]:
    """A line for each file: what its rows are taken for, and the first prompt as it is understood, redacted."""
    found = sources.files(paths)
    for path in found[:FILES]:
        yield f"{path}: {_seen(path, settings)}"
    if len(found) > FILES:
        yield f"... and {len(found) - FILES} more files"


def _seen(path: Path, settings: Prompts) -> str:
    names, said, first = Counter[str](), Counter[str](), ""
    rows = list(itertools.islice(readers.rows(path), LOOKED_AT))
    found = (r for row in threads.joined(rows, settings.fields.prompt) for r in records(row, settings.fields.prompt))
    for record in itertools.islice(found, LOOKED_AT):
        turns = record.reason or conversations.all_turns(record.value, settings.fields.prompt)
        if not isinstance(turns, str):
            said.update(f.kind for f in feedback(record.value, turns, settings.fields))
            turns = asked(turns) or NO_USER
        name = f"field {settings.fields.prompt!r}" if settings.fields.prompt else conversations.name(record.value)
        names[turns if isinstance(turns, str) else name] += 1
        if not first and not isinstance(turns, str):
            (text,), _ = redact([tidy(turns[-1].content[: 20 * SHOWN])], settings.redact and PERSONAL)
            first = f', "{" ".join(text.split())[:SHOWN]}"'
    kinds = ", ".join(f"{name} ({count})" for name, count in names.most_common(4))
    if said:
        kinds += "; of old answers: " + ", ".join(f"{kind} ({count})" for kind, count in said.most_common())
    part = f" in the first {LOOKED_AT} rows" if LOOKED_AT in (len(rows), names.total()) else ""
    return f"{kinds or 'no rows'}{part}{first}"
