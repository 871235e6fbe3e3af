"""Sampling that can be killed and resumed: a table of completions, made part by part."""

import functools
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

from bakeoff.errors import UserError
from bakeoff.records import Completion, Failure, Prompt, read_table, write_table
from bakeoff.run import GROUPS_PER_PART, Run, table_in_parts
from bakeoff.sampling.engine import Engine, Sampling

TURNED_AWAY = "turned_away"
"""The name of the lines in `metrics.jsonl` that count what an endpoint gave that is no completion."""
Groups = dict[str, list[Completion]]


def complete_table(
    run: Run, name: str, prompts: Sequence[Prompt], sampling: Sampling, engine: Callable[[], Engine]
) -> list[Completion]:
    """The completions of `prompts`, in their order, in the run's table `name`; the engine is made if one is missing.

    A prompt without a whole group is not in it: `failures` tells why.
    """
    ready = functools.cache(engine)
    numbers = {p.id: i // GROUPS_PER_PART for i, p in enumerate(prompts)}

    def make(chunk: Sequence[Prompt], done: Callable[[], object]) -> list[Completion]:
        number = numbers[chunk[0].id]
        before = turned_away(ready())
        groups, failed = _outcomes(ready(), chunk, sampling, run.part(f"{name}_begun", number), done)
        write_table(run.part(f"{name}_failed", number), Failure, failed)
        if away := turned_away(ready()) - before:
            run.whole().log(TURNED_AWAY, table=name, kinds=dict(away))
        return [c for p in chunk for c in groups.get(p.id, ())]

    rows = table_in_parts(run, name, Completion, prompts, make)
    _gather(run, name)
    if {c.prompt_id for c in rows} | {f.prompt_id for f in failures(run, name)} != numbers.keys():
        raise UserError(f"{run.table(name)}: answers other prompts than now: a file has changed; take another --out")
    return rows


def turned_away(engine: Engine) -> Counter[str]:
    """What an engine has been given so far that is no completion, by kind; nothing where it makes its own."""
    return Counter(getattr(engine, "turned_away", {}))


def failures(run: Run, name: str) -> list[Failure]:
    """The prompts that have no group in the table `name`, and why."""
    table = run.table(f"{name}_failed")
    return read_table(table, Failure) if table.exists() else []


def _outcomes(
    engine: Engine, prompts: Sequence[Prompt], sampling: Sampling, begun: Path, done: Callable[[], object]
) -> tuple[Groups, list[Failure]]:
    """(groups by prompt, failures): every prompt is in one of the two.

    What stops every prompt (a UserError) leaves the finished groups in the file `begun`, for the next time.
    """
    groups, failed = _groups(read_table(begun, Completion) if begun.exists() else []), list[Failure]()

    def note(failure: Failure) -> None:
        failed.append(failure)
        done()

    for _ in groups:
        done()
    try:
        for group in engine.complete([p for p in prompts if p.id not in groups], sampling, note):
            assert [c.index for c in group] == list(range(sampling.group_size)), "a group is not whole"
            groups[group[0].prompt_id] = group
            done()
    except UserError:
        write_table(begun, Completion, [c for group in groups.values() for c in group])
        raise
    assert groups.keys() | {f.prompt_id for f in failed} == {p.id for p in prompts}, "an engine dropped a prompt"
    return groups, failed


def _groups(completions: Sequence[Completion]) -> Groups:
    groups: Groups = {}
    for completion in completions:
        groups.setdefault(completion.prompt_id, []).append(completion)
    return groups


def _gather(run: Run, name: str) -> None:
    """Put the parts' failures into one table, which is there only if there are any."""
    parts = run.parts(f"{name}_failed")
    failed = [failure for path in parts for failure in read_table(path, Failure)]
    if failed and not run.table(f"{name}_failed").exists():  # else a kill came while the parts were taken away
        write_table(run.table(f"{name}_failed"), Failure, failed)
    for path in [*parts, *run.parts(f"{name}_begun")]:
        path.unlink()
