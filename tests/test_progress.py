"""A progress line promises no time that is not known; time is that of a clock which the test sets."""

import io

import pytest

from bakeoff.progress import LEAST_SECONDS, Pace, Progress
from bakeoff.records import Score
from bakeoff.run import GROUPS_PER_PART, open_run, table_in_parts
from bakeoff.settings import Recipe


class Clock:
    now = 1000.0

    def __call__(self):
        return self.now


def paced(*marks, total, later=0.0):
    """What is left after marks (seconds, done so far), a while after the last one."""
    clock = Clock()
    pace = Pace(clock)
    for seconds, done in marks:
        clock.now = 1000.0 + seconds
        pace.mark(done)
    clock.now += later
    return pace.left(total)


def test_loading_and_the_first_wave_promise_nothing():
    assert Pace(Clock()).left(100) is None
    assert paced((36, 1), total=350) is None
    assert paced((36, 64), total=350, later=30) is None


def test_what_is_left_is_told_by_the_pace_since_the_warm_up():
    assert paced((300, 64), (310, 128), total=320) == pytest.approx(30)  # not 5 times as long, as with the warm-up
    assert paced((300, 64), (310, 128), total=320, later=10) == pytest.approx(20)
    assert paced((300, 64), (310, 128), total=320, later=100) == 0


def test_few_things_and_a_moment_are_no_pace():
    assert paced((1, 1), (60, 2), total=10) is None
    assert paced((1, 1), (2, 2), (1 + LEAST_SECONDS, 3), total=10) == pytest.approx(7 * LEAST_SECONDS / 2)
    assert paced((0, 1), (LEAST_SECONDS / 2, 500), total=1000) is None


def test_without_an_end_no_time_is_told():
    assert paced((1, 1), (60, 20), (90, 50), total=None) is None


def test_the_line(monkeypatch):
    clock = Clock()
    with Progress("bake", 40, unit="steps", file=io.StringIO()) as bar:
        bar.pace.clock = clock
        for done in range(1, 12):
            clock.now += 10
            bar.update()
            assert ("left" in str(bar)) == (done >= 3), str(bar)
        assert "11/40 steps" in str(bar) and "about 04:50 left" in str(bar)


def test_what_comes_in_waves_is_told_by_whole_waves():
    clock = Clock()
    with Progress("completions", 40, unit="prompts", in_waves=True, file=io.StringIO()) as bar:
        bar.pace.clock = clock
        for _ in range(2):
            for _ in range(10):
                clock.now += 10
                bar.update()
                assert "left" not in str(bar)
            bar.mark()
        assert "20/40 prompts" in str(bar) and "about 03:20 left" in str(bar)


def test_what_has_no_total_is_counted():
    with Progress("prompts", unit="rows", file=io.StringIO()) as bar:
        bar.update(12)
        assert str(bar).startswith("prompts: 12 rows [")


def test_the_pace_of_a_table_is_that_of_its_parts(tmp_path, monkeypatch):
    marks = []
    monkeypatch.setattr(Pace, "mark", lambda pace, done: marks.append(done))

    def make(chunk, done):
        for number in chunk:
            done()
            yield Score(f"c{number}", f"p{number}", "test", 0.0)

    groups = range(2 * GROUPS_PER_PART + 2)
    table_in_parts(open_run(tmp_path / "run", Recipe()), "scores", Score, groups, make)
    assert marks == [GROUPS_PER_PART, 2 * GROUPS_PER_PART, len(groups)]
