"""Makes a dirty log of any length from a seed: documents with questions, chats, duplicates, slips, personal data, dirt.

python benchmarks/ingest_log.py 1000000 log.jsonl
"""

from __future__ import annotations

import json
import random
import sys
from collections.abc import Iterator
from pathlib import Path

SYLLABLES = [
    "ba",
    "co",
    "di",
    "fe",
    "gu",
    "ha",
    "jo",
    "ki",
    "lu",
    "me",
    "na",
    "po",
    "qui",
    "ra",
    "so",
    "ta",
    "ve",
    "wi",
    "xa",
    "yo",
    "zu",
    "ster",
    "lin",
    "gar",
    "ment",
    "dor",
    "vex",
    "tion",
    "al",
    "er",
]
COMMON = [
    "the",
    "of",
    "and",
    "to",
    "in",
    "is",
    "that",
    "for",
    "it",
    "was",
    "on",
    "with",
    "as",
    "be",
    "at",
    "by",
    "this",
    "are",
    "or",
    "from",
    "which",
    "were",
    "has",
    "have",
    "an",
    "its",
    "not",
]
QUESTIONS = (
    "What was {a} {b} in {y}?",
    "How did {a} {b} change between {y} and {z}?",
    "Who decided on {a} {b}, and why?",
    "Summarise what is said about {a} {b}.",
    "List every figure that concerns {a} {b} in {y}.",
)
DIRT = (
    "",
    '{"prompt": "cut off in the mid',
    '{"prompt": ""}',
    '{"prompt": "ok"}',
    '{"prompt": "asdf jkl; asdfjkl qwer"}',
    '{"prompt": "hello, are you there?"}',
    '{"event": "heartbeat", "ok": true}',
    "not JSON at all",
)


class Log:
    """An endless log; what it repeats comes from the last few hundred prompts."""

    def __init__(self, seed: int):
        self.rng = random.Random(seed)
        vocabulary = ["".join(self.rng.choices(SYLLABLES, k=self.rng.choice([2, 2, 3, 3, 4]))) for _ in range(30_000)]
        self.words = vocabulary
        self.documents: list[str] = []
        self.prompts: list[str] = []

    def lines(self, n: int) -> Iterator[str]:
        for number in range(n):
            roll = self.rng.random()
            if roll < 0.06:
                yield self.rng.choice(DIRT)
            else:
                yield self.record(self.prompt(roll), number)

    def prompt(self, roll: float) -> str:
        """A repeated prompt, one with slips, a question over an earlier document, a short one, or a new one."""
        if roll < 0.14 and self.prompts:
            return self.rng.choice(self.prompts)
        if roll < 0.20 and self.prompts:
            return slips(self.rng, self.rng.choice(self.prompts), 0.03)
        if roll < 0.30:
            text = self.question()
        elif roll < 0.50 and self.documents:
            text = f"{self.rng.choice(self.documents)}\n\n{self.question()}"
        else:
            text = f"{remember(self.documents, self.document(), self.rng)}\n\n{self.question()}"
        return remember(self.prompts, text, self.rng)

    def word(self) -> str:
        """A common word, a frequent one, or a rare one."""
        roll = self.rng.random()
        if roll < 0.4:
            return self.rng.choice(COMMON)
        return self.words[int(len(self.words) * self.rng.random() ** 4)]

    def document(self) -> str:
        parts = [self.word() for _ in range(self.rng.randint(60, 240))]
        for i in range(5, len(parts), 15):
            parts[i] = self.rng.choice([f"{self.rng.randrange(10**7):,}", str(self.rng.randint(1990, 2030)), "12.5%"])
        if self.rng.random() < 0.1:
            parts.append(personal(self.rng))
        return " ".join(parts).capitalize() + "."

    def question(self) -> str:
        year = self.rng.randint(1990, 2029)
        return self.rng.choice(QUESTIONS).format(a=self.word(), b=self.word(), y=year, z=year + 1)

    def record(self, text: str, number: int) -> str:
        kind = number % 4
        if kind == 0:
            return json.dumps({"id": number, "prompt": text})
        messages = [{"role": "system", "content": "You answer from the text alone."}, {"role": "user", "content": text}]
        if kind == 1:
            return json.dumps({"messages": messages, "model": "m"})
        if kind == 2:
            return json.dumps({"ts": number, "request": json.dumps({"messages": messages[1:]}), "status": 200})
        return json.dumps({"conversations": [{"from": "human", "value": text}, {"from": "gpt", "value": "It is 4."}]})


def remember(kept: list[str], text: str, rng: random.Random) -> str:
    """Keep a text, in place of another once there are 500."""
    if len(kept) < 500:
        kept.append(text)
    else:
        kept[rng.randrange(500)] = text
    return text


def slips(rng: random.Random, text: str, share: float) -> str:
    """The text with that share of its words mistyped (at least one), none of them a number."""
    words = text.split(" ")
    able = [i for i, w in enumerate(words) if len(w) > 3 and w.isalpha()]
    for i in rng.sample(able, min(len(able), max(1, round(share * len(words))))):
        words[i] = slip(rng, words[i])
    return " ".join(words)


def slip(rng: random.Random, word: str) -> str:
    """The word with two letters swapped, one left out, doubled or wrong, in capitals, or followed by a stray comma."""
    at = rng.randrange(1, len(word) - 1)
    kind = rng.randrange(6)
    if kind == 0:
        return word[:at] + word[at + 1] + word[at] + word[at + 2 :]
    if kind == 1:
        return word[:at] + word[at + 1 :]
    if kind == 2:
        return word[:at] + word[at] + word[at:]
    if kind == 3:
        return word[:at] + rng.choice("aeiorstn") + word[at + 1 :]
    return word.upper() if kind == 4 else word + ","


def personal(rng: random.Random) -> str:
    digits = "".join(rng.choices("0123456789", k=10))
    return rng.choice([f"u{digits}@example.com", f"+1 415 {digits[:3]} {digits[3:7]}", f"sk-{digits}{digits}abcdef"])


def write(path: Path, n: int, seed: int = 0) -> None:
    with path.open("w", encoding="utf-8") as file:
        file.writelines(line + "\n" for line in Log(seed).lines(n))


if __name__ == "__main__":
    write(Path(sys.argv[2]), int(sys.argv[1]))
