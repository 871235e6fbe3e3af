"""Records however a file holds them; encodings; values that Python has no type for."""

from __future__ import annotations

import decimal
import gzip
import json
import sqlite3
import subprocess
import sys
from pathlib import Path

import datasets
import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet as pq
import pytest
from ingested import clean

from bakeoff.data.clean import language
from bakeoff.data.clean.steps import records
from bakeoff.data.read import readers, sources
from bakeoff.data.read.lines import UNKNOWN
from bakeoff.errors import UserError
from bakeoff.scoring.verifiers.answers import read_answers, read_graded
from bakeoff.settings import Fields, Prompts

QUESTIONS = [f"Where did the {n} wheel of the cart end up?" for n in ("first", "second", "third", "fourth")]
ROWS = [{"prompt": q} for q in QUESTIONS]
CHINESE = ["这台洗衣机漏水了怎么办？", "请把这封信翻译成英文。", "为什么我的面包总是烤不熟？", "租房合同应该注意什么？"]
JAPANESE = [
    "この机はどこで買えますか。",
    "明日の会議の議題を三つ書いてください。",
    "なぜ空は青いのですか。",
    "パンの作り方を教えて。",
]
KOREAN = ["이 세탁기에서 물이 새면 어떻게 하나요?", "내일 회의 안건을 세 가지 써 주세요.", "하늘은 왜 파란가요?"]
TAIWANESE = ["這台洗衣機漏水了怎麼辦？", "請把這封信翻譯成英文。", "為什麼我的麵包總是烤不熟？"]
RUSSIAN = ["Почему небо голубое, а трава зелёная?", "Как испечь хлеб без дрожжей?", "Напиши короткое письмо соседу."]

THAI = ["สวัสดีครับ อยากถามเรื่องภาษีเงินได้"]
GREEK = ["Γιατί ο ουρανός είναι γαλάζιος;", "Πώς φτιάχνω ψωμί χωρίς μαγιά;", "Γράψε ένα σύντομο γράμμα στον γείτονα."]
HEBREW = ["למה השמים כחולים ביום?", "איך אופים לחם בלי שמרים?", "כתוב מכתב קצר אל השכן שלי."]
ARABIC = ["لماذا السماء زرقاء في النهار؟", "كيف أخبز الخبز من دون خميرة؟", "اكتب رسالة قصيرة إلى جاري."]


def found(path: Path) -> list[tuple[str, object, str]]:
    """(place, record, reason) of each record of a file."""
    read = [record for row in readers.rows(path) for record in records(row)]
    return [(r.source.removeprefix(f"{path}:"), r.value, r.reason) for r in read]


def written(tmp_path: Path, name: str, data: str | bytes) -> Path:
    path = tmp_path / name
    path.write_bytes(data if isinstance(data, bytes) else data.encode())
    return path


def prompts(path: Path) -> list[str]:
    return [p.messages[-1].content for p in clean([path], Prompts()).prompts]


def over_lines(indent: int | None) -> str:
    return "".join(json.dumps(r | {"tags": [1, {"a": "b"}]}, indent=indent) for r in ROWS)


@pytest.mark.parametrize(
    "text",
    {
        "array in a line": json.dumps(ROWS),
        "array, a record a line": "[\n" + ",\n".join(map(json.dumps, ROWS)) + "\n]\n",
        "array that begins with a record": "[" + ",\n".join(map(json.dumps, ROWS)) + "]",
        "array over lines": json.dumps(ROWS, indent=2),
        "records over lines": over_lines(2).replace("}{", "}\n{"),
        "records over lines, glued": over_lines(1),
        "glued": json.dumps(ROWS[0]) + json.dumps(ROWS[1]) + "\n" + " ".join(map(json.dumps, ROWS[2:])) + "\n",
        "two arrays": json.dumps(ROWS[:2]) + "\n" + json.dumps(ROWS[2:]),
        "page of an API": json.dumps({"object": "list", "data": ROWS, "meta": {"page": 1}}),
        "pages": json.dumps({"data": ROWS[:2], "next": "x"}) + "\n" + json.dumps({"data": ROWS[2:], "next": None}),
        "splits": json.dumps({"version": 1, "train": ROWS[:3], "test": ROWS[3:]}),
        "text between": json.dumps(ROWS[:2], indent=1)[2:-2] + "\nnothing\n" + "\n".join(map(json.dumps, ROWS[2:])),
        "line ends of old Macs": "\r".join(map(json.dumps, ROWS)),
        "zeros of a log that was cut while it was open": "\0" * 99 + "\n".join(map(json.dumps, ROWS)) + "\0\0",
        "marks of files that were joined": "\n".join("\ufeff" + json.dumps(r) for r in ROWS),
    }.items(),
    ids=lambda case: case[0],
)
@pytest.mark.parametrize("packed", [False, True])
def test_every_record_is_read_however_lines_hold_them(tmp_path, text, packed):
    data = gzip.compress(text[1].encode()) if packed else text[1]
    assert prompts(written(tmp_path, f"log.jsonl{'.gz' if packed else ''}", data)) == QUESTIONS


def test_an_array_longer_than_a_row_may_be_is_read_from_one_line(tmp_path):
    rows = [{"prompt": f"{i} {'word ' * 100}"} for i in range(10_000)]
    path = written(tmp_path, "log.jsonl", json.dumps(rows))
    assert path.stat().st_size > readers.ROW_BYTES and [r for _, r, _ in found(path)] == rows


def test_what_looks_like_a_container_and_is_a_record(tmp_path):
    rows = [
        [{"role": "user", "content": "Is a list of turns one row?"}],
        {"prompt": "What is in this order?", "items": [{"sku": 1}, {"sku": 2}]},
        {"items": [{"sku": 1}], "request": {"messages": [{"role": "user", "content": "Hello?"}]}},
        {"data": ["Are texts records?", "They are not."]},
    ]
    lines = written(tmp_path, "log.jsonl", "\n".join(map(json.dumps, rows)))
    assert [r for _, r, _ in found(lines)] == rows
    assert [r for _, r, _ in found(written(tmp_path, "log.json", "\n".join(map(json.dumps, rows))))] == rows
    named = Prompts(fields=Fields(prompt="title"))
    page = written(tmp_path, "b.jsonl", json.dumps({"title": "What is on this page?", "data": ROWS}))
    assert clean([page], named).read == 1


@pytest.mark.parametrize(
    "record",
    [
        {"conversations": [{"messages": [{"role": "user", "content": q}]} for q in QUESTIONS]},
        {"conversations": [[{"from": "human", "value": q}] for q in QUESTIONS]},
        {"data": {"items": ROWS[:2]}, "results": [{"entries": ROWS[2:]}], "filters": ["new"], "query": {"limit": 9}},
        [[{"role": "human", "content": q}] for q in QUESTIONS],
        [{"role": "pilot", "prompt": q} for q in QUESTIONS],
    ],
)
def test_containers_in_containers_and_remarks_of_any_kind(tmp_path, record):
    assert prompts(written(tmp_path, "log.jsonl", json.dumps(record))) == QUESTIONS
    assert prompts(written(tmp_path, "log.json", json.dumps(record, indent=1))) == QUESTIONS


def test_messages_in_one_line_are_joined_and_a_conversation_is_no_container(tmp_path):
    said = [("user", "Who?"), ("assistant", "<think>\nWell.\n</think>\nShe."), ("user", QUESTIONS[0])]
    talk = [{"role": role, "content": text} for role, text in said]
    table = [turn | {"thread_id": 7} for turn in talk]
    rounds = [{"human": "Who?", "assistant": said[1][1]}, {"human": QUESTIONS[0], "assistant": ""}]
    for text in (
        "".join(map(json.dumps, table)),
        json.dumps(table),
        json.dumps({"logs": table, "page": 1}),
        json.dumps({"conversations": talk}),
        json.dumps({"conversations": rounds}),
        json.dumps(talk),
        json.dumps(talk, indent=1),
    ):
        (prompt,) = clean([written(tmp_path, "log.jsonl", text)], Prompts()).prompts
        assert [m.content for m in prompt.messages] == ["Who?", "She.", QUESTIONS[0]], text


def test_records_between_broken_ones_keep_their_places(tmp_path):
    text = '{"prompt": "cut",\n{\n "prompt": "a"\n}\n{"a": 1} and more\n'
    text += '{"prompt": "b"}{"prompt": "c\n12:00 a log line\n{\n'
    assert [(place, reason) for place, _, reason in found(written(tmp_path, "log.jsonl", text))] == [
        ("1", "broken JSON"),
        ("2", ""),
        ("5:1", ""),
        ("5:2", "broken JSON"),
        ("6:1", ""),
        ("6:2", "broken JSON"),
        ("7", "broken JSON"),
        ("8", "broken JSON"),
    ]


def test_what_stands_behind_an_array_is_read(tmp_path):
    long = {"train": [ROWS[0] | {"x": "y" * 99_999}, ROWS[1]], "test": [ROWS[2]]}
    text = json.dumps(long, indent=1) + json.dumps([ROWS[3]]) + json.dumps({"items": [{"sku": 1}], "prompt": "Last?"})
    assert [r["prompt"] for _, r, _ in found(written(tmp_path, "log.json", text))] == [*QUESTIONS, "Last?"]


@pytest.mark.parametrize("kind", ["jsonl", "json", "csv", "txt"])
@pytest.mark.parametrize(
    "name, texts",
    [
        ("gbk", CHINESE),
        ("shift_jis", JAPANESE),
        ("euc_jp", JAPANESE),
        ("big5", TAIWANESE),
        ("euc_kr", KOREAN),
        ("cp1251", RUSSIAN),
        ("koi8-r", RUSSIAN),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_encodings_of_other_scripts(tmp_path, kind, name, texts):
    rows = [json.dumps({"prompt": t, "team": "sales"}, ensure_ascii=False) for t in texts]
    content = {
        "jsonl": "\n".join(rows),
        "json": "[" + ",\n".join(rows) + "]",
        "csv": "\n".join(["prompt", *(f'"{t}"' for t in texts)]),
    }
    path = written(tmp_path, f"log.{kind}", content.get(kind, "\n".join(texts)).encode(name) + b"\n")
    assert prompts(path) == texts


def test_a_file_of_two_writers_and_a_character_that_was_cut(tmp_path):
    lines = [t.encode("gbk") for t in CHINESE[:2]] + [t.encode() for t in CHINESE[2:]] + [CHINESE[0].encode("gbk")[:-3]]
    assert [v for _, v, _ in found(written(tmp_path, "log.txt", b"\n".join(lines)))][:4] == CHINESE
    path = written(tmp_path, "cut.txt", CHINESE[0].encode()[:-2] + b"\nWhere is the caf\xe9?\n")
    assert [(v, reason) for _, v, reason in found(path)] == [(CHINESE[0][:-1] + "ï", ""), ("Where is the café?", "")]


@pytest.mark.parametrize("kind", ["jsonl", "json"])
@pytest.mark.parametrize("name, texts", [("cp874", THAI), ("cp1253", GREEK), ("cp1255", HEBREW), ("cp1256", ARABIC)])
def test_an_encoding_that_is_not_known_is_a_reason(tmp_path, kind, name, texts):
    odd = json.dumps({"prompt": " ".join(texts)}, ensure_ascii=False).encode(name)
    path = written(tmp_path, f"log.{kind}", odd + b"\n" + json.dumps(ROWS[0]).encode() + b"\n")
    result = clean([path], Prompts())
    assert [p.messages[0].content for p in result.prompts] == QUESTIONS[:1] and result.dropped == {UNKNOWN: 1}
    with pytest.raises(UserError, match=r"1 'unknown encoding'.*; convert the file to UTF-8"):
        clean([written(tmp_path, f"b.{kind}", odd)], Prompts())


def test_letters_without_a_name_have_no_language():
    assert language.language("\U00017000\U00018d00\U00016fe4 \u9fff" * 9) in ("", "zh")


@pytest.mark.parametrize("first", ["", "sep=;\r\n", '"sep=;"\n'])
def test_csv_of_semicolons_with_and_without_the_line_for_excel(tmp_path, first):
    path = written(tmp_path, "log.csv", f"\ufeff{first}prompt;n\r\nWhere, please, is it?;1\r\n")
    assert [v for _, v, _ in found(path)] == [{"prompt": "Where, please, is it?", "n": "1"}]
    bare = written(tmp_path, "b.csv", "prompt,n\rWhere is it?,1\rWhat is it?,2\r")
    assert [v["prompt"] for _, v, _ in found(bare)] == ["Where is it?", "What is it?"]


ODD = {
    "nanoseconds": pa.array([1_760_000_000_000_000_007] * 4, pa.timestamp("ns", "UTC")),
    "took": pa.array([7] * 4, pa.duration("ns")),
    "clock": pa.array([7] * 4, pa.time64("ns")),
    "far": pa.array([2**62] * 4, pa.int64()).view(pa.timestamp("us")),
    "day": pa.array([2**30] * 4, pa.int32()).cast(pa.date32()),
    "price": pa.array([decimal.Decimal("1.50")] * 4),
    "picture": pa.array([b"\xff\xfe"] * 4),
    "within": pa.array([[{"at": 7}]] * 4, pa.list_(pa.struct([("at", pa.timestamp("ns"))]))),
    "empty": pa.nulls(4),
}
"""Columns that nobody needs, of values that Python may have none for."""


def table(**columns) -> pa.Table:
    return pa.table(columns | ODD)


def test_no_value_of_a_column_stops_the_reading(tmp_path):
    """Without pandas, which takes nanoseconds."""
    pq.write_table(table(prompt=[q.encode() for q in QUESTIONS]), tmp_path / "log.parquet")
    (tmp_path / "pandas.py").write_text("raise ImportError")
    command = (
        "from pathlib import Path\nfrom bakeoff.data.read.readers import rows\nfor row in rows(Path('log.parquet')): "
        "print(row.value['prompt'], row.value['nanoseconds'], row.value['picture'])"
    )
    done = subprocess.run([sys.executable, "-c", command], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.stderr == "" and done.stdout.splitlines() == [
        f"{q} 2025-10-09 08:53:20.000000007Z b'\\xff\\xfe'" for q in QUESTIONS
    ]
    assert prompts(tmp_path / "log.parquet") == QUESTIONS


def test_arrow_files_streams_feather_and_saved_data_sets(tmp_path):
    whole = table(prompt=QUESTIONS)
    pyarrow.feather.write_feather(whole, tmp_path / "a.feather", chunksize=3)
    with pa.ipc.new_stream(tmp_path / "b.arrow", whole.schema) as stream:
        stream.write_table(whole)
    (tmp_path / "c.arrow.gz").write_bytes(gzip.compress((tmp_path / "b.arrow").read_bytes()))
    for name in ("a.feather", "b.arrow", "c.arrow.gz"):
        assert prompts(tmp_path / name) == QUESTIONS, name
    (tmp_path / "cut.arrow").write_bytes((tmp_path / "b.arrow").read_bytes()[:-400])
    assert [reason.partition(":")[0] for _, _, reason in found(tmp_path / "cut.arrow")] == ["damaged file"]
    one = datasets.Dataset.from_dict({"prompt": QUESTIONS})
    datasets.DatasetDict(train=one, test=one).save_to_disk(tmp_path / "saved")
    names = [str(p.relative_to(tmp_path)) for p in sources.files([tmp_path / "saved"])]
    assert names == ["saved/test/data-00000-of-00001.arrow", "saved/train/data-00000-of-00001.arrow"]
    assert clean([tmp_path / "saved"], Prompts()).dropped == {"duplicate": 4}


def test_attributes_as_a_map_and_as_pairs(tmp_path):
    told = [[("gen_ai.prompt.0.role", "user"), ("gen_ai.prompt.0.content", q)] for q in QUESTIONS]
    column = pa.array(told, pa.map_(pa.string(), pa.string()))
    for name in ("attributes", "SpanAttributes"):
        pq.write_table(pa.table({"name": ["chat"] * 4, name: column}), tmp_path / "log.parquet")
        assert prompts(tmp_path / "log.parquet") == QUESTIONS
        lines = "\n".join(json.dumps({"name": "chat", name: pairs}) for pairs in told)
        assert prompts(written(tmp_path, "log.jsonl", lines)) == QUESTIONS
    tool = [[*told[0], ("gen_ai.operation.name", "execute_tool")]]
    path = written(tmp_path, "tool.jsonl", json.dumps({"SpanAttributes": tool[0]}))
    with pytest.raises(UserError, match="'no model call'"):
        clean([path], Prompts())


def test_bytes_that_a_database_keeps_for_text(tmp_path):
    path = tmp_path / "log.sqlite"
    with sqlite3.connect(path) as database:
        database.execute("CREATE TABLE log (prompt BLOB)")
        database.executemany("INSERT INTO log VALUES (?)", [(q.encode(),) for q in QUESTIONS])
    database.close()
    assert prompts(path) == QUESTIONS


def test_true_answers_may_hold_every_separator_that_json_allows(tmp_path):
    questions = ["Where is it?\u2028And when?", "Where\u0085is it?", "Where\u2029is\x1cit?"]
    rows = [{"prompt": q, "answer": "1", "completions": ["1", "2"]} for q in questions]
    lines = "\n".join(json.dumps(r, ensure_ascii=False).replace("\\u001c", "\x1c") for r in rows[:2])
    path = written(tmp_path, "gold.jsonl", lines + "\n")
    assert [a.messages[0].content for a in read_answers(path, "evaluate.holdout")] == questions[:2]
    assert [g.messages[0].content for g in read_graded(path)] == questions[:2]
    assert [v["prompt"] for _, v, _ in found(path)] == questions[:2]
