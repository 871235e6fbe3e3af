"""Labels, some of them wrong, as groups from which a bake learns them by heart."""

from __future__ import annotations

import dataclasses
import random
import re
from collections.abc import Mapping

from bakeoff.models.chat import answer_tokens
from bakeoff.models.load import load_tokenizer
from bakeoff.records import Completion, Score, content_id
from bakeoff.run import Run
from bakeoff.scoring.verifiers import VERIFIERS
from benchmarks import answers, study

Truth = dict[str, tuple[str, str]]


def answered(of: study.Base, run: Run) -> list[str]:
    """The base's groups whose true answer is known, so that all arms train on the same prompts."""
    if not run.table("scores").exists():
        truth, (_, completions, scores) = truth_of(of), study.tables(of.run)
        known = [[row for row in table if row.prompt_id in truth] for table in (completions, scores)]
        study.write_groups(run, *known)
    return []


def labelled(of: study.Base, run: Run, wrong: float = 0.0) -> list[str]:
    """The true answers, of which a share is wrong."""
    if not run.table("scores").exists():
        study.write_groups(run, *groups(of, labels(truth_of(of), wrong, of.recipe.seed)))
    return []


def truth_of(of: study.Base) -> Truth:
    """(true answer, verifier) of the prompts that were sampled, as far as the demo's maker knows."""
    prompts, completions, _ = study.tables(of.run)
    drawn = {c.prompt_id for c in completions}
    return answers.of_the_maker([p for p in prompts if p.id in drawn])


def labels(truth: Truth, share: float, seed: int) -> dict[str, str]:
    """A label for each prompt, exactly `share` of them wrong: another prompt's answer, of the same form if any is.

    What is wrong at one share is wrong at every larger one, and with the same answer.
    """
    rng = random.Random(f"labels {seed}")
    order = rng.sample(sorted(truth), len(truth))
    found = {key: answer for key, (answer, _) in truth.items()}
    for place, key in enumerate(order):
        answer, verifier = truth[key]
        others = [a for a, v in truth.values() if v == verifier and not VERIFIERS[verifier](a, answer)]
        alike = [a for a in others if _form(a) == _form(answer)]
        chosen = rng.choice(sorted(alike or others))
        if place < round(share * len(order)):
            found[key] = chosen
    return found


def _form(answer: str) -> str:
    """What kind of a value an answer is: `$# million`, `#%`, so many words."""
    return re.sub(r"[\d.,]+", "#", answer) if re.search(r"\d", answer) else str(len(answer.split()))


def groups(of: study.Base, labels: Mapping[str, str]) -> tuple[list[Completion], list[Score]]:
    """Groups of two: the label, rewarded 1, and a try that is none, rewarded 0."""
    tokenizer, tries = load_tokenizer(of.recipe.model), dict[str, list[Completion]]()
    for draw in study.tables(of.run)[1]:
        tries.setdefault(draw.prompt_id, []).append(draw)
    rows, scores = [], []
    for key, text in ((key, labels[key]) for key in tries if key in labels):
        tokens = answer_tokens(tokenizer, text)
        label = Completion(content_id(key, text), key, 0, text, tokens, None, "stop")
        other = next((draw for draw in tries[key] if draw.tokens != tokens), None)
        if other:
            rows += [label, dataclasses.replace(other, index=1)]
            scores += [Score(label.id, key, "label", 1.0), Score(other.id, key, "label", 0.0)]
    return rows, scores
