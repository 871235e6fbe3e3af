"""Engines: prompts in, groups of completions out. One small protocol; `choose.py` picks one."""

import dataclasses
import hashlib
from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

from bakeoff.errors import UserError
from bakeoff.records import Completion, Failure, Prompt, content_id
from bakeoff.settings import Sample


@dataclasses.dataclass(frozen=True, slots=True)
class Sampling:
    """How completions are drawn. Temperature 0 is greedy."""

    group_size: int = 16
    temperature: float = 1.0
    top_p: float = 1.0
    max_tokens: int = 256
    stop: tuple[str, ...] = ()
    seed: int = 0
    """With the prompt's id and the completion's index it fixes the completion's own random stream."""

    @classmethod
    def of(cls, settings: Sample, seed: int) -> "Sampling":
        """A recipe's `sample` section with its seed."""
        values = {f.name: getattr(settings, f.name) for f in dataclasses.fields(cls) if f.name != "seed"}
        return cls(**values | {"stop": tuple(settings.stop), "seed": seed})


def seed_of(*parts: object) -> int:
    """31 bits that depend on all `parts`: the seed an engine of others is given."""
    return int.from_bytes(hashlib.sha256("\n".join(map(str, parts)).encode()).digest()[:4]) >> 1


def completion(
    prompt_id: str, index: int, text: str, tokens: list[int], *, logp: float | None, finish: str
) -> Completion:
    """The record of what was drawn; its id is that of its prompt, place and tokens."""
    return Completion(content_id("completion", prompt_id, index, tokens), prompt_id, index, text, tokens, logp, finish)


Failed = Callable[[Failure], object]
"""What an engine calls, in the caller's thread, with a prompt that it cannot complete."""


def refuse(failure: Failure) -> None:
    """Let one prompt that cannot be completed stop everything."""
    raise UserError(failure.detail)


class Engine(Protocol):
    """Anything that turns prompts into completions."""

    def complete(
        self, prompts: Sequence[Prompt], sampling: Sampling, failed: Failed = refuse
    ) -> Iterator[list[Completion]]:
        """Yield one whole group (`group_size` completions, by index) per prompt, as groups finish, in any order.

        A prompt without a whole group yields nothing: its Failure is handed to `failed`.
        Raises UserError for what would stop every prompt.
        """
        ...
