"""What is no whole answer is not rewarded where only the bake would ask, and ranks last all the same."""

import numpy as np

from bakeoff.records import Completion, Message, Score
from bakeoff.scorer import NOT_WHOLE
from bakeoff.scoring.composite import CompleteOnly
from bakeoff.settings import Recipe, Sample
from bakeoff.training.methods import best_weights
from bakeoff.training.stage import group_of, teaching


class Long:
    """Rewards length, and notes what it was asked about."""

    def __init__(self):
        self.asked, self.used = [], {"calls": 0}

    def score(self, groups):
        for _, group in groups:
            self.asked += [c.id for c in group]
            self.used["calls"] += len(group)
            yield [Score(c.id, c.prompt_id, "long", float(len(c.text))) for c in group]


def group(prompt, *texts):
    """Texts as completions of their characters; one that ends in a dash is unfinished."""
    rows = [
        Completion(f"{prompt}{i}", prompt, i, t, list(t.encode()), -1.0, "length" if t.endswith("-") else "stop")
        for i, t in enumerate(texts)
    ]
    return [Message("user", prompt)], rows


GROUPS = [group("a", "ab", "abcde-", "abc", " "), group("b", "x-", "xy-"), group("c", "z" * 40, "zx", "z")]


def scored(scorer):
    return [score for scores in scorer.score(GROUPS) for score in scores]


def test_only_whole_answers_are_asked_about():
    asked = Long()
    scores = scored(CompleteOnly(asked, "long"))
    assert asked.asked == ["a0", "a2", "c1", "c2"] and CompleteOnly(asked, "long").used == {"calls": 4}
    assert [s.completion_id for s in scores] == [c.id for _, rows in GROUPS for c in rows]
    assert {s.scorer for s in scores} == {"long"}
    told = {s.completion_id: s.reason for s in scores if s.reward is None}
    assert told["a1"] == f"{NOT_WHOLE}: unfinished" and told["a3"].endswith("empty") and told["c0"].endswith("looping")
    assert [s.reward for s in scores if s.reward is not None] == [2, 3, 2, 1]


def test_the_bake_learns_the_same():
    completions = [c for _, rows in GROUPS for c in rows]
    recipe = Recipe(sample=Sample(group_size=4))
    made = [teaching(completions, scored(scorer), recipe) for scorer in (Long(), CompleteOnly(Long(), "long"))]
    assert made[0][1] == made[1][1] == {"trained": 2, "unfinished": 1}
    for before, after in zip(made[0][0], made[1][0], strict=True):
        assert before.tokens == after.tokens and before.finished_M.tolist() == after.finished_M.tolist()
        assert before.reward_M.tolist() == after.reward_M.tolist()
        assert best_weights(after, 4).tolist() == best_weights(before, 4).tolist()


def test_a_whole_answer_that_could_not_be_rewarded_is_left_out():
    rows = GROUPS[0][1]
    found = group_of("a", [(c, None) for c in rows[:2]] + [(rows[2], 1.0)])
    assert len(found.tokens) == 2 and found.finished_M.tolist() == [True, False] and not np.isnan(found.reward_M).any()
