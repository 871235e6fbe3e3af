"""Whether a scorer has learnt what people prefer: figures over groups that people have judged, and the gate."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from bakeoff.math import statistics
from bakeoff.records import Pick, prompt_id

RIVALS = {"chance": "chance", "longest_wins": 'the rule "the longest wins"'}
"""What a reward model must beat, each of them, to be of use."""
ENOUGH_PROMPTS = 20
"""On fewer no interval is believed."""


@dataclass(frozen=True, slots=True)
class Judged:
    """A group of completions as people and a scorer see it, each array [K]."""

    prompt: str
    """The prompt's id: groups of one prompt are not independent."""
    value: np.ndarray
    """What the completion is worth by people's judgement or a true answer: only comparisons within the group count."""
    reward: np.ndarray
    length: np.ndarray
    """In characters."""

    @property
    def best(self) -> np.ndarray:
        """True for the most valuable completions (equal texts share a value)."""
        return self.value == self.value.max()

    @property
    def chosen(self) -> np.ndarray:
        """The scorer's choice: 1 for its highest reward, shared equally among ties, so that a constant is a guess."""
        top = self.reward == self.reward.max()
        return top / top.sum()

    @property
    def right(self) -> float:
        """The part of the scorer's choice that falls on the best completions."""
        return float(self.chosen @ self.best)


def judged(picks: Sequence[Pick], rewards: Sequence[Sequence[float]]) -> list[Judged]:
    """The picks with a scorer's rewards of their completions, worth what people said of them."""
    lengths = ([len(text) for text in pick.completions] for pick in picks)
    return [
        Judged(prompt_id(pick.messages), np.array(pick.worth), np.array(reward, float), np.array(length, float))
        for pick, reward, length in zip(picks, rewards, lengths, strict=True)
    ]


def informative(groups: Iterable[Judged]) -> list[Judged]:
    """The groups in which some completion is worth more than another."""
    return [g for g in groups if not g.best.all()]


def pick_agreement(groups: Sequence[Judged], *, seed: int) -> dict[str, statistics.Measured]:
    """How well a scorer's choice among K agrees with people's, with 95 % intervals over prompts.

    `pick_accuracy` is the share of groups whose best reward is a best completion's, beside `chance` and "the longest
    wins"; `over_...` are paired differences. `pair_accuracy` is the share of pairs of unequal value that the rewards
    order alike, ties half, averaged over groups. `regret` is the best value less that of the scorer's choice, and
    `gap_closed` how far the choice comes from a random completion's value (0) to the best one's (1).
    """
    groups = informative(groups)
    best, random = column(groups, lambda g: g.value.max()), column(groups, lambda g: g.value.mean())
    value, right = column(groups, lambda g: float(g.chosen @ g.value)), column(groups, lambda g: g.right)
    columns = {
        "pick_accuracy": right,
        "chance": column(groups, lambda g: g.best.mean()),
        "longest_wins": column(groups, lambda g: g.best[g.length == g.length.max()].mean()),
        "pair_accuracy": column(groups, lambda g: pairs(g)[0].mean()),
        "regret": best - value,
    }
    columns |= {f"over_{name}": right - columns[name] for name in RIVALS}
    found = {name: ratio(groups, values, seed=seed) for name, values in columns.items()}
    return found | {"gap_closed": ratio(groups, value - random, best - random, seed=seed)}


def doubts(figures: Mapping[str, Any]) -> list[str]:
    """A sentence for each rival that it does not beat with 95 % confidence, from `pick_agreement` as JSON."""
    number, known = figures["pick_accuracy"]["n"], figures.get("picks", {}).get("seen", 0)
    aside = f" ({known} more, of prompts that it was trained on, do not count)" if known else ""
    if number < ENOUGH_PROMPTS:
        return [
            f"The reward model was measured on {number} held-out picks{aside}, too few to tell whether it beats "
            f"chance: give more picks or a larger reward.heldout, so that {ENOUGH_PROMPTS} or more are held out."
        ]
    return [
        f"The reward model does not beat {words} on {number} held-out picks with 95 % confidence "
        f"({figures['pick_accuracy']['value']:.2f} against {figures[name]['value']:.2f}): add picks before trusting it."
        for name, words in RIVALS.items()
        if (figures["over_" + name]["low"] or 0.0) <= 0
    ]


def human_agreement(
    groups: Sequence[Judged], votes: Sequence[Sequence[float]], *, seed: int
) -> dict[str, statistics.Measured] | None:
    """How often the scorer agrees with a person, beside how often two people agree; None where nobody voted twice.

    `votes` counts, by group, the people who chose each completion ([] where that is not known). Of n people, a pair
    agrees with probability sum c (c - 1) / (n (n - 1)), the scorer with one of them with sum choice c / n; groups with
    two or more people count, each alike.
    """
    voted = [(g, np.array(v, float)) for g, v in zip(groups, votes, strict=True) if sum(v) >= 2]
    if not voted:
        return None
    kept = [g for g, _ in voted]
    people = np.array([(c * (c - 1)).sum() / (c.sum() * (c.sum() - 1)) for _, c in voted])
    scorer = np.array([(g.chosen @ c) / c.sum() for g, c in voted])
    return {
        "people": ratio(kept, people, seed=seed),
        "scorer": ratio(kept, scorer, seed=seed),
        "difference": ratio(kept, scorer - people, seed=seed),
    }


def pairs(group: Judged) -> tuple[np.ndarray, np.ndarray]:
    """For each pair of unequal value: 1 when the rewards order it alike (ties half), and by how much the better one is
    the longer."""
    better, worse = np.nonzero(group.value[:, None] > group.value[None, :])
    difference = group.reward[better] - group.reward[worse]
    return (difference > 0) + 0.5 * (difference == 0), group.length[better] - group.length[worse]


def column(groups: Iterable[Judged], figure: Callable[[Judged], float]) -> np.ndarray:
    """A figure of each group."""
    return np.array([figure(g) for g in groups], float)


def ratio(
    groups: Sequence[Judged], top: np.ndarray, bottom: np.ndarray | None = None, *, seed: int
) -> statistics.Measured:
    """The sum of a figure of the groups over the sum of another (their number), with its interval over prompts."""
    under = np.ones(len(groups)) if bottom is None else bottom
    owners = [g.prompt for g in groups]
    return statistics.interval(lambda i: float(top[i].sum() / under[i].sum()), len(groups), seed=seed, owners=owners)
