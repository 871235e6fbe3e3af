"""True answers: read by the evaluation alone, and sealed while anything trains."""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path

from bakeoff.errors import UserError
from bakeoff.records import Answer, prompt_id
from bakeoff.rewards.picks import messages
from bakeoff.rewards.verifiers import VERIFIERS

_sealed: set[str] = set()


def read_gold(path: Path) -> list[Answer]:
    """The held-out prompts and true answers of a JSONL file with `prompt` or `messages`, `answer` and `verifier`.

    Raises UserError naming file and line when the file is missing or a row is not one.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        raise UserError(f"{path}: no such file of true answers; check evaluate.gold") from None
    return [_answer(line, f"{path}:{number}") for number, line in enumerate(lines, 1) if line.strip()]


def _answer(line: str, source: str) -> Answer:
    try:
        row = json.loads(line)
    except json.JSONDecodeError as error:
        raise UserError(f"{source}: not JSON ({error.msg}); mend or remove the line") from None
    if not isinstance(row, dict) or not isinstance(row.get("answer"), str):
        raise UserError(f"{source}: a row needs prompt or messages, and answer (text); found {line[:80]!r}")
    verifier = row.get("verifier", "exact")
    if verifier not in VERIFIERS:
        raise UserError(f"{source}: unknown verifier {verifier!r}; known: {', '.join(VERIFIERS)}")
    turns = messages(row, source)
    return Answer(prompt_id(turns), turns, row["answer"], verifier, source)


@contextlib.contextmanager
def sealed(path: str) -> Iterator[None]:
    """While the block runs, opening the file from Python, by any path that leads to it, raises UserError."""
    if not path:
        yield
        return
    _watch_opens()
    real = os.path.realpath(path)
    _sealed.add(real)
    try:
        yield
    finally:
        _sealed.discard(real)


_watching = False


def _watch_opens() -> None:
    global _watching
    if not _watching:
        sys.addaudithook(_refuse)  # an audit hook cannot be taken off again: it stays, idle, for the process's life
        _watching = True


def _refuse(event: str, arguments: tuple) -> None:
    if event == "open" and _sealed and isinstance(arguments[0], str | bytes | os.PathLike):
        path = os.path.realpath(os.fsdecode(arguments[0]))
        if path in _sealed:
            raise UserError(f"{path}: true answers are sealed while a model trains; only the evaluation opens them")
