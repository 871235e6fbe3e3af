"""The nouns of the loop. Each frozen dataclass is the schema of one Parquet table; tables join on content-hash ids."""

import contextlib
import dataclasses
import hashlib
import json
import os
import re
import types
import typing
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

T = typing.TypeVar("T")


@dataclasses.dataclass(frozen=True, slots=True)
class Message:
    role: str
    """`system`, `user` or `assistant`."""
    content: str


@dataclasses.dataclass(frozen=True, slots=True)
class Prompt:
    """What the policy is asked: a conversation that ends with the user's turn."""

    id: str
    messages: list[Message]
    source: str
    """`file:line` of the first row it came from."""
    count: int
    """How many source rows it stands for (exact and near duplicates included)."""
    split: str
    """`train` or `heldout`."""
    task: str = ""
    """Which of the recipe's tasks it belongs to; empty where there is but one."""


@dataclasses.dataclass(frozen=True, slots=True)
class SetAside:
    """A source row that was not kept, and why. The text is an excerpt, redacted like everything else."""

    reason: str
    source: str
    text: str


@dataclasses.dataclass(frozen=True, slots=True)
class Completion:
    """One candidate answer. The completions of one prompt are its group."""

    id: str
    prompt_id: str
    index: int
    """Place in the group, from 0; also the key of the completion's own random stream."""
    text: str
    tokens: list[int]
    """Token ids, the end-of-turn token included when it was reached."""
    logp: float | None
    """Sum over tokens of the log-probability under the distribution that was sampled from (nats); None: not known."""
    finish: str
    """`stop` (end of turn or stop string) or `length` (cut at max_tokens, or without the answer that was asked for)."""
    strategy: str = "plain"
    """The way to ask that it came from."""


@dataclasses.dataclass(frozen=True, slots=True)
class Failure:
    """A prompt that has no group, and why: it is in no table of completions, and never has a smaller group."""

    prompt_id: str
    reason: str
    """`empty`, `template`, `too_long`, `timeout`, `overloaded`, `server_error`, `malformed`, `refused`, `too_few`."""
    detail: str
    """One line: where the prompt comes from, what happened, what to do."""


@dataclasses.dataclass(frozen=True, slots=True)
class Score:
    """A scorer's reward for one completion; missing (None) with a reason, never silently 0."""

    completion_id: str
    prompt_id: str
    scorer: str
    reward: float | None
    reason: str = ""


@dataclasses.dataclass(frozen=True, slots=True)
class Pick:
    """What people prefer among the completions of a prompt."""

    messages: list[Message]
    completions: list[str]
    pick: int
    """Place of the most preferred completion (the first, where several are)."""
    source: str
    shape: str = "pick"
    """What is known of the others: nothing (`pick`), or by `values` (`votes`, `ranking`, `ratings`)."""
    values: list[float] = dataclasses.field(default_factory=list)
    """One per completion: how many people chose it (`votes`), its place from 0, ties allowed (`ranking`), or its
    rating, in units of the range of ratings in its file (`ratings`)."""
    none: float | None = None
    """How many people found none of them good; None where nobody was asked (only for `pick` and `votes`)."""

    @property
    def decided(self) -> bool:
        """Whether some completion is preferred to another."""
        return len(set(self.worth)) > 1

    @property
    def worth(self) -> list[float]:
        """A number per completion, of which only comparisons count: higher is preferred; equal texts share theirs."""
        if self.shape == "pick":
            return [float(text == self.completions[self.pick]) for text in self.completions]
        signed = [-v if self.shape == "ranking" else v for v in self.values]
        best = {
            text: max(v for t, v in zip(self.completions, signed, strict=True) if t == text)
            for text in self.completions
        }
        return [best[text] for text in self.completions]


@dataclasses.dataclass(frozen=True, slots=True)
class LoggedPick:
    """What users of the model preferred among its old answers, as the logs tell; a row as picks are read from."""

    messages: list[Message]
    completions: list[str]
    pick: int | None
    """Place of the preferred answer; None where the answers are rated."""
    ratings: list[float]
    """One per answer, from 0 to 1; empty where one is picked."""
    kind: str
    """`thumbs`, `rating`, `edit` (theirs is preferred), `regenerated` (the last is preferred) or `choice`."""
    source: str
    """`file:line` of the first row it came from."""
    split: str
    """`heldout` where the prompt is held out of the logs, or shares a passage with one that is."""


@dataclasses.dataclass(frozen=True, slots=True)
class Answer:
    """A held-out prompt with its true answer. Only the evaluation may read these."""

    prompt_id: str
    messages: list[Message]
    answer: str
    verifier: str
    """Which program compares a completion with the answer; a name from `bakeoff.scoring.verifiers.VERIFIERS`."""
    source: str
    task: str = ""
    """As of its prompt."""


def content_id(*parts: object) -> str:
    """A 16-hex-digit SHA-256 of the JSON of `parts`: equal content gives equal ids on any machine."""
    text = json.dumps(parts, ensure_ascii=False, sort_keys=True, default=dataclasses.asdict)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]


def prompt_id(messages: Iterable[Message]) -> str:
    return content_id([[m.role, m.content] for m in messages])


# Table: a list of one record class, written beside its place and renamed, so that a file that exists is complete.

_ARROW = {str: pa.string(), int: pa.int64(), float: pa.float64(), bool: pa.bool_()}


def _arrow_type(hint: object) -> pa.DataType:
    if dataclasses.is_dataclass(hint):
        return pa.struct(list(schema(hint)))  # type: ignore[arg-type]
    if typing.get_origin(hint) is list:
        return pa.list_(_arrow_type(typing.get_args(hint)[0]))
    if typing.get_origin(hint) is types.UnionType:
        return _arrow_type(next(a for a in typing.get_args(hint) if a is not type(None)))
    return _ARROW[hint]  # type: ignore[index]


def schema(record: type) -> pa.Schema:
    """The Arrow schema that a record class stands for."""
    hints = typing.get_type_hints(record)
    return pa.schema([pa.field(f.name, _arrow_type(hints[f.name])) for f in dataclasses.fields(record)])


def write_table(path: Path, record: type, rows: Iterable[object]) -> None:
    """Write `rows` of one record class to a Parquet file, atomically.

    Raises OSError when the disk is full; the file then does not exist.
    """
    table = pa.Table.from_pylist([dataclasses.asdict(r) for r in rows], schema=schema(record))  # type: ignore[call-overload]
    with atomic(path) as beside:
        pq.write_table(table, beside)


def read_table(path: Path, record: type[T]) -> list[T]:
    """The rows of a Parquet file as record objects."""
    hints = typing.get_type_hints(record)
    build = {name: _builder(hint) for name, hint in hints.items()}
    columns = pq.read_table(path).to_pydict()
    return [
        record(**{name: build[name](value) for name, value in zip(columns, row, strict=True)})
        for row in zip(*columns.values(), strict=True)
    ]


def rows_of(table: pa.Table | pa.RecordBatch) -> list[dict[str, Any]]:
    """The rows of a table that others wrote: its maps as dicts, bytes that are UTF-8 and what Python has no value for
    (nanoseconds, the year 20000) as text."""
    columns = {name: _values(column) for name, column in zip(table.column_names, table.columns, strict=True)}
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


_NO_VALUE = (ValueError, OverflowError, TypeError, pa.ArrowException)


def _values(column: pa.Array | pa.ChunkedArray) -> list[Any]:
    if not {"map", "binary"} & set(re.findall("[a-z]+", str(column.type))):
        with contextlib.suppress(*_NO_VALUE):
            return column.to_pylist()
    return list(map(_value, column))


def _value(scalar: pa.Scalar) -> Any:
    if not scalar.is_valid:
        return None
    if isinstance(scalar, pa.StructScalar):
        return {name: _value(inner) for name, inner in scalar.items()}
    if isinstance(scalar, pa.MapScalar):
        keys, values = scalar.values.flatten()
        return {str(_value(k)): _value(v) for k, v in zip(keys, values, strict=True)}
    if isinstance(scalar, pa.ListScalar):
        return list(map(_value, scalar.values))
    with contextlib.suppress(*_NO_VALUE):
        return as_text(scalar.as_py())
    with contextlib.suppress(*_NO_VALUE):
        return scalar.cast(pa.string()).as_py()
    return None


def as_text(value: Any) -> Any:
    """Bytes that are UTF-8 as text; anything else as it is."""
    with contextlib.suppress(UnicodeDecodeError):
        return value.decode() if isinstance(value, bytes) else value
    return value


def _builder(hint: object) -> typing.Callable[[typing.Any], typing.Any]:
    if typing.get_origin(hint) is list:
        inner = _builder(typing.get_args(hint)[0])
        return lambda value: [inner(v) for v in value]
    if dataclasses.is_dataclass(hint):
        return lambda value: hint(**value)  # type: ignore[operator]
    return lambda value: value


@contextlib.contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """A path to write to; it takes the place of `path` when the block ends well, and goes when it does not."""
    beside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield beside
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)
