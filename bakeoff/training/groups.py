"""Groups of rewarded completions: what a training learns from, and which groups teach something."""

import dataclasses
import itertools
import math
import random
from collections import Counter
from collections.abc import Sequence

import numpy as np

from bakeoff import tasks
from bakeoff.models.incomplete import fault
from bakeoff.records import Completion, Prompt, Score
from bakeoff.scorer import COMBINED, by_prompt, scorer_kinds
from bakeoff.scoring import Majority
from bakeoff.settings import Recipe
from bakeoff.training.methods import METHODS, Group
from bakeoff.training.trainer import size


def is_whole(completion: Completion) -> bool:
    """Whether it is neither unfinished nor empty nor looping."""
    return not fault(completion.text, completion.tokens, completion.finish)


def group_of(prompt_id: str, rewarded: Sequence[tuple[Completion, float | None]]) -> Group:
    """A group's different completions (by their tokens), whole answers first, in the order of their first draw.

    What is no whole answer (unfinished, empty, looping) is ranked below all that are, whatever its reward, and without
    one; a whole answer without a reward is left out.
    """
    whole = {c.id: is_whole(c) for c, _ in rewarded}
    kept = [(c, math.nan if r is None else r) for c, r in rewarded if r is not None or not whole[c.id]]
    counts = Counter(tuple(c.tokens) for c, _ in kept)
    first: dict[tuple[int, ...], tuple[Completion, float]] = {}
    for completion, reward in sorted(kept, key=lambda one: not whole[one[0].id]):  # of equal ones, a whole one counts
        first.setdefault(tuple(completion.tokens), (completion, reward))
    finished_M = np.array([whole[c.id] for c, _ in first.values()], dtype=bool)
    reward_M = np.array([reward for _, reward in first.values()], float)
    if finished_M.any():
        reward_M[~finished_M] = reward_M[finished_M].min() - (reward_M[finished_M].std() or 1.0)
    count_M = np.array([counts[tokens] for tokens in first], dtype=int)
    return Group(prompt_id, [list(tokens) for tokens in first], reward_M, count_M, finished_M)


def teaching(
    completions: Sequence[Completion], scores: Sequence[Score], recipe: Recipe, *, keep_flat: bool = False
) -> tuple[list[Group], Counter[str]]:
    """The groups that teach something, and a count of outcomes.

    A group with one reward for all says nothing about preference and is dropped, unless `keep_flat`; so is one in which
    no completion is a whole answer, or in which the method finds nothing to train on.
    """
    reward = {s.completion_id: s.reward for s in scores}
    method, kept, counts = METHODS[recipe.bake.method], list[Group](), Counter[str]()
    for key, rows in by_prompt(completions).items():
        group = group_of(key, [(c, reward[c.id]) for c in rows])
        cause = _idle_cause(rows, group)
        if (cause and not (cause == "no_spread" and keep_flat)) or not method.select(group, *size(recipe)):
            counts[cause or "no_spread"] += 1
        else:
            counts["trained"] += 1
            kept.append(group)
    return kept, counts


def _idle_cause(drawn: Sequence[Completion], group: Group) -> str:
    """The first cause, in the order in which things are made, that a group teaches nothing (see `IDLE`); else empty."""
    faults = Counter(fault(c.text, c.tokens, c.finish) for c in drawn)
    if "" not in faults:
        return faults.most_common(1)[0][0]
    if len(group.tokens) > 1 and group.finished_M.any():
        return "no_spread" if len(set(group.reward_M.tolist())) == 1 else ""
    whole = {tuple(c.tokens) for c in drawn if is_whole(c)}
    return "alike" if len(whole) == 1 and group.finished_M.any() else "unscored"


def most_agreed(
    groups: Sequence[Group], prompts: Sequence[Prompt], completions: Sequence[Completion], recipe: Recipe
) -> list[Group]:
    """The groups that `bake.agreement_quantile` keeps, in their order; at least one of each task.

    Where many draws give the answer of the best one it is right more often (self-consistency, arXiv:2203.11171), so
    that what is learnt has fewer mistakes in it. The combined choice says how probable its answer is.
    """
    share, kept = recipe.bake.agreement_quantile, set[str]()
    if share >= 1:
        return list(groups)
    task, drawn = {p.id: p.task for p in prompts}, by_prompt(completions)
    for name, alone in tasks.each(recipe).items():
        mine = [g for g in groups if task[g.prompt_id] == name]
        how = confidence if (COMBINED, "") in scorer_kinds(alone.score) else draw_agreement
        found = {g.prompt_id: how(g, drawn[g.prompt_id], alone.score.extract) for g in mine}
        kept.update(sorted(found, key=lambda key: -found[key])[: max(1, round(share * len(mine)))])
    return [g for g in groups if g.prompt_id in kept]


def draw_agreement(group: Group, drawn: Sequence[Completion], extract: str = "") -> float:
    """The share of a group's draws that are whole and answer what its best one does; 0 where that answers nothing."""
    voters = Majority(extract)
    answers = [voters.answer(c.text) for c in drawn if is_whole(c)]
    chosen = voters.answer(next(c.text for c in drawn if c.tokens == group.tokens[group.best]))
    return answers.count(chosen) / len(drawn) if chosen is not None else 0.0


def confidence(group: Group, drawn: Sequence[Completion], extract: str = "") -> float:
    """The probability of the best one's answer by the combined choice: softmax of the rewards over the whole draws."""
    voters, whole = Majority(extract), np.flatnonzero(group.finished_M)
    text = {tuple(c.tokens): c.text for c in drawn}
    answers = {int(i): voters.answer(text[tuple(group.tokens[i])]) for i in whole}
    share_M = group.count_M[whole] * np.exp(group.reward_M[whole] - group.reward_M[whole].max())
    return float(share_M[[answer == answers[group.best] for answer in answers.values()]].sum() / share_M.sum())


def shuffled(completions: Sequence[Completion], scores: Sequence[Score], rng: random.Random) -> list[Score]:
    """The scores with the rewards of each prompt's completions, which follow each other, in random order.

    Each of the different whole answers takes the reward of another, and is the best as often as it was drawn; what is
    no whole answer keeps its own, and ranks below them whatever that is.
    """
    tokens = {c.id: tuple(c.tokens) for c in completions if is_whole(c)}
    found = []
    for _, group in itertools.groupby(scores, lambda s: s.prompt_id):
        rows = list(group)
        own = {tokens[s.completion_id]: s.reward for s in rows if s.reward is not None and s.completion_id in tokens}
        order = dict.fromkeys(tokens.get(s.completion_id) for s in rng.sample(rows, len(rows)))
        new = dict(zip((key for key in order if key in own), sorted(own.values(), reverse=True), strict=True))
        for s in rows:
            whole = tokens.get(s.completion_id)
            found.append(s if whole is None else dataclasses.replace(s, reward=new.get(whole)))
    return found
