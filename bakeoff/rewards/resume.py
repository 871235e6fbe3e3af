"""Scoring that can be killed and resumed: a table of scores, made part by part."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterator, Sequence

from bakeoff.records import Completion, Message, Prompt, Score
from bakeoff.rewards import Scorer
from bakeoff.run import Run, table_in_parts

Group = tuple[list[Message], list[Completion]]


def score_table(
    run: Run, name: str, prompts: Sequence[Prompt], completions: Sequence[Completion], scorer: Callable[[], Scorer]
) -> list[Score]:
    """The scores of `completions`, in their order, in the run's table `name`; the scorer is made when one is missing.

    The completions of a prompt follow each other.
    """
    messages = {p.id: p.messages for p in prompts}
    groups = [(messages[key], list(group)) for key, group in itertools.groupby(completions, lambda c: c.prompt_id)]
    ready = functools.cache(scorer)

    def make(chunk: Sequence[Group], done: Callable[[], object]) -> Iterator[Score]:
        for scores in ready().score(chunk):
            yield from scores
            done()

    return table_in_parts(run, name, Score, groups, make)
