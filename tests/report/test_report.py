import copy
import math
import re
import xml.etree.ElementTree as ElementTree
from html.parser import HTMLParser

import pytest

from bakeoff.math.statistics import Measured
from bakeoff.models.load import NOTES
from bakeoff.report import wording
from bakeoff.report.data import Bars, Data
from bakeoff.report.page import Example, Shown, render_report
from bakeoff.report.plots import curve_svg
from bakeoff.report.stage import noted
from bakeoff.report.verdict import outcome, verdict
from bakeoff.settings import Recipe

KS = [1, 2, 4, 8, 16]
NASTY = "<script>alert('x')</script> & \"quoted\""


def m(value, low, high, n=300):
    return Measured.of({"value": value, "low": low, "high": high, "n": n})


def rows(values, half=0.04):
    return [{"k": k} | m(v, v - half, v + half).as_dict() for k, v in zip(KS, values, strict=True)]


QUALITY = {
    "metric": "correct",
    "reference_at_1": m(0.27, 0.24, 0.30),
    "reference_best_of_n": m(0.54, 0.49, 0.59),
    "selection_gain": m(0.27, 0.22, 0.32),
    "tuned_at_1": m(0.63, 0.58, 0.68),
    "gain": m(0.36, 0.31, 0.41),
    "gap_closed": m(1.33, 1.15, 1.6),
    "equivalent_n": m(16, 16, 16),
    "k_eff": m(7.1, 5.9, 8.7),
    "curve": rows([0.27, 0.36, 0.44, 0.50, 0.54]),
    "oracle": rows([0.27, 0.40, 0.55, 0.68, 0.78]),
}
REWARD = QUALITY | {
    "metric": "reward",
    "reference_at_1": m(-1.3, -1.5, -1.1),
    "reference_best_of_n": m(1.4, 1.2, 1.6),
    "selection_gain": m(2.7, 2.6, 2.8),
    "tuned_at_1": m(1.1, 0.9, 1.3),
    "gain": m(2.4, 2.2, 2.6),
    "gap_closed": m(0.89, 0.84, 0.95),
    "equivalent_n": m(10.6, 9, 13),
    "curve": rows([-1.3, -0.5, 0.2, 0.9, 1.4]),
}
SUMMARY = {
    "prompts": {"read": 1504, "kept": 1121, "train": 1021, "heldout": 100, "dropped": {"exact duplicate": 383}},
    "reward_model": {"pick_accuracy": m(0.52, 0.41, 0.62, 92), "chance": m(0.19, 0.17, 0.21, 92)}
    | {"longest_wins": m(0.11, 0.06, 0.18, 92), "pair_accuracy": m(0.83, 0.78, 0.87, 92), "picks": 368},
    "scorer": {"name": "reward model", "used": {"calls": 1200}, "missing": {"score": {}, "evaluate": {}}},
    "quality": QUALITY,
    "reward": REWARD,
    "wins": {
        "scorer": {"judge": "reward model", "win_rate": m(0.88, 0.86, 0.9), "k_eff": m(7.1, 5.9, 8.7)}
        | {"kl_efficiency": m(0.12, 0.1, 0.14)},
        "outside": {"judge": "true answers", "win_rate": m(0.7, 0.66, 0.74), "k_eff": m(2.3, 2.0, 2.7)}
        | {"kl_efficiency": m(0.05, 0.04, 0.06)}
        | {"coverage": {"k": 8, "reference": m(0.61, 0.55, 0.66), "tuned": m(0.72, 0.66, 0.78)}}
        | {"agreement": {"reference": m(0.83, 0.8, 0.86), "tuned": m(0.74, 0.7, 0.78)}},
    },
    "completions": {"drawn": 5120, "unfinished": 31},
    "strategies": {
        "steps": {"share": m(0.25, 0.25, 0.25), "best": m(0.41, 0.35, 0.47)}
        | {"lift": m(1.64, 1.4, 1.9), "reward": m(0.3, 0.2, 0.4)}
    },
    "rounds": {
        "rounds": [
            {"reward": m(-1.25, -1.4, -1.1), "kl": m(0, 0, 0)},
            {"reward": m(1.15, 1, 1.3), "kl": m(4.4, 4, 5)},
        ],
        "kept": 1,
    },
    "forgotten": m(0.021, 0.012, 0.034, 24),
    "truncated": {"reference": 0.31, "tuned": 0.02},
    "style": {
        "reference": {"distinct": m(0.93, 0.9, 0.95), "repetition": m(0.05, 0.04, 0.06), "entropy": m(0.6, 0.5, 0.7)},
        "tuned": {"distinct": m(0.52, 0.49, 0.55), "repetition": m(0.01, 0.0, 0.02), "entropy": m(0.3, 0.2, 0.4)},
    },
    "kl": {"tuned": m(9.3, 8.6, 10.1), "best_of_n": 1.835},
    "length": {"reference": m(38.2, 35, 41), "tuned": m(14.6, 14, 15.2)},
    "alarms": [],
    "seconds": {"sample": 151.0, "bake": 172.0, "total": 336.6},
    "tokens": {"sampled": 812345, "scored": 900123, "trained": 61234},
    "peak_memory_mb": 3120,
}
EXAMPLE = Example(
    prompt=NASTY,
    reference=Shown(NASTY, reward=-1.2, right=False),
    picked=Shown("45,310", reward=2.1, right=True),
    tuned=Shown(NASTY),
    gold=NASTY,
)


def having(**changes):
    return SUMMARY | {"quality": QUALITY | changes}


def sentences(text):
    return re.split(r"(?<=\.) (?=[A-Z])", text)


def test_a_clear_success():
    assert verdict(SUMMARY) == (
        "Better: the tuned model's first answer is right 63\xa0% of the time, the reference's 27\xa0% (a change of "
        "31 to 41 points with 95 % confidence, 300 held-out prompts). One try of it now beats the best of 16 reference "
        "tries picked by the reward model (54\xa0%)."
    )


@pytest.mark.parametrize(
    ("changes", "expected", "first", "second"),
    [
        ({"gap_closed": m(1.1, 0.9, 1.3)}, "better", "Better: ", "as good as the best of 16 reference tries"),
        (
            {"gap_closed": m(0.6, 0.4, 0.8), "equivalent_n": m(3.14, 2, 5)},
            "better",
            "Better: ",
            "That is 60\xa0% of the way to the best of 16 reference tries picked by the reward model (54\xa0%), and "
            "worth about 3.1 tries of the reference.",
        ),
        ({"selection_gain": m(0.01, -0.02, 0.04)}, "better", "Better: ", "do not credit the reward model"),
        # rewards that differ more between prompts than by choosing: the difference within prompts tells
        ({"reference_best_of_n": m(0.29, 0.2, 0.4), "selection_gain": m(0.02, 0.01, 0.03)}, "better", "B", "now beats"),
        (
            {"reference_best_of_n": m(None, None, None, 0), "selection_gain": m(None, None, None, 0)},
            "better",
            "Better: ",
            "No answer here has a reward, so that the best of 16 reference tries picked by the reward model could not",
        ),
        ({"gain": m(0.02, -0.02, 0.06)}, "unclear", "No better that can be told from chance: ", "train longer"),
        ({"gain": m(0.0, 0.0, 0.0)}, "unclear", "No better that can be told from chance: ", "train longer"),
        (
            {"gain": m(-0.01, -0.03, 0.02), "selection_gain": m(0.0, -0.03, 0.03)},
            "unclear",
            "No better that can be told from chance: ",
            "begin with more or cleaner picks",
        ),
        ({"gain": m(-0.1, -0.15, -0.05)}, "worse", "Worse: ", "Keep the reference"),
        ({"gain": m(0.5, 0.2, 0.8, 9)}, "unknown", "Not known: with 9 held-out prompts no", "Hold out more prompts"),
        (
            {"gain": m(-0.1, -0.15, -0.05), "selection_gain": m(None, None, None, 0)},
            "worse",
            "Worse: ",
            "Keep the reference; train longer",
        ),
        ({"gain": m(0.5, None, None, 1)}, "unknown", "Not known: with 1 held-out prompt no", "Hold out more prompts"),
        ({"gain": m(None, None, None, 0)}, "unknown", "Not known: with 0 held-out prompts no", "Hold out more prompts"),
    ],
)
def test_every_verdict_is_two_plain_sentences(changes, expected, first, second):
    text = verdict(having(**changes))
    assert outcome(having(**changes)) == expected
    assert len(sentences(text)) == 2
    assert sentences(text)[0].startswith(first)
    assert second in sentences(text)[1]


def test_without_true_answers_the_verdict_says_who_judged():
    text = verdict(SUMMARY | {"quality": None})
    assert "mean reward of 1.1 from the reward model, with no true answers to check it against" in text
    assert "2.2 to 2.6 with 95 % confidence" in text
    assert "worth about 11 tries" in text and len(sentences(text)) == 2
    checked = verdict(SUMMARY | {"quality": None, "reward": SUMMARY["reward"] | {"picker": "verifier"}})
    assert "mean reward of 1.1 from the verifier" in checked and "no true answers" not in checked


def test_another_metric_and_a_summary_without_its_curve():
    text = verdict(having(metric="token_f1", curve=None))
    assert "scores 63\xa0% (token_f1)" in text and "beats the best of all reference tries" in text


def test_alarms_are_in_the_verdict():
    assert verdict(SUMMARY | {"alarms": ["a"]}).startswith("Better, but with 1 alarm to read first: ")
    assert verdict(SUMMARY | {"alarms": ["a", "b"]}).startswith("Better, but with 2 alarms to read first: ")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (wording.percent(0.634), "63\xa0%"),
        (wording.percent(0.0345), "3.5\xa0%"),
        (wording.percent(math.nan), "–"),
        (wording.number(-0.01234), "−0.0123"),
        (wording.number(12345.6), "12,346"),
        (wording.number(5.55e-17), "0"),
        (wording.tries(0.4), "less than one try"),
        (wording.tries(1.0), "1 try"),
        (wording.tries(2.83), "2.8 tries"),
        (wording.tries(9.97), "10 tries"),
        (wording.duration(5.21), "5.2 s"),
        (wording.duration(59.7), "1 min 0 s"),
        (wording.duration(7500), "2 h 5 min"),
        (wording.span(Measured(0.3, 0.25, math.inf, 9), wording.percent), "25\xa0% to anything"),
        (wording.span(Measured(0.3, -math.inf, math.inf, 1), wording.percent), "not known"),
        (wording.span(Measured(0.3, 0.301, 0.302, 9), wording.percent), "30\xa0%"),
        (wording.span(Measured(0.3, 0.2, 0.4, 9), wording.points), "20 to 40 points"),
        (wording.span(Measured(1.8, 1.8, 1.8, 0), wording.number), ""),
    ],
)
def test_numbers_as_a_person_reads_them(text, expected):
    assert text == expected


# The picture


def picture(tuned=0.47, metric="correct", values=(0.27, 0.36, 0.44, 0.50, 0.54), oracle=(0.27, 0.40, 0.55, 0.68, 0.78)):
    def near(value):
        return Measured(value, value - 0.04, value + 0.04, 300)

    svg = curve_svg(KS, [near(v) for v in values], [near(v) for v in oracle], near(tuned), metric=metric)
    return svg, ElementTree.fromstring(svg)


def of_class(root, name):
    return [e for e in root.iter() if name in e.get("class", "").split()]


def texts(root):
    return ["".join(e.itertext()) for e in root.iter("{http://www.w3.org/2000/svg}text")]


def test_the_curve_passes_through_its_values():
    _, root = picture()
    zero, one = (
        float(next(e for e in root.iter() if e.text == mark).get("y")) for mark in ("0\xa0%", "100\xa0%")
    )  # labels sit equally far below their lines
    dots = [float(e.get("cy")) for e in of_class(root, "curve-dot")]
    assert [(zero - 4.5 - y) / (zero - one) for y in dots] == pytest.approx([0.27, 0.36, 0.44, 0.5, 0.54], abs=2e-3)
    xs = [float(e.get("cx")) for e in of_class(root, "curve-dot")]
    assert [b - a for a, b in zip(xs, xs[1:], strict=False)] == pytest.approx([(xs[4] - xs[0]) / 4] * 4, abs=0.2)


def test_the_tuned_point_meets_the_curve_where_it_is_as_good():
    _, root = picture(tuned=0.47)
    (meet,) = of_class(root, "meet")
    assert meet.get("cy") == of_class(root, "tuned-dot")[0].get("cy")
    assert "= 5.7 tries" in texts(root)
    for beyond in (0.63, 0.2):
        assert not of_class(picture(tuned=beyond)[1], "meet")


@pytest.mark.parametrize("tuned", [0.02, 0.26, 0.27, 0.28, 0.47, 0.54, 0.63, 0.78, 0.99])
def test_labels_at_the_right_never_overlap(tuned):
    _, root = picture(tuned)
    lines = sorted(float(e.get("y")) for e in root.iter() if e.tag.endswith("text") and float(e.get("x")) > 550)
    assert len(lines) == 6
    assert all(b - a > 15.9 for a, b in zip(lines, lines[1:], strict=False))
    assert lines[-1] < 420


def test_the_picture_needs_nothing_else_and_escapes_its_metric():
    svg, root = picture(metric="f1 <b>&")
    assert "f1 <b>& on held-out prompts" in texts(root)
    assert not re.search(r"https?://(?!www\.w3\.org/2000/svg)|url\(|@import|href", svg)
    assert "27\xa0% at the first try" in root.get("aria-label")
    assert "prefers-color-scheme:dark" in svg


def test_the_picture_by_reward_may_be_negative_and_flat():
    _, root = picture(tuned=1.1, metric="reward", values=(-1.3, -0.5, 0.2, 0.9, 1.4), oracle=())
    assert "Mean reward on held-out prompts" in texts(root) and "−1" in texts(root)
    assert not of_class(root, "oracle")
    same = [Measured(2.0, 2.0, 2.0, 5)]
    ElementTree.fromstring(curve_svg([1], same, [], same[0], metric="reward"))
    none = [Measured(0.0, 0.0, 0.0, 5)]
    ElementTree.fromstring(curve_svg([1], none, [], none[0], metric="correct"))


def test_a_picture_without_values_is_refused():
    with pytest.raises(ValueError, match="a value at each"):
        curve_svg([1], [Measured(math.nan, 0, 1, 0)], [], Measured(0.5, 0, 1, 1), metric="correct")


# The page


class Balanced(HTMLParser):
    """Raises when a tag is not closed in order."""

    VOID = ("meta", "br")

    def __init__(self):
        super().__init__()
        self.open = []

    def handle_starttag(self, tag, attrs):
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


COUNTS = {key: n for key, n in SUMMARY["prompts"].items() if key != "dropped"}
DATA = Data(COUNTS, [Bars("Rows", list(COUNTS.items())), Bars("Not kept", [("exact duplicate", 383)])], [NASTY])


def page(summary=SUMMARY, examples=(EXAMPLE,), **more):
    return render_report(summary, DATA, examples, {"model": NASTY}, **more)


def test_the_page_is_well_formed_and_needs_nothing_else():
    html = page(title=NASTY, notes=[NASTY])
    parser = Balanced()
    parser.feed(html)
    assert parser.open == []
    assert not re.search(r"https?://(?!www\.w3\.org/2000/svg)|url\(|@import|href=|src=", html)
    assert "prefers-color-scheme:dark" in html and "default-src 'none'" in html


def test_what_a_model_or_a_user_wrote_is_only_text():
    html = page(SUMMARY | {"alarms": [NASTY]}, title=NASTY, notes=[NASTY])
    assert "<script" not in html
    assert html.count("&lt;script&gt;") >= 8


def test_the_page_opens_with_verdict_alarm_and_picture():
    html = page(SUMMARY | {"alarms": ["Answers became shorter: read some."]})
    places = [html.index(text) for text in ("Better, but with 1 alarm", "Answers became shorter", "<svg", "Before and")]
    assert places == sorted(places)
    assert 'role="alert"' not in page()


@pytest.mark.parametrize(
    "shown",
    ["1,504", "exact duplicate", "383", "52\xa0%", "41 to 62\xa0%", "≥\xa016", "31 to 41 points", "133\xa0%"]
    + [
        "9.3",
        "1.83",
        "38.2",
        "True answers",
        "Best of 8 answers",
        "0.021",
        "Round 1, kept",
        "1.15",
        "steps",
        "1.64",
        "93\xa0%",
        "2.3",
        "5 min 37 s",
        "812,345",
        "3,120 MB",
        "✓ right",
        "✗ wrong",
        "−1.2",
        "True answer",
    ],
)
def test_the_page_shows_every_figure(shown):
    assert shown in page()


def test_the_page_without_true_answers_judges_by_the_reward_alone():
    html = page(SUMMARY | {"quality": None})
    assert "Right, by true answers" not in html
    assert "There are no true answers" in html and "Mean reward on held-out prompts" in html
    assert 'class="oracle"' not in html


def test_the_page_of_an_evaluation_too_small_for_anything():
    summary = copy.deepcopy(SUMMARY) | {"reward_model": None}
    for measure in (summary["quality"], summary["reward"]):
        for key, value in measure.items():
            if isinstance(value, Measured):
                measure[key] = m(None, None, None, 0)
        measure["curve"] = [{"k": k} | m(None, None, None, 0).as_dict() for k in KS]
    html = page(summary, examples=())
    assert "Not known" in html and "<svg" not in html and "Side by side" not in html


def test_at_most_ten_examples_and_settings_by_their_dotted_names():
    html = render_report(SUMMARY, DATA, [EXAMPLE] * 30, {"seed": 0, "sample": {"group_size": 16, "stop": ["a"]}})
    assert html.count("<article>") == 10
    assert "<code>sample.group_size</code>" in html and "[&#34;a&#34;]" in html
    assert "All 3 settings" in html


def test_what_is_to_be_known_of_the_model_stands_under_the_verdict():
    told = NOTES[Recipe().model]
    assert "4-bit copy (Q4_1, dequantised)" in told and "repair of the quantisation" in told
    notes = noted(SUMMARY | {"model_note": told}, Recipe(notes=["The testers are simulated."]))
    page = render_report(SUMMARY, DATA, notes=notes)
    assert notes == ["The testers are simulated.", told] and all(note in page for note in notes)
    assert noted(SUMMARY | {"model_note": None}, Recipe()) == noted(SUMMARY, Recipe()) == []
