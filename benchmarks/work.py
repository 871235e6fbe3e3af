"""The work that speed is measured on, and how a rate is measured: real prompts, a fixed number of tokens, medians."""

from __future__ import annotations

import json
import random
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch

from bakeoff.models.load import load_tokenizer
from bakeoff.records import Message, Prompt, prompt_id
from benchmarks.answers import FILINGS

MODEL = "smollm2-135m"
CHAT = Path(__file__).with_name("chat.txt")


def chat_prompts() -> list[Prompt]:
    """Work (a): 16 short prompts."""
    return [_prompt(text) for text in CHAT.read_text(encoding="utf-8").splitlines()]


def document_prompts(count: int = 8, tokens: int = 1000) -> list[Prompt]:
    """Work (b): excerpts of synthetic filings up to about so many tokens, and one question."""
    return [_prompt(_document(random.Random(seed), tokens)) for seed in range(count)]


def filings_prompts(count: int) -> list[Prompt]:
    """The first prompts of the demo's picks."""
    lines = (FILINGS / "picks.jsonl").read_text(encoding="utf-8").splitlines()
    return [_prompt(json.loads(line)["prompt"]) for line in lines[:count]]


def _document(rng: random.Random, tokens: int) -> str:
    from companies import companies
    from excerpts import excerpt
    from questions import ask

    parts, tokenizer = [], load_tokenizer(MODEL)
    names = rng.sample(companies(7), 60)
    while len(tokenizer("\n\n".join(p.text for p in parts)).input_ids) < tokens - 60:
        parts.append(excerpt(rng, names[len(parts)]))
    source = rng.choice(parts)
    return "\n\n".join(p.text for p in parts) + "\n\n" + ask(rng, rng.choice(source.facts), source.company)


def _prompt(text: str) -> Prompt:
    messages = [Message("user", text)]
    return Prompt(prompt_id(messages), messages, "benchmark", 1, "train")


def seconds(*sides: Callable[[], object], repeats: int = 3) -> list[float]:
    """The median seconds of each side, run in turns so that a busy moment hits all, after one unmeasured turn."""
    taken: list[list[float]] = [[] for _ in sides]
    for turn in range(repeats + 1):
        for side, times in zip(sides, taken, strict=True):
            start = time.perf_counter()
            side()
            if turn:
                times.append(time.perf_counter() - start)
    return [statistics.median(times) for times in taken]


def product_rate(size: int = 2048) -> float:
    """Floating-point operations per second of a bfloat16 matrix product, the best of several."""
    a, b = (torch.randn(size, size, dtype=torch.bfloat16) for _ in range(2))
    times = []
    for _ in range(12):
        start = time.perf_counter()
        a @ b
        times.append(time.perf_counter() - start)
    return 2 * size**3 / min(times)
