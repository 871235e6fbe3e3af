"""No labels against dirty labels: picks of a simulated tester, or fine-tuning on answers of which a share is wrong.

All arms train on the same prompts by the same settings, for as many steps (`clean_longer`: four times as many); `tao`
takes the quarter of the groups that the demo's recipe takes, `tao_all` all of them. The true answers of the training
prompts are those of the demo's maker, and a wrong label is another prompt's answer of the same form. Right first answers
on the demo's gold.
"""

from __future__ import annotations

import dataclasses
import functools
import random
from collections.abc import Callable, Sequence
from pathlib import Path

import studies
import study_surest

from bakeoff.bake import shuffled
from bakeoff.records import Completion, Score
from bakeoff.run import Run

DIRTY = (10, 20, 40, 60)
"""Per cent of wrong labels."""
PASSES = 4
"""How often `clean_longer` passes over the labels."""


def study(seeds: Sequence[int], out: Path, overrides: Sequence[str]) -> None:
    """Every arm on every seed, then the table."""
    found = studies.each_seed(arms, seeds, out, overrides)
    against = [("tao", name) for name in found if name != "tao"]
    studies.record("labels", studies.measured("labels", found, against), seeds, overrides)


def arms(of: studies.Base) -> dict:
    """The share of right first answers to each gold prompt, by arm."""
    prompts, completions, scores = studies.tables(of.run)
    drawn = {c.prompt_id for c in completions}
    truth = studies.filings_answers([p for p in prompts if p.id in drawn])
    kept = [[row for row in table if row.prompt_id in truth] for table in (completions, scores)]
    print(f"{len(truth)} of {len(drawn)} training prompts have a known answer; all arms train on these", flush=True)
    found = {"reference": studies.right(of.arm("reference"), of.recipe, of.recipe.model)}
    for name, made in (baked_from(of, kept, len(truth) == len(drawn)) | labelled(of, truth)).items():
        run = made()
        found[name] = studies.right(run, of.recipe, str(run.policy))
        print(f"seed {of.recipe.seed}: {name}: {found[name].mean():.3f} right", flush=True)
    return found


def baked_from(
    of: studies.Base, kept: tuple[list[Completion], list[Score]], alike: bool
) -> dict[str, Callable[[], Run]]:
    """The arms without labels; if they are `alike`, those that another study bakes are shared with it."""
    sure = study_surest.in_as_many_steps(of, "quarter")
    dealt = shuffled(*kept, random.Random(f"control {of.recipe.seed}"))
    return {
        "tao": lambda: (
            study_surest.baked(of, "quarter") if alike else studies.bake_arm(sure, "labels-tao", lambda: kept)
        ),
        "tao_all": lambda: studies.whole(of) if alike else studies.bake_arm(of, "labels-tao_all", lambda: kept),
        "control": lambda: studies.bake_arm(sure, "labels-control", lambda: kept, dealt),
    }


def labelled(of: studies.Base, truth: dict[str, tuple[str, str]]) -> dict[str, Callable[[], Run]]:
    """The arms that learn labels."""
    arms = {}
    for share in (0, *DIRTY):
        labels = studies.wrong_labels(truth, share / 100, of.recipe.seed)
        name = f"dirty{share}" if share else "clean"
        lesson = functools.partial(studies.labelled, of, labels)
        arms[name] = functools.partial(studies.bake_arm, of, f"labels-{name}", lesson)
        if not share:
            longer = of.baking(dataclasses.replace(of.recipe.bake, epochs=PASSES * of.recipe.bake.epochs))
            arms["clean_longer"] = functools.partial(studies.bake_arm, longer, "labels-clean_longer", lesson)
    return arms
