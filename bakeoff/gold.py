"""True answers: read by the evaluation alone, and sealed while anything trains."""

import contextlib
import dataclasses
import os
import sys
from collections.abc import Collection, Iterator
from pathlib import Path

from bakeoff import tasks
from bakeoff.errors import UserError
from bakeoff.records import Answer, Message
from bakeoff.rewards.answers import read_answers
from bakeoff.rewards.sandbox import SEALED
from bakeoff.settings import Recipe

_sealed: set[str] = set()


def answers(recipe: Recipe) -> list[Answer]:
    """The held-out prompts and true answers of all tasks; of a prompt that several have, the first one's."""
    rows = [
        dataclasses.replace(answer, task=name)
        for name, path in tasks.gold_files(recipe).items()
        for answer in read_gold(Path(path))
    ]
    return list({answer.prompt_id: answer for answer in reversed(rows)}.values())[::-1]


def read_gold(path: Path) -> list[Answer]:
    """The prompts and true answers of the file `evaluate.holdout`, as `read_answers` reads them; at least one."""
    if not (found := read_answers(path, "evaluate.holdout")):
        raise UserError(f"{path}: holds no true answers; correct evaluate.holdout")
    return found


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
        return [answer.messages for answer in read_gold(Path(path))]
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
