"""A model as a judge, over any engine: it reads an answer and says how good it is."""

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from bakeoff.errors import UserError
from bakeoff.models import thoughts
from bakeoff.models.chat import render
from bakeoff.records import Failure, Message, Prompt, Score, content_id
from bakeoff.sampling import Engine, Sampling
from bakeoff.scorer import Group, in_batches

RUBRIC = "Is the answer correct, complete and to the point?"
"""What is asked without `score.rubric`."""
YES_OR_NO = "Reply with yes or no only."
ONE_TO_TEN = "Reply with a whole number from 1 (not at all) to 10 (entirely) only."
TRIES = 3
"""Times a question is asked whose reply cannot be read; from the second on at a temperature."""
AGAIN_TEMPERATURE = 0.7

_NUMBER = r"(\d+(?:\.\d+)?)"
_STATED = re.compile(
    rf"(?:score|rating|grade)\W{{0,5}}(?:is|of)?\W{{0,3}}{_NUMBER}|{_NUMBER}\s*(?:/|out of)\s*10\b", re.I
)


class Judge:
    """Rewards a completion by a number from 1 to 10, and counts in `used` what that cost.

    `used` holds `calls`, `prompt_tokens` and `completion_tokens`: the engine's own count, as far as an endpoint says,
    or, with the `tokenizer` of an engine in this process, what it reads and writes.
    """

    def __init__(self, engine: Engine, question: str = RUBRIC, *, tokens: int = 32, tokenizer: Any = None) -> None:
        self.engine, self.question, self.tokens, self.tokenizer = engine, question, tokens, tokenizer
        self.used: Counter[str] = Counter() if tokenizer else engine.used  # type: ignore[attr-defined]

    @in_batches
    def score(self, groups: Sequence[Group]) -> Iterator[list[Score]]:
        """See `bakeoff.scorer.Scorer`."""
        questions = [[judge_prompt(m, c.text, self.question, ONE_TO_TEN) for c in group] for m, group in groups]
        found = self.ask([q for row in questions for q in row])
        for (_, group), row in zip(groups, questions, strict=True):
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
            question = asked[reply.prompt_id]
            value = number_in(thoughts.answer(reply.text) or "")
            found[question] = value, f"unreadable: the judge said {reply.text[:80]!r}" if value is None else ""
            if self.tokenizer:
                read = len(render(self.tokenizer, [Message("user", question)]))
                self.used.update(calls=1, prompt_tokens=read, completion_tokens=len(reply.tokens))
        return found


def number_in(reply: str) -> float | None:
    """The score from 1 to 10 that a reply states: the last that is called one or is "of 10", or its only number."""
    stated = [a or b for a, b in _STATED.findall(reply)] or re.findall(_NUMBER, reply)
    value = float(stated[-1]) if stated and (_STATED.search(reply) or len(set(stated)) == 1) else None
    return value if value is not None and 1 <= value <= 10 else None


class NoTokenizer:
    """Stands for the tokenizer of a judge that only its endpoint knows: replies have no tokens, only text."""

    chat_template = "the endpoint's own"
    eos_token_id = None

    def __call__(self, text: str, **_: object) -> SimpleNamespace:
        return SimpleNamespace(input_ids=[])


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
