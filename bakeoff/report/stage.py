"""From a run folder to `report.html`."""

import dataclasses
import math

from bakeoff.evaluation.figures import MAIN, Summary
from bakeoff.evaluation.stage import gold_answers
from bakeoff.records import Completion, Score, read_table
from bakeoff.report.data import Data, describe_data, render_data
from bakeoff.report.page import EXAMPLES, Example, Shown, render_report
from bakeoff.report.verdict import verdict
from bakeoff.run import Run, write_text
from bakeoff.scorer import by_prompt
from bakeoff.scoring import verdicts
from bakeoff.settings import Recipe
from bakeoff.training.figures import read_figures


def report(run: Run, recipe: Recipe) -> None:
    """Write the run's `report.html`."""
    summary: Summary = read_figures(run.summary)
    settings, notes = dataclasses.asdict(recipe), noted(summary, recipe)
    page = render_report(summary, describe_data(run), examples(run, recipe), settings, notes=notes)
    write_text(run.report, page)


def conclusion(run: Run, recipe: Recipe) -> str:
    """What a finished run says on a terminal: the verdict with its notes, the alarms, where the report lies."""
    summary: Summary = read_figures(run.summary)
    alarms = [f"Alarm: {alarm}" for alarm in summary["alarms"]]
    return "\n".join(["", verdict(summary), *noted(summary, recipe), "", *alarms, f"Report: {run.report}"])


def noted(summary: Summary, recipe: Recipe) -> list[str]:
    """Sentences that belong under a verdict: those of the recipe, and what is to be known of its model."""
    return [*recipe.notes, *filter(None, [summary.get("model_note")])]


def data_report(run: Run) -> Data:
    """Write the data report, `prompts.html`, of a run whose prompts are made; returns its figures."""
    data = describe_data(run)
    write_text(run.folder / "prompts.html", render_data(data, title=f"Prompts of {run.folder.name}"))
    return data


def examples(run: Run, recipe: Recipe) -> list[Example]:
    """Held-out prompts with true answers, where there are any, side by side: the first by id, so not chosen by eye."""
    answers = {a.prompt_id: a for a in gold_answers(recipe)}
    drawn = {name: by_prompt(read_table(run.table(name), Completion)) for name in MAIN}
    keys = sorted(answers.keys() & drawn["reference"].keys() & drawn["tuned"].keys())[:EXAMPLES]
    answers = {key: answers[key] for key in keys}
    asked = (c for groups in drawn.values() for key in keys for c in groups[key])
    right = verdicts(answers, asked)

    def answers_of(name: str, key: str) -> list[Shown]:
        return [Shown(c.text, rewards[name][c.id], bool(right[key][c.text].reward)) for c in drawn[name][key]]

    def example(key: str) -> Example:
        reference, tuned = (answers_of(name, key) for name in MAIN)
        picked = max(reference, key=lambda answer: -math.inf if answer.reward is None else answer.reward)
        return Example(answers[key].messages[-1].content, reference[0], picked, tuned[0], answers[key].answer)

    tables = {name: read_table(run.table(f"{name}_scores"), Score) for name in MAIN}
    rewards = {name: {s.completion_id: s.reward for s in scores} for name, scores in tables.items()}
    return [example(key) for key in keys]
