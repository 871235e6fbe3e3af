"""Questions over real filings (TAT-QA): the gap to best-of-N closed, without one labelled answer in the training.

The folder named by BAKEOFF_TATQA holds `prompts.jsonl` (`id`, `prompt`) and `gold.jsonl` (`id`, `gold`). The contexts
are dealt out into three parts by their hash: on the first a simulated tester, who knows the answers, picks among 8
completions; the second gives prompts alone; the third is evaluated. For comparison, `all` is baked from all groups and
not from the sure ones of the demo's recipe, and `clean` learns the true answers of the second part, `clean_longer` four
times over.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import os
import random
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import results
import studies

from bakeoff import config
from bakeoff.errors import UserError
from bakeoff.math import best_of_n
from bakeoff.records import Completion, Message, Prompt, Score, content_id, prompt_id, read_table
from bakeoff.run import Run, read_json, write_text
from bakeoff.sampling import Sampling, choose
from bakeoff.sampling.resume import complete_table
from bakeoff.scorer import by_prompt
from bakeoff.settings import Recipe

FOLDER = "BAKEOFF_TATQA"
FILES = ("prompts.jsonl", "gold.jsonl")
POLICIES = ("reference", "tuned", "control")
APART = [("tuned", other) for other in ("reference", "best_of_n", "control", "all", "clean", "clean_longer")]
PASSES = 4
"""`clean_longer` learns the true answers so often."""
TELLING = 60
"""Questions that share a line of so many characters, with a table before it or not, are about one context."""
OWN = ["prompts.languages=[]", 'prompts.skip=["near_duplicates"]', "prompts.heldout=0", "prompts.redact=[]"]
OWN += ["sample.max_tokens=48", "evaluate.samples=4"]
OWN += ['notes=["The tester whose picks trained the reward model is simulated."]']

Row = dict[str, Any]


def study(seeds: Sequence[int], out: Path, overrides: Sequence[str]) -> None:
    """Every seed, then the table: the headline of the gap is the worst of the seeds."""
    parts = dealt(rows_of(os.environ.get(FOLDER, "")))
    closed, found = list[Row](), dict[str, list[np.ndarray]]()
    for seed in seeds:
        gap, values = measured(parts, seed, out, overrides)
        closed.append(gap | {"name": f"tatqa.gap_closed.seed{seed}"})
        for name, values_P in values.items():
            found.setdefault(name, []).append(values_P)
            print(f"seed {seed}: {name}: {values_P.mean():.3f} right", flush=True)
    worst = min(closed, key=lambda row: float("-inf") if row["value"] is None else row["value"])
    rows = [worst | {"name": "tatqa.gap_closed"}, *closed, *studies.measured("tatqa", found, APART)]
    studies.record("tatqa", rows, seeds, overrides)


def rows_of(folder: str) -> list[Row]:
    """Each question with its true answer and the verifier that suits it."""
    paths = [Path(folder) / name for name in FILES]
    if not folder or not all(path.is_file() for path in paths):
        raise UserError(f"study tatqa: set {FOLDER} to a folder with {' and '.join(FILES)}; found {folder!r}")
    prompts, gold = ([json.loads(line) for line in path.read_text("utf-8").splitlines()] for path in paths)
    answers = {row["id"]: row["gold"].strip() for row in gold}
    kept = {row["prompt"]: answers[row["id"]] for row in prompts}
    return [{"prompt": p, "answer": a, "verifier": verifier(a)} for p, a in kept.items()]


def verifier(answer: str) -> str:
    """Amounts are compared as numbers; words must be contained."""
    return "number" if re.fullmatch(r"[($£€-]*\d[\d,.]*\)?\s*(%|thousand|million|billion)?", answer) else "contains"


def dealt(rows: Sequence[Row]) -> tuple[list[Row], list[Row], list[Row]]:
    """(picks, training, evaluation): no context stands in two parts."""
    parts: tuple[list[Row], list[Row], list[Row]] = ([], [], [])
    first: dict[str, str] = {}

    def root(line: str) -> str:
        while first.setdefault(line, line) != line:
            line = first[line]
        return line

    lines = {row["prompt"]: _lines(row["prompt"]) for row in rows}
    for one, *others in lines.values():
        for other in others:
            first[root(other)] = root(one)
    for row in sorted(rows, key=lambda row: content_id(row["prompt"])):
        context = root(lines[row["prompt"]][0])
        parts[int(content_id("tatqa", context), 16) % 3].append(row)
    return parts


def _lines(prompt: str) -> list[str]:
    """The lines by which a prompt's context is known: its long ones, or all that it has."""
    context = prompt.rpartition("Question:")[0].strip()
    return [line for line in context.splitlines() if len(line) >= TELLING] or [context]


def measured(
    parts: tuple[list[Row], list[Row], list[Row]], seed: int, out: Path, overrides: Sequence[str]
) -> tuple[Row, dict[str, np.ndarray]]:
    """(the gap closed, [P] right answers by policy) of one seed."""
    folder = out / f"tatqa-{seed}-data"
    folder.mkdir(parents=True, exist_ok=True)
    files = {name: folder / f"{name}.jsonl" for name in ("log", "picks", "gold")}
    write(files["log"], [{"prompt": row["prompt"]} for row in parts[1]])
    write(files["gold"], parts[2])
    named = [f'prompts.sources=["{files["log"].resolve()}"]', f'reward.picks=["{files["picks"].resolve()}"]']
    named.append(f'evaluate.holdout="{files["gold"].resolve()}"')
    recipe = config.load(studies.RECIPE, [f"seed={seed}", *OWN, *overrides, *named])
    if not files["picks"].exists():
        write(files["picks"], picks(Run(folder), recipe, parts[0]))
    of = studies.Base(studies.upto(out / f"tatqa-{seed}", recipe, "evaluate"), recipe)
    answers = {studies.words(row["prompt"]): row["answer"] for row in parts[1]}
    asked = {p.id: studies.words(p.messages[-1].content) for p in studies.tables(of.run)[0]}
    truth = {key: answers[text] for key, text in asked.items() if text in answers}
    every = of.baking(dataclasses.replace(recipe.bake, agreement_quantile=1.0, epochs=1))
    longer = every.baking(dataclasses.replace(every.recipe.bake, epochs=PASSES))
    labels = functools.cache(lambda: studies.labelled(of, truth))
    arms = {
        "all": studies.whole(every),
        "clean": studies.bake_arm(every, "clean", labels),
        "clean_longer": studies.bake_arm(longer, "clean_longer", labels),
    }
    right = {name: studies.right(run, recipe, str(run.policy)) for name, run in arms.items()}
    return read_json(of.run.details("evaluation"))["quality"]["gap_closed"], evaluated(of) | right


def evaluated(of: studies.Base) -> dict[str, np.ndarray]:
    """[P] right answers of the run's policies, of the reference's best of N by the scorer, and whether any of N is."""
    tables = {name: read_table(of.run.table(name), Completion) for name in POLICIES}
    sizes = dict.fromkeys(POLICIES, of.recipe.evaluate.samples) | {"reference": of.recipe.sample.group_size}
    right = {name: studies.verified(of.recipe, table).reshape(-1, sizes[name]) for name, table in tables.items()}
    tries_PN = right["reference"]
    scores = read_table(of.run.table("reference_scores"), Score)
    rewards, _ = best_of_n.known_rewards(
        {"reference": np.array([s.reward for s in scores], float).reshape(tries_PN.shape)}
    )
    best_P = best_of_n.best_of_k_curve(rewards["reference"], tries_PN, [tries_PN.shape[1]])[:, 0]
    return {name: values.mean(1) for name, values in right.items()} | {
        "best_of_n": best_P,
        "some_right": tries_PN.max(1),
    }


def picks(run: Run, recipe: Recipe, rows: Sequence[Row]) -> list[Row]:
    """Groups of the untouched policy with the choice of the demo's simulated tester."""
    sys.path.insert(0, str(results.ROOT / "examples" / "filings"))
    from tester import pick

    asked = {_prompt(row).id: row for row in rows}
    sampling = Sampling(group_size=8, temperature=0.7, max_tokens=recipe.sample.max_tokens, seed=recipe.seed)
    engine = lambda: choose.engine(recipe.model, recipe)  # noqa: E731
    drawn = by_prompt(complete_table(run, "asked", [_prompt(row) for row in asked.values()], sampling, engine))
    rng = random.Random(f"tatqa {recipe.seed}")
    made = []
    for key, group in drawn.items():
        texts, row = [c.text for c in group], asked[key]
        choice = pick(rng, texts, row["answer"], row["verifier"])
        made.append({"prompt": row["prompt"], "completions": texts, "pick": choice})
    return made


def write(path: Path, rows: Sequence[Row]) -> None:
    write_text(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))


def _prompt(row: Row) -> Prompt:
    messages = [Message("user", row["prompt"])]
    return Prompt(prompt_id(messages), messages, FILES[0], 1, "train")
