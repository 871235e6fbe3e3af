"""No labels against dirty labels: picks of a simulated tester, or fine-tuning on answers of which a share is wrong.

All arms train on the same prompts by the same settings, for as many steps, `NAME_longer` for four times as many; `tao`
takes the quarter of the groups that the demo's recipe takes, `tao_all` all of them. The true answers of the training
prompts are those of the demo's maker, and a wrong label is another prompt's answer of the same form. Right first
answers on the demo's gold.
"""

from __future__ import annotations

import dataclasses
import functools
import random
from collections.abc import Callable, Container, Sequence
from pathlib import Path

import studies
import study_surest

from bakeoff.records import Score
from bakeoff.run import Run
from bakeoff.training.stage import shuffled

DIRTY = (0, 10, 20, 40, 60)
"""Per cent of wrong labels."""
LONGER, PASSES = (0, 10, 20, 40), 4
"""Those that are also passed over so often."""


def study(seeds: Sequence[int], out: Path, overrides: Sequence[str]) -> None:
    """Every arm on every seed, then the table."""
    found = studies.each_seed(arms, seeds, out, overrides)
    against = [("tao", name) for name in found if name != "tao"]
    studies.record("labels", studies.measured("labels", found, against), seeds, overrides)


def arms(of: studies.Base) -> dict:
    """The share of right first answers to each gold prompt, by arm."""
    prompts, completions, _ = studies.tables(of.run)
    drawn = {c.prompt_id for c in completions}
    truth = studies.filings_answers([p for p in prompts if p.id in drawn])
    print(f"{len(truth)} of {len(drawn)} training prompts have a known answer; all arms train on these", flush=True)
    found = {"reference": studies.right(of.arm("reference"), of.recipe, of.recipe.model)}
    for name, made in (unlabelled(of, truth) | labelled(of, truth)).items():
        run = made()
        found[name] = studies.right(run, of.recipe, str(run.policy))
        print(f"seed {of.recipe.seed}: {name}: {found[name].mean():.3f} right", flush=True)
    return found


def unlabelled(of: studies.Base, truth: Container[str]) -> dict[str, Callable[[], Run]]:
    """The arms that learn from rewards; where every answer is known, other studies bake the same, which are shared."""
    _, *both = studies.tables(of.run)
    completions, scores = ([row for row in table if row.prompt_id in truth] for table in both)
    sure = study_surest.in_as_many_steps(of, "quarter")

    def made(base: studies.Base, name: str, dealt: Sequence[Score] | None = None) -> Callable[[], Run]:
        return lambda: studies.bake_arm(base, f"labels-{name}", lambda: (completions, scores), dealt)

    arms = {"tao": made(sure, "tao"), "tao_all": made(of, "tao_all")}
    if len(completions) == len(both[0]):
        arms = {"tao": lambda: study_surest.baked(of, "quarter"), "tao_all": lambda: studies.whole(of)}
    dealt = shuffled(completions, scores, random.Random(f"control {of.recipe.seed}"))
    return arms | {"control": made(sure, "control", dealt)}


def labelled(of: studies.Base, truth: dict[str, tuple[str, str]]) -> dict[str, Callable[[], Run]]:
    """The arms that learn labels."""
    arms = {}
    longer = of.baking(dataclasses.replace(of.recipe.bake, epochs=PASSES * of.recipe.bake.epochs))
    for share in DIRTY:
        labels = studies.wrong_labels(truth, share / 100, of.recipe.seed)
        name = f"dirty{share}" if share else "clean"
        lesson = functools.partial(studies.labelled, of, labels)
        arms[name] = functools.partial(studies.bake_arm, of, f"labels-{name}", lesson)
        if share in LONGER:
            arms[f"{name}_longer"] = functools.partial(studies.bake_arm, longer, f"labels-{name}_longer", lesson)
    return arms
