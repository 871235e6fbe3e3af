"""More picks: those beyond the demo's are made as these were, of what the maker asks next."""

from __future__ import annotations

import json
import os
import random
from pathlib import Path

from bakeoff.run import Run, write_text
from benchmarks import answers
from benchmarks.study import Base

OWN = 460
"""As many as the demo has."""


def some(of: Base, run: Run, count: int) -> list[str]:
    """So many picks, others for each seed, and fewer are a part of more; a part of them is held out."""
    rows = [line for path in of.recipe.reward.picks for line in Path(path).read_text("utf-8").splitlines()]
    own = len(rows)
    rows = random.Random(f"picks {of.recipe.seed}").sample(rows, own)
    if count > own:
        file = of.run.folder.with_name(f"picks-{own}-{count}.jsonl")
        rows += answers.picks(file, range(own, count), of.recipe.model).read_text("utf-8").splitlines()
    write_text(run.folder / "some.jsonl", "".join(f"{row}\n" for row in rows[:count]))
    return [f"reward.picks={json.dumps([str((run.folder / 'some.jsonl').resolve())])}", "score.scorer=reward_model"]


def own(of: Base, run: Run, model: str, count: int = OWN) -> list[str]:
    """Picks among the answers of another model, which an environment variable names, to the prompts of the demo's."""
    file = answers.picks(run.folder / "picks.jsonl", range(count), os.environ[model])
    return [f"reward.picks={json.dumps([str(file.resolve())])}"]
