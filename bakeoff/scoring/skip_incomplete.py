"""Rewards for whole answers only: the bake ranks all others last, whatever a scorer would say of them.

Unfinished answers are the longest ones, so that on the demo half of a reward model's work falls away.
"""

from collections import Counter
from collections.abc import Iterator, Sequence

from bakeoff.models.incomplete import fault
from bakeoff.records import Completion, Message, Score
from bakeoff.scorer import NOT_WHOLE, Scorer, used


class WholeOnly:
    """Another scorer, one that rewards each completion by itself, asked about whole answers only."""

    def __init__(self, scorer: Scorer, name: str) -> None:
        self.scorer, self.name = scorer, name

    @property
    def used(self) -> Counter[str]:
        return used(self.scorer)

    def score(self, groups: Sequence[tuple[list[Message], list[Completion]]]) -> Iterator[list[Score]]:
        """See `bakeoff.scorer.Scorer`."""
        faults = [[fault(c.text, c.tokens, c.finish) for c in group] for _, group in groups]
        whole = [
            (messages, [c for c, wrong in zip(group, each, strict=True) if not wrong])
            for (messages, group), each in zip(groups, faults, strict=True)
        ]
        found = self.scorer.score([group for group in whole if group[1]])
        for (_, group), (_, kept), each in zip(groups, whole, faults, strict=True):
            rewarded = iter(next(found) if kept else ())
            yield [
                Score(c.id, c.prompt_id, self.name, None, f"{NOT_WHOLE}: {wrong}") if wrong else next(rewarded)
                for c, wrong in zip(group, each, strict=True)
            ]
