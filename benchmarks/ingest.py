"""Cleaning logs: minutes and memory by size, the rate beside datasketch, precision and recall on labelled rows.

`--sizes` are lines of a log made from a seed: documents with questions, chats, duplicates, slips, personal data, dirt.
A million gives `million_minutes` and `million_peak_memory_mb`. Memory is the most that the process and its workers held
together (proportional set size). At the smallest size one and two workers must write the same bytes. The labelled rows
are personal data and secrets in filings' sentences, and numbers that only look like it. What both are made from is in
ingest.toml; `--log` and `--labels` write them.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import random
import re
import string
import subprocess
import sys
import tempfile
import textwrap
import time
import tomllib
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from bakeoff.data.clean.redact import redact
from bakeoff.data.prepare import clean_into
from bakeoff.data.stage import Tokens
from bakeoff.records import Prompt, read_table
from bakeoff.settings import Prompts
from benchmarks import peers, results

CLEAN = """
import sys
from pathlib import Path
from bakeoff.settings import Prompts
from bakeoff.data.prepare import clean_into
from bakeoff.data.stage import Tokens
if __name__ == "__main__":
    clean_into(Path(sys.argv[2]), [Path(sys.argv[1])], Prompts(), workers=int(sys.argv[3]),
               count_tokens=Tokens("smollm2-135m"))
"""
EDITS, COPIES = (0.01, 0.05, 0.20), 500
PER_KIND = 150
FORMS = tomllib.loads(Path(__file__).with_name("ingest.toml").read_text(encoding="utf-8"))
ALPHABETS = {"d": string.digits, "c": string.ascii_letters + string.digits, "u": string.ascii_uppercase + string.digits}
ALPHABETS |= {"s": ALPHABETS["c"] + "-_", "x": "0123456789abcdef"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="*", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--datasketch", type=Path, help="Python interpreter of an environment with datasketch")
    parser.add_argument("--log", nargs=2, metavar=("LINES", "FILE"), help="only write a log of so many lines")
    parser.add_argument("--labels", type=Path, metavar="FILE", help="only write the labelled rows")
    parser.add_argument("--record", action="store_true", help="write docs/results/ingest.json")
    args = parser.parse_args()
    if args.log:
        return write(Path(args.log[1]), Log(0).lines(int(args.log[0])))
    if args.labels:
        return write(args.labels, (json.dumps(row, ensure_ascii=False) for row in labelled()))
    rows = redaction() + near_duplicates()
    with tempfile.TemporaryDirectory() as folder:
        rows += sizes(Path(folder), args.sizes, args.workers, args.datasketch)
    results.finish("ingest", rows, recorded=args.record)


def write(path: Path, lines: Iterable[str]) -> None:
    with path.open("w", encoding="utf-8") as file:
        file.writelines(line + "\n" for line in lines)


def sizes(folder: Path, lines: Sequence[int], workers: int, datasketch: Path | None) -> list[dict[str, Any]]:
    """Minutes and memory of each size; the peer's rate at the smallest, its best: it falls as its index grows."""
    found = []
    for n in sorted(lines):
        log, name = folder / f"{n}.jsonl", "million" if n == 1_000_000 else f"lines_{n}"
        write(log, Log(0).lines(n))
        seconds, memory = timed(log, folder / f"out-{n}", workers)
        if n == min(lines) <= 100_000:
            timed(log, folder / "out-one", 1)
            assert digest(folder / "out-one") == digest(folder / f"out-{n}"), "one and two workers differ"
        found.append({"name": f"{name}_minutes", "value": seconds / 60, "n": n})
        found.append({"name": f"{name}_peak_memory_mb", "value": memory, "n": n})
        if datasketch and n == min(lines):
            theirs = peers.ask(datasketch, "datasketch", {"file": str(log)})
            found.append({"name": f"{name}_rate_vs_datasketch", "value": theirs / seconds, "n": n})
        print(f"{n:,} lines, {workers} workers: {seconds:.0f} s, {n / seconds:,.0f} lines/s, {memory} MB", flush=True)
    return found


def timed(log: Path, out: Path, workers: int) -> tuple[float, int]:
    """(seconds, most MB held at once) of cleaning a log in a process of its own."""
    out.mkdir()
    start, peak = time.perf_counter(), 0
    process = subprocess.Popen([sys.executable, "-c", CLEAN, log, out, str(workers)])
    while process.poll() is None:
        peak = max(peak, held(process.pid))
        time.sleep(0.1)
    assert process.returncode == 0
    return time.perf_counter() - start, peak


def held(pid: int) -> int:
    """MB that a process and its children hold, shared pages counted once among them."""
    try:
        rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:  # it has just ended
        return 0
    own = next((int(line.split()[1]) for line in rollup.splitlines() if line.startswith("Pss:")), 0)
    return round(own * 1024 / 1e6) + sum(held(int(child)) for child in children)


def digest(out: Path) -> str:
    files = sorted(p for p in out.iterdir() if p.is_file())
    return hashlib.sha256(b"".join(p.name.encode() + p.read_bytes() for p in files)).hexdigest()


def redaction() -> list[dict[str, Any]]:
    """Recall: labelled values that are gone. Precision: placeholders of a kind that stand for a value of that kind."""
    true, made, gone, right = Counter[str](), Counter[str](), Counter[str](), defaultdict[str, int](int)
    rows, untouched = list(labelled()), list[bool]()
    for row in rows:
        (text,), counts = redact([row["text"]], Prompts().redact)
        made.update(counts)
        if row["kind"]:
            true[row["kind"]] += 1
            gone[row["kind"]] += row["value"] not in text
            right[row["kind"]] += min(1, counts[row["kind"]])
        else:
            untouched.append(not counts)
    found = [{"name": "look_alikes_untouched", **results.proportion(sum(untouched), len(untouched)).as_dict()}]
    for kind, n in true.items():
        found.append({"name": f"recall.{kind}", **results.proportion(gone[kind], n).as_dict()})
        found.append({"name": f"precision.{kind}", **results.proportion(right[kind], made[kind]).as_dict()})
    return found


def near_duplicates() -> list[dict[str, Any]]:
    """Of prompts that another repeats with slips in a share of its words, those that are merged; and of all that are
    merged, those that repeat one."""
    found = []
    for share in EDITS:
        log, rng = Log(7), random.Random(7)
        originals = [f"{log.document()}\n\n{log.question()}" for _ in range(COPIES)]
        texts = originals + [slips(rng, text, share) for text in originals]
        texts += [f"{log.document()}\n\n{log.question()}" for _ in range(COPIES)]
        with tempfile.TemporaryDirectory() as folder:
            write(path := Path(folder) / "log.jsonl", (json.dumps({"prompt": text}) for text in texts))
            counts = clean_into(Path(folder), [path], Prompts(max_tokens=10_000), count_tokens=Tokens(""))
            prompts = read_table(Path(folder) / "prompts.parquet", Prompt)
        merged = counts.dropped.get("near duplicate", 0) + counts.dropped.get("duplicate", 0)
        alone = sum(p.count == 1 for p in prompts if int(p.source.rpartition(":")[2]) > 2 * COPIES)
        right, percent = merged - (COPIES - alone), round(100 * share)
        found.append({"name": f"recall.near_duplicates_{percent}", **results.proportion(right, COPIES).as_dict()})
        found.append({"name": f"precision.near_duplicates_{percent}", **results.proportion(right, merged).as_dict()})
    return found


class Log:
    """An endless log; what it repeats comes from the last few hundred prompts."""

    def __init__(self, seed: int):
        self.rng = random.Random(seed)
        sizes, syllables = [2, 2, 3, 3, 4], FORMS["syllables"].split()
        self.common = FORMS["common"].split()
        self.words = ["".join(self.rng.choices(syllables, k=self.rng.choice(sizes))) for _ in range(30_000)]
        self.documents: list[str] = []
        self.prompts: list[str] = []

    def lines(self, n: int) -> Iterator[str]:
        for number in range(n):
            roll = self.rng.random()
            yield self.rng.choice(FORMS["dirt"]) if roll < 0.06 else self.record(self.prompt(roll), number)

    def prompt(self, roll: float) -> str:
        """A repeated prompt, one with slips, a question over an earlier document, a short one, or a new one."""
        if roll < 0.14 and self.prompts:
            return self.rng.choice(self.prompts)
        if roll < 0.20 and self.prompts:
            return slips(self.rng, self.rng.choice(self.prompts), 0.03)
        if roll < 0.30:
            text = self.question()
        elif roll < 0.50 and self.documents:
            text = f"{self.rng.choice(self.documents)}\n\n{self.question()}"
        else:
            text = f"{self.remember(self.documents, self.document())}\n\n{self.question()}"
        return self.remember(self.prompts, text)

    def word(self) -> str:
        """A common word, a frequent one, or a rare one."""
        if self.rng.random() < 0.4:
            return self.rng.choice(self.common)
        return self.words[int(len(self.words) * self.rng.random() ** 4)]

    def document(self) -> str:
        parts = [self.word() for _ in range(self.rng.randint(60, 240))]
        for i in range(5, len(parts), 15):
            parts[i] = self.rng.choice([f"{self.rng.randrange(10**7):,}", str(self.rng.randint(1990, 2030)), "12.5%"])
        if self.rng.random() < 0.1:
            digits = "".join(self.rng.choices(string.digits, k=10))
            personal = [f"u{digits}@example.com", f"+1 415 {digits[:3]} {digits[3:7]}", f"sk-{digits}{digits}abcdef"]
            parts.append(self.rng.choice(personal))
        return " ".join(parts).capitalize() + "."

    def question(self) -> str:
        year = self.rng.randint(1990, 2029)
        return self.rng.choice(FORMS["questions"]).format(a=self.word(), b=self.word(), y=year, z=year + 1)

    def record(self, text: str, number: int) -> str:
        """A line in one of four shapes."""
        messages = [{"role": "system", "content": "You answer from the text alone."}, {"role": "user", "content": text}]
        shapes: tuple[dict[str, Any], ...] = (
            {"id": number, "prompt": text},
            {"messages": messages, "model": "m"},
            {"ts": number, "request": json.dumps({"messages": messages[1:]}), "status": 200},
            {"conversations": [{"from": "human", "value": text}, {"from": "gpt", "value": "It is 4."}]},
        )
        return json.dumps(shapes[number % 4])

    def remember(self, kept: list[str], text: str) -> str:
        """Keep a text, in place of another once there are 500."""
        if len(kept) < 500:
            kept.append(text)
        else:
            kept[self.rng.randrange(500)] = text
        return text


def slips(rng: random.Random, text: str, share: float) -> str:
    """The text with that share of its words mistyped (at least one), none of them a number."""
    words = text.split(" ")
    able = [i for i, w in enumerate(words) if len(w) > 3 and w.isalpha()]
    for i in rng.sample(able, min(len(able), max(1, round(share * len(words))))):
        words[i] = slip(rng, words[i])
    return " ".join(words)


def slip(rng: random.Random, word: str) -> str:
    """The word with two letters swapped, one left out, doubled or wrong, in capitals, or followed by a stray comma."""
    at = rng.randrange(1, len(word) - 1)
    kind = rng.randrange(6)
    if kind == 3:
        return word[:at] + rng.choice("aeiorstn") + word[at + 1 :]
    swapped = word[:at] + word[at + 1] + word[at] + word[at + 2 :]
    slipped = {0: swapped, 1: word[:at] + word[at + 1 :], 2: word[:at] + word[at] + word[at:], 4: word.upper()}
    return slipped.get(kind, word + ",")


def labelled(seed: int = 0, per_kind: int = PER_KIND) -> Iterator[dict[str, str]]:
    """Rows `text`, `kind`, `value`: as many of each kind, secrets in a setting's name, look-alikes of kind ""."""
    rng = random.Random(seed)
    kinds = {kind: lambda forms=forms: filled(rng, rng.choice(forms)) for kind, forms in FORMS["kinds"].items()}
    kinds |= {"card": lambda: card(rng), "iban": lambda: iban(rng), "id": lambda: national(rng)}
    for kind, make in kinds.items():
        for _ in range(per_kind):
            value = make()
            yield {"text": rng.choice(FORMS["carriers"]).format(value), "kind": kind, "value": value}
    for _ in range(per_kind):
        secret = filled(rng, f"{{s{rng.randint(12, 40)}}}{{d1}}")
        sentence = rng.choice(FORMS["secrets"]).format(secret)
        yield {"text": rng.choice(FORMS["carriers"]).format(sentence), "kind": "key", "value": secret}
    for _ in range(4 * per_kind):
        text = filled(rng, rng.choice(FORMS["look_alikes"]))
        yield {"text": rng.choice(FORMS["carriers"]).format(text), "kind": "", "value": ""}


def filled(rng: random.Random, form: str) -> str:
    """A form with its places filled at random."""
    return re.sub(r"\{([dcusx])(\d+)\}", lambda place: "".join(rng.choices(ALPHABETS[place[1]], k=int(place[2]))), form)


def card(rng: random.Random) -> str:
    """A card's number with its Luhn digit, as it is or in groups."""
    body = filled(rng, rng.choice(FORMS["cards"]))
    total = sum(int(d) if i % 2 else sum(divmod(2 * int(d), 10)) for i, d in enumerate(reversed(body)))
    number = f"{body}{-total % 10}"
    groups = textwrap.wrap(number, 4) if len(number) == 16 else [number[:4], number[4:10], number[10:]]
    return rng.choice(["", " ", "-"]).join(groups)


def iban(rng: random.Random) -> str:
    country, form = rng.choice(list(FORMS["ibans"].items()))
    body = filled(rng, form)
    check = 98 - int("".join(str(int(c, 36)) for c in f"{body}{country}00")) % 97
    number = f"{country}{check:02d}{body}"
    number = " ".join(textwrap.wrap(number, 4)) if rng.random() < 0.5 else number
    return number.lower() if rng.random() < 0.1 else number


def national(rng: random.Random) -> str:
    """The number of a person in the United States, Spain, Brazil, France or the United Kingdom."""
    n, cpf = rng.randrange(10**8), [rng.randrange(10) for _ in range(9)]
    for k in (10, 11):
        cpf.append(sum(a * b for a, b in zip(cpf, range(k, 1, -1), strict=True)) * 10 % 11 % 10)
    c = "".join(map(str, cpf))
    nir = (
        f"{rng.choice('12')}{rng.randint(10, 99)}{rng.randint(1, 12):02d}{rng.randint(1, 95):02d}{filled(rng, '{d6}')}"
    )
    return rng.choice(
        [
            f"{rng.randint(100, 665)}-{rng.randint(1, 99):02d}-{rng.randint(1, 9999):04d}",
            f"{n:08d}{'TRWAGMYFPDXBNJZSQVHLCKE'[n % 23]}",
            f"{c[:3]}.{c[3:6]}.{c[6:9]}-{c[9:]}",
            f"{nir}{97 - int(nir) % 97:02d}",
            filled(rng, f"{rng.choice(['AB', 'CE', 'JG'])} {{d2}} {{d2}} {{d2}} {rng.choice('ABCD')}"),
        ]
    )


if __name__ == "__main__":
    main()
