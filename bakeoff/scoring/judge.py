"""A model as a judge, over any engine: it reads an answer and says how good it is."""

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from types import SimpleNamespace
from typing import Any

from bakeoff.models import thoughts
from bakeoff.models.chat import render
from bakeoff.records import Completion, Failure, Message, Prompt, Score, content_id
from bakeoff.sampling import Engine, Failed, Sampling, refuse
from bakeoff.scoring.rubric import RUBRIC, one_to_ten

GROUPS_AT_ONCE = 8
TRIES = 3
"""Times a question is asked whose reply cannot be read; from the second on at a temperature."""
AGAIN_TEMPERATURE = 0.7

_NUMBER = r"(\d+(?:\.\d+)?)"
_STATED = re.compile(
    rf"(?:score|rating|grade)\W{{0,5}}(?:is|of)?\W{{0,3}}{_NUMBER}|{_NUMBER}\s*(?:/|out of)\s*10\b", re.I
)


class Judge:
    """Rewards a completion by a number from 1 to 10, and counts in `used` what that cost.

    `used` holds `calls`, `prompt_tokens` and `completion_tokens`, as far as the engine tells them.
    """

    def __init__(self, engine: Any, question: str = RUBRIC, *, tokens: int = 32) -> None:
        self.engine, self.question, self.tokens = engine, question, tokens

    @property
    def used(self) -> Counter[str]:
        return self.engine.used

    def score(self, groups: Sequence[tuple[list[Message], list[Completion]]]) -> Iterator[list[Score]]:
        """See `bakeoff.scorer.Scorer`."""
        for start in range(0, len(groups), GROUPS_AT_ONCE):
            some = groups[start : start + GROUPS_AT_ONCE]
            questions = [[one_to_ten(messages, c.text, self.question) for c in group] for messages, group in some]
            found = self.ask([q for row in questions for q in row])
            for (_, group), row in zip(some, questions, strict=True):
                yield [Score(c.id, c.prompt_id, "judge", *found[q]) for c, q in zip(group, row, strict=True)]

    def ask(self, questions: Sequence[str]) -> dict[str, tuple[float | None, str]]:
        """For each different question the number in the reply, or None with the reason."""
        found: dict[str, tuple[float | None, str]] = {}
        for number in range(TRIES):
            left = [q for q in dict.fromkeys(questions) if q not in found or found[q][1].startswith("unreadable")]
            found |= self._once(left, number) if left else {}
        return found

    def _once(self, questions: Sequence[str], number: int) -> dict[str, tuple[float | None, str]]:
        temperature = AGAIN_TEMPERATURE if number else 0.0
        sampling = Sampling(group_size=1, temperature=temperature, max_tokens=self.tokens, seed=number)
        asked = {content_id("judge", q): q for q in questions}
        prompts = [Prompt(key, [Message("user", q)], "score.scorer", 1, "train") for key, q in asked.items()]
        found: dict[str, tuple[float | None, str]] = {}

        def failed(failure: Failure) -> None:
            found[asked[failure.prompt_id]] = None, f"{failure.reason}: {failure.detail}"

        for (reply,) in self.engine.complete(prompts, sampling, failed):
            value = number_in(thoughts.answer(reply.text) or "")
            reason = f"unreadable: the judge said {reply.text[:80]!r}" if value is None else ""
            found[asked[reply.prompt_id]] = value, reason
        return found


def number_in(reply: str) -> float | None:
    """The score from 1 to 10 that a reply states: the last that is called one or is "of 10", or its only number."""
    stated = [a or b for a, b in _STATED.findall(reply)] or re.findall(_NUMBER, reply)
    value = float(stated[-1]) if stated and (_STATED.search(reply) or len(set(stated)) == 1) else None
    return value if value is not None and 1 <= value <= 10 else None


class Counting:
    """An engine in this process, with what it reads and writes counted as an endpoint would."""

    def __init__(self, engine: Engine, tokenizer: Any) -> None:
        self.engine, self.tokenizer, self.used = engine, tokenizer, Counter[str]()

    def complete(
        self, prompts: Sequence[Prompt], sampling: Sampling, failed: Failed = refuse
    ) -> Iterator[list[Completion]]:
        messages = {p.id: p.messages for p in prompts}
        for group in self.engine.complete(prompts, sampling, failed):
            self.used["calls"] += 1
            self.used["prompt_tokens"] += len(render(self.tokenizer, messages[group[0].prompt_id]))
            self.used["completion_tokens"] += sum(len(c.tokens) for c in group)
            yield group


class Unknown:
    """Stands for the tokenizer of a judge that only its endpoint knows: replies have no tokens, only text."""

    chat_template = "the endpoint's own"
    eos_token_id = None

    def __call__(self, text: str, **_: object) -> SimpleNamespace:
        return SimpleNamespace(input_ids=[])
