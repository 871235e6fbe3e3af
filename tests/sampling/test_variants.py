"""Prompt variants share a group; their answers stand under the plain prompt and carry the name of their variant."""

import functools

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import byte_tokenizer

from bakeoff import config
from bakeoff.errors import UserError
from bakeoff.models.load import load_policy
from bakeoff.preferences.load import known_picks
from bakeoff.records import Completion, Failure, Message, Pick, Prompt, content_id, prompt_id
from bakeoff.run import Run
from bakeoff.sampling import Sampling
from bakeoff.sampling.local import LocalEngine
from bakeoff.sampling.variants import VariantEngine, check_variants, over, variant_counts
from bakeoff.settings import Prompts, Recipe, Sample, Variant
from bakeoff.training.figures import earned

QUESTION = [Message("user", "How much?")]
PROMPTS = [
    Prompt(prompt_id(QUESTION), QUESTION, "log:1", 1, "train"),
    Prompt("other", [Message("user", "Why?")], "log:2", 1, "train"),
]
PICKS = [Pick([Message("user", f"q{i}")], ["bad", f"good{i}"], 1, "picks:1") for i in range(4)] + [
    Pick(QUESTION, ["its own answer", "x"], 0, "picks:9")
]


class Says:
    """Answers with a text made from the conversation; refuses conversations that hold `bad`."""

    def __init__(self, text, bad="\0"):
        self.text, self.bad, self.asked = text, bad, []

    def complete(self, prompts, sampling, failed):
        for p in prompts:
            self.asked.append((p.messages, sampling.group_size))
            if any(self.bad in m.content for m in p.messages):
                failed(Failure(p.id, "too_long", "log:1: too long"))
                continue
            texts = [self.text(p.messages, i) for i in range(sampling.group_size)]
            yield [Completion(f"{p.id}{i}", p.id, i, t, [i], -1.0, "stop") for i, t in enumerate(texts)]


def drawn(engine, *variants, size=4, failed=None):
    wrapped = VariantEngine(engine, variants, byte_tokenizer(), PICKS)
    return list(wrapped.complete(PROMPTS, Sampling(group_size=size), failed or pytest.fail))


def test_shares_add_up_and_nobody_is_left_out():
    a, b, c = (Variant(n, share=s) for n, s in (("a", 1), ("b", 2), ("c", 97)))
    assert variant_counts([a], 5) == [5]
    assert variant_counts([a, b], 8) == [3, 5]
    assert variant_counts([a, b, c], 16) == [2, 1, 13]
    assert variant_counts([a, b, c], 3) == [1, 1, 1]


def test_a_group_is_whole_in_the_order_of_the_variants_under_the_plain_prompt():
    engine = Says(lambda messages, i: f"{len(messages)}:{messages[-1].content}:{i}")
    plain, steps = Variant("plain"), Variant("steps", system="Be exact.", instruction="Think first.")
    groups = drawn(engine, plain, steps)
    assert [g[0].prompt_id for g in groups] == [p.id for p in PROMPTS]
    assert [c.strategy for c in groups[0]] == ["plain", "plain", "steps", "steps"]
    assert [c.index for c in groups[0]] == [0, 1, 2, 3]
    assert [c.text for c in groups[0]] == ["1:How much?:0", "1:How much?:1"] + [
        f"2:How much?\n\nThink first.:{i}" for i in (0, 1)
    ]
    assert groups[0][2].id == content_id("completion", PROMPTS[0].id, 2, [0])


def test_what_only_marks_its_answer_has_draws_of_its_own():
    seen = []

    class Noting(Says):
        def complete(self, prompts, sampling, failed):
            seen.append([p.id for p in prompts])
            return super().complete(prompts, sampling, failed)

    engine = Noting(lambda messages, i: f"so Answer: {i}")
    drawn(engine, Variant("plain"), Variant("marked", answer_after="Answer:"))
    assert seen[0] == [p.id for p in PROMPTS] and not set(seen[0]) & set(seen[1])


def test_examples_are_picked_answers_to_other_prompts():
    engine = Says(lambda messages, i: "a")
    drawn(engine, Variant("few", examples=4), size=1)
    (messages, _), _ = engine.asked
    assert [m.role for m in messages] == ["user", "assistant"] * 4 + ["user"]
    pairs = {(messages[i].content, messages[i + 1].content) for i in range(0, 8, 2)}
    assert pairs == {(f"q{i}", f"good{i}") for i in range(4)}  # never its own


def test_a_conversation_has_one_system_message_at_its_head(monkeypatch):
    said = [Message("system", "Own."), Message("user", "q"), Message("assistant", "a"), Message("user", "How much?")]
    pool = [Pick([Message("system", "Another's."), Message("user", "q0")], ["bad", "good"], 1, "picks:1")]
    variant = Variant("few", examples=1, system="Be exact.")
    wrapped = VariantEngine(Says(lambda messages, i: "x"), [variant], byte_tokenizer(), pool)
    list(wrapped.complete([Prompt("p", said, "log:1", 1, "train")], Sampling(group_size=1), pytest.fail))
    (messages, _), *_ = wrapped.engine.asked
    assert [m.role for m in messages] == ["system", "user", "assistant", "user", "assistant", "user"]
    assert messages[0].content == "Be exact.\n\nOwn." and messages[2].content == "good"


def test_only_the_marked_answer_counts():
    texts = ["so 4 + 5. Answer: 9 ", "no mark", "Answer: 1, no, Answer: 2"]
    (group, _) = drawn(Says(lambda m, i: texts[i]), Variant("steps", answer_after="Answer:"), size=3)
    assert [c.text for c in group] == ["9", "no mark", "2"]
    assert [c.finish for c in group] == ["stop", "length", "stop"]
    assert byte_tokenizer().decode(group[0].tokens[:-1]) == "9"
    assert group[0].tokens[-1] == byte_tokenizer().eos_token_id
    assert [c.logp for c in group] == [None, -1.0, None]


def test_a_prompt_that_one_variant_cannot_complete_has_no_group_and_one_failure():
    failures = []
    engine = Says(lambda messages, i: "a", bad="much?\n\nhow")
    groups = drawn(engine, Variant("plain"), Variant("how", instruction="how"), failed=failures.append)
    assert [g[0].prompt_id for g in groups] == ["other"]
    assert [(f.prompt_id, f.reason) for f in failures] == [(PROMPTS[0].id, "too_long")]


def test_the_plain_part_is_what_would_have_been_drawn_without_variants(tiny_llama):
    engine = LocalEngine(*load_policy(str(tiny_llama)))
    alone = {g[0].prompt_id: g for g in engine.complete(PROMPTS, Sampling(group_size=2, max_tokens=6))}
    both = [Variant("plain"), Variant("again", instruction="Now.")]
    mixed = VariantEngine(engine, both, byte_tokenizer(), []).complete(PROMPTS, Sampling(group_size=4, max_tokens=6))
    for group in mixed:
        assert group[:2] == alone[group[0].prompt_id]
        assert group[2].tokens != group[0].tokens


def test_what_a_variant_earns():
    names = [["a", "a", "b", "b"]] * 2
    found = earned(names, [[1.0, 3.0, 2.0, 0.0], [0.0, 5.0, 5.0, 1.0]], seed=0)
    assert found["a"]["share"].value == 0.5 and found["a"]["reward"].value == 2.25
    assert found["a"]["best"].value == 0.75 and found["a"]["lift"].value == 1.5
    assert found["b"]["lift"].value == 0.5


def test_examples_may_be_what_users_said_of_old_answers(tmp_path, tiny_llama):
    asks = Recipe(sample=Sample(variants=[Variant("few", examples=1)]))
    check_variants(asks)
    run = Run(tmp_path / "rounds" / "bake-2")
    picks = functools.partial(known_picks, run.whole(), asks.reward)
    with pytest.raises(UserError, match="few: neither reward.picks nor the logs hold"):
        over(Says(""), tiny_llama, asks, picks)
    asked = [{"role": "user", "content": "How many?"}]
    row = {"messages": asked, "completions": ["two", "2"], "pick": 1, "split": "train", "source": "log:1"}
    pq.write_table(pa.Table.from_pylist([row]), tmp_path / "picks.parquet")
    engine = Says(lambda messages, i: "a")
    list(over(engine, tiny_llama, asks, picks).complete(PROMPTS[:1], Sampling(group_size=1)))
    assert [m.content for m in engine.asked[0][0]] == ["How many?", "2", "How much?"]


def test_mistakes_are_told(tmp_path):
    without = Prompts(skip=["feedback"])
    for variants, words in (
        ([Variant(), Variant("a")], "a name of its own"),
        ([Variant("a"), Variant("a")], "a name of its own"),
        ([Variant(n) for n in "abcde"], "5 cannot share a group of 4"),
        ([Variant("a", examples=2)], "reward.picks"),
        ([Variant("a"), Variant("b")], "all ask the plain prompt"),
    ):
        with pytest.raises(UserError, match=words):
            check_variants(Recipe(sample=Sample(group_size=4, variants=variants), prompts=without))
    path = tmp_path / "r.toml"
    path.write_text('[[sample.variants]]\nname = "steps"\ninstruction = "Think."\n[[sample.variants]]\nname="plain"\n')
    assert config.load(path).sample.variants == [Variant("steps", instruction="Think."), Variant("plain")]
    again = tmp_path / "again.toml"
    again.write_text(config.dump(config.load(path)))
    assert config.load(again) == config.load(path)
    path.write_text("[[sample.variants]]\nnmae = 'x'\n")
    with pytest.raises(UserError, match="did you mean 'name'"):
        config.load(path)
