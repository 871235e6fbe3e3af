import random

from bakeoff.preferences.split import near_duplicates, split
from bakeoff.records import Message, Pick


def texts(rng, count, length):
    return [" ".join("".join(rng.choices("abcdefghik", k=5)) for _ in range(length)) for _ in range(count)]


def test_a_slip_makes_no_other_text_and_another_word_in_few_does():
    long = "how much revenue did the company report for the year that ended in december"
    others = ["what is rain", "what is rail", long + " 2021"]
    assert near_duplicates([long, *others, long.replace("company", "compony")]) == [long, *others, long]
    years = [f"{long} {year}" for year in range(1900, 2000)]
    assert near_duplicates(years) == years


def test_near_copies_are_found_and_nothing_else():
    rng = random.Random(0)
    plain = texts(rng, 200, 30)
    copies = [t.replace(" ", "  ", 1)[:-1] + "x" for t in plain]
    found = near_duplicates(plain + copies)
    assert found[:200] == found[200:] and len(set(found)) == 200
    assert near_duplicates([]) == [] and near_duplicates(["", "", "a"]) == ["", "", "a"]


def test_no_near_copy_is_on_the_other_side_whatever_the_order():
    rng = random.Random(1)
    plain = texts(rng, 100, 20)
    picks = [Pick([Message("user", t + end)], ["a", "b"], 0, t) for t in plain for end in ("", "?", " x", " xy")]
    training, heldout = split(picks, 0.3)
    assert not {p.source for p in training} & {p.source for p in heldout} and 15 < len(heldout) / 4 < 45
    again = split(rng.sample(picks, len(picks)), 0.3)[1]
    assert {p.messages[0].content for p in again} == {p.messages[0].content for p in heldout}
