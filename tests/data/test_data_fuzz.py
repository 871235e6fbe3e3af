"""Records bent out of shape, and repairs: nothing crashes, nothing is lost, nothing is read without end."""

from __future__ import annotations

import copy
import gzip
import json
import random
import subprocess
import sys
import tracemalloc

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from ingested import clean, lengths
from test_conversations import CASES
from test_documented import CASES as DOCUMENTED

from bakeoff.data.clean import repair, steps
from bakeoff.data.read.readers import ROW_BYTES, Row, rows
from bakeoff.data.schema import conversations
from bakeoff.settings import Prompts

ODD = (
    None,
    True,
    0,
    -1.5,
    "",
    "x",
    [],
    {},
    [[]],
    [None],
    {"role": 1},
    [{"type": ["text"]}],
    {"content": {"parts": 3}},
    "[1",
    '{"a": ',
)
RECORDS = [record for record, _ in [*CASES.values(), *DOCUMENTED.values()]]


def bent(rng: random.Random, value, depth: int = 0):
    """The value with some of what is in it left out, swapped, or something else."""
    if rng.random() < 0.06:
        return copy.deepcopy(rng.choice(ODD))
    if isinstance(value, dict):
        items = [(k, bent(rng, v, depth + 1)) for k, v in value.items() if rng.random() > 0.05]
        return dict(
            items if rng.random() > 0.1 else zip([k for k, _ in items], [v for _, v in items[::-1]], strict=True)
        )
    if isinstance(value, list):
        return [bent(rng, v, depth + 1) for v in value for _ in range(rng.choice([1, 1, 1, 1, 0, 2]))]
    inner = conversations.parsed(value) if isinstance(value, str) else None
    if inner is not None and rng.random() < 0.5:
        return json.dumps(bent(rng, inner, depth + 1)) if rng.random() < 0.8 else value[: rng.randrange(len(value))]
    return value


def test_bent_records_never_crash_and_each_is_one_draft_at_least():
    rng = random.Random(0)
    made = [bent(rng, rng.choice(RECORDS)) for _ in range(4000)]
    batch = [Row(f"f:{i}", json.dumps(v).encode()) for i, v in enumerate(made)]
    found = steps.cleaned(batch, Prompts())
    assert {d.source.split(":")[1] for d in found} == set(map(str, range(len(made))))
    kept = [d for d in found if not d.reason]
    assert len(kept) > 500 and all(d.messages[-1].role == "user" and d.messages[-1].content.strip() for d in kept)


def test_a_cut_record_is_mended_where_the_answer_was_cut_and_only_there():
    record = {
        "id": 7,
        "messages": [{"role": "user", "content": 'Is "[{" open, \\ or not?'}],
        "response": {"choices": [{"text": 'It, "is" ['}]},
    }
    line = json.dumps(record)
    colon = line.index('"response"') + len('"response"')
    for end in range(1, len(line)):
        found = repair.completed_json(line[:end], conversations.ANSWER_KEYS)
        if end <= colon:
            assert found is None, line[:end]
        else:
            assert found is not None and found["messages"] == record["messages"], line[:end]
    assert (
        repair.completed_json(line, conversations.ANSWER_KEYS) is None
        and repair.completed_json("]" + line, conversations.ANSWER_KEYS) is None
    )
    (draft,) = steps.drafts([Row("f:1", line[:-9].encode())], Prompts())
    assert draft.messages[0].content == 'Is "[{" open, \\ or not?' and not draft.reason
    (draft,) = steps.drafts([Row("f:1", line[: colon - 20].encode())], Prompts())
    assert draft.reason == "broken JSON"


def test_a_key_that_follows_the_answer_may_be_the_prompt():
    assert repair.completed_json('{"response": "Yes.", "prompt": "What is cu', conversations.ANSWER_KEYS) is None
    assert repair.completed_json('{"prompt": "What is it?", "usage": {"total": 1', conversations.ANSWER_KEYS) == {
        "prompt": "What is it?"
    }


@pytest.mark.parametrize("name", ["utf-16", "utf-16-le", "utf-16-be", "utf-8-sig"])
@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("kind", ["jsonl", "json", "csv", "txt"])
def test_encodings_of_every_format_packed_or_not(tmp_path, name, packed, kind):
    question = "Was kostet ein Brötchen für 漢字?"
    content = {"csv": f"prompt,n\n{question},1\n", "txt": f"{question}\n"}.get(
        kind, json.dumps({"prompt": question}, ensure_ascii=False) + "\n"
    )
    path = tmp_path / f"log.{kind}{'.gz' if packed else ''}"
    data = content.encode(name)
    path.write_bytes(gzip.compress(data) if packed else data)
    (prompt,) = clean([path], Prompts(), count_tokens=lengths).prompts
    assert prompt.messages[0].content == question


def test_two_encodings_in_one_line(tmp_path):
    path = tmp_path / "log.jsonl"
    path.write_bytes('{"prompt": "Is the café in '.encode() + "Zürich – or in Genève?".encode("cp1252") + b'"}\n')
    (prompt,) = clean([path], Prompts(), count_tokens=lengths).prompts
    assert prompt.messages[0].content == "Is the café in Zürich – or in Genève?"


def test_a_long_text_that_parquet_stores_once_is_not_unpacked_a_hundredfold(tmp_path):
    path = tmp_path / "log.parquet"
    texts = pa.DictionaryArray.from_arrays([0] * 100 + [1], ["x" * (ROW_BYTES + 1), "What is a bond worth?"])
    pq.write_table(pa.table({"prompt": texts}), path)
    command = (
        "import sys, pyarrow as pa; from pathlib import Path; from bakeoff.data.read.readers import rows\n"
        "reasons = [r.reason for r in rows(Path(sys.argv[1]))]\n"
        "print(reasons.count('row too long'), pa.default_memory_pool().max_memory())"
    )
    done = subprocess.run([sys.executable, "-c", command, path], capture_output=True, text=True, check=True)
    long, memory = map(int, done.stdout.split())
    assert long == 100 and memory < 300 << 20


def test_a_line_without_end_is_read_in_pieces(tmp_path):
    """A UTF-16 line of 128 MB, packed: it is one row, and memory does not grow by its length."""
    path = tmp_path / "log.txt.gz"
    with gzip.open(path, "wb", 1) as file:
        file.write("What is this?\n".encode("utf-16"))
        for _ in range(128):
            file.write("ab".encode("utf-16-le") * (1 << 18))
    tracemalloc.start()
    found = list(rows(path))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert [(r.reason, len(r.value)) for r in found] == [("", 13), ("row too long", ROW_BYTES)]
    assert peak < 64 << 20
