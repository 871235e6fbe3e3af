"""A function of somebody's as a scorer: run in processes of its own, in parallel, with limits of time and memory."""

import ast
import contextlib
import dataclasses
import inspect
import json
import math
import os
import queue
import select
import signal
import subprocess
import sys
import time
import weakref
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from bakeoff import thoughts
from bakeoff.errors import UserError
from bakeoff.records import Completion, Message, Score
from bakeoff.rewards.verifiers import VERIFIERS
from bakeoff.rewards.worker import GIVEN

WORKER = Path(__file__).with_name("worker.py")
SEALED = "BAKEOFF_SEALED"
"""The environment variable that names a file which workers may not open."""
SETTINGS = {"reward": "score.scorer", "step": "prompts.step"}
"""What names a function of each kind."""
SLOW = 2
"""An answer with which a verifier has run out of time so often is not asked about again."""
START_SECONDS = 60.0
"""What a function's file may take to be imported."""


@dataclasses.dataclass(frozen=True, slots=True)
class Limits:
    """What one call may take."""

    seconds: float = 10.0
    memory_mb: int = 2048


OF_USERS = Limits(seconds=60.0)
"""A function of the user's may run tests or ask a service; a verifier of ours computes, and is done in a moment."""


class Ended(Exception):
    """A worker did not answer; why, in a few words."""


class FunctionScorer:
    """Rewards a completion by a function in `file`, which names what it wants: prompt, messages, completion, answer.

    `verifier` is its name as one, which has nothing to say where there is no true answer; it is given what a completion
    says after its thoughts, and one that never ended them is wrong. A call that raises, hangs, takes
    too much memory, ends its process or returns no finite number gives a missing reward with the reason; the next call
    gets a new process where it needs one.
    """

    def __init__(
        self,
        file: Path,
        name: str,
        answer: Callable[[Sequence[Message]], str | None] = lambda messages: None,
        limits: Limits | None = None,
        *,
        verifier: str = "",
    ) -> None:
        self.file, self.function, self.answer, self.limits = file, name, answer, limits or Limits()
        self.name = verifier or f"{file.name}:{name}"
        self.needs_answer = bool(verifier)
        self.size = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        self.idle: queue.SimpleQueue[Worker | None] = queue.SimpleQueue()
        for _ in range(self.size):
            self.idle.put(None)
        self.slow: Counter[str] = Counter()

    @classmethod
    def verifier(
        cls, name: str, answer: Callable[[Sequence[Message]], str | None], limits: Limits | None = None
    ) -> "FunctionScorer":
        """The verifier of this name, with what it compares with."""
        program = inspect.unwrap(VERIFIERS[name])
        file = inspect.getsourcefile(program)
        assert file
        return cls(Path(file), program.__name__, answer, limits, verifier=f"verifier:{name}")

    def score(self, groups: Sequence[tuple[list[Message], list[Completion]]]) -> Iterator[list[Score]]:
        """See `bakeoff.rewards.Scorer`. Raises UserError when the function cannot be loaded."""
        texts = [c.text for _, group in groups for c in group]
        said = iter(thoughts.answers(texts) if self.needs_answer else texts)
        tasks = [self._task(messages, next(said)) for messages, group in groups for _ in group]
        threads = ThreadPoolExecutor(self.size)
        outcomes = threads.map(self._outcome, tasks)
        try:
            for _, group in groups:
                yield [Score(c.id, c.prompt_id, self.name, *next(outcomes)) for c in group]
        finally:
            threads.shutdown(cancel_futures=True)

    def _task(self, messages: Sequence[Message], text: str | None) -> dict:
        return {
            "prompt": messages[-1].content,
            "messages": [dataclasses.asdict(m) for m in messages],
            "completion": text,
            "answer": self.answer(messages),
        }

    def _outcome(self, task: dict) -> tuple[float | None, str]:
        """(reward, reason): run in a thread, which holds a worker while it asks."""
        if self.needs_answer and task["answer"] is None:
            return None, "no answer: none is given for this prompt"
        if task["completion"] is None:
            return 0.0, ""
        if self.needs_answer and self.slow[task["answer"]] >= SLOW:
            return None, f"timeout: not asked again after {SLOW} times"
        worker = self.idle.get()
        try:
            worker = worker or Worker(self.file, self.function, self.limits)
            told = worker.ask(task, self.limits.seconds)
        except Ended as why:
            assert worker
            worker.end()
            worker = None
            self.slow[task["answer"]] += str(why).startswith("timeout")
            return None, str(why)
        finally:
            self.idle.put(worker)
        reward = told["reward"]
        if reward is None:
            return None, told.get("reason", "no reward: the function returned None")
        return (reward, "") if math.isfinite(reward) else (None, f"no reward: the function returned {reward}")


class Worker:
    """One process, a session of its own, so that what it started ends with it."""

    def __init__(self, file: Path, name: str, limits: Limits, kind: str = "reward") -> None:
        memory = limits.memory_mb * 1_000_000
        limited = [str(memory), str(limits.seconds)]
        arguments = [sys.executable, "-P", str(WORKER), str(file), name, *limited, kind]  # -P: see `worker._loaded`
        self.process = subprocess.Popen(
            arguments,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        self.end = weakref.finalize(self, _end, self.process)
        self.unread = b""
        try:
            problem = self.told(START_SECONDS)["ready"]
        except Ended as why:
            problem = str(why)
        if problem:
            self.end()
            raise UserError(f"{SETTINGS[kind]}: {file}:{name}: {problem}")

    def ask(self, task: dict, seconds: float) -> dict:
        """What the function makes of a task; raises Ended when there is no answer in time."""
        assert self.process.stdin
        try:
            self.process.stdin.write(json.dumps(task).encode() + b"\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            raise Ended(self._how()) from None
        return self.told(seconds)

    def told(self, seconds: float) -> dict:
        """The next line of the process."""
        assert self.process.stdout
        until = time.monotonic() + seconds
        while b"\n" not in self.unread:
            left = until - time.monotonic()
            if left <= 0 or not select.select([self.process.stdout], [], [], left)[0]:
                raise Ended(f"timeout: not done within {seconds:g} s")
            if not (read := os.read(self.process.stdout.fileno(), 65536)):
                raise Ended(self._how())
            self.unread += read
        line, _, self.unread = self.unread.partition(b"\n")
        return json.loads(line)

    def _how(self) -> str:
        try:
            code = self.process.wait(5)
        except subprocess.TimeoutExpired:
            return "ended: the process closed its output"
        return f"ended: the process exited with {code}" if code >= 0 else f"ended: by {signal.Signals(-code).name}"


def check(named: str, kind: str = "reward") -> None:
    """Raise UserError unless `FILE.py:FUNCTION` is a file of Python that defines such a function."""
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


def _end(process: subprocess.Popen) -> None:
    """End a process and all that it started, and wait until it is gone."""
    for pipe in (process.stdin, process.stdout):
        with contextlib.suppress(BrokenPipeError):  # of what was not sent
            if pipe:
                pipe.close()
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
