"""Blends, with scorers that look rewards up in a table."""

from collections import Counter

import pytest

from bakeoff.records import Completion, Message, Score
from bakeoff.scoring.composite import Blend, quantile


class Table:
    """A scorer that knows the reward of some texts, and counts how often it is asked for each."""

    def __init__(self, name, rewards):
        self.name, self.rewards, self.asked = name, rewards, Counter()

    @property
    def used(self):
        return Counter(calls=self.asked.total())

    def score(self, groups):
        for _, group in groups:
            self.asked.update(c.text for c in group)
            yield [
                Score(c.id, c.prompt_id, self.name, r, "" if r is not None else "odd: not known")
                for c in group
                for r in [self.rewards.get(c.text)]
            ]


def group(*texts, prompt="p"):
    rows = [Completion(f"{prompt}{i}", prompt, i, t, [], None, "stop") for i, t in enumerate(texts)]
    return [Message("user", prompt)], rows


def rewards(scorer, *groups):
    return [[s.reward for s in scores] for scores in scorer.score(groups)]


def test_a_quantile_is_the_chance_to_beat_one_of_them_ties_half():
    assert [quantile(x, [1, 2, 2, 9]) for x in (0, 1, 2, 5, 9)] == [0, 1 / 8, 1 / 2, 3 / 4, 7 / 8]


def test_the_weighted_mean_of_quantiles_whatever_the_scale():
    one, other = Table("one", {"a": 1, "b": 2}), Table("other", {"a": 9e9, "b": -9e9})
    assert rewards(Blend([one, other], [3, 1]), group("a", "b")) == [[pytest.approx(3 / 8), pytest.approx(5 / 8)]]
    bent = Table("bent", {"a": -1e-9, "b": 1e9})
    assert rewards(Blend([bent, other], [3, 1]), group("a", "b")) == rewards(
        Blend([one, other], [3, 1]), group("a", "b")
    )
    against = rewards(Blend([one, other], [1, -1]), group("a", "b"))
    assert against == [[pytest.approx(-1 / 4), pytest.approx(1 / 4)]]


def test_peers_are_the_scale_of_every_policy_and_are_scored_once():
    table = Table("t", {"a": 1, "b": 2, "c": 3})
    _, reference = group("a", "b")
    scorer = Blend([table], peers={"p": reference})
    assert rewards(scorer, ([Message("user", "p")], reference)) == [[0.25, 0.75]]
    assert rewards(scorer, group("c", "b")) == [[1.0, 0.75]]
    assert table.asked == Counter(a=1, b=2, c=1)  # b once as a peer, once as the other policy's
    fresh = Blend([Table("t", table.rewards)], peers={"p": reference})
    assert rewards(fresh, group("c", "b"), group("a", prompt="q")) == [[1.0, 0.75], [0.5]]


def test_what_one_scorer_lacks():
    whole, part = Table("whole", {"a": 1, "b": 2, "c": 3}), Table("part", {"a": 1, "b": 0})
    scorer = Blend([whole, part])
    (scores,) = scorer.score([group("a", "b", "c")])
    assert [s.reward for s in scores] == [pytest.approx((1 / 6 + 3 / 4) / 2), pytest.approx((1 / 2 + 1 / 4) / 2), None]
    assert scores[2].reason == "odd: by part: odd: not known" and scores[2].scorer == "blend"
    # where a scorer rewards nothing of a prompt, the others decide; where none does, nothing is known
    assert rewards(scorer, group("c", "c", prompt="q"), group("x", prompt="r")) == [[0.5, 0.5], [None]]
    assert scorer.used == Counter(calls=2 * 6)
