"""Files of true answers: their rows, and the seal on them while anything trains."""

import contextlib
import functools
import json
import os
import sys
from collections.abc import Collection, Iterator
from pathlib import Path

from bakeoff.data.schema.prompt_columns import messages
from bakeoff.errors import UserError
from bakeoff.records import Message
from bakeoff.sandbox import SEALED

_sealed: set[str] = set()


def json_rows(path: Path, setting: str) -> Iterator[tuple[str, dict]]:
    """Each row of a JSONL file with its place; raises UserError naming the file, and the line that is no object."""
    for number, line in enumerate(answers_text(path, setting).split("\n"), 1):
        if line.strip():
            yield f"{path}:{number}", _row(line, f"{path}:{number}")


def answers_text(path: Path, setting: str) -> str:
    """The text of a file of true answers, which a setting names."""
    try:
        return path.read_text(encoding="utf-8-sig")
    except (FileNotFoundError, IsADirectoryError):
        raise UserError(f"{path}: no such file of true answers; check {setting}") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not UTF-8 text ({error}); convert it") from None


def _row(line: str, source: str) -> dict:
    try:
        row = json.loads(line)
    except json.JSONDecodeError as error:
        raise UserError(f"{source}: not JSON ({error.msg}); mend or remove the line") from None
    if not isinstance(row, dict):
        raise UserError(f"{source}: a row must be an object with names; found {line[:80]!r}")
    return row


def questions(path: str) -> list[list[Message]]:
    """What the file `evaluate.holdout` asks, without the answers: prompts that carry it are kept out of the training.

    This alone is read while the file is sealed.
    """
    if not path:
        return []
    real = os.path.realpath(path)
    was_sealed = real in _sealed
    _sealed.discard(real)
    try:
        return [messages(row, source) for source, row in json_rows(Path(path), "evaluate.holdout")]
    finally:
        if was_sealed:
            _sealed.add(real)


@contextlib.contextmanager
def sealed(paths: Collection[str]) -> Iterator[None]:
    """While the block runs, opening the files from Python, by any path that leads to them, raises UserError.

    The processes that run a user's functions refuse them too.
    """
    if not paths:
        yield
        return
    _watch_opens()
    real = {os.path.realpath(path) for path in paths}
    _sealed.update(real)
    os.environ[SEALED] = os.pathsep.join(sorted(real))
    try:
        yield
    finally:
        _sealed.difference_update(real)
        os.environ.pop(SEALED, None)


@functools.cache
def _watch_opens() -> None:
    """Add the hook once: Python has no way to take one off, so it stays for the process's life, idle without a seal.

    Nothing more local would do. Whatever trains may open a file by any function of any library, from any thread; what
    replaces `open` in one module is not asked by `os.open`, `pathlib` or another library. An audit hook always is.
    """
    sys.addaudithook(_refuse)


def _refuse(event: str, arguments: tuple) -> None:
    if event == "open" and _sealed and isinstance(arguments[0], str | bytes | os.PathLike):
        path = os.path.realpath(os.fsdecode(arguments[0]))
        if path in _sealed:
            raise UserError(f"{path}: true answers are sealed while a model trains; only the evaluation opens them")
