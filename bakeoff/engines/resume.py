"""Sampling that can be killed and resumed: a table of completions, made part by part."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence

from bakeoff.engines import Engine, Sampling
from bakeoff.records import Completion, Prompt
from bakeoff.run import Run, table_in_parts


def complete_table(
    run: Run, name: str, prompts: Sequence[Prompt], sampling: Sampling, engine: Callable[[], Engine]
) -> list[Completion]:
    """The completions of `prompts`, in their order, in the run's table `name`; the engine is made if one is missing."""
    ready = functools.cache(engine)

    def make(chunk: Sequence[Prompt], done: Callable[[], object]) -> list[Completion]:
        groups = {}
        for group in ready().complete(chunk, sampling):
            groups[group[0].prompt_id] = group
            done()
        return [c for p in chunk for c in groups[p.id]]

    return table_in_parts(run, name, Completion, prompts, make)
