"""What a user can change about cleaning a log."""

from __future__ import annotations

import dataclasses
import difflib

from bakeoff.errors import UserError

KINDS = ("key", "email", "iban", "card", "ip", "id", "phone")
"""What `redact` may name, in the order in which it is looked for."""

LANGUAGES = (
    "en",
    "de",
    "fr",
    "es",
    "it",
    "pt",
    "nl",
    "sv",
    "pl",
    "tr",
    "ru",
    "ar",
    "zh",
    "ja",
    "ko",
    "hi",
    "el",
    "he",
    "th",
)
"""What `languages` may name."""

SKIPPABLE = ("template_tokens", "noise", "health_checks", "near_duplicates")
"""What `skip` may name."""


@dataclasses.dataclass(frozen=True, slots=True)
class Cleaning:
    """How a raw log becomes prompts."""

    prompt_field: str = ""
    """The column or key that holds the prompt, for records of a shape that is not recognised."""
    languages: tuple[str, ...] = ()
    """Keep prompts in these languages only (`["en"]`); empty keeps every language."""
    min_words: int = 3
    """A first turn of fewer words is set aside: there is nothing in it to answer."""
    max_tokens: int = 1024
    """A conversation of more tokens (the policy's) is set aside: leave room for the completion."""
    redact: tuple[str, ...] = KINDS
    """The kinds of personal data that become placeholders such as [EMAIL_1]; empty leaves the text as it is."""
    skip: tuple[str, ...] = ()
    """Steps to leave out: `template_tokens`, `noise`, `health_checks`, `near_duplicates`."""
    heldout: float = 0.1
    """The share of prompts that training never sees, in whole clusters of prompts that share a passage."""
    seed: int = 0
    """Which clusters are held out."""

    def __post_init__(self) -> None:
        for name, allowed in (("redact", KINDS), ("languages", LANGUAGES), ("skip", SKIPPABLE)):
            object.__setattr__(self, name, tuple(getattr(self, name)))  # TOML gives lists
            for value in getattr(self, name):
                if value not in allowed:
                    near = difflib.get_close_matches(str(value), allowed, 1)
                    hint = f"did you mean {near[0]!r}?" if near else "use one of " + ", ".join(allowed)
                    raise UserError(f"prompts.{name}: {value!r} is not known; {hint}")
        if not 0 <= self.heldout < 1:
            raise UserError(f"prompts.heldout: {self.heldout!r} is not a share from 0 up to, not including, 1")
