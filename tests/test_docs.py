"""Every number in the documents stands in docs/results, and the tables there are made from it."""

import importlib
import json
import math
import platform
import re
from pathlib import Path

import pytest

from benchmarks import results

SCRIPT = Path(results.__file__)
COMMANDS = {p.stem for p in SCRIPT.parent.glob("*.py") if "def main(" in p.read_text("utf-8")}

ROW = {"name": "demo.gain", "value": 0.36149, "low": 0.301, "high": 0.42, "n": 300}


@pytest.mark.parametrize("path", results.documents(), ids=lambda path: path.name)
def test_the_tables_of_a_document_are_those_of_its_results(path):
    text = path.read_text(encoding="utf-8")
    assert results.render(text) == text, f"{path.name} differs from docs/results; run: python -m benchmarks.results"
    assert len(re.findall("<!-- (?:results|value):", text)) == len(re.findall("<!-- end -->", text))


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_every_command_of_the_benchmarks_helps(name, capsys, monkeypatch):
    monkeypatch.setattr("sys.argv", [name, "--help"])
    with pytest.raises(SystemExit) as ended:
        importlib.import_module(f"benchmarks.{name}").main()
    assert not ended.value.code and "usage:" in capsys.readouterr().out


def test_the_documents_name_commands_that_there_are():
    named = {
        name for path in results.documents() for name in re.findall(r"-m benchmarks\.(\w+)", path.read_text("utf-8"))
    }
    assert named - {"NAME"} <= COMMANDS
    studies = {
        s for p in results.documents() for s in re.findall(r"-m benchmarks\.study ([a-z]+)", p.read_text("utf-8"))
    }
    assert studies <= {path.stem for path in SCRIPT.parent.glob("studies/*.toml")}


@pytest.mark.parametrize("path", sorted(results.RESULTS.glob("*.json")), ids=lambda path: path.stem)
def test_every_result_says_where_it_comes_from(path):
    rows = results.read(path.stem)
    assert len({row["name"] for row in rows}) == len(rows)
    for row in rows:
        assert set(row) - {"seeds"} == {*results.MEASURED, *results.STAMPED}
        assert all(row[key] for key in results.STAMPED), row["name"]


def test_a_result_is_recorded_once_with_its_origin(tmp_path, monkeypatch):
    monkeypatch.setattr("sys.argv", [str(SCRIPT.with_name("demo.py")), "--seeds", "0 1"])
    results.record("demo", [ROW, {"name": "demo.minutes", "value": 4}], tmp_path)
    results.record("demo", [ROW | {"value": 0.5, "command": "make demo"}], tmp_path)
    gain, minutes = results.read("demo", tmp_path)
    assert (gain["value"], gain["command"]) == (0.5, "make demo")
    assert minutes["command"] == "python -m benchmarks.demo --seeds '0 1'"
    assert minutes["low"] is None and minutes["n"] is None
    assert re.fullmatch(r"\d{4}-\d\d-\d\d", gain["date"])
    assert gain["machine"].endswith("cores") and platform.node() not in gain["machine"]
    assert [p.name for p in tmp_path.iterdir()] == ["demo.json"]
    results.record("demo", [{"name": "demo.other", "value": 1, "seeds": [1, 1]}], tmp_path, replaced=["demo.m*"])
    assert [row["name"] for row in results.read("demo", tmp_path)] == [ROW["name"], "demo.other"]


def test_no_path_of_the_machine_is_told():
    assert results.command(["/home/ann/bin/bakeoff", "run", "/data/secret/log.jsonl"]) == "bakeoff run log.jsonl"
    assert results.command([str(SCRIPT), "x/y"]) == "python -m benchmarks.results x/y"


def test_a_row_that_is_no_result_is_refused(tmp_path):
    with pytest.raises(ValueError, match="'vlaue'"):
        results.record("demo", [{"name": "demo.gain", "vlaue": 1}], tmp_path)
    assert not list(tmp_path.iterdir())


def test_rendering_fills_tables_and_sentences_and_settles(tmp_path):
    rows = [ROW, ROW | {"name": "demo.minutes", "value": 4, "low": None, "high": None, "n": None}]
    stamp = {"command": "make demo", "commit": "abc", "date": "2026-01-02", "machine": "a CPU, 2 cores"}
    (tmp_path / "demo.json").write_text(json.dumps([row | stamp for row in rows]))
    text = "Up by <!-- value: demo demo.gain -->9<!-- end -->.\n\n<!-- results: demo demo.* -->\nold\n<!-- end -->\n"
    made = results.render(text, tmp_path)
    assert made == (
        "Up by <!-- value: demo demo.gain -->0.361<!-- end -->.\n\n"
        "<!-- results: demo demo.* -->\n"
        "| result | value | 95 % interval | n |\n"
        "| --- | ---: | :---: | ---: |\n"
        "| `demo.gain` | 0.361 | 0.301 to 0.420 | 300 |\n"
        "| `demo.minutes` | 4 |  |  |\n"
        "\n"
        "`make demo` at abc, 2026-01-02, on a CPU, 2 cores.\n"
        "<!-- end -->\n"
    )
    assert results.render(made, tmp_path) == made


def test_a_document_cannot_quote_what_was_not_measured(tmp_path):
    with pytest.raises(ValueError, match="none.json does not exist"):
        results.render("<!-- value: none x --><!-- end -->", tmp_path)
    (tmp_path / "demo.json").write_text("[]")
    with pytest.raises(ValueError, match="holds no 'x'"):
        results.render("<!-- value: demo x --><!-- end -->", tmp_path)


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.5, "0.500"), (1, "1"), (12.345, "12.3"), (99.97, "100"), (1512.4, "1,512"), (-0.0312, "-0.0312"), (None, "–")],
)
def test_numbers(value, text):
    assert results.number(value) == text


def test_wilson_interval_of_the_textbook():
    # 8 of 10: centre (0.8 + z^2/20)/(1 + z^2/10) = 0.7167, half width 0.2266
    share = results.proportion(8, 10)
    assert (share.value, share.n) == (0.8, 10)
    assert share.low == pytest.approx(0.4902, abs=1e-4)
    assert share.high == pytest.approx(0.9433, abs=1e-4)


def test_wilson_at_the_edges_is_not_certain():
    none, all_ = results.proportion(0, 100), results.proportion(100, 100)
    assert none.low == 0 and none.high == pytest.approx(0.0370, abs=1e-4)
    assert all_.high == 1 and all_.low == pytest.approx(0.9630, abs=1e-4)
    empty = results.proportion(0, 0)
    assert math.isnan(empty.value) and (empty.low, empty.high, empty.n) == (0, 1, 0)
    with pytest.raises(ValueError, match="11 out of 10"):
        results.proportion(11, 10)
