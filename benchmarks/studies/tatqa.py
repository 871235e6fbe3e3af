"""Questions over real filings in three parts, no context in two of them: picks, training, evaluation."""

from __future__ import annotations

import json
import os
import random
import re
from collections.abc import Sequence
from pathlib import Path

from bakeoff import config
from bakeoff.errors import UserError
from bakeoff.records import Message, Prompt, content_id, prompt_id
from bakeoff.run import Run, write_text
from bakeoff.sampling import Sampling, choose
from bakeoff.sampling.resume import complete_table
from bakeoff.scorer import by_prompt
from bakeoff.settings import Recipe
from benchmarks import results, study
from benchmarks.studies.labels import groups

FILES = ("prompts.jsonl", "gold.jsonl")
TELLING = 60
"""Questions that share a line of so many characters, with a table before it or not, are about one context."""
Row = dict[str, str]


def parts(folder: Path, settings: Sequence[str]) -> list[str]:
    """The log, the picks and the true answers of a run by these settings, made in its data folder."""
    asked, trained, evaluated = dealt(read())
    log, gold, picks = (folder / f"{name}.jsonl" for name in ("log", "gold", "picks"))
    write(log, [{"prompt": row["prompt"]} for row in trained])
    write(gold, evaluated)
    if not picks.exists():
        recipe = config.load(results.ROOT / "recipes" / "filings.toml", settings)
        write(picks, picked(Run(folder), recipe, asked))
    files = {"prompts.sources": [log], "evaluate.holdout": gold, "reward.picks": [picks]}
    return [f"{name}={json.dumps(value, default=lambda file: str(file.resolve()))}" for name, value in files.items()]


def labelled(of: study.Base, run: Run) -> list[str]:
    """The true answers of the training prompts."""
    if not run.table("scores").exists():
        known = {_words(row["prompt"]): row["answer"] for row in dealt(read())[1]}
        asked = {p.id: known.get(_words(p.messages[-1].content)) for p in study.tables(of.run)[0]}
        study.write_groups(run, *groups(of, {key: answer for key, answer in asked.items() if answer}))
    return []


def read() -> list[Row]:
    """Each question with its true answer and the verifier that suits it."""
    folder = os.environ.get("BAKEOFF_TATQA", "")
    paths = [Path(folder) / name for name in FILES]
    if not folder or not all(path.is_file() for path in paths):
        raise UserError(f"study tatqa: set BAKEOFF_TATQA to a folder with {' and '.join(FILES)}; found {folder!r}")
    prompts, gold = ([json.loads(line) for line in path.read_text("utf-8").splitlines()] for path in paths)
    known = {row["id"]: row["gold"].strip() for row in gold}
    kept = {row["prompt"]: known[row["id"]] for row in prompts}
    return [{"prompt": p, "answer": a, "verifier": verifier(a)} for p, a in kept.items()]


def verifier(answer: str) -> str:
    """Amounts are compared as numbers; words must be contained."""
    return "number" if re.fullmatch(r"[($£€-]*\d[\d,.]*\)?\s*(%|thousand|million|billion)?", answer) else "contains"


def dealt(rows: Sequence[Row]) -> tuple[list[Row], list[Row], list[Row]]:
    """(picks, training, evaluation), by the hash of the context."""
    found: tuple[list[Row], list[Row], list[Row]] = ([], [], [])
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
        found[int(content_id("tatqa", context), 16) % 3].append(row)
    return found


def _lines(prompt: str) -> list[str]:
    """The lines by which a prompt's context is known: its long ones, or all that it has."""
    context = prompt.rpartition("Question:")[0].strip()
    return [line for line in context.splitlines() if len(line) >= TELLING] or [context]


def picked(run: Run, recipe: Recipe, rows: Sequence[Row]) -> list[dict[str, object]]:
    """Groups of the untouched policy with the choice of the demo's simulated tester."""
    from tester import pick

    messages = [[Message("user", row["prompt"])] for row in rows]
    prompts = [Prompt(prompt_id(m), m, FILES[0], 1, "train") for m in messages]
    sampling = Sampling(group_size=8, temperature=0.7, max_tokens=recipe.sample.max_tokens, seed=recipe.seed)
    drawn = by_prompt(complete_table(run, "asked", prompts, sampling, lambda: choose.engine(recipe.model, recipe)))
    rng, known, made = random.Random(f"tatqa {recipe.seed}"), dict(zip((p.id for p in prompts), rows, strict=True)), []
    for key, group in drawn.items():
        texts, row = [c.text for c in group], known[key]
        choice = pick(rng, texts, row["answer"], row["verifier"])
        made.append({"prompt": row["prompt"], "completions": texts, "pick": choice})
    return made


def write(path: Path, rows: Sequence[object]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))


def _words(text: str) -> str:
    """A text with all white space alike: what cleaning may change."""
    return " ".join(text.split())
