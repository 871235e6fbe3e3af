"""The process that a function of the user's runs in: one JSON line in, one out. Run by its path; imports no bakeoff.

Arguments: FILE FUNCTION MEMORY_BYTES SECONDS KIND, which is `reward` (of a completion) or `step` (over many prompts).
What the function prints goes to stderr, and it has no input.
"""

import importlib.util
import inspect
import json
import os
import resource
import signal
import sys
from collections.abc import Callable
from typing import Any, TextIO

GIVEN = {"reward": ("prompt", "messages", "completion", "answer"), "step": ("prompts", "messages")}
"""What a function of each kind may name as its parameters."""
NO_NUMBER = ", which is no number"


def main() -> None:
    file, name, memory, seconds, kind = sys.argv[1:]
    tasks, replies = os.fdopen(os.dup(0)), os.fdopen(os.dup(1), "w")
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.dup2(2, 1)
    _limit(resource.RLIMIT_AS, int(memory))
    _limit(resource.RLIMIT_CORE, 0)
    _seal(os.environ.pop("BAKEOFF_SEALED", ""))
    function, problem = _loaded(file, name, GIVEN[kind])
    _reply(replies, {"ready": problem})
    for line in tasks:
        signal.alarm(int(float(seconds)) + 5)  # ends an orphan: its parent would have ended it sooner
        _reply(replies, OUTCOMES[kind](function, json.loads(line)))
        signal.alarm(0)


def _limit(kind: int, most: int) -> None:
    """Set a limit that cannot be raised again, unless a lower one holds already."""
    held = resource.getrlimit(kind)[1]
    most = most if held == resource.RLIM_INFINITY else min(most, held)
    resource.setrlimit(kind, (most, most))


def _reply(replies: TextIO, answer: dict) -> None:
    replies.write(json.dumps(answer) + "\n")
    replies.flush()


def _seal(paths: str) -> None:
    """Refuse to open the files of true answers, as the process that started this one does."""
    sealed = set(paths.split(os.pathsep))

    def refuse(event: str, arguments: tuple) -> None:
        named = event == "open" and isinstance(arguments[0], str | bytes)
        if named and os.path.realpath(os.fsdecode(arguments[0])) in sealed:
            raise PermissionError("true answers are sealed while a model trains")

    if paths:
        sys.addaudithook(refuse)


def _loaded(file: str, name: str, given: tuple[str, ...]) -> tuple[Callable[..., Any], str]:
    """(the function, what is wrong with it, in a line, or nothing)."""
    try:
        folder = os.path.dirname(os.path.abspath(file))
        package = os.path.dirname(os.path.abspath(__file__))
        if os.path.commonpath([package, folder]) != package:  # whose math and numbers.py are others' names
            sys.path.insert(0, folder)
        spec = importlib.util.spec_from_file_location("bakeoff_function", file)
        assert spec and spec.loader
        module = importlib.util.module_from_spec(spec)
        sys.modules[spec.name] = module
        spec.loader.exec_module(module)
        function = getattr(module, name)
        parameters = inspect.signature(function).parameters.values()
    except BaseException as error:
        return print, _line(error)
    needed = [p.name for p in parameters if p.default is p.empty and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
    unknown = ", ".join(n for n in needed if n not in given)
    names = [p.name for p in parameters if p.name in given]
    problem = f"wants {unknown}; a function can have {', '.join(given)}" if unknown else ""
    return lambda task: function(**{n: task[n] for n in names}), problem


def _reward(function: Callable[..., Any], task: dict) -> dict:
    try:
        value = function(task)
    except BaseException as error:
        return {"reward": None, "reason": f"raised: {_line(error)}"}
    try:
        if not isinstance(value, str | bytes | bytearray):  # of which `float` would read some
            return {"reward": float(value)}
    except BaseException:  # whatever its own `__float__` raises
        pass
    shown = " ".join(repr(value).split())[:80]
    return {"reward": None, "reason": f"no reward: the function returned {shown}{'' if value is None else NO_NUMBER}"}


def _step(function: Callable[..., Any], task: dict) -> dict:
    """`results`, a text or [None, why] for each prompt; or the `reason` why there are none."""
    try:
        results = [list(r) if isinstance(r, tuple) else r for r in function(task)]
    except BaseException as error:
        return {"reason": f"raised {_line(error)}"}
    wrong = [r for r in results if not (r is None or isinstance(r, str) or _is_refusal(r))]
    if wrong:
        return {"reason": f"returned {wrong[0]!r:.80}; give a text, None, or (None, why)"}
    if len(results) != len(task["prompts"]):
        return {"reason": f"returned {len(results)} results for {len(task['prompts'])} prompts; give one each"}
    return {"results": [[None, str(r[1])] if isinstance(r, list) else r for r in results]}


def _is_refusal(result: Any) -> bool:
    return isinstance(result, list) and len(result) == 2 and result[0] is None


OUTCOMES = {"reward": _reward, "step": _step}


def _line(error: BaseException) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"[:200].removesuffix(": ")


if __name__ == "__main__":
    main()
