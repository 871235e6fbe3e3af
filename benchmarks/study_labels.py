"""No labels against dirty labels: picks of a simulated tester, or fine-tuning on answers of which a share is wrong.

All arms train on the same prompts by the same settings; the true answers of the training prompts are those of the
demo's maker, and a wrong label is another prompt's answer of the same form. Right first answers on the demo's gold.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path

import studies

from bakeoff.bake import shuffled

DIRTY = (10, 20, 40, 60)
"""Per cent of wrong labels."""


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
    dealt = shuffled(*kept, random.Random(f"control {of.recipe.seed}"))
    lessons = {"tao": lambda: kept, "control": lambda: (kept[0], dealt)}
    for share in (0, *DIRTY):
        labels = studies.wrong_labels(truth, share / 100, of.recipe.seed)
        lessons[f"dirty{share}" if share else "clean"] = lambda labels=labels: studies.labelled(of, labels)
    found = {"reference": studies.right(of.arm("reference"), of.recipe, of.recipe.model)}
    for name, made in lessons.items():
        alike = name == "tao" and len(truth) == len(drawn)
        run = studies.whole(of) if alike else studies.bake_arm(of, f"labels-{name}", made)
        found[name] = studies.right(run, of.recipe, str(run.policy))
        print(f"seed {of.recipe.seed}: {name}: {found[name].mean():.3f} right", flush=True)
    return found
