"""What a source seems to be, from its first rows: shown before anything long starts."""

import itertools
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from bakeoff.data.clean.redact import redact
from bakeoff.data.clean.repair import tidy
from bakeoff.data.clean.steps import records
from bakeoff.data.read import readers, sources
from bakeoff.data.schema import conversations, threads
from bakeoff.data.schema.feedback import feedback
from bakeoff.data.schema.turns import NO_USER, asked
from bakeoff.settings import PERSONAL, Prompts

LOOKED_AT, FILES, EXCERPT = 50, 12, 70


def preview(paths: Sequence[Path], settings: Prompts) -> Iterator[str]:
    """A line for each file: what its rows are taken for, and the first prompt as it is understood, redacted."""
    found = sources.files(paths)
    for path in found[:FILES]:
        yield f"{path}: {_seen(path, settings)}"
    if len(found) > FILES:
        yield f"... and {len(found) - FILES} more files"


def _seen(path: Path, settings: Prompts) -> str:
    names, said, first = Counter[str](), Counter[str](), ""
    rows = list(itertools.islice(readers.rows(path), LOOKED_AT))
    found = (r for row in threads.joined(rows, settings.fields.prompt) for r in records(row, settings.fields.prompt))
    for record in itertools.islice(found, LOOKED_AT):
        turns = record.reason or conversations.dialogue(record.value, settings.fields.prompt)
        if not isinstance(turns, str):
            said.update(f.kind for f in feedback(record.value, turns, settings.fields))
            turns = asked(turns) or NO_USER
        names[turns if isinstance(turns, str) else _name(record.value, settings.fields.prompt)] += 1
        if not first and not isinstance(turns, str):
            (text,), _ = redact([tidy(turns[-1].content[: 20 * EXCERPT])], settings.redact and PERSONAL)
            first = f', "{" ".join(text.split())[:EXCERPT]}"'
    kinds = ", ".join(f"{name} ({count})" for name, count in names.most_common(4))
    if said:
        kinds += "; of old answers: " + ", ".join(f"{kind} ({count})" for kind, count in said.most_common())
    part = f" in the first {LOOKED_AT} rows" if LOOKED_AT in (len(rows), names.total()) else ""
    return f"{kinds or 'no rows'}{part}{first}"


def _name(value: object, prompt_field: str) -> str:
    return f"field {prompt_field!r}" if prompt_field else conversations.name(value)
