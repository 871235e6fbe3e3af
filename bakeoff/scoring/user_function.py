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
from bakeoff.records import Message, Score
from bakeoff.sandbox import Limits, Worker, WorkerEnded
from bakeoff.scorer import Group
from bakeoff.scoring.verifiers import VERIFIERS

MOST_TIMEOUTS = 2
"""An answer with which a verifier has run out of time so often is not asked about again."""
Answers = Callable[[Sequence[Message]], str | None]
"""The true answer to a conversation, or None."""


class FunctionScorer:
    """Rewards a completion by a function in `file`, which names what it wants: prompt, messages, completion, answer.

    A `verifier` (its name) has nothing to say where there is no true answer; it is given what a completion says after
    its thoughts, and one that never ended them is wrong. A call that raises, hangs, takes too much memory, ends its
    process or returns no finite number gives a missing reward with the reason; the next call gets a new process where
    it needs one.
    """

    def __init__(
        self,
        file: Path,
        name: str,
        answer: Answers = lambda messages: None,
        limits: Limits | None = None,
        *,
        verifier: str = "",
    ) -> None:
        self.file, self.function, self.answer, self.limits = file, name, answer, limits or Limits()
        self.name, self.is_verifier = verifier or f"{file.name}:{name}", bool(verifier)
        self.size = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        self.idle: queue.SimpleQueue[Worker | None] = queue.SimpleQueue()
        for _ in range(self.size):
            self.idle.put(None)
        self.timeouts: Counter[str] = Counter()

    @classmethod
    def verifier(cls, name: str, answer: Answers, limits: Limits | None = None) -> "FunctionScorer":
        """The verifier of this name, with what it compares with."""
        program = inspect.unwrap(VERIFIERS[name])
        file = Path(inspect.getfile(program))
        return cls(file, program.__name__, answer, limits, verifier=f"verifier:{name}")

    def score(self, groups: Sequence[Group]) -> Iterator[list[Score]]:
        """See `bakeoff.scorer.Scorer`. Raises UserError when the function cannot be loaded."""
        texts = [c.text for _, group in groups for c in group]
        said = iter(thoughts.answers(texts) if self.is_verifier else texts)
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
        if self.is_verifier and task["answer"] is None:
            return None, "no answer: none is given for this prompt"
        if task["completion"] is None:
            return 0.0, ""
        if self.is_verifier and self.timeouts[task["answer"]] >= MOST_TIMEOUTS:
            return None, f"timeout: not asked again after {MOST_TIMEOUTS} times"
        worker = self.idle.get()
        try:
            worker = worker or Worker(self.file, self.function, self.limits)
            reply = worker.ask(task, self.limits.seconds)
        except WorkerEnded as why:
            assert worker
            worker.end()
            worker = None
            self.timeouts[task["answer"]] += str(why).startswith("timeout")
            return None, str(why)
        finally:
            self.idle.put(worker)
        reward = reply["reward"]
        if reward is not None and not math.isfinite(reward):
            return None, f"no reward: the function returned {reward}"
        return reward, reply.get("reason", "")
