"""From a run folder to `report.html`."""

import dataclasses
import math

from bakeoff import gold
from bakeoff.records import Answer, Completion, Score, read_table
from bakeoff.report.data import Data, describe, render_data
from bakeoff.report.page import Curve, Example, Shown, render
from bakeoff.rewards.verifiers import VERIFIERS
from bakeoff.run import Run, read_json, write_text
from bakeoff.settings import Recipe

EXAMPLES = 10


def report(run: Run, recipe: Recipe) -> None:
    """Write the run's `report.html`."""
    evaluation = read_json(run.details("evaluation"))
    page = render(
        read_json(run.summary),
        Curve.of(evaluation["quality"] or evaluation["reward"]),
        examples(run, recipe),
        dataclasses.asdict(recipe),
        notes=recipe.notes,
        data=describe(run),
    )
    write_text(run.report, page)


def data_report(run: Run) -> Data:
    """Write the data report, `prompts.html`, of a run whose prompts are made; returns its figures."""
    data = describe(run)
    write_text(run.folder / "prompts.html", render_data(data, title=f"Prompts of {run.folder.name}"))
    return data


def examples(run: Run, recipe: Recipe) -> list[Example]:
    """Held-out prompts with true answers, where there are any, side by side: the first by id, so not chosen by eye."""
    answers = {a.prompt_id: a for a in gold.answers(recipe)}
    reference, tuned = _shown(run, "reference", answers), _shown(run, "tuned", answers)
    shown = sorted(answers.keys() & reference.keys())[:EXAMPLES]
    return [
        Example(
            answers[key].messages[-1].content,
            reference[key][0],
            max(reference[key], key=lambda s: -math.inf if s.reward is None else s.reward),
            tuned[key][0],
            answers[key].answer,
        )
        for key in shown
    ]


def _shown(run: Run, name: str, answers: dict[str, Answer]) -> dict[str, list[Shown]]:
    rewards = {s.completion_id: s.reward for s in read_table(run.table(f"{name}_scores"), Score)}
    groups: dict[str, list[Shown]] = {}
    for c in read_table(run.table(name), Completion):
        answer = answers.get(c.prompt_id)
        right = VERIFIERS[answer.verifier](c.text, answer.answer) if answer else None
        groups.setdefault(c.prompt_id, []).append(Shown(c.text, rewards[c.id], right))
    return groups
