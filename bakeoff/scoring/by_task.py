"""The scorer of a run with several tasks: each prompt's completions go to the scorer of its task."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence

from bakeoff.records import Completion, Message, Prompt, Score
from bakeoff.scorer import Scorer, used


class ByTask:
    """Rewards are comparable within a task, not across tasks."""

    def __init__(self, scorers: Mapping[str, Scorer], prompts: Iterable[Prompt]) -> None:
        self.scorers, self.task = scorers, {prompt.id: prompt.task for prompt in prompts}

    @property
    def used(self) -> Counter[str]:
        return used(*self.scorers.values())

    def score(self, groups: Sequence[tuple[list[Message], list[Completion]]]) -> Iterator[list[Score]]:
        """See `bakeoff.scorer.Scorer`."""
        places: dict[str, list[int]] = {}
        for i, (_, group) in enumerate(groups):
            places.setdefault(self.task[group[0].prompt_id], []).append(i)
        scored: dict[int, list[Score]] = {}
        for name, here in places.items():
            scored.update(zip(here, self.scorers[name].score([groups[i] for i in here]), strict=True))
        yield from (scored[i] for i in range(len(groups)))
