"""Sources that are no files of ours: DuckDB's tables and queries, hub data sets."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import duckdb
import pytest
from ingested import clean

from bakeoff.cli import main
from bakeoff.config import load
from bakeoff.data.read import readers
from bakeoff.errors import UserError
from bakeoff.settings import Prompts


@pytest.fixture
def database(tmp_path):
    path = tmp_path / "logs.duckdb"
    with duckdb.connect(str(path)) as connection:
        connection.execute("CREATE TABLE asked (prompt VARCHAR, status INTEGER)")
        connection.executemany(
            "INSERT INTO asked VALUES (?, ?)", [(f"What did number {i} cost in the year?", i % 2) for i in range(1100)]
        )
        connection.execute('CREATE TABLE "odd ""name" AS SELECT 1 AS id')
    return path


def test_a_table_a_query_and_a_whole_database(database):
    def found(rest):
        return [(r.source.rpartition(":")[2], r.value) for r in readers.rows(Path(f"duckdb:{database}{rest}"))]

    rows = found("?asked")
    assert len(rows) == 1100 and rows[-1] == ("1100", {"prompt": "What did number 1099 cost in the year?", "status": 1})
    assert len(found("?SELECT prompt FROM asked WHERE status = 0")) == 550
    assert found("")[-1] == ("1101", {"id": 1})


def test_what_duckdb_reads_is_cleaned_like_any_log(database, tmp_path, capsys):
    query = f"duckdb:{database}?SELECT prompt FROM asked WHERE status = 1 LIMIT 5"
    result = clean([Path(query)], Prompts())
    assert len(result.prompts) == 5 and result.read == 5
    log = tmp_path / "log.csv"
    log.write_text("q;n\nWhat is a bond worth?;1\n")
    out = tmp_path / "out"
    other = f"duckdb:?SELECT q AS question FROM read_csv('{log}', delim=';') WHERE n = 1"
    assert main(["prompts", other, query, "--out", str(out)]) == 0
    assert "6 prompts" in capsys.readouterr().out
    assert json.loads((out / "prompts.json").read_text())["read"] == 6


@pytest.mark.parametrize(
    "source, told",
    [
        ("duckdb:nowhere.db?t", "'nowhere.db' is no file"),
        ("duckdb:", "names neither a file nor a query"),
        ("hf:", "names no data set"),
        ("duckdb:?SELECT * FROM nothing", "DuckDB cannot read it: Catalog Error"),
        ("duckdb:?SELEC 1", "DuckDB cannot read it: Parser Error"),
    ],
)
def test_what_cannot_be_read_is_one_line(source, told, tmp_path, capsys):
    assert main(["prompts", source, "--out", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert told in error and error.startswith("bakeoff: ") and error.count("\n") == 1


@pytest.mark.parametrize(
    "source, library, extra", [("duckdb:?SELECT 1", "duckdb", "duckdb"), ("hf:a/b", "datasets", "hub")]
)
def test_a_missing_library_is_named(source, library, extra, monkeypatch):
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(UserError, match=rf"needs the library {library}; pip install 'bakeoff\[{extra}\]'"):
        list(readers.rows(Path(source)))


def test_a_recipes_database_is_looked_up_from_its_folder(database):
    recipe = database.parent / "recipe.toml"
    recipe.write_text('[prompts]\nsources = ["duckdb:logs.duckdb?asked", "duckdb:?SELECT 1 AS a", "hf:owner/name"]\n')
    assert load(recipe).prompts.sources == [f"duckdb:{database}?asked", "duckdb:?SELECT 1 AS a", "hf:owner/name"]


def test_without_a_hub_one_line_says_so(tmp_path):
    command = [sys.executable, "-m", "bakeoff", "prompts", "hf:owner/nothing", "--out", str(tmp_path / "out")]
    offline = os.environ | {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path)}
    done = subprocess.run(command, env=offline, capture_output=True, text=True, check=False)
    assert done.returncode == 2, done.stderr
    assert done.stderr.strip().splitlines()[-1].startswith("bakeoff: hf:owner/nothing: the data set cannot be loaded (")


def test_a_folder_in_the_hubs_form_is_read_by_split(tmp_path):
    for split in ("train", "test"):
        lines = [json.dumps({"prompt": f"What is number {i} of {split}?"}) for i in range(3)]
        (tmp_path / f"{split}.jsonl").write_text("\n".join(lines) + "\n")
    for source, split in (("", "train"), ("?test", "test")):
        rows = list(readers.rows(Path(f"hf:{tmp_path}{source}")))
        assert [r.value["prompt"] for r in rows] == [f"What is number {i} of {split}?" for i in range(3)]
