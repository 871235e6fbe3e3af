"""Agreement within the group: the answer that most completions give, a signal that needs no labels (arXiv:2203.11171).

Used as the reward of a training it can only sharpen what the policy mostly knows (arXiv:2504.16084).
"""

import json
import re
from collections import Counter
from collections.abc import Iterator, Sequence

from bakeoff.errors import UserError
from bakeoff.models import thoughts
from bakeoff.records import Completion, Score
from bakeoff.scorer import Group, Peers, same_group
from bakeoff.scoring.verifiers.numbers import numbers_in
from bakeoff.scoring.verifiers.words import json_in, words


class Majority:
    """Rewards a completion by the share of the other completions of its prompt that give the same answer.

    `peers` are, by prompt id, the completions that vote where it is not the group itself: so that every policy is
    measured by the votes of one.
    """

    def __init__(self, extract: str = "", peers: Peers | None = None) -> None:
        self.peers = peers or {}
        self.extract = extract_pattern(extract)

    def score(self, groups: Sequence[Group]) -> Iterator[list[Score]]:
        """See `bakeoff.scorer.Scorer`."""
        for _, group in groups:
            voters = self.peers.get(group[0].prompt_id, group)
            votes = Counter(answer for c in voters if (answer := self.answer(c.text)) is not None)
            yield [self._score(c, votes, int(same_group(voters, group))) for c in group]

    def answer(self, completion: str) -> str | None:
        """What a completion answers after its thoughts, so that equal answers are equal strings; None: nothing."""
        text = thoughts.answer(completion) or ""
        if self.extract:
            found = list(self.extract.finditer(text))
            text = (found[-1][1] if self.extract.groups else found[-1][0]) or "" if found else ""
        return normal_answer(text) or None

    def _score(self, completion: Completion, votes: Counter[str], own: int) -> Score:
        answer, others = self.answer(completion.text), votes.total() - own
        reason = "no answer: nothing to count" if answer is None else "" if others > 0 else "alone: nobody else answers"
        reward = None if answer is None or reason else (votes[answer] - own) / others
        return Score(completion.id, completion.prompt_id, "majority", reward, reason)


def normal_answer(text: str) -> str:
    """One string for all ways to write an answer: JSON, a text that states one number, or words."""
    try:
        value = json_in(text)
        if isinstance(value, dict | list):
            return json.dumps(value, sort_keys=True)
    except (ValueError, RecursionError):
        pass
    values = {f"{v.face * (v.scale or 1):.6g} {v.unit}".strip() for v in numbers_in(text)}
    return values.pop() if len(values) == 1 else " ".join(words(text)) or text.strip().casefold()


def extract_pattern(extract: str) -> re.Pattern[str] | None:
    """The regular expression of `score.extract`, or none; raises UserError when it is not one."""
    try:
        return re.compile(extract) if extract else None
    except re.error as error:
        raise UserError(f"score.extract: not a regular expression ({error}): {extract!r}") from None
