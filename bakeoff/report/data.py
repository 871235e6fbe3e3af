"""What the logs held and what became of it, as a person reads it: text for a terminal, sections of a page.

Everything is read from the tables of a run, in which personal data and secrets are placeholders already.
"""

import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from bakeoff.data.clean.language import STOPWORDS, language
from bakeoff.report import wording
from bakeoff.report.advice import UNKNOWN, advice
from bakeoff.run import Run, read_json

SAMPLE = 10_000
"""About so many prompts whose texts are looked at, for lengths, languages and topics."""
EXAMPLES, EXCERPT = 3, 160
TOPICS, TERMS, USUAL = 10, 5, 20
LENGTHS = (
    (10, "up to 10"), (30, "11 to 30"), (100, "31 to 100"), (300, "101 to 300"), (1000, "301 to 1,000"),
    (math.inf, "more than 1,000"),
)  # fmt: skip
_TERM = re.compile(r"[^\W\d_]{3,}")
_PLACEHOLDER = re.compile(r"\[[A-Z]+_\d+\]")


@dataclass(frozen=True, slots=True)
class Bars:
    """A named table of counts; `note` says what a reader cannot see."""

    title: str
    rows: list[tuple[str, int]]
    note: str = ""
    examples: list[tuple[str, list[tuple[str, str]]]] = field(default_factory=list)
    """Of each name, some texts, each with where it is from."""


@dataclass(frozen=True, slots=True)
class Data:
    """The figures of a data report."""

    counts: dict[str, Any]
    """As in `prompts.json`."""
    sections: list[Bars]
    advice: list[str]


def describe_data(run: Run) -> Data:
    """The data report of a run whose prompts are made."""
    counts = read_json(run.details("prompts"))
    texts, sampled = _texts(run.table("prompts"))
    note = f"Of {len(texts):,} prompts, drawn evenly." if sampled else ""
    languages = Counter(language(text) or UNKNOWN for text in texts).most_common()
    sizes = Counter(next(name for most, name in LENGTHS if len(text.split()) <= most) for text in texts)
    repeated = _repeated(run.table("prompts"))
    funnel = {"read": "read", "kept": "kept", "train": "to train on", "heldout": "held out"}
    sections = [
        Bars("From rows to prompts", [(name, counts[key]) for key, name in funnel.items()]),
        Bars("Not kept, by reason", list(counts["dropped"].items()), "", _examples(run.table("set_aside"))),
        Bars("Said most often", [(excerpt(text), n) for text, n in repeated], "Rows that a prompt stands for."),
        Bars("Redacted, by kind", list(counts["redacted"].items()), "Placeholders in the prompts that were kept."),
        Bars("What users said of old answers", list(counts["feedback"].items()), "By kind; picks come of it."),
        Bars("Words in the question", [(name, sizes[name]) for _, name in LENGTHS if sizes[name]], note),
        Bars("Languages", languages, note),
        Bars("Topics, by key terms", topics(texts), note),
    ]
    return Data(counts, [s for s in sections if s.rows], list(advice(counts, languages, repeated)))


def data_text(data: Data) -> str:
    """The report in a few lines, for a terminal."""
    counts = data.counts
    aside = ", ".join(f"{n:,} {reason}" for reason, n in counts["dropped"].items())
    kept = f"{counts['kept']:,} prompts ({counts['heldout']:,} held out)"
    lines = [f"{counts['read']:,} rows: {kept}; {aside or 'no others'}"]
    if counts["redacted"]:
        lines.append("redacted: " + ", ".join(f"{n:,} {kind}" for kind, n in counts["redacted"].items()))
    return "\n".join([*lines, *(f"next: {sentence}" for sentence in data.advice)])


def render_data(data: Data, *, title: str) -> str:
    """The page: one HTML file that needs nothing else."""
    kept = f"{data.counts['kept']:,} prompts from {data.counts['read']:,} rows"
    return page_template("data.html").render(title=title, verdict=kept, data=data)


def page_template(name: str) -> jinja2.Template:
    """A page of this folder, to be filled."""
    folder = jinja2.FileSystemLoader(Path(__file__).parent)
    environment = jinja2.Environment(loader=folder, autoescape=True, undefined=jinja2.StrictUndefined)
    forms = (wording.number, wording.percent, wording.duration, wording.span)
    return environment.get_template(name, globals={form.__name__: form for form in forms})


def excerpt(text: str) -> str:
    """The end of a text on one line: the question stands after what it is about."""
    line = " ".join(text.split())
    return line if len(line) <= EXCERPT else f"... {line[-EXCERPT:]}"


def _texts(table: Path) -> tuple[list[str], bool]:
    """The question of each prompt, or of about SAMPLE of them from row groups all over the table."""
    with pq.ParquetFile(table) as file:
        groups = file.metadata.num_row_groups
        step = max(1, -(-file.metadata.num_rows // SAMPLE))
        found = [
            turns[-1]["content"]
            for group in range(0, groups, step if groups >= step else 1)
            for turns in file.read_row_group(group, columns=["messages"])["messages"].to_pylist()
        ]
        return found, len(found) < file.metadata.num_rows


def _repeated(table: Path) -> list[tuple[str, int]]:
    """The prompts that stand for most rows, and for how many."""
    best: list[tuple[int, str]] = []
    with pq.ParquetFile(table) as file:
        for batch in file.iter_batches(batch_size=4096, columns=["messages", "count"]):
            most = np.argsort(-batch["count"].to_numpy(), kind="stable")[:5]
            rows = batch.take(pa.array(most)).to_pylist()
            best += [(row["count"], row["messages"][-1]["content"]) for row in rows if row["count"] > 1]
            best = sorted(best, key=lambda row: (-row[0], row[1]))[:5]
    return [(text, n) for n, text in best]


def _examples(table: Path) -> list[tuple[str, list[tuple[str, str]]]]:
    """The first few rows set aside for each reason; those that are empty show nothing."""
    found: dict[str, list[tuple[str, str]]] = {}
    with pq.ParquetFile(table) as file:
        for batch in file.iter_batches(batch_size=4096):
            for row in batch.to_pylist():
                shown = found.setdefault(row["reason"], [])
                if len(shown) < EXAMPLES and row["text"].strip():
                    shown.append((row["source"], excerpt(row["text"])))
    return [(reason, shown) for reason, shown in found.items() if shown]


def topics(texts: Sequence[str]) -> list[tuple[str, int]]:
    """Key terms that occur together, and how many texts have the first: each text counts for one topic.

    A term in more than a third of many texts is how they ask, not what about.
    """
    bags = [set(map(_singular, _TERM.findall(_PLACEHOLDER.sub(" ", text).casefold()))) - STOPWORDS for text in texts]
    frequency = Counter(term for bag in bags for term in bag)
    usual = {term for term, n in frequency.items() if n > max(USUAL, len(texts) / 3)}
    bags = [bag - usual for bag in bags]
    found: list[tuple[str, int]] = []
    while len(found) < TOPICS:
        here = Counter(term for bag in bags for term in bag)
        first, n = min(here.items(), key=lambda item: (-item[1], item[0]), default=("", 0))
        if n < max(2, len(texts) / 200):
            break
        beside = Counter(term for bag in bags if first in bag for term in bag)
        shared = [term for term, k in beside.items() if k >= max(2, n / 10)]  # the most its own: rare elsewhere
        shared.sort(key=lambda term: (-beside[term] // n, -(beside[term] ** 2) / frequency[term], term))
        found.append((", ".join(shared[:TERMS]), n))
        bags = [bag for bag in bags if first not in bag]
    return found


def _singular(word: str) -> str:
    return word[:-1] if len(word) > 4 and word.endswith("s") and not word.endswith(("ss", "us", "is")) else word
