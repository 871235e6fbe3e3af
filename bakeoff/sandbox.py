"""Processes that run a user's function, with limits of time and memory."""

import ast
import contextlib
import dataclasses
import json
import os
import select
import signal
import subprocess
import sys
import time
import weakref
from pathlib import Path

from bakeoff.errors import UserError
from bakeoff.sandbox_worker import GIVEN

WORKER = Path(__file__).with_name("sandbox_worker.py")
SEALED = "BAKEOFF_SEALED"
"""The environment variable that names a file which workers may not open."""
SETTINGS = {"reward": "score.scorer", "step": "prompts.step"}
"""What names a function of each kind."""
START_SECONDS = 60.0
"""What a function's file may take to be imported."""


@dataclasses.dataclass(frozen=True, slots=True)
class Limits:
    """What one call may take."""

    seconds: float = 10.0
    memory_mb: int = 2048


OF_USERS = Limits(seconds=60.0)
"""A function of the user's may run tests or ask a service; a verifier of ours computes, and is done in a moment."""


class WorkerEnded(Exception):
    """A worker did not answer; why, in a few words."""


class Worker:
    """One process, a session of its own, so that what it started ends with it."""

    def __init__(self, file: Path, name: str, limits: Limits, kind: str = "reward") -> None:
        limited = [str(limits.memory_mb * 1_000_000), str(limits.seconds)]
        self.process = subprocess.Popen(
            [sys.executable, "-P", str(WORKER), str(file), name, *limited, kind],  # -P: see its `_loaded`
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        assert self.process.stdin and self.process.stdout
        self.stdin, self.stdout = self.process.stdin, self.process.stdout
        self.end = weakref.finalize(self, _end, self.process)
        self.unread = b""
        try:
            problem = self._reply(START_SECONDS)["ready"]
        except WorkerEnded as why:
            problem = str(why)
        if problem:
            self.end()
            raise UserError(f"{SETTINGS[kind]}: {file}:{name}: {problem}")

    def ask(self, task: dict, seconds: float) -> dict:
        """What the function makes of a task; raises WorkerEnded when there is no answer in time."""
        try:
            self.stdin.write(json.dumps(task).encode() + b"\n")
            self.stdin.flush()
        except BrokenPipeError:
            raise WorkerEnded(self._how()) from None
        return self._reply(seconds)

    def _reply(self, seconds: float) -> dict:
        until = time.monotonic() + seconds
        while b"\n" not in self.unread:
            left = until - time.monotonic()
            if left <= 0 or not select.select([self.stdout], [], [], left)[0]:
                raise WorkerEnded(f"timeout: not done within {seconds:g} s")
            if not (read := os.read(self.stdout.fileno(), 65536)):
                raise WorkerEnded(self._how())
            self.unread += read
        line, _, self.unread = self.unread.partition(b"\n")
        return json.loads(line)

    def _how(self) -> str:
        try:
            code = self.process.wait(5)
        except subprocess.TimeoutExpired:
            return "ended: the process closed its output"
        return f"ended: the process exited with {code}" if code >= 0 else f"ended: by {signal.Signals(-code).name}"


def _end(process: subprocess.Popen) -> None:
    """End a process and all that it started, and wait until it is gone."""
    for pipe in (process.stdin, process.stdout):
        with contextlib.suppress(BrokenPipeError):  # of what was not sent
            if pipe:
                pipe.close()
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def check_function(named: str, kind: str = "reward") -> None:
    """Raise UserError unless `FILE.py:FUNCTION` is a file of Python that defines such a function; nothing is run."""
    file, _, function = named.rpartition(":")
    try:
        body = ast.parse(Path(file).read_text(encoding="utf-8")).body
    except (OSError, SyntaxError, ValueError) as error:
        raise UserError(f"{SETTINGS[kind]}: {file}: cannot be read as Python ({error}); correct the setting") from None
    defined = {node.name: node.args for node in body if isinstance(node, ast.FunctionDef)}
    if function not in defined:
        raise UserError(f"{SETTINGS[kind]}: {file} defines no function {function!r}; it defines {sorted(defined)}")
    has = defined[function]
    places = [*has.posonlyargs, *has.args]
    needed = places[: len(places) - len(has.defaults)]
    needed += [a for a, default in zip(has.kwonlyargs, has.kw_defaults, strict=True) if default is None]
    if unknown := ", ".join(a.arg for a in needed if a.arg not in GIVEN[kind]):
        raise UserError(f"{named} wants {unknown}; a function can have {', '.join(GIVEN[kind])}")
