"""Thirty per cent of dirt in the prompts, with and without cleaning: what does it cost?

Three logs of as many lines, with the prompts of the demo's maker in the same order: clean; with 30 % of the lines dirty
(typos, repeated prompts, junk, personal data); and those again, read without cleaning. All train on the same number
of lines from the log, by the reward model of the base; right first answers on the demo's gold.
"""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import studies

from bakeoff.run import write_text

DIRTY, LINES = 0.3, 480
UNCLEANED = [
    "prompts.redact=[]",
    "prompts.languages=[]",
    'prompts.skip=["template_tokens", "short", "noise", "health_checks", "near_duplicates"]',
]
ARMS = {"clean": ("clean", []), "cleaned": ("dirty", []), "uncleaned": ("dirty", UNCLEANED)}


def study(seeds: Sequence[int], out: Path, overrides: Sequence[str]) -> None:
    """Every log on every seed, then the table."""
    found: dict[str, list] = {name: [] for name in ARMS}
    for seed in seeds:
        of = studies.base(out, seed, overrides, last="reward")
        logs = {"clean": out / f"dirt-{seed}-clean.jsonl", "dirty": out / f"dirt-{seed}-dirty.jsonl"}
        for path, share in zip(logs.values(), (0.0, DIRTY), strict=True):
            write_text(path, "".join(f"{line}\n" for line in lines(seed, share)))
        for name, (log, settings) in ARMS.items():
            found[name].append(arm(of, f"dirt-{name}", logs[log], settings))
            print(f"seed {seed}: {name}: {found[name][-1].mean():.3f} right", flush=True)
    against = [("cleaned", "clean"), ("uncleaned", "clean"), ("cleaned", "uncleaned")]
    studies.record("dirt", studies.measured("dirt", found, against), seeds, overrides)


def arm(of: studies.Base, name: str, log: Path, settings: Sequence[str]) -> np.ndarray:
    """The share of right first answers to each gold prompt after the run on one log, with the base's reward model."""
    given = [*settings, f"prompts.sources={json.dumps([str(log.resolve())])}"]
    run = studies.again(of, name, given, tables=())
    return studies.right(run, of.recipe, str(run.policy))


def lines(seed: int, share: float) -> list[str]:
    """A log: prompts of the demo's maker, of which `share` are spoilt, each in one of four ways."""
    good = studies.log_prompts(seed, LINES)
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
