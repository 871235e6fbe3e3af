"""Numbers in the documents come from docs/results; commands, recipes, rows and code in them work; links lead on."""

import importlib
import json
import math
import platform
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from conftest import CONFIGS, byte_tokenizer
from transformers import AutoModelForCausalLM

from bakeoff import cli, config
from bakeoff.preferences.load import passed_over, read_picks
from bakeoff.scoring.verifiers.answers import read_answers
from benchmarks import results

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(DOCS.glob("*.md"))]
BLOCKS = [
    (path.name, kind, body)
    for path in PAGES
    for kind, body in re.findall(r"^```(\w*)\n(.*?)^```$", path.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
]

SCRIPT = Path(results.__file__)
COMMANDS = {p.stem for p in SCRIPT.parent.glob("*.py") if "def main(" in p.read_text("utf-8")}

ROW = {"name": "demo.gain", "value": 0.36149, "low": 0.301, "high": 0.42, "n": 300}


@pytest.mark.parametrize("path", results.documents(), ids=lambda path: path.name)
def test_the_tables_of_a_document_are_those_of_its_results(path):
    text = path.read_text(encoding="utf-8")
    assert results.render(text) == text, f"{path.name} differs from docs/results; run: python -m benchmarks.results"
    assert len(re.findall("<!-- (?:results|value):", text)) == len(re.findall("<!-- end -->", text))


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


def blocks(*kinds):
    found = [(name, body) for name, kind, body in BLOCKS if kind in kinds]
    return pytest.mark.parametrize(("page", "body"), found, ids=[f"{name}-{i}" for i, (name, _) in enumerate(found)])


def lines(body):
    """The commands of a block, without comments."""
    return [words for line in body.splitlines() if (words := shlex.split(line, comments=True))]


def test_every_block_is_of_a_kind_that_is_tested():
    assert {kind for _, kind, _ in BLOCKS} <= {"sh", "toml", "json", "python", "text"}


@blocks("toml")
def test_recipes_are_valid(page, body):
    config.overridden(tomllib.loads(body), [], page)


@blocks("sh")
def test_commands_are_real(page, body):
    for program, *words in lines(body):
        if program.endswith("bakeoff"):
            parse(words)
        elif program == "make":
            assert re.search(rf"^{words[0]}:", (ROOT / "Makefile").read_text(), re.MULTILINE), words
        elif program.endswith("python"):
            named = [word for word in words if word.endswith(".py")] or [f"{words[1].replace('.', '/')}.py"]
            assert all((ROOT / word).exists() for word in named), words
        else:
            assert [program, *words][:2] in (["pip", "install"], ["vllm", "serve"]), (program, words)


def parse(words):
    """What the command line makes of the words; settings must be those of a recipe."""
    if words == ["--help"]:
        return
    if words[:2] in (["reward", "train"], ["reward", "eval"]):
        words = [" ".join(words[:2]), *words[2:]]
    _, rest = cli._parser().parse_known_args(words)
    assert all("=" in word and not word.startswith("-") for word in rest), rest
    config.overridden({}, [word for word in words if re.match(r"[a-z]+\.[a-z_]+=|model=", word)], "a page")


@blocks("json")
def test_rows_are_read(page, body, tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text(body, encoding="utf-8")
    if "answer" in json.loads(body.splitlines()[0]):
        assert len(read_answers(path, page)) == len(body.splitlines())
    else:
        assert read_picks([str(path)]) and not passed_over([str(path)])


@blocks("python")
def test_code_without_files_runs(page, body):
    code = compile(body, page, "exec")
    if "runs/" not in body:
        exec(code, {})


def test_the_tutorial_works_from_end_to_end(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    model = CONFIGS["llama"]()
    model.max_position_embeddings = 4096
    AutoModelForCausalLM.from_config(model).save_pretrained("model")
    byte_tokenizer().save_pretrained("model")
    filings = ROOT / "examples" / "filings"
    Path("logs").mkdir()
    Path("logs/log.jsonl").write_text("".join((filings / "log.jsonl").read_text().splitlines(keepends=True)[:120]))
    small = ["model=model", "sample.prompts=6", "sample.group_size=4", "sample.max_tokens=8", "sample.temperature=1.0"]
    small += [
        "reward.epochs=1",
        "evaluate.samples=1",
        "evaluate.prompts=6",
        "sample.stop=['a','e','i','o','1','2',' ']",
    ]
    for kind, body in [(kind, body) for name, kind, body in BLOCKS if name == "tutorial.md"]:
        if kind == "toml":
            Path("recipe.toml").write_text(body)
        elif kind == "python":
            exec(compile(body, "tutorial.md", "exec"), {})
        elif kind == "json":
            assert [json.loads(line)["pick"] for line in Path("ask.jsonl").read_text().splitlines()] == [None] * 6
            Path("picks.jsonl").write_text((filings / "picks_200.jsonl").read_text())
        for program, command, *words in lines(body) if kind == "sh" else []:
            words = ["model" if "/SmolLM2" in word else word for word in words]
            more = [*small, *(["--anyway"] if command == "run" else [])] if "recipe.toml" in words else []
            if program == "bakeoff" and command != "--help":
                assert cli.main([command, *(w for w in words if w != "sample.prompts=100"), *more]) == 0
    assert Path("runs/recipe/report.html").exists()


def test_the_reference_is_made_from_the_docstrings():
    subprocess.run([sys.executable, DOCS / "reference.py", "--check"], check=True)


LINKS = [
    (path, target)
    for path in PAGES
    for target in re.findall(r"\]\(([^)\s]+)\)", re.sub(r"^```.*?^```$", "", path.read_text(), flags=re.M | re.S))
    if not target.startswith("http")
]


@pytest.mark.parametrize(("path", "target"), LINKS, ids=[f"{path.stem}-{target}" for path, target in LINKS])
def test_links_lead_somewhere(path, target):
    file, _, anchor = target.partition("#")
    page = path.parent / file if file else path
    assert page.exists()
    if anchor:
        titles = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
        assert anchor in {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def test_the_site_names_every_page_once():
    pages = re.findall(r'"(\w+\.md)"', (ROOT / "zensical.toml").read_text())
    assert sorted(pages) == sorted(path.name for path in DOCS.glob("*.md"))
