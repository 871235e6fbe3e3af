"""Agreement within a group, by cases that a person can count."""

import pytest

from bakeoff.errors import UserError
from bakeoff.records import Completion, Message
from bakeoff.scoring.majority import Majority, normal_answer


def group(*texts):
    rows = [Completion(f"c{i}", "p", i, t, [], None, "stop") for i, t in enumerate(texts)]
    return [Message("user", "ask")], rows


def rewards(scorer, *texts):
    return [s.reward for s in next(scorer.score([group(*texts)]))]


def test_each_completion_is_rewarded_by_the_share_of_the_others_that_agree():
    assert rewards(Majority(), "Port Ellery.", "the port  ellery", "Port Hale", "PORT ELLERY!") == [
        2 / 3,
        2 / 3,
        0,
        2 / 3,
    ]


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("Revenue in 2021 was $45.2 million.", "$45,200,000", True),
        ("45.2%", "45.2", False),
        ("It was 12.", "12.0", True),
        ("12 or 13", "13 or 12", False),
        ('{"a": 1, "b": [2]}', '```json\n{"b": [2], "a": 1}\n```', True),
        ('{"a": 1}', '{"a": 2}', False),
        ("Café Rosa", "cafe rosa", True),
    ],
)
def test_equal_answers_are_equal_however_written(one, other, same):
    assert (normal_answer(one) == normal_answer(other)) is same


def test_the_last_match_of_a_pattern_is_the_answer():
    scorer = Majority(r"answer: (\w+)")
    texts = ["first answer: 3, no, answer: 4", "answer: 4", "it is 4", "answer: 5"]
    scores = next(scorer.score([group(*texts)]))
    assert [s.reward for s in scores] == [0.5, 0.5, None, 0.0]
    assert scores[2].reason == "no answer: nothing to count"
    with pytest.raises(UserError, match="score.extract: not a regular expression"):
        Majority("(")


def test_the_votes_of_peers_count_for_every_policy_alike():
    _, reference = group("a", "a", "b", "c")
    scorer = Majority(peers={"p": reference})
    assert [s.reward for s in next(scorer.score([([], reference)]))] == [1 / 3, 1 / 3, 0, 0]
    assert rewards(scorer, "a", "b", "d", "d") == [0.5, 0.25, 0.0, 0.0]


def test_nobody_to_agree_with_is_no_reward():
    assert [(s.reward, s.reason) for s in next(Majority().score([group("a")]))] == [
        (None, "alone: nobody else answers")
    ]
    assert rewards(Majority(), "", "a") == [None, None]
