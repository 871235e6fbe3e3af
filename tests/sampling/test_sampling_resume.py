"""Sampling in parts: what is finished is kept, what failed is recorded, nothing is dropped or shortened."""

from pathlib import Path

import pytest

from bakeoff.errors import UserError
from bakeoff.records import Completion, Failure, Message, Prompt, Score
from bakeoff.run import GROUPS_PER_PART, open_run
from bakeoff.sampling import Sampling
from bakeoff.sampling.resume import complete_table, failures
from bakeoff.scorer import by_prompt, score_tables
from bakeoff.settings import Recipe

PROMPTS = [Prompt(f"p{i:03d}", [Message("user", str(i))], "log:1", 1, "train") for i in range(GROUPS_PER_PART + 6)]
TWO = Sampling(group_size=2)


class Echo:
    """Answers with the question; fails on prompts in `bad`, stops everything at the one in `stop`."""

    def __init__(self, bad=(), stop=None, size=2):
        self.bad, self.stop, self.size, self.asked = bad, stop, size, []

    def complete(self, prompts, sampling, failed):
        for p in prompts:
            self.asked.append(p.id)
            if p.id == self.stop:
                raise UserError("the endpoint is gone")
            if p.id in self.bad:
                failed(Failure(p.id, "empty", "log:1: the prompt is empty"))
            else:
                yield [Completion(f"{p.id}-{i}", p.id, i, p.messages[0].content, [1], None, "stop") for i in (0, 1)][
                    : self.size
                ]


@pytest.fixture
def run(tmp_path):
    return open_run(tmp_path / "run", Recipe())


def test_failures_of_all_parts_are_one_table_and_the_groups_stay_whole(run):
    bad = {"p003", f"p{GROUPS_PER_PART + 2:03d}"}
    rows = complete_table(run, "completions", PROMPTS, TWO, lambda: Echo(bad))
    assert [r.prompt_id for r in rows] == [p.id for p in PROMPTS if p.id not in bad for _ in range(2)]
    assert all(r.logp is None for r in rows)
    assert {f.prompt_id for f in failures(run, "completions")} == bad
    assert not list((run.folder / "parts").iterdir())
    assert complete_table(run, "completions", PROMPTS, TWO, lambda: None) == rows
    assert {f.prompt_id for f in failures(run, "completions")} == bad


def test_a_kill_while_failures_are_gathered_loses_none(run, monkeypatch):
    bad, unlink = {"p003", f"p{GROUPS_PER_PART + 2:03d}"}, Path.unlink

    def killed(path, **options):
        unlink(path, **options)
        if path.name.startswith("completions_failed"):
            raise KeyboardInterrupt

    monkeypatch.setattr(Path, "unlink", killed)
    with pytest.raises(KeyboardInterrupt):
        complete_table(run, "completions", PROMPTS, TWO, lambda: Echo(bad))
    monkeypatch.setattr(Path, "unlink", unlink)
    complete_table(run, "completions", PROMPTS, TWO, lambda: None)
    assert {f.prompt_id for f in failures(run, "completions")} == bad


def test_answers_to_other_prompts_are_not_taken_for_those_to_these(run):
    complete_table(run, "completions", PROMPTS[:3], TWO, lambda: Echo(bad={"p001"}))
    with pytest.raises(UserError, match=r"completions.parquet: answers other prompts than now.*--out"):
        complete_table(run, "completions", PROMPTS[:4], TWO, lambda: None)
    with pytest.raises(UserError, match="answers other prompts"):
        complete_table(run, "completions", PROMPTS[:2], TWO, lambda: None)


def test_without_failures_there_is_no_table_of_them(run):
    complete_table(run, "completions", PROMPTS, TWO, Echo)
    assert failures(run, "completions") == [] and not run.table("completions_failed").exists()


def test_what_stops_everything_keeps_the_finished_groups(run):
    first, second = Echo(bad={"p001"}, stop="p067"), Echo(bad={"p001"})
    with pytest.raises(UserError, match="gone"):
        complete_table(run, "completions", PROMPTS, TWO, lambda: first)
    rows = complete_table(run, "completions", PROMPTS, TWO, lambda: second)
    assert second.asked == ["p067", "p068", "p069"]
    assert [r.prompt_id for r in rows] == [p.id for p in PROMPTS if p.id != "p001" for _ in range(2)]
    assert [f.prompt_id for f in failures(run, "completions")] == ["p001"]
    assert not list((run.folder / "parts").iterdir())


def test_an_engine_that_drops_or_shortens_is_found_out(run):
    with pytest.raises(AssertionError, match="not whole"):
        complete_table(run, "completions", PROMPTS, TWO, lambda: Echo(size=1))

    class Dropping(Echo):
        def complete(self, prompts, sampling, failed):
            return super().complete(prompts[1:], sampling, failed)

    with pytest.raises(AssertionError, match="dropped"):
        complete_table(run, "completions", PROMPTS, TWO, Dropping)


class Lengths:
    """Rewards by the length of the text, and remembers the groups it was given; fails at the prompt in `stop`."""

    def __init__(self, stop=None):
        self.stop, self.seen = stop, []

    def score(self, groups):
        for _, group in groups:
            if group[0].prompt_id == self.stop:
                raise UserError("the judge is gone")
            self.seen.append([c.id for c in group])
            yield [Score(c.id, c.prompt_id, "length", float(len(c.text))) for c in group]


def test_several_tables_are_scored_as_one_and_told_apart_again(run):
    def drawn(name, count, without=()):
        kept = [p for p in PROMPTS if p.id not in without]
        rows = ((p.id, i) for p in kept for i in range(count))
        return [Completion(f"{name}{key}-{i}", key, i, name * i, [1], None, "stop") for key, i in rows]

    tables = {"tuned_scores": drawn("t", 3), "greedy_scores": drawn("gg", 2, without=("p001", "p066"))}
    score = lambda scorer: score_tables(run, tables, PROMPTS, lambda: scorer, together="both_scores")  # noqa: E731
    first, second = Lengths(stop="p067"), Lengths()
    with pytest.raises(UserError, match="gone"):
        score(first)
    reordered = dict(reversed(tables.items()))  # an order of no meaning may be another one in the next process
    made = score_tables(run, reordered, PROMPTS, lambda: second, together="both_scores")
    seen = first.seen[:GROUPS_PER_PART] + second.seen  # of the part that was stopped nothing is kept
    together = {p.id: [c.id for t in tables.values() for c in by_prompt(t).get(p.id, [])] for p in PROMPTS}
    assert [sorted(group) for group in seen] == [sorted(group) for group in together.values()]
    for name, rows in tables.items():
        assert [(s.completion_id, s.reward) for s in made[name]] == [(c.id, len(c.text)) for c in rows]
    assert score(None) == made and not run.table("both_scores").exists()
    run.table("both_scores").touch()  # as a kill just before its removal leaves it
    assert score(None) == made and not run.table("both_scores").exists()
