"""What a judging model is asked: the conversation, an answer, and the rubric's question."""

from collections.abc import Sequence
from pathlib import Path

from bakeoff.errors import UserError
from bakeoff.records import Message

RUBRIC = "Is the answer correct, complete and to the point?"
"""What is asked without `score.rubric`."""
YES_OR_NO = "Reply with yes or no only."
ONE_TO_TEN = "Reply with a whole number from 1 (not at all) to 10 (entirely) only."


def read_rubric(setting: str) -> str:
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


def judge_prompt(messages: Sequence[Message], answer: str, question: str, reply: str) -> str:
    """The conversation (roles are named where there are several turns), the answer, the question, how to reply."""
    turns = [m.content if len(messages) == 1 else f"{m.role.capitalize()}: {m.content}" for m in messages]
    shown = "\n\n".join(turns)
    return f"Question:\n{shown}\n\nAnswer:\n{answer}\n\n{question} {reply}"
