"""SQL by its result, on a real database file: what reads, what must not write, what takes too long."""

import sqlite3
import sys
from pathlib import Path

import pytest
from conftest import write_jsonl

from bakeoff.evaluation.holdout import read_gold
from bakeoff.records import Completion
from bakeoff.scoring.user_function import FunctionScorer
from bakeoff.scoring.verifiers.answers import answers_of
from bakeoff.scoring.verifiers.sql import DATABASE, sql

module = sys.modules[sql.__module__]


@pytest.fixture
def shop(tmp_path):
    path = tmp_path / "my shop.db"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE sale (item TEXT, price REAL, amount INTEGER)")
        connection.executemany("INSERT INTO sale VALUES (?, ?, ?)", [("tea", 2.5, 4), ("cup", 7.0, 1), ("tea", 2.5, 2)])
    connection.close()
    return path


ALL = "SELECT item, price * amount FROM sale"
SUM = "SELECT item, SUM(amount) FROM sale GROUP BY item"


@pytest.mark.parametrize(
    ("completion", "wanted", "right"),
    [
        (ALL, ALL, True),
        ("select item i, amount * price from sale order by amount;", ALL, True),
        ("Here:\n```sql\nSELECT item, price * amount FROM sale\n```\nas you asked.", ALL, True),
        ("SELECT DISTINCT item, price FROM sale", "SELECT item, price FROM sale", False),
        ("SELECT price * amount, item FROM sale", ALL, False),
        (SUM, f"{SUM} ORDER BY item", True),
        (f"{SUM} ORDER BY item DESC", f"{SUM} ORDER BY item", False),
        ("WITH t AS (SELECT * FROM sale) SELECT COUNT(*) FROM t", "SELECT 3", True),
        ("SELECT 0.1 + 0.2", "SELECT 0.3", True),
        ("SELECT 3.0", "SELECT COUNT(*) FROM sale", True),
        ("SELECT NULL", "SELECT NULL", True),
        ("SELECT NULL", "SELECT 0", False),
        ("SELECT nothing FROM nowhere", ALL, False),
        ("The answer is 3.", ALL, False),
        ("", "SELECT 1 WHERE 0", False),
        ("SELECT 1; SELECT 2", "SELECT 1", False),
    ],
)
def test_queries_are_compared_by_what_they_return(shop, completion, wanted, right):
    assert sql(completion, f"{DATABASE}{shop}\n{wanted}") is right


@pytest.mark.parametrize(
    "attack",
    [
        "DELETE FROM sale",
        "DROP TABLE sale",
        "INSERT INTO sale VALUES ('x', 1, 1)",
        "CREATE TABLE other (x)",
        "CREATE TEMP TABLE other (x)",
        "ATTACH DATABASE '{}/other.db' AS other",
        "VACUUM INTO '{}/copy.db'",
        "PRAGMA writable_schema = 1",
        "SELECT load_extension('x')",
    ],
)
def test_nothing_but_reading(shop, tmp_path, attack):
    before = shop.read_bytes()
    with pytest.raises((sqlite3.Error, module.TooMuch)):
        module.result(shop, attack.format(tmp_path))
    assert shop.read_bytes() == before and [p.name for p in tmp_path.iterdir()] == [shop.name]


FOREVER = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT COUNT(*) FROM n"


def test_too_long_and_too_much_is_wrong(shop, monkeypatch):
    monkeypatch.setattr(module, "SECONDS", 0.1)
    with pytest.raises(module.TooMuch, match="longer than 0.1 s"):
        module.result(shop, FOREVER)
    monkeypatch.setattr(module, "MOST_ROWS", 2)
    with pytest.raises(module.TooMuch, match="more than 2 rows"):
        module.result(shop, ALL)
    assert sql(FOREVER, f"{DATABASE}{shop}\nSELECT 1") is False


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ("SELECT 1", "first line must be"),
        (f"{DATABASE}/nowhere.db\nSELECT 1", "/nowhere.db"),
        (f"{DATABASE}{{}}\nSELECT nothing", "own query fails"),
    ],
)
def test_an_answer_that_does_not_work_is_no_verdict(shop, answer, words):
    with pytest.raises(ValueError, match=words):
        sql("SELECT 1", answer.format(shop))


def test_rows_name_their_database_beside_the_file(shop, tmp_path):
    row = {"prompt": "how many?", "answer": "SELECT COUNT(*) FROM sale", "verifier": "sql", "database": shop.name}
    path = write_jsonl(tmp_path / "answers.jsonl", [row])
    (answer,) = read_gold(path)
    assert sql("SELECT 3", answer.answer)
    scorer = FunctionScorer(Path(module.__file__), "sql", answers_of(str(path)), verifier="v")
    rows = [
        Completion(t, "p", i, t, [], None, "stop") for i, t in enumerate(["SELECT 3", "SELECT 2", "DROP TABLE sale"])
    ]
    (scores,) = scorer.score([(answer.messages, rows)])
    assert [s.reward for s in scores] == [1, 0, 0]
