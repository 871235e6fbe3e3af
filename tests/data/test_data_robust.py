"""Whatever the bytes: no crash, no lost row; whenever killed and in however many processes: the same output."""

from __future__ import annotations

import bz2
import csv
import gzip
import json
import random
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from ingested import clean, lengths

from bakeoff.data.clean.steps import records
from bakeoff.data.prepare import clean_into
from bakeoff.data.read.readers import ROW_BYTES, rows
from bakeoff.errors import UserError
from bakeoff.settings import Prompts

SCRIPT = """
import sys
from pathlib import Path
from bakeoff.settings import Fields, Prompts
from bakeoff.data.prepare import clean_into

def lengths(texts):
    return [len(t.split()) for t in texts]

if __name__ == "__main__":
    here = Path(sys.argv[0]).parent
    step, by_language = f"{here / 'mine.py'}:mine", Fields(stratify="language")
    settings = Prompts(decontaminate=[str(here / "eval.txt")], limit=2000, fields=by_language, step=step)
    clean_into(Path(sys.argv[2]), [Path(sys.argv[1])], settings, count_tokens=lengths, workers=int(sys.argv[3]))
"""
STEP = """
def mine(prompts):
    return [text.replace("Does", "Did") if "1999" not in text else (None, "too old") for text in prompts]
"""


def big_log(path: Path) -> Path:
    """Five thousand lines: questions, many of them alike, what users said of the answers, and dirt."""
    rng = random.Random(0)
    nouns = [f"{a}{b}{c}" for a in ("ba", "co", "di", "fu") for b in ("lin", "mer", "nok") for c in ("ta", "ve", "zu")]
    with path.open("w") as file:
        for i in range(5_000):
            a, b, c = rng.choices(nouns, k=3)
            question = (
                f"Does the {a} of mail{i % 97}@example.com follow the {b} before the {c} in {rng.randint(1990, 2020)}?"
            )
            told = {"prompt": question, "response": rng.choice(["Yes.", "No."]), "thumbs": rng.choice(["up", "down"])}
            file.write(rng.choice([json.dumps(told), "{broken", '""'] if i % 10 == 0 else [question]) + "\n")
            if i % 50 == 0:  # and somebody else asks the same
                file.write(json.dumps(told | {"response": "Perhaps.", "thumbs": i % 100 == 0}) + "\n")
    return path.rename(path.with_suffix(".txt")) if path.suffix != ".txt" else path


def tables(folder: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in sorted(folder.iterdir())}


def test_a_killed_run_goes_on_and_two_processes_make_the_same_bytes(tmp_path):
    log = big_log(tmp_path / "log.txt")
    (tmp_path / "run.py").write_text(SCRIPT)
    (tmp_path / "mine.py").write_text(STEP)
    (tmp_path / "eval.txt").write_text(
        "".join(f"follow the {a} before the colinve in 2001\n" for a in ("dimerta", "fumerzu"))
    )

    def run(out: str, workers: int) -> subprocess.Popen:
        return subprocess.Popen([sys.executable, tmp_path / "run.py", log, tmp_path / out, str(workers)])

    assert run("one", 1).wait() == 0
    expected = tables(tmp_path / "one")
    assert sorted(expected) == ["picks.parquet", "prompts.json", "prompts.parquet", "set_aside.parquet"]
    counts = json.loads(expected["prompts.json"])
    assert counts["kept"] == 2000 and {"mine: too old", "over the limit"} < counts["dropped"].keys() and counts["picks"]
    killed = run("killed", 1)
    while killed.poll() is None and not list(tmp_path.glob("killed/parts-*/000000")):
        time.sleep(0.01)
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    assert not (tmp_path / "killed" / "prompts.parquet").exists()
    assert run("killed", 1).wait() == 0
    assert tables(tmp_path / "killed") == expected
    assert run("two", 2).wait() == 0
    assert tables(tmp_path / "two") == expected


def test_other_settings_do_not_go_on_from_old_parts(tmp_path):
    log = tmp_path / "log.txt"
    log.write_text("Is mail to ann@example.com private?\n")

    def stop(rows: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        clean_into(tmp_path / "out", [log], Prompts(), count_tokens=lengths, progress=stop)
    clean_into(tmp_path / "out", [log], Prompts(redact=[]), count_tokens=lengths)
    assert pq.read_table(tmp_path / "out" / "prompts.parquet")["messages"][0].as_py()[0]["content"].count("ann@") == 1
    assert not list((tmp_path / "out").glob("parts-*"))


def samples(folder: Path) -> list[Path]:
    """A sound file of every format."""
    questions = [f'Which of the {n} rivers is "longest", and why?' for n in range(40)]
    records = [{"prompt": q, "n": n} for n, q in enumerate(questions)]
    lines = "".join(json.dumps(r) + "\n" for r in records)
    (folder / "a.jsonl").write_text(lines)
    (folder / "b.json").write_text(json.dumps({"data": records}, indent=2))
    with (folder / "c.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, ["prompt", "n"])
        writer.writeheader()
        writer.writerows(records)
    (folder / "d.jsonl.gz").write_bytes(gzip.compress(lines.encode()))
    (folder / "e.txt.bz2").write_bytes(bz2.compress("\n".join(questions).encode()))
    pq.write_table(pa.Table.from_pylist(records), folder / "f.parquet")
    with sqlite3.connect(folder / "g.sqlite") as database:
        database.execute("CREATE TABLE log (prompt TEXT, n INTEGER)")
        database.executemany("INSERT INTO log VALUES (:prompt, :n)", records)
    database.close()
    return sorted(folder.iterdir())


def damaged(rng: random.Random, data: bytes) -> bytes:
    """The data with a few bytes changed, cut, repeated or thrown in."""
    for _ in range(rng.randint(1, 6)):
        at = rng.randrange(len(data) + 1)
        size = rng.choice([1, 1, 4, 200])
        kind = rng.randrange(4)
        noise = (
            rng.randbytes(size)
            if rng.random() < 0.5
            else rng.choice([b'"', b"{", b"[[[", b"\\ud800", b"\n", b"\xff\xfe"])
        )
        if kind == 0:
            data = data[:at] + noise + data[at:]
        elif kind == 1:
            data = data[:at] + noise + data[at + len(noise) :]
        elif kind == 2:
            data = data[:at] + data[at + size :]
        else:
            data = data[:at] if rng.random() < 0.2 else data[:at] + data[max(0, at - 300) :]
    return data


def test_damaged_files_never_crash_and_no_row_is_lost(tmp_path):
    (tmp_path / "sound").mkdir()
    (tmp_path / "damaged").mkdir()
    rng = random.Random(0)
    for path in samples(tmp_path / "sound"):
        assert len(list(rows(path))) == 40
        for _ in range(25):
            broken = tmp_path / "damaged" / path.name
            broken.write_bytes(damaged(rng, path.read_bytes()))
            found = sum(len(records(row)) for row in rows(broken))
            try:
                result = clean([broken], Prompts(), count_tokens=lengths)
            except UserError:
                continue
            assert result.read == found == sum(p.count for p in result.prompts) + len(result.set_aside)


def test_random_bytes_under_every_name(tmp_path):
    rng = random.Random(1)
    names = [p.name for p in samples(tmp_path)]
    for seed in range(60):
        path = tmp_path / names[seed % len(names)]
        path.write_bytes(rng.randbytes(rng.choice([0, 1, 3, 100, 5000])))
        try:
            result = clean([path], Prompts(), count_tokens=lengths)
        except UserError:
            continue
        assert result.read == sum(p.count for p in result.prompts) + len(result.set_aside)


def test_huge_rows_deep_nesting_and_bombs_are_set_aside(tmp_path):
    sound = '{"prompt": "What is the capital of France?"}\n'
    (tmp_path / "a.jsonl").write_text(f'{{"prompt": "{"x " * ROW_BYTES}"}}\n{sound}')
    (tmp_path / "b.jsonl").write_text("[" * 50_000 + "\n" + sound)
    (tmp_path / "c.json").write_text("[" + '{"a":' * 50_000 + "\n" + sound)
    (tmp_path / "d.jsonl.gz").write_bytes(gzip.compress(sound.encode() + bytes(300 << 20)))
    for path, reasons in {
        "a.jsonl": {"row too long": 1},
        "b.jsonl": {"nested too deeply": 1},
        "c.json": {"nested too deeply": 1},
        "d.jsonl.gz": {"row too long": 1, "damaged file: OSError": 1},
    }.items():
        result = clean([tmp_path / path], Prompts(), count_tokens=lengths)
        assert result.dropped == reasons and len(result.prompts) == 1, path


def test_csv_keeps_the_rows_after_a_quote_that_is_never_closed(tmp_path):
    path = tmp_path / "log.csv"
    path.write_text(
        'id,prompt\n1,"Is a quoted\nline, with ""words"", one row?"\n2,"never closed\n3,What comes after it?\n'
        '4,A 5" screen is how wide?\n5,too,many,cells\n6,Is this the last row?\n'
    )
    result = clean([path], Prompts(skip=["short"]), count_tokens=lengths)
    assert [p.messages[0].content for p in result.prompts] == [
        'Is a quoted\nline, with "words", one row?',
        "never closed",
        "What comes after it?",
        'A 5" screen is how wide?',
        "Is this the last row?",
    ]
    assert [(s.source, s.reason) for s in result.set_aside] == [(f"{path}:7", "not 2 cells in a row")]


def test_a_json_document_goes_on_after_a_broken_record(tmp_path):
    path = tmp_path / "log.json"
    path.write_text(
        '[\n {"prompt": "What is the first one?"},\n {"prompt": "cut},\n {"prompt": "What is the last one?"}\n]\n'
    )
    result = clean([path], Prompts(), count_tokens=lengths)
    assert [(p.source, p.messages[0].content) for p in result.prompts] == [
        (f"{path}:2", "What is the first one?"),
        (f"{path}:4", "What is the last one?"),
    ]
    assert [(s.source, s.reason) for s in result.set_aside] == [(f"{path}:3", "broken JSON")]


@pytest.mark.parametrize("name", ["utf-16", "cp1252", "utf-8-sig"])
def test_encodings(tmp_path, name):
    path = tmp_path / "log.csv"
    path.write_text("prompt,n\nWhat is a naïve café?,1\n", encoding=name)
    (prompt,) = clean([path], Prompts(), count_tokens=lengths).prompts
    assert prompt.messages[0].content == "What is a naïve café?"
