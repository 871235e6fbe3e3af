"""Questions over excerpts: one case is a prompt, its true answer and the verifier that compares."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Iterator

from excerpts import Excerpt, Fact, excerpt
from wording import WORDING

_ASK, _PROMPTS = WORDING["ask"], WORDING["prompts"]


@dataclasses.dataclass(frozen=True, slots=True)
class Case:
    prompt: str
    answer: str
    verifier: str
    company: str


def cases(rng: random.Random, companies: list[str]) -> Iterator[Case]:
    """Cases without end, each over an excerpt of its own, company after company."""
    while True:
        for company in rng.sample(companies, len(companies)):
            yield case(rng, excerpt(rng, company))


def case(rng: random.Random, source: Excerpt) -> Case:
    """One fact of the excerpt asked for, in one of the layouts."""
    fact = rng.choice(source.facts)
    question = ask(rng, fact, source.company)
    if rng.random() < 0.65:
        question += " " + rng.choice(_PROMPTS["instructions"])
    layout = rng.choice(_PROMPTS["layouts"])
    prompt = layout.format(e=source.text, q=question, c=source.company, y=source.year)
    return Case(prompt, fact.answer, fact.verifier, source.company)


def ask(rng: random.Random, fact: Fact, company: str) -> str:
    """The fact put as a question."""
    item, _, amount = fact.what.partition("|")
    owner = company + ("'" if company.endswith("s") else "'s")
    return rng.choice(_ASK[fact.kind]).format(i=item, y=fact.year, c=company, s=owner, a=amount)
