"""From a run folder to `report.html`."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

from bakeoff.evaluation import holdout
from bakeoff.records import Completion, Score, read_table
from bakeoff.report.data import Data, describe, render_data
from bakeoff.report.page import Curve, Example, Shown, render
from bakeoff.run import Run, read_json, write_text
from bakeoff.scorer import by_prompt
from bakeoff.scoring import Verdicts, verdicts
from bakeoff.settings import Recipe

EXAMPLES = 10


def report(run: Run, recipe: Recipe) -> None:
    """Write the run's `report.html`."""
    evaluation, summary = read_json(run.details("evaluation")), read_json(run.summary)
    page = render(
        summary,
        Curve.of(evaluation["quality"] or evaluation["reward"]),
        examples(run, recipe),
        dataclasses.asdict(recipe),
        notes=noted(summary, recipe),
        data=describe(run),
    )
    write_text(run.report, page)


def noted(summary: Mapping[str, Any], recipe: Recipe) -> list[str]:
    """Sentences that belong under a verdict: those of the recipe, and what is to be known of its model."""
    return [*recipe.notes, *filter(None, [summary.get("model_note")])]


def data_report(run: Run) -> Data:
    """Write the data report, `prompts.html`, of a run whose prompts are made; returns its figures."""
    data = describe(run)
    write_text(run.folder / "prompts.html", render_data(data, title=f"Prompts of {run.folder.name}"))
    return data


def examples(run: Run, recipe: Recipe) -> list[Example]:
    """Held-out prompts with true answers, where there are any, side by side: the first by id, so not chosen by eye."""
    answers = {a.prompt_id: a for a in holdout.answers(recipe)}
    drawn = {name: by_prompt(read_table(run.table(name), Completion)) for name in ("reference", "tuned")}
    shown = sorted(answers.keys() & drawn["reference"].keys() & drawn["tuned"].keys())[:EXAMPLES]
    groups = {name: {key: drawn[name][key] for key in shown} for name in drawn}
    answers = {key: answers[key] for key in shown}
    asked = (c for of in groups.values() for group in of.values() for c in group)
    right = verdicts(answers, asked)
    reference, tuned = (_shown(run, name, groups[name], right) for name in ("reference", "tuned"))
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


def _shown(run: Run, name: str, groups: Mapping[str, Sequence[Completion]], right: Verdicts) -> dict[str, list[Shown]]:
    rewards = {s.completion_id: s.reward for s in read_table(run.table(f"{name}_scores"), Score)}
    return {
        key: [Shown(c.text, rewards[c.id], bool(right[key][c.text].reward)) for c in group]
        for key, group in groups.items()
    }
