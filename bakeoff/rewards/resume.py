"""Scoring that can be killed and resumed: a table of scores, made part by part."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence

from tqdm import tqdm

from bakeoff.records import Completion, Prompt, Score, read_table, write_table
from bakeoff.rewards import Scorer
from bakeoff.run import Run

GROUPS_PER_PART = 64


def score_table(
    run: Run, name: str, prompts: Sequence[Prompt], completions: Sequence[Completion], scorer: Callable[[], Scorer]
) -> list[Score]:
    """The scores of `completions`, in their order, written to the run's table `name`; parts already there are kept.

    The completions of a prompt follow each other. The scorer is made only when something is missing.
    """
    if run.table(name).exists():
        return read_table(run.table(name), Score)
    messages = {p.id: p.messages for p in prompts}
    groups = [(messages[key], list(group)) for key, group in itertools.groupby(completions, lambda c: c.prompt_id)]
    chunks = [groups[i : i + GROUPS_PER_PART] for i in range(0, len(groups), GROUPS_PER_PART)]
    paths = [run.part(name, number) for number in range(len(chunks))]
    run.part(name, 0).parent.mkdir(exist_ok=True)
    ready = None
    with tqdm(desc=name, total=len(groups), unit="prompt") as bar:
        for chunk, path in zip(chunks, paths, strict=True):
            if not path.exists():
                ready = ready or scorer()
                write_table(path, Score, [score for scores in ready.score(chunk) for score in scores])
            bar.update(len(chunk))
    scores = [s for path in paths for s in read_table(path, Score)]
    write_table(run.table(name), Score, scores)
    for path in paths:
        path.unlink()
    return scores
