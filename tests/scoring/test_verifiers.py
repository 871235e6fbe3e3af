"""The verifiers, by cases that a person can check by eye."""

from __future__ import annotations

import inspect
from pathlib import Path

import pytest

from bakeoff.scoring.verifiers import VERIFIERS
from bakeoff.scoring.verifiers.numbers import number
from bakeoff.scoring.verifiers.quantity import quantity
from bakeoff.scoring.verifiers.words import contains, exact, json_schema, regex

MILLIONS, THOUSANDS, PERCENT, COUNT = "$45.2 million", "$45,214 thousand", "12.5%", "1,250"


@pytest.mark.parametrize(
    ("completion", "answer"),
    [
        # one value, every way to say it
        ("$45.2 million", MILLIONS),
        ("45.2 million", MILLIONS),
        ("$45,200 thousand", MILLIONS),
        ("45,200,000", MILLIONS),
        ("$45200000.", MILLIONS),
        ("45.2", MILLIONS),
        ("$45.20M", MILLIONS),
        ("US$45.2mn", MILLIONS),
        ("$0.0452 billion", MILLIONS),
        ("**$45.2 million**", MILLIONS),
        ("45.2 million dollars", MILLIONS),
        ("USD 45.2 million", MILLIONS),
        ("45.2 million US dollars", MILLIONS),
        ("45.2 (in millions)", MILLIONS),
        ("$45.2-million", MILLIONS),
        # sentences, and the same value twice
        ("Revenue in 2021 was $45.2 million.", MILLIONS),
        ("Kelford's revenue for fiscal 2021 was $45.2 million ($45,200 thousand).", MILLIONS),
        ("For the year ended December 31, 2021, revenue was $45.2 million.", MILLIONS),
        ("According to Note 7 of the 10-K, it was $45.2 million in Q3 2021.", MILLIONS),
        # rounding is allowed only where the scale changes
        ("$45.2 million", THOUSANDS),
        ("45,214", THOUSANDS),
        ("$45,214,000", THOUSANDS),
        # percent, counts, money per share
        ("12.5%", PERCENT),
        ("12.5 percent", PERCENT),
        ("12.5", PERCENT),
        ("The tax rate in 2021 was 12.50 per cent.", PERCENT),
        ("1250 employees", COUNT),
        ("There were 1,250 employees at the end of 2021.", COUNT),
        ("1.25 thousand", COUNT),
        ("$1.24 per share", "$1.24"),
        ("1.24 dollars", "$1.24"),
        (".85", "$0.85"),
        ("2021 employees", "2,021"),
        ("In 2020, there were 2,021 employees.", "2,021"),
        ("Revenue - $45.2 million", MILLIONS),
        ("FY2021: $45.2 million", MILLIONS),
        # negative
        ("$(3.4) million", "-$3.4 million"),
        ("($3.4 million)", "-$3.4 million"),
        ("-$3.4 million", "-$3.4 million"),
        ("$-3.4 million", "-$3.4 million"),
        ("(3.4)", "-$3.4 million"),
        ("A net loss of $3.4 million.", "-$3.4 million"),
        ("The net loss was $3.4 million.", "$3.4 million"),
        # years
        ("2021", "2021"),
        ("It was in fiscal 2021.", "2021"),
        ("FY2021", "2021"),
        ("The year with revenue of $45.2 million was 2021.", "2021"),
    ],
)
def test_number_accepts(completion, answer):
    assert number(completion, answer)


@pytest.mark.parametrize(
    ("completion", "answer"),
    [
        ("", MILLIONS),
        ("I do not know.", MILLIONS),
        ("Revenue rose in 2021.", MILLIONS),
        ("$45.3 million", MILLIONS),
        ("$45 million", MILLIONS),
        ("45,215", THOUSANDS),
        # a wrong scale or unit
        ("$45.2 billion", MILLIONS),
        ("$45.2 thousand", MILLIONS),
        ("45,200,000 million", MILLIONS),
        ("45.2%", MILLIONS),
        ("$12.5 million", PERCENT),
        ("$12.5", PERCENT),
        ("12.5 million", PERCENT),
        ("€45.2 million", MILLIONS),
        ("45.2 million pounds", MILLIONS),
        ("EUR 45.2 million", MILLIONS),
        ("$1,250", COUNT),
        ("1,250 million", COUNT),
        ("1,250%", COUNT),
        # listing
        ("$45.2 million or $40.1 million", MILLIONS),
        ("$45.2 million in 2021 and $40.1 million in 2020.", MILLIONS),
        ("45.2 | 40.1", MILLIONS),
        ("45.2-46.0", MILLIONS),
        ("1. 40.1\n2. 45.2", MILLIONS),
        ("2020 or 2021", "2021"),
        # sign
        ("$3.4 million", "-$3.4 million"),
        ("-$3.4 million", "$3.4 million"),
        ("(3.4)", "$3.4 million"),
        # digits inside something else
        ("x45.2", MILLIONS),
        ("145.2", MILLIONS),
        ("45.23", MILLIONS),
        ("2022", "2021"),
        ("2,021", "2021"),
        ("$2021", "2021"),
        ("12021", "2021"),
    ],
)
def test_number_refuses(completion, answer):
    assert not number(completion, answer)


def test_number_needs_one_number_in_the_answer():
    with pytest.raises(ValueError, match="must hold one number"):
        number("45.2", "none")


@pytest.mark.parametrize(
    ("completion", "answer", "right"),
    [
        ("Abbot & Keel LLP", "Abbot & Keel LLP", True),
        ("The auditor is Abbot & Keel LLP.", "Abbot & Keel LLP", True),
        ("the auditor is ABBOT & KEEL llp!", "Abbot & Keel LLP", True),
        ("**Port Ellery**", "Port Ellery", True),
        ("Abbot LLP", "Abbot & Keel LLP", False),
        ("Keel & Abbot LLP", "Abbot & Keel LLP", False),
        ("Portland", "Port", False),
        ("Port Ellery " + "and so on " * 6, "Port Ellery", True),
        ("Port Ellery " + "and so on " * 7, "Port Ellery", False),
        ("", "Port Ellery", False),
    ],
)
def test_contains(completion, answer, right):
    assert contains(completion, answer) is right


@pytest.mark.parametrize(
    ("completion", "answer", "right"),
    [
        ("  the Café. ", "cafe", True),
        ("Cafe Rosa", "cafe", False),
        ("3.5", "35", False),
    ],
)
def test_exact(completion, answer, right):
    assert exact(completion, answer) is right


@pytest.mark.parametrize(
    "answer", [MILLIONS, THOUSANDS, PERCENT, COUNT, "-$3.4 million", "$1.24", "2021", "$1,245,000"]
)
def test_an_answer_is_right_about_itself(answer):
    assert VERIFIERS["number"](answer, answer)
    assert VERIFIERS["contains"](answer, answer)
    assert VERIFIERS["exact"](answer, answer)


@pytest.mark.parametrize(
    ("completion", "answer", "right"),
    [
        ("ACME-1234", r"^[A-Z]+-\d{4}$", True),
        ("it is ACME-1234\n", "[A-Z]+-\\d{4}$\n", True),
        ("it is ACME-1234", r"^[A-Z]+-\d{4}$", False),
        ("", "x", False),
    ],
)
def test_regex(completion, answer, right):
    assert regex(completion, answer) is right


SCHEMA = '{"type": "object", "properties": {"year": {"type": "integer"}}, "required": ["year"]}'


@pytest.mark.parametrize(
    ("completion", "right"),
    [
        ('{"year": 2021}', True),
        ('Here it is:\n```json\n{"year": 2021}\n```', True),
        ('{"year": "2021"}', False),
        ('{"year": NaN}', False),
        ("{}", False),
        ('The year is {"year": 2021}', False),
        ("", False),
    ],
)
def test_json_schema(completion, right):
    assert json_schema(completion, SCHEMA) is right


@pytest.mark.parametrize(
    ("completion", "answer", "right"),
    [
        ("It is 12,500 m away.", "12.5 km", True),
        ("12.5 kilometres", "12.5 km", True),
        ("12.4 km", "12.5 km", False),
        ("12.4 km", "12.5 km ± 0.1", True),
        ("12.39 km", "12.5 km ± 0.1", False),
        ("68.6 kg", "70 kg ± 2%", True),
        ("68.5 kg", "70 kg ± 2%", False),
        ("154.3 pounds, in 3 hours", "70 kg", True),
        ("12.5", "12.5 km", False),
        ("12.5 miles", "12.5 km", False),
        ("12.5 km or 13 km", "12.5 km", False),
        ("1.5 hours", "90 min", True),
        ("-4 %", "-4%", True),
        ("4 %", "-4%", False),
        ("100 km/h", "27.78 m/s", True),
        ("", "1 m", False),
    ],
)
def test_quantity(completion, answer, right):
    assert quantity(completion, answer) is right


@pytest.mark.parametrize(
    ("verifier", "answer", "words"),
    [
        (regex, "(", "not a regular expression"),
        (json_schema, "{", "not a JSON schema"),
        (json_schema, '{"type": "things"}', "not a JSON schema"),
        (quantity, "12.5", "one number with a unit"),
        (quantity, "12 km and 3 m", "one number with a unit"),
    ],
)
def test_an_answer_that_cannot_be_compared_with_is_an_error(verifier, answer, words):
    with pytest.raises(ValueError, match=words):
        verifier("x", answer)


def test_each_verifier_stands_in_a_file_that_a_worker_loads_by_itself():
    for verifier in map(inspect.unwrap, VERIFIERS.values()):
        file = Path(inspect.getsourcefile(verifier))
        assert "import bakeoff" not in file.read_text() and "from bakeoff" not in file.read_text()
