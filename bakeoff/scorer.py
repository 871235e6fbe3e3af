"""What a scorer is: the completions of a prompt in, a reward for each out, higher is better.

A reward that could not be had is None, with the reason; a scorer that fails never becomes reward 0.
"""

import dataclasses
import functools
import itertools
import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Protocol, TypeVar

from bakeoff.errors import UserError
from bakeoff.records import Completion, Message, Prompt, Score, read_table, write_table
from bakeoff.run import Run, table_in_parts
from bakeoff.settings import Scoring

S = TypeVar("S")
GROUPS_AT_ONCE = 32
"""Groups among which a model makes batches of like length, and after which progress shows."""
NOT_WHOLE = "no whole answer"
"""How the reason begins that an incomplete answer has no reward."""
TRAINED = "reward_model"
"""The scorer that the recipe trains."""
COMBINED = "combined"
"""The scorer that weighs likelihood, agreement and, where there are picks, the trained reward model."""
SCORER_KINDS = (TRAINED, COMBINED, "likelihood", "majority", "logit_judge", "judge", "verifier", "FILE.py")
"""What can stand before the colon in a scorer's name; `bakeoff.scoring.choose` makes each."""
SCORER_USAGE = "judged"
"""The name of the lines in `metrics.jsonl` that say what judging used, so that a stage in several goes adds up."""
Group = tuple[list[Message], list[Completion]]
"""A conversation and completions of it."""
Texts = tuple[Sequence[Message], Sequence[str]]
"""The same, of the completions their texts alone."""
Peers = Mapping[str, Sequence[Completion]]
"""By prompt id, the completions that a scorer which compares compares with; empty where it is the group itself."""


def texts_of(group: Group) -> Texts:
    return group[0], [c.text for c in group[1]]


class Scorer(Protocol):
    """Anything that rewards completions."""

    def score(self, groups: Sequence[Group]) -> Iterable[list[Score]]:
        """For each group, in order, a Score for each completion."""
        ...


def in_batches(score: Callable[[S, Sequence[Group]], Iterable[list[Score]]]) -> Callable[..., Iterator[list[Score]]]:
    """A method `score` that sees at most `GROUPS_AT_ONCE` groups at once."""

    def batched(self: S, groups: Sequence[Group]) -> Iterator[list[Score]]:
        for start in range(0, len(groups), GROUPS_AT_ONCE):
            yield from score(self, groups[start : start + GROUPS_AT_ONCE])

    return batched


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


def same_group(peers: Sequence[Completion], group: Sequence[Completion]) -> bool:
    """Whether the completions that a group is compared with are the group itself."""
    return len(peers) == len(group) and all(a is b for a, b in zip(peers, group, strict=True))


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
        if usage := used(ready()) - before:
            run.whole().log(SCORER_USAGE, table=name, **usage)
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
    files = {name: run.table(name) for name in tables}
    if not all(file.exists() for file in files.values()):
        groups = [by_prompt(completions) for completions in tables.values()]
        everything = [c for p in prompts for drawn in groups for c in drawn.get(p.id, ())]
        scores = {s.completion_id: s for s in score_table(run, together, prompts, everything, scorer)}
        for name, file in files.items():
            write_table(file, Score, [scores[c.id] for c in tables[name]])
    run.table(together).unlink(missing_ok=True)  # also where a kill came in between
    return {name: read_table(file, Score) for name, file in files.items()}


def by_prompt(completions: Iterable[Completion]) -> dict[str, list[Completion]]:
    """Completions by their prompt's id, in their order."""
    return {key: list(group) for key, group in itertools.groupby(completions, lambda c: c.prompt_id)}


def missing_rewards(run: Run, tables: Iterable[str]) -> dict[str, int]:
    """How many completions of some tables of scores have no reward, by the first words of the reason."""
    reasons = missing(score for name in tables for score in read_table(run.table(name), Score))
    return dict(Counter(reason.partition(":")[0] for reason in reasons.elements()))


def missing(scores: Iterable[Score]) -> Counter[str]:
    """The reasons for which completions have no reward, but for incomplete answers, which the bake counts."""
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


def scorer_kind(name: str) -> tuple[str, str]:
    """(one of `SCORER_KINDS`, what it takes from the setting); raises UserError for a name that is none."""
    if ".py:" in name:
        return "FILE.py", name
    first, _, rest = name.partition(":")
    if name == "yes":
        raise UserError("score.scorer: 'yes' is now 'logit_judge'")
    if first not in SCORER_KINDS:
        known = f"{', '.join(SCORER_KINDS)}:FUNCTION"
        raise UserError(f"score.scorer: unknown scorer {name!r}; known: {known}")
    return first, rest


def scorer_kinds(settings: Scoring) -> list[tuple[str, str]]:
    """The kind of each scorer that `score.scorer` names."""
    return [scorer_kind(name) for name in ([settings.scorer] if isinstance(settings.scorer, str) else settings.scorer)]


def finished_reward_model(settings: Scoring) -> str:
    """The folder or hub id of the finished reward model that the recipe names alone, or nothing."""
    (first, rest), *others = scorer_kinds(settings) or [("", "")]
    return rest if first == TRAINED and not others else ""
