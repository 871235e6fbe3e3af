"""Stage: dirty logs in, clean prompts out, some of them held out."""

from __future__ import annotations

import dataclasses
from collections import Counter
from pathlib import Path

from tqdm import tqdm

from bakeoff import ingest, models
from bakeoff.config import Recipe
from bakeoff.records import Prompt, SetAside, write_table
from bakeoff.run import Run, write_json


def prompts(run: Run, recipe: Recipe) -> None:
    """Clean the logs of `prompts.sources` into the tables `prompts` and `set_aside`; every row is in one of them."""
    tokenizer = models.load_tokenizer(recipe.model)
    values = dataclasses.asdict(recipe.prompts)
    paths = [Path(p) for p in values.pop("sources")]
    with tqdm(desc="prompts", unit="row") as bar:
        found = ingest.clean(
            paths,
            ingest.Cleaning(**values, seed=recipe.seed),
            count_tokens=lambda texts: [len(ids) for ids in tokenizer(texts).input_ids],
            progress=bar.update,
        )
    write_table(run.table("set_aside"), SetAside, found.set_aside)
    write_table(run.table("prompts"), Prompt, found.prompts)
    split = Counter(p.split for p in found.prompts)
    write_json(
        run.details("prompts"),
        {
            "read": found.read,
            "kept": len(found.prompts),
            "train": split["train"],
            "heldout": split["heldout"],
            "dropped": found.dropped,
            "redacted": found.redacted,
        },
    )
