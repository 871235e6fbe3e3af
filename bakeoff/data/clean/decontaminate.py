"""Contamination: prompts that carry a question of an evaluation set, word for word or nearly so."""

import dataclasses
import functools
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from bakeoff.data.clean import repair, steps
from bakeoff.data.clean.redact import redact
from bakeoff.data.dedup import U64, Ints
from bakeoff.data.dedup.duplicates import tokens
from bakeoff.data.dedup.minhash import arrays, hashed, runs
from bakeoff.data.read import readers, sources
from bakeoff.data.schema import threads
from bakeoff.errors import UserError
from bakeoff.records import Message, content_id
from bakeoff.settings import Prompts

RUN, SHARE = 5, 0.8
"""A prompt carries a question when it has at least this share of the question's runs of so many words."""
SHORT = 16
"""A question of fewer words must be there as a whole..."""
LEAST = 3
"""...and one of fewer than these must be the whole prompt."""
COMMON, TELLING = 0.02, 5
"""A run in more than this share of the questions (and in more than 20) is their template, not their text, and does not
count, unless it leaves a question fewer than TELLING runs."""


@dataclasses.dataclass(frozen=True, slots=True)
class Questions:
    """The questions to look for, as hashes of their words."""

    run: U64
    """Of the runs of long questions, in order..."""
    owner: Ints
    """...whose each is..."""
    needed: Ints
    """...and how many of its runs a prompt must have, by question."""
    whole: U64
    """Of short questions, all their words."""
    sizes: Ints
    """How many words those have; each number once."""

    def __len__(self) -> int:
        return len(self.needed) + len(self.whole)


def unwanted_questions(settings: Prompts, also: Iterable[Sequence[Message]] = ()) -> Questions:
    """The questions of `prompts.decontaminate` and of `also`, cleaned like the prompts that they are sought in.

    Raises UserError for a file that holds none.
    """
    texts = [*map(_text, also)]
    for path in sources.files(map(Path, settings.decontaminate)):
        drafts = (draft for row in threads.joined(readers.rows(path)) for draft in steps.drafts([row], Prompts()))
        asked = [_text(d.messages) for d in drafts if not d.reason]
        if not asked:
            raise UserError(f"prompts.decontaminate: {path}: no question in it; give rows of prompts or conversations")
        texts += asked
    kinds = settings.redact
    return _indexed([tokens(redact([repair.neutral(repair.tidy(text))], kinds)[0][0]) for text in sorted(set(texts))])


def _text(messages: Iterable[Message]) -> str:
    return "\n".join(m.content for m in messages if m.role != "system")


def _indexed(documents: Sequence[Sequence[str]]) -> Questions:
    short = [d for d in documents if len(d) < SHORT]
    long = [np.unique(runs(hashed(d), RUN)) for d in documents if len(d) >= SHORT]
    run, counts = np.unique(np.concatenate([np.zeros(0, np.uint64), *long]), return_counts=True)
    common = run[counts > max(20, COMMON * len(documents))]
    telling = [kept if len(kept := np.setdiff1d(found, common)) >= TELLING else found for found in long]
    sizes = np.array([len(found) for found in telling], np.int64)
    flat = np.concatenate([np.zeros(0, np.uint64), *telling])
    order = np.argsort(flat, kind="stable")
    return Questions(
        flat[order],
        np.repeat(np.arange(len(sizes)), sizes)[order],
        np.ceil(SHARE * sizes - 1e-9).astype(np.int64),
        np.unique(np.array([runs(hashed(d), len(d))[0] for d in short], np.uint64)),
        np.unique(np.array([len(d) for d in short], np.int64)),
    )


def carries(document: Sequence[str], found: Questions) -> bool:
    """Whether a prompt, as tokens, carries one of the questions."""
    words = hashed(document)
    for size in found.sizes.tolist():
        if len(words) == size or (len(words) > size >= LEAST):
            here = runs(words, size)
            place = np.minimum(np.searchsorted(found.whole, here), len(found.whole) - 1)
            if (found.whole[place] == here).any():
                return True
    here = np.unique(runs(words, RUN))
    starts, ends = np.searchsorted(found.run, here), np.searchsorted(found.run, here, "right")
    hit = ends > starts
    owners = [found.owner[start:end] for start, end in zip(starts[hit], ends[hit], strict=True)]
    if not owners:
        return False
    shared = np.bincount(np.concatenate(owners), minlength=len(found.needed))
    return bool((shared >= found.needed).any())


def digest(found: Questions) -> str:
    """Equal for equal questions."""
    return content_id(*(array.tolist() for array in arrays(found).values()))


def save_questions(path: Path, found: Questions) -> None:
    np.savez(path, **arrays(found))


@functools.lru_cache(2)
def load_questions(path: Path) -> Questions:
    with np.load(path) as saved:
        return Questions(**saved)
