"""A function of the user's as a step of cleaning: prompts in, texts out, in a process of its own."""

import dataclasses
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bakeoff.data.clean.draft import Draft
from bakeoff.data.clean.redact import redact
from bakeoff.data.clean.repair import tidy
from bakeoff.errors import UserError
from bakeoff.records import Message
from bakeoff.sandbox import Limits, Worker, WorkerEnded
from bakeoff.settings import PERSONAL, Prompts

BATCH = 64
"""Prompts that the function is given at once."""
SECONDS, ALONE = 60.0, 10.0
"""What a call may take for a batch, and for one prompt."""
BROKEN = 8
"""A function that fails on each of so many prompts is at fault, not the prompts."""
REASON = 60
"""Characters of a reason that are kept."""

_workers: dict[tuple[str, int], Worker] = {}


def user_step(batch: list[Draft], settings: Prompts) -> list[Draft]:
    """The drafts as the function of `prompts.step` wants their last turns, or set aside as it says.

    A prompt on which it fails alone is set aside with the kind of failure. Raises UserError when it cannot be loaded,
    or fails on every prompt of a batch.
    """
    out = list(batch)
    todo = [i for i, draft in enumerate(batch) if not draft.reason] if settings.step else []
    for start in range(0, len(todo), BATCH):
        here = todo[start : start + BATCH]
        for i, outcome in zip(here, _outcomes([batch[i] for i in here], settings), strict=True):
            out[i] = _changed(batch[i], outcome, settings)
    return out


def _outcomes(drafts: Sequence[Draft], settings: Prompts) -> list[dict[str, Any]]:
    """The `result` for each draft, or the `reason` why there is none; after a failure they are asked one by one."""
    outcome = _asked(drafts, settings.step)
    if "results" in outcome:
        return [{"result": result} for result in outcome["results"]]
    if len(drafts) == 1:
        return [outcome]
    alone: list[dict[str, Any]] = []
    for draft in drafts:
        alone += _outcomes([draft], settings)
        slow = len(alone) == BROKEN and not any(t.get("reason", "raised").startswith("raised") for t in alone)
        if slow or len(alone) == len(drafts) >= BROKEN and all("reason" in t for t in alone):
            why = _line(alone[0]["reason"], settings)
            raise UserError(f"prompts.step: {settings.step}: {why} (on {len(alone)} prompts, each alone); mend it")
    return alone


def _asked(drafts: Sequence[Draft], step: str) -> dict[str, Any]:
    """What the function makes of some drafts at once, in a process that is kept for the next ones."""
    file, _, function = step.rpartition(":")
    worker = _workers.get(key := (step, os.stat(file).st_mtime_ns))
    if worker is None:
        worker = _workers[key] = Worker(Path(file), function, Limits(SECONDS), "step")
    messages = [[dataclasses.asdict(m) for m in d.messages] for d in drafts]
    task = {"prompts": [d.messages[-1].content for d in drafts], "messages": messages}
    try:
        return worker.ask(task, SECONDS if len(drafts) > 1 else ALONE)
    except WorkerEnded as why:
        worker.end()
        del _workers[key]
        return {"reason": str(why)}


def end() -> None:
    """End the processes in which functions wait for more."""
    while _workers:
        _workers.popitem()[1].end()


def _changed(draft: Draft, outcome: dict[str, Any], settings: Prompts) -> Draft:
    name = settings.step.rpartition(":")[2]
    if "reason" in outcome:
        words = outcome["reason"].partition(":")[0].split()
        kind = " ".join(words[: 2 if words[0] == "raised" else 1])
        return dataclasses.replace(draft, reason=f"{name} failed: {kind}")
    if isinstance(outcome["result"], str):
        last = Message("user", tidy(outcome["result"]))
        return dataclasses.replace(draft, messages=[*draft.messages[:-1], last])
    reason = _line(outcome["result"][1] if outcome["result"] else "", settings)
    return dataclasses.replace(draft, reason=f"{name}: {reason[:REASON]}" if reason else name)


def _line(text: str, settings: Prompts) -> str:
    """A text of the function's as one line, redacted like the prompts."""
    (line,), _ = redact([" ".join(tidy(text).split())], settings.redact and PERSONAL)
    return line
