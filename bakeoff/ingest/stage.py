"""Stage: dirty logs in, clean prompts out, some of them held out."""

from __future__ import annotations

from pathlib import Path

from tqdm import tqdm

from bakeoff import ingest, models
from bakeoff.config import Recipe
from bakeoff.run import Run


def prompts(run: Run, recipe: Recipe) -> None:
    """Clean the logs of `prompts.sources` into the tables `prompts` and `set_aside`; every row is in one of them."""
    tokenizer = models.load_tokenizer(recipe.model)
    with tqdm(desc="prompts", unit="row") as bar:
        ingest.clean_into(
            run.folder,
            [Path(p) for p in recipe.prompts.sources],
            recipe.prompts,
            count_tokens=lambda texts: [len(ids) for ids in tokenizer(texts).input_ids],
            seed=recipe.seed,
            progress=bar.update,
        )
