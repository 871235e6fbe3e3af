"""A model as a judge, over any engine: it reads the answers and says how good they are, or which of two is better."""

import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import SimpleNamespace
from typing import Any

from bakeoff import models, thoughts
from bakeoff.engines import Engine, Failed, Sampling, refuse
from bakeoff.records import Completion, Failure, Message, Prompt, Score, content_id
from bakeoff.rewards import are
from bakeoff.rewards.rubric import RUBRIC, one_to_ten, which_of_two

GROUPS_AT_ONCE = 8
TRIES = 3
"""Times a question is asked whose reply cannot be read; from the second on at a temperature."""
AGAIN_TEMPERATURE = 0.7

_NUMBER = r"(\d+(?:\.\d+)?)"
_STATED = re.compile(
    rf"(?:score|rating|grade)\W{{0,5}}(?:is|of)?\W{{0,3}}{_NUMBER}|{_NUMBER}\s*(?:/|out of)\s*10\b", re.I
)
_LETTER = re.compile(r"\b([AB])\b")
_NEITHER = re.compile(r"\b(?:tie|neither|equal(?:ly)?|both)\b", re.IGNORECASE)


class Judge:
    """Asks questions of an engine, reads the replies, and counts in `used` what they cost.

    `used` holds `calls`, `prompt_tokens` and `completion_tokens`, as far as the engine tells them.
    """

    def __init__(self, engine: Any, question: str = RUBRIC, *, tokens: int = 32) -> None:
        self.engine, self.question, self.tokens = engine, question, tokens

    @property
    def used(self) -> Counter[str]:
        return self.engine.used

    def ask(self, questions: Sequence[str], read: Callable[[str], float | None]) -> dict[str, tuple[float | None, str]]:
        """For each different question what `read` makes of the reply, or None with the reason."""
        found: dict[str, tuple[float | None, str]] = {}
        for number in range(TRIES):
            left = [q for q in dict.fromkeys(questions) if q not in found or found[q][1].startswith("unreadable")]
            found |= self._once(left, read, number) if left else {}
        return found

    def _once(
        self, questions: Sequence[str], read: Callable[[str], float | None], number: int
    ) -> dict[str, tuple[float | None, str]]:
        temperature = AGAIN_TEMPERATURE if number else 0.0
        sampling = Sampling(group_size=1, temperature=temperature, max_tokens=self.tokens, seed=number)
        asked = {content_id("judge", q): q for q in questions}
        prompts = [Prompt(key, [Message("user", q)], "score.scorer", 1, "train") for key, q in asked.items()]
        found: dict[str, tuple[float | None, str]] = {}

        def failed(failure: Failure) -> None:
            found[asked[failure.prompt_id]] = None, f"{failure.reason}: {failure.detail}"

        for (reply,) in self.engine.complete(prompts, sampling, failed):
            value = read(thoughts.answer(reply.text) or "")
            reason = f"unreadable: the judge said {reply.text[:80]!r}" if value is None else ""
            found[asked[reply.prompt_id]] = value, reason
        return found


class SingleJudge(Judge):
    """Rewards a completion by a number from 1 to 10."""

    def score(self, groups: Sequence[tuple[list[Message], list[Completion]]]) -> Iterator[list[Score]]:
        """See `bakeoff.rewards.Scorer`."""
        for start in range(0, len(groups), GROUPS_AT_ONCE):
            some = groups[start : start + GROUPS_AT_ONCE]
            questions = [[one_to_ten(messages, c.text, self.question) for c in group] for messages, group in some]
            found = self.ask([q for row in questions for q in row], number_in)
            for (_, group), row in zip(some, questions, strict=True):
                yield [Score(c.id, c.prompt_id, "judge", *found[q]) for c, q in zip(group, row, strict=True)]


class PairJudge(Judge):
    """Rewards a completion by the share of comparisons that it wins, each made in both orders, ties half.

    Its rivals are the next `rivals` of its group, or the first of its prompt's `peers` where these are given. A
    comparison in which one order has no readable reply does not count; equal texts tie without being asked about.
    """

    def __init__(
        self,
        engine: Any,
        question: str = RUBRIC,
        *,
        tokens: int = 32,
        rivals: int = 2,
        peers: Mapping[str, Sequence[Completion]] | None = None,
    ) -> None:
        super().__init__(engine, question, tokens=tokens)
        self.rivals, self.peers = rivals, peers or {}

    def score(self, groups: Sequence[tuple[list[Message], list[Completion]]]) -> Iterator[list[Score]]:
        """See `bakeoff.rewards.Scorer`."""
        for start in range(0, len(groups), GROUPS_AT_ONCE):
            some = groups[start : start + GROUPS_AT_ONCE]
            met = [list(self._meetings(group)) for _, group in some]
            orders = [
                which_of_two(messages, *texts, self.question)
                for (messages, _), row in zip(some, met, strict=True)
                for one, other in row
                for texts in ((one.text, other.text), (other.text, one.text))
                if one.text != other.text
            ]
            found = self.ask(orders, first_wins)
            for (messages, group), row in zip(some, met, strict=True):
                yield self._scores(messages, group, row, found)

    def _meetings(self, group: Sequence[Completion]) -> Iterator[tuple[Completion, Completion]]:
        peers = self.peers.get(group[0].prompt_id, group)
        if not are(peers, group):
            yield from ((c, peer) for c in group for peer in peers[: self.rivals])
            return
        seen = set[frozenset[int]]()
        for i in range(len(group)):
            for j in ((i + 1 + step) % len(group) for step in range(self.rivals)):
                if i != j and frozenset((i, j)) not in seen:
                    seen.add(frozenset((i, j)))
                    yield group[i], group[j]

    def _scores(
        self,
        messages: Sequence[Message],
        group: Sequence[Completion],
        met: Sequence[tuple[Completion, Completion]],
        found: Mapping[str, tuple[float | None, str]],
    ) -> list[Score]:
        won: dict[int, list[float]] = {id(c): [] for c in group}
        why = {id(c): "alone: nothing to compare with" for c in group}
        for one, other in met:
            texts = ((one.text, other.text), (other.text, one.text))
            heard = [found.get(which_of_two(messages, *t, self.question), (0.5, "")) for t in texts]
            first, second = (value for value, _ in heard)
            for completion, sign in ((one, 1), (other, -1)):
                if id(completion) not in won:
                    continue
                if first is None or second is None:
                    why[id(completion)] = next(reason for _, reason in heard if reason)
                else:
                    won[id(completion)].append(0.5 + sign * (first - second) / 2)
        return [
            Score(c.id, c.prompt_id, "judge", sum(w) / len(w) if (w := won[id(c)]) else None, "" if w else why[id(c)])
            for c in group
        ]


def number_in(reply: str) -> float | None:
    """The score from 1 to 10 that a reply states: the last that is called one or is "of 10", or its only number."""
    stated = [a or b for a, b in _STATED.findall(reply)] or re.findall(_NUMBER, reply)
    value = float(stated[-1]) if stated and (_STATED.search(reply) or len(set(stated)) == 1) else None
    return value if value is not None and 1 <= value <= 10 else None


def first_wins(reply: str) -> float | None:
    """1 if a reply names answer A, 0 if B, 0.5 if neither is better; None if it cannot be read."""
    letters = set(_LETTER.findall(reply))
    if len(letters) == 1:
        return float("A" in letters)
    return 0.5 if not letters and _NEITHER.search(reply) else None


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
            self.used["prompt_tokens"] += len(models.render(self.tokenizer, messages[group[0].prompt_id]))
            self.used["completion_tokens"] += sum(len(c.tokens) for c in group)
            yield group


class Unknown:
    """Stands for the tokenizer of a judge that only its endpoint knows: replies have no tokens, only text."""

    chat_template = "the endpoint's own"
    eos_token_id = None

    def __call__(self, text: str, **_: object) -> SimpleNamespace:
        return SimpleNamespace(input_ids=[])
