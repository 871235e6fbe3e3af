"""The part of the work that looks at one row at a time: batches of rows become part folders, in several processes.

A part folder is written beside its place and renamed, so one that exists is complete; a run that was stopped makes only
those that are missing. What is in a part depends on its rows and the settings alone.
"""

import contextlib
import dataclasses
import itertools
import json
import shutil
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from bakeoff.data.clean import decontaminate, steps, user_step
from bakeoff.data.clean.draft import Draft
from bakeoff.data.clean.steps import CountTokens
from bakeoff.data.dedup.duplicates import tokens
from bakeoff.data.dedup.minhash import arrays, fingerprints
from bakeoff.data.read import readers
from bakeoff.data.read.lines import Row
from bakeoff.data.schema import threads
from bakeoff.records import Message, Prompt, SetAside, content_id, prompt_id, schema
from bakeoff.settings import Prompts

T = TypeVar("T")
A = TypeVar("A")

CARRIED = "evaluation question"
"""Why a prompt that carries one is set aside."""
ROWS, BYTES = 2048, 32 << 20
"""A part ends at so many rows, or when their text is so long."""


class Part:
    """The paths of one part's tables."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.kept = folder / "kept.parquet"
        """Rows that passed every step, as `Prompt`s whose count and split are not known yet."""
        self.remarks = folder / "remarks.parquet"
        """What users said of the answers to them."""
        self.aside = folder / "aside.parquet"
        self.words = folder / "words.txt"
        """The tokens of the kept rows, one row a line, for `duplicates.same`."""
        self.fingerprints = folder / "fingerprints.npz"
        self.counts = folder / "counts.json"


@dataclasses.dataclass(frozen=True, slots=True)
class Remark:
    """What one user said of answers, on its way to become a pick or a part of one."""

    row: int
    """Place of the conversation among the kept rows of the part."""
    kind: str
    scale: str
    """Ratings of one scale compare."""
    about: str
    """The id of the prompt, where it is an earlier turn of the conversation."""
    messages: list[Message]
    answers: list[str]
    values: list[float]
    source: str


@dataclasses.dataclass(frozen=True, slots=True)
class Work:
    """What a process needs to make parts."""

    folder: Path
    settings: Prompts
    count_tokens: CountTokens

    @property
    def questions(self) -> Path:
        """What prompts must not carry, if there is such a file."""
        return self.folder / "questions.npz"

    def part(self, number: int) -> Part:
        return Part(self.folder / f"{number:06d}")

    def make(self, number: int, rows: Sequence[Row]) -> int:
        """Write one part unless it is there; returns how many rows it stands for."""
        part = self.part(number)
        if not part.folder.exists():
            drafts = steps.too_long(steps.cleaned(rows, self.settings), self.settings, self.count_tokens)
            words = [tokens(_text(d.messages)) if not d.reason else [] for d in drafts]
            if self.questions.exists():
                found = decontaminate.load_questions(self.questions)
                drafts = [
                    dataclasses.replace(d, reason=CARRIED) if w and decontaminate.carries(w, found) else d
                    for d, w in zip(drafts, words, strict=True)
                ]
            beside = Part(part.folder.with_name(part.folder.name + ".tmp"))
            shutil.rmtree(beside.folder, ignore_errors=True)
            beside.folder.mkdir()
            _write(beside, drafts, [w for w, d in zip(words, drafts, strict=True) if not d.reason], self.settings)
            beside.folder.rename(part.folder)
        return len(rows)


def _write(part: Part, drafts: Sequence[Draft], words: Sequence[list[str]], settings: Prompts) -> None:
    """Write the tables of a part; `words` are the tokens of the drafts that are kept."""
    kept = [d for d in drafts if not d.reason]
    aside = [steps.set_aside(d, settings) for d in drafts if d.reason]
    lines = [" ".join(w).encode() + b"\n" for w in words]
    part.words.write_bytes(b"".join(lines))
    offsets = np.cumsum([0, *map(len, lines)])
    fields = arrays(fingerprints(words))
    if settings.fields.stratify:
        fields["strata"] = np.array([d.stratum for d in kept], str)
    np.savez(part.fingerprints, offsets=offsets, **fields)
    prompts = [Prompt(prompt_id(d.messages), d.messages, d.source, 0, "") for d in kept]
    pq.write_table(_table(Prompt, prompts), part.kept)
    pq.write_table(_table(Remark, list(_remarks(kept))), part.remarks)
    pq.write_table(_table(SetAside, aside), part.aside)
    redacted = Counter(kind for d in kept for kind in d.redacted)
    reasons = Counter(a.reason for a in aside)
    part.counts.write_text(json.dumps({"rows": len(drafts), "reasons": reasons, "redacted": redacted}))


def _remarks(kept: Sequence[Draft]) -> Iterator[Remark]:
    for row, draft in enumerate(kept):
        for said in draft.feedback:
            turns = draft.messages[: said.turns]
            about = prompt_id(turns) if len(turns) < len(draft.messages) else ""
            if all(said.answers):
                scale = content_id(said.scale)  # a name of the user's, which may be personal
                yield Remark(row, said.kind, scale, about, turns, said.answers, said.values, draft.source)


def _table(record: type, rows: Sequence[Any]) -> pa.Table:
    columns = {f.name: [getattr(r, f.name) for r in rows] for f in dataclasses.fields(record)}
    if "messages" in columns:
        columns["messages"] = [[{"role": m.role, "content": m.content} for m in turns] for turns in columns["messages"]]
    return pa.table(columns, schema=schema(record))


def _text(messages: Iterable[Message]) -> str:
    return "\n".join(m.content if m.role == "user" else f"{m.role}: {m.content}" for m in messages)


def batches(files: Iterable[Path], settings: Prompts) -> Iterator[list[Row]]:
    """The rows of the files in parts, rows of one message each joined; where a part ends depends on the rows alone."""
    batch: list[Row] = []
    size = 0
    tables = (threads.joined(readers.rows(file), settings.fields.prompt) for file in files)
    for row in itertools.chain.from_iterable(tables):
        batch.append(row)
        size += len(row.value) if isinstance(row.value, bytes | str) else len(str(row.value))
        if len(batch) == ROWS or size > BYTES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


@contextlib.contextmanager
def processes(workers: int) -> Iterator[Callable[[Callable[..., T], Iterable[tuple[Any, ...]]], Iterator[T]]]:
    """A `starmap` over so many processes (1 is this one) that keeps order and takes arguments only as it needs them."""
    if workers <= 1:
        try:
            yield itertools.starmap
        finally:
            user_step.end()
        return
    with ProcessPoolExecutor(workers) as pool:

        def ordered(function: Callable[..., T], arguments: Iterable[tuple[Any, ...]]) -> Iterator[T]:
            running: deque[Future[T]] = deque()
            for given in arguments:
                running.append(pool.submit(function, *given))
                if len(running) > 2 * workers:
                    yield running.popleft().result()
            while running:
                yield running.popleft().result()

        try:
            yield ordered
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
