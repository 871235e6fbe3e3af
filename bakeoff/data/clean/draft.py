"""A row while it is cleaned."""

import dataclasses
from collections.abc import Iterable
from typing import Any

from bakeoff.data.schema.feedback import Feedback
from bakeoff.records import Message


@dataclasses.dataclass(frozen=True, slots=True)
class Draft:
    """A row on its way to become a prompt; with a reason, it is set aside."""

    source: str
    messages: list[Message] = dataclasses.field(default_factory=list)
    reason: str = ""
    raw: Any = ""
    """What the reader found, as long as there are no messages."""
    redacted: tuple[str, ...] = ()
    """The kind of each placeholder put in."""
    feedback: list[Feedback] = dataclasses.field(default_factory=list)
    stratum: str = ""
    """The value of `prompts.fields.stratify`, redacted."""

    @property
    def texts(self) -> list[str]:
        """All that may be kept of the row: its turns, then its answers."""
        return [*(m.content for m in self.messages), *(text for f in self.feedback for text in f.answers)]

    def rewritten(self, texts: Iterable[str]) -> "Draft":
        """The same with other `texts`."""
        new = iter(texts)
        messages = [Message(m.role, next(new)) for m in self.messages]
        said = [dataclasses.replace(f, answers=[next(new) for _ in f.answers]) for f in self.feedback]
        return dataclasses.replace(self, messages=messages, feedback=said)
