"""A function of the user's, or a verifier, as a scorer: run in processes of its own, in parallel."""

import dataclasses
import inspect
import math
import os
import queue
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from bakeoff.models import thoughts
from bakeoff.records import Completion, Message, Score
from bakeoff.sandbox import Ended, Limits, Worker
from bakeoff.scoring.verifiers import VERIFIERS

SLOW = 2
"""An answer with which a verifier has run out of time so often is not asked about again."""


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
        """See `bakeoff.scorer.Scorer`. Raises UserError when the function cannot be loaded."""
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
