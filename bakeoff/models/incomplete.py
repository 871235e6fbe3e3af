"""What tells an incomplete answer from a whole one."""

from collections.abc import Sequence

from bakeoff.models import thoughts

WINDOW = 4
"""Tokens of a window that counts as repeated when it has occurred before in the same completion."""
LOOPING = 0.5
"""A completion of which more than this share repeats itself is no answer."""


def fault(text: str, tokens: Sequence[int], finish: str) -> str:
    """Why a completion is no whole answer: `unfinished` (no end of text or of a thought), `empty`, `looping`; or ""."""
    answer = thoughts.answer(text)
    if finish != "stop" or answer is None:
        return "unfinished"
    if not answer.strip():
        return "empty"
    return "looping" if repetition(tokens) > LOOPING else ""


def repetition(tokens: Sequence[int]) -> float:
    """The share of a completion's windows of four tokens that occurred in it before: near 1 for a loop."""
    windows = [tuple(tokens[i : i + WINDOW]) for i in range(len(tokens) - WINDOW + 1)]
    return 1 - len(set(windows)) / len(windows) if windows else 0.0
