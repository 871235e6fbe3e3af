"""A production log as dirty as real ones are: several record shapes, and all that a reader must set aside or mend."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator

from amounts import amount
from companies import person
from questions import Case
from wording import WORDING

_DIRT = WORDING["dirt"]

GOOD, PERSONAL, CHAT_TOKENS = 1000, 40, 24
EXACT, NEAR, OVER_LONG, FOREIGN, EMPTY, ONE_WORD, BROKEN, STRANGE = 170, 110, 12, 36, 24, 34, 42, 12


def dirty_log(rng: random.Random, cases: Iterator[Case], names: list[str]) -> list[str]:
    """The lines of a log in random order: 1,064 distinct good prompts among 1,504 lines, and no answers."""
    good = [next(cases).prompt for _ in range(GOOD)]
    prompts = good + [_personal(rng, next(cases).prompt) for _ in range(PERSONAL)]
    prompts += [_with_tokens(rng, next(cases).prompt) for _ in range(CHAT_TOKENS)]
    prompts += rng.choices(good, k=EXACT) + [_near(rng, rng.choice(good)) for _ in range(NEAR)]
    prompts += [_over_long(rng, cases) for _ in range(OVER_LONG)]
    prompts += [_foreign(rng, rng.choice(names)) for _ in range(FOREIGN)]
    prompts += rng.choices(["", " ", "\n"], k=EMPTY) + rng.choices(_DIRT["one_word"], k=ONE_WORD)
    lines = [record(rng, prompt) for prompt in prompts]
    lines += [_broken(rng, rng.choice(names)) for _ in range(BROKEN)] + rng.choices(_DIRT["strange"], k=STRANGE)
    rng.shuffle(lines)
    return lines


def record(rng: random.Random, prompt: str) -> str:
    """One line in one of three shapes: a bare prompt, messages, or a request nested as a JSON string."""
    shape = rng.choice(["prompt", "messages", "request"])
    if shape == "prompt":
        return _json({"prompt": prompt})
    messages = [{"role": "user", "content": prompt}]
    context = rng.random()
    if context < 0.10:
        hello, reply = rng.choice(_DIRT["greetings"])
        messages = [{"role": "user", "content": hello}, {"role": "assistant", "content": reply}, *messages]
    elif context < 0.25:
        messages.insert(0, {"role": "system", "content": rng.choice(_DIRT["system"])})
    if shape == "messages":
        return _json({"id": f"req-{rng.randrange(16**8):08x}", "messages": messages})
    body = {"model": "assistant-small", "messages": messages, "temperature": rng.choice([0, 0.7, 1])}
    return _json({"ts": _time(rng), "path": "/v1/chat/completions", "request": _json(body), "status": 200})


def _personal(rng: random.Random, prompt: str) -> str:
    who = person(rng)
    mail = who.lower().replace(" ", rng.choice([".", "_", ""])) + rng.choice(["@example.com", "@example.org"])
    number = f"{rng.randint(201, 989)}{{0}}555{{1}}01{rng.randint(10, 99)}"
    phone = rng.choice(["+1 ", "", "("]) + number
    phone = phone.format(") " if phone.startswith("(") else "-", "-")
    return f"{prompt}\n\n{rng.choice(_DIRT['personal']).format(who=who, mail=mail, phone=phone)}"


def _with_tokens(rng: random.Random, prompt: str) -> str:
    return rng.choice(_DIRT["chat_tokens"]).format(prompt=prompt)


def _near(rng: random.Random, prompt: str) -> str:
    """The same prompt typed again with a greeting, with thanks, or with other spaces."""
    if rng.random() < 0.2:
        return prompt.replace("\n\n", "\n \n").replace(". ", ".  ")
    return rng.choice(_DIRT["again"]).format(prompt=prompt)


def _over_long(rng: random.Random, cases: Iterator[Case]) -> str:
    """A prompt of several thousand tokens: many excerpts pasted together."""
    return "\n\n".join(next(cases).prompt for _ in range(rng.randint(40, 80)))


def _foreign(rng: random.Random, company: str) -> str:
    numbers = {key: amount(rng, "count").cell for key in "abd"}
    return " ".join(rng.choice(_DIRT["foreign"]).split()).format(c=company, y=rng.randint(2012, 2024), **numbers)


def _broken(rng: random.Random, company: str) -> str:
    """A line that is no JSON, or that stops in the middle."""
    if rng.random() < 0.4:
        whole = record(rng, f"What was the net income of {company} in 2020?")
        return whole[: rng.randint(10, len(whole) - 3)]
    return rng.choice(_DIRT["broken"]).replace("{c}", company).replace("{y}", str(rng.randint(2012, 2024)))


def _time(rng: random.Random) -> str:
    return f"2025-{rng.randint(1, 6):02}-{rng.randint(1, 28):02}T{rng.randrange(24):02}:{rng.randrange(60):02}:00Z"


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)
