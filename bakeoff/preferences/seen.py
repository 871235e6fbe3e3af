"""Which prompts a reward model was trained on: its folder remembers their hashes, so that none is measured on."""

import json
from collections.abc import Sequence
from pathlib import Path

from bakeoff.errors import UserError
from bakeoff.preferences.dedup import clusters, spelling
from bakeoff.records import Pick, content_id
from bakeoff.run import write_json

FILE = "trained_on.json"


def remember(folder: Path, picks: Sequence[Pick]) -> None:
    """Write the hashes of the prompts, each spelling as `picks.split` takes it, into a model's folder."""
    write_json(folder / FILE, {"prompts": sorted({content_id(spelling(p.messages)) for p in picks})})


def seen(name: str | Path, picks: Sequence[Pick]) -> list[bool | None]:
    """For each pick whether the model was trained on its prompt, or on one of the picks' that is nearly the same.

    None for all where the folder does not say, as that of a model from elsewhere.
    """
    file = Path(name) / FILE
    if not file.exists():
        return [None] * len(picks)
    try:
        known = set(json.loads(file.read_text(encoding="utf-8"))["prompts"])
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{file}: damaged ({error!r}); remove it, or train the model again") from None
    words = [spelling(p.messages) for p in picks]
    different = sorted(set(words))
    cluster = dict(zip(different, clusters(different), strict=True))
    trained = {cluster[text] for text in different if content_id(text) in known}
    return [cluster[own] in trained for own in words]
