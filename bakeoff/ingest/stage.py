"""Stage: dirty logs in, clean prompts out, some of them held out."""

from __future__ import annotations

import dataclasses
import functools
import os
from pathlib import Path
from typing import Any

from tqdm import tqdm

from bakeoff import gold, ingest
from bakeoff.config import Recipe
from bakeoff.ingest.preview import preview
from bakeoff.run import Run


def prompts(run: Run, recipe: Recipe) -> None:
    """Clean the logs of `prompts.sources` into the tables `prompts` and `set_aside`; every row is in one of them."""
    sources = [Path(p) for p in recipe.prompts.sources]
    print("\n".join(preview(sources, recipe.prompts)))
    with tqdm(desc="prompts", unit="row") as bar:
        ingest.clean_into(
            run.folder,
            sources,
            recipe.prompts,
            count_tokens=Tokens(recipe.model),
            gold=gold.questions(recipe.evaluate.gold),
            seed=recipe.seed,
            workers=cores(),
            progress=bar.update,
        )


@dataclasses.dataclass(frozen=True, slots=True)
class Tokens:
    """Counts the tokens of texts by a model's tokenizer, which each process loads when it first needs it."""

    model: str
    """As in the recipe; empty: no model yet, a token is taken for four bytes."""

    def __call__(self, texts: list[str]) -> list[int]:
        if not self.model:
            return [len(text.encode()) // 4 for text in texts]
        tokenizer = _tokenizer(self.model)
        fast = getattr(getattr(tokenizer, "backend_tokenizer", None), "encode_batch_fast", None)
        return [len(e.ids) for e in fast(texts)] if fast else [len(ids) for ids in tokenizer(texts).input_ids]


@functools.cache
def _tokenizer(model: str) -> Any:
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # the rows are in several processes already
    from bakeoff import models

    return models.load_tokenizer(model)


def cores() -> int:
    """How many processes may work at once; cleaning gains little from more than eight, as one of them reads."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(8, allowed)
