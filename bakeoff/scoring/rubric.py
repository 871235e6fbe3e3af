"""What a judging model is asked: the conversation, an answer, and the rubric's question."""

from collections.abc import Sequence
from pathlib import Path

from bakeoff.errors import UserError
from bakeoff.records import Message

RUBRIC = "Is the answer correct, complete and to the point?"
"""What is asked without `score.rubric`."""


def rubric(setting: str) -> str:
    """The question of the file `score.rubric`, or the general one; raises UserError when it cannot be read."""
    if not setting:
        return RUBRIC
    try:
        text = Path(setting).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"score.rubric: {setting}: cannot be read ({error}); correct the setting") from None
    if not text:
        raise UserError(f"score.rubric: {setting}: is empty; write the question that a good answer answers with yes")
    return text


def conversation(messages: Sequence[Message]) -> str:
    """The turns as one text; the roles are named where there are several."""
    if len(messages) == 1:
        return messages[0].content
    return "\n\n".join(f"{m.role.capitalize()}: {m.content}" for m in messages)


def yes_or_no(messages: Sequence[Message], answer: str, question: str) -> str:
    return f"{_shown(messages, answer)}{question} Reply with yes or no only."


def one_to_ten(messages: Sequence[Message], answer: str, question: str) -> str:
    scale = "Reply with a whole number from 1 (not at all) to 10 (entirely) only."
    return f"{_shown(messages, answer)}{question} {scale}"


def _shown(messages: Sequence[Message], answer: str) -> str:
    return f"Question:\n{conversation(messages)}\n\nAnswer:\n{answer}\n\n"
