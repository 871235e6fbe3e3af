"""Sampling that can be killed and resumed: a table of completions, made part by part."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tqdm import tqdm

from bakeoff.engines import Engine, Sampling
from bakeoff.records import Completion, Prompt, read_table, write_table
from bakeoff.run import Run

PROMPTS_PER_PART = 64


def complete_table(
    run: Run, name: str, prompts: Sequence[Prompt], sampling: Sampling, engine: Callable[[], Engine]
) -> list[Completion]:
    """The completions of `prompts`, in their order, written to the run's table `name`; parts already there are kept.

    The engine is made only when something is missing.
    """
    if run.table(name).exists():
        return read_table(run.table(name), Completion)
    chunks = [prompts[i : i + PROMPTS_PER_PART] for i in range(0, len(prompts), PROMPTS_PER_PART)]
    paths = [run.part(name, number) for number in range(len(chunks))]
    paths[0].parent.mkdir(exist_ok=True)
    ready = None
    with tqdm(desc=name, total=len(prompts), unit="prompt") as bar:
        for chunk, path in zip(chunks, paths, strict=True):
            if not path.exists():
                ready = ready or engine()
                groups = {}
                for group in ready.complete(chunk, sampling):
                    groups[group[0].prompt_id] = group
                    bar.update()
                write_table(path, Completion, [c for p in chunk for c in groups[p.id]])
            else:
                bar.update(len(chunk))
    completions = [c for path in paths for c in read_table(path, Completion)]
    write_table(run.table(name), Completion, completions)
    for path in paths:
        path.unlink()
    return completions
