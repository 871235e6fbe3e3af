"""Rewards: completions in, numbers out. A scorer is a small protocol; higher is better."""

import dataclasses
import functools
import itertools
import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Protocol

from bakeoff.errors import UserError
from bakeoff.records import Completion, Message, Prompt, Score, read_table, write_table
from bakeoff.run import Run, table_in_parts
from bakeoff.settings import Scoring

NOT_WHOLE = "no whole answer"
"""How the reason begins that a completion has no reward."""
TRAINED = "reward_model"
"""The scorer that the recipe trains."""
COMBINED = "combined"
"""The scorer that weighs likelihood, agreement and, where there are picks, the trained reward model."""
KINDS = (TRAINED, COMBINED, "likelihood", "majority", "logit_judge", "judge", "verifier", "FILE.py")
"""What can stand before the colon in a scorer's name; `bakeoff.scoring.choose` makes each."""


class Scorer(Protocol):
    """Anything that rewards completions."""

    def score(self, groups: Sequence[tuple[list[Message], list[Completion]]]) -> Iterator[list[Score]]:
        """Yield, in the order of `groups`, one Score per completion; a reward that could not be had is None."""
        ...


def used(*scorers: Scorer) -> Counter[str]:
    """What scorers have used so far: `calls`, `prompt_tokens`, `completion_tokens` of a judge, nothing of others.

    One that is named twice counts once.
    """
    each = {id(scorer): scorer for scorer in scorers}
    return sum((Counter(getattr(scorer, "used", None) or {}) for scorer in each.values()), Counter[str]())


def finite(score: Score) -> Score:
    """The score, whose reward is missing where it is no finite number."""
    if score.reward is None or math.isfinite(score.reward):
        return score
    return dataclasses.replace(score, reward=None, reason=f"no reward: {score.scorer} gave {score.reward}")


def are(peers: Sequence[Completion], group: Sequence[Completion]) -> bool:
    """Whether the completions that a group is compared with are the group itself."""
    return len(peers) == len(group) and all(a is b for a, b in zip(peers, group, strict=True))


JUDGED = "judged"
"""The name of the lines in `metrics.jsonl` that tell what judging used, so that a stage in several goes adds up."""
Group = tuple[list[Message], list[Completion]]


def score_table(
    run: Run,
    name: str,
    prompts: Sequence[Prompt],
    completions: Sequence[Completion],
    scorer: Callable[[], Scorer],
    *,
    needed: bool = False,
) -> list[Score]:
    """The scores of `completions`, in their order, in the run's table `name`; the scorer is made when one is missing.

    The completions of a prompt follow each other. A reward that is no finite number is missing. Where some are
    `needed`, raises UserError after the first part if there is none in it.
    """
    messages = {p.id: p.messages for p in prompts}
    groups = [(messages[key], group) for key, group in by_prompt(completions).items()]
    ready = functools.cache(scorer)

    def make(chunk: Sequence[Group], done: Callable[[], object]) -> Iterator[Score]:
        before, rows = used(ready()), list[Score]()
        for scores in ready().score(chunk):
            rows += map(finite, scores)
            done()
        if spent := used(ready()) - before:
            run.whole().log(JUDGED, table=name, **spent)
        if needed and not run.parts(name):
            _refuse_none(rows)
        yield from rows

    return table_in_parts(run, name, Score, groups, make)


def score_tables(
    run: Run,
    tables: Mapping[str, Sequence[Completion]],
    prompts: Sequence[Prompt],
    scorer: Callable[[], Scorer],
    *,
    together: str,
) -> dict[str, list[Score]]:
    """The scores of several lists of completions, each in the run's table of its name, made in one go.

    The scorer sees all that a prompt has as one group, in the table `together`: a model reads the prompt once.
    """
    made = {name: run.table(name) for name in tables}
    if not all(file.exists() for file in made.values()):
        groups = [by_prompt(completions) for completions in tables.values()]
        everything = [c for p in prompts for drawn in groups for c in drawn.get(p.id, ())]
        scores = {s.completion_id: s for s in score_table(run, together, prompts, everything, scorer)}
        for name, file in made.items():
            write_table(file, Score, [scores[c.id] for c in tables[name]])
    run.table(together).unlink(missing_ok=True)  # also where a kill came in between
    return {name: read_table(file, Score) for name, file in made.items()}


def by_prompt(completions: Iterable[Completion]) -> dict[str, list[Completion]]:
    """Completions by their prompt's id, in their order."""
    return {key: list(group) for key, group in itertools.groupby(completions, lambda c: c.prompt_id)}


def missing_rewards(run: Run, tables: Iterable[str]) -> dict[str, int]:
    """How many completions of some tables of scores have no reward, by the first words of the reason."""
    kinds = Counter[str]()
    for name in tables:
        for reason, count in missing(read_table(run.table(name), Score)).items():
            kinds[reason.partition(":")[0]] += count
    return dict(kinds)


def missing(scores: Iterable[Score]) -> Counter[str]:
    """The reasons for which completions have no reward.

    Those that were not asked about, being no whole answers, are counted by the bake.
    """
    return Counter(s.reason for s in scores if s.reward is None and not s.reason.startswith(NOT_WHOLE))


def _refuse_none(scores: Sequence[Score]) -> None:
    """Raise UserError when a scorer was asked about completions, could answer, and rewarded none."""
    reasons = Counter({why: n for why, n in missing(scores).items() if not why.startswith("no answer")})
    if reasons and all(s.reward is None for s in scores):
        (reason, count), asked = reasons.most_common(1)[0], reasons.total()
        often = "each time" if count == asked else f"{count} times"
        raise UserError(
            f"score.scorer: {scores[0].scorer}: not one of {asked} completions got a reward ({often}: {reason}); "
            "correct the scorer or its settings, then the same command goes on from here"
        )


def kind(name: str) -> tuple[str, str]:
    """(name in `KINDS`, what it takes from the setting); raises UserError for a name that is none."""
    if ".py:" in name:
        return "FILE.py", name
    first, _, rest = name.partition(":")
    if name == "yes":
        raise UserError("score.scorer: 'yes' is now 'logit_judge'")
    if first not in KINDS:
        known = f"{', '.join(n for n in KINDS if n != 'FILE.py')}, FILE.py:FUNCTION"
        raise UserError(f"score.scorer: unknown scorer {name!r}; known: {known}")
    return first, rest


def names(settings: Scoring) -> list[str]:
    return [settings.scorer] if isinstance(settings.scorer, str) else list(settings.scorer)


def finished(settings: Scoring) -> str:
    """The folder or hub id of the finished reward model that the recipe names alone, or nothing."""
    found = [rest for which, rest in map(kind, names(settings)) if which == TRAINED]
    return found[0] if len(found) == len(names(settings)) == 1 else ""
