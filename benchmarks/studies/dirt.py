"""Logs of which a share of the lines is spoilt, each in one of four ways."""

from __future__ import annotations

import itertools
import json
import random
from collections.abc import Sequence

from bakeoff.run import Run, write_text
from benchmarks import answers
from benchmarks.study import Base

LINES = 480


def log(of: Base, run: Run, share: float) -> list[str]:
    """The arm's own log."""
    file = run.folder / "log.jsonl"
    write_text(file, "".join(f"{line}\n" for line in lines(of.recipe.seed, share)))
    return [f"prompts.sources={json.dumps([str(file.resolve())])}"]


def lines(seed: int, share: float) -> list[str]:
    """Prompts of the demo's maker, of the companies of its log, of which `share` are spoilt."""
    from companies import split_companies
    from questions import cases

    source = cases(random.Random(f"study {seed}"), split_companies(answers.DATA_SEED)["log"])
    good = [case.prompt for case in itertools.islice(source, LINES)]
    rng = random.Random(f"dirt {seed}")
    spoilt = set(rng.sample(range(LINES), round(share * LINES)))
    rows = []
    for place, prompt in enumerate(good):
        way = rng.choice([typos, repeated, junk, personal])
        rows.append(way(rng, prompt, good) if place in spoilt else prompt)
    return [json.dumps({"prompt": row}, ensure_ascii=False) for row in rows]


def typos(rng: random.Random, prompt: str, good: Sequence[str]) -> str:
    """Two neighbouring letters of one word in six change places; numbers stay."""
    words = prompt.split(" ")
    for i, word in enumerate(words):
        if word.isalpha() and len(word) > 3 and rng.random() < 1 / 6:
            at = rng.randrange(1, len(word) - 2)
            words[i] = word[:at] + word[at + 1] + word[at] + word[at + 2 :]
    return " ".join(words)


def repeated(rng: random.Random, prompt: str, good: Sequence[str]) -> str:
    """One of three prompts that users send again and again."""
    return good[rng.randrange(3)]


def junk(rng: random.Random, prompt: str, good: Sequence[str]) -> str:
    """Keys hit at random, or a health check."""
    keys = "".join(rng.choices("asdfjklqweruio ", k=rng.randint(5, 40))).strip()
    return rng.choice(["ping", "test", "asdf", keys or "x", "�" * rng.randint(4, 30)])


def personal(rng: random.Random, prompt: str, good: Sequence[str]) -> str:
    """An invented sender under the prompt."""
    name = rng.choice(["Ann Doe", "Max Roe", "Eva Poe"])
    mail = f"{name.split()[0].lower()}{rng.randint(1, 99)}@example.com"
    return f"{prompt}\n\nPlease send it to {mail} or call me, {name}, on 202-555-01{rng.randint(10, 99)}."
