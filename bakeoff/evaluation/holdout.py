"""True answers, which the evaluation alone reads; `bakeoff.data.seal` keeps them shut until then."""

import dataclasses
from pathlib import Path

from bakeoff import tasks
from bakeoff.errors import UserError
from bakeoff.records import Answer
from bakeoff.scoring import read_answers
from bakeoff.settings import Recipe


def answers(recipe: Recipe) -> list[Answer]:
    """The held-out prompts and true answers of all tasks; of a prompt that several have, the first one's."""
    rows = [
        dataclasses.replace(answer, task=name)
        for name, path in tasks.gold_files(recipe).items()
        for answer in read_gold(Path(path))
    ]
    return list({answer.prompt_id: answer for answer in reversed(rows)}.values())[::-1]


def read_gold(path: Path) -> list[Answer]:
    """The prompts and true answers of the file `evaluate.holdout`, as `read_answers` reads them; at least one."""
    if not (found := read_answers(path, "evaluate.holdout")):
        raise UserError(f"{path}: holds no true answers; correct evaluate.holdout")
    return found
