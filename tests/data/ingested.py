"""Cleaning a log that fits into memory, for tests."""

from __future__ import annotations

import dataclasses
import tempfile
from pathlib import Path

from bakeoff.data.prepare import clean_into
from bakeoff.records import Prompt, SetAside, read_table
from bakeoff.settings import Prompts


@dataclasses.dataclass(frozen=True, slots=True)
class Ingested:
    prompts: list[Prompt]
    set_aside: list[SetAside]
    read: int
    dropped: dict[str, int]
    redacted: dict[str, int]
    picks: str


def lengths(texts: list[str]) -> list[int]:
    return [len(t.split()) for t in texts]


def clean(paths, settings: Prompts, *, count_tokens=lengths, seed: int = 0, gold=()) -> Ingested:
    """`clean_into`, read back; the counts add up, as always."""
    with tempfile.TemporaryDirectory() as name:
        out = Path(name)
        counts = clean_into(out, paths, settings, count_tokens=count_tokens, gold=gold, seed=seed)
        prompts = read_table(out / "prompts.parquet", Prompt)
        aside = read_table(out / "set_aside.parquet", SetAside)
        picks = out / "picks.jsonl"
        result = Ingested(
            prompts, aside, counts.read, counts.dropped, counts.redacted, picks.read_text() if picks.exists() else ""
        )
    assert result.read == sum(p.count for p in prompts) + len(aside) == len(prompts) + sum(counts.dropped.values())
    assert len({p.id for p in prompts}) == len(prompts)
    return result
