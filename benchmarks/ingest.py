"""Cleaning logs: minutes and memory by size, the rate beside another tool, precision and recall on labelled rows.

python benchmarks/ingest.py [--sizes 10000 100000 1000000] [--workers 2] [--datasketch PYTHON] [--record]

The largest size gives `million_minutes` and `million_peak_memory_mb` when it is a million. Memory is the most that the
process and its workers held together (proportional set size). At the smallest size one and two workers must write the
same bytes.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import ingest_labels
import ingest_log
import results
import work
from results import proportion

from bakeoff.data.clean.redact import redact
from bakeoff.data.prepare import clean_into
from bakeoff.data.stage import Tokens
from bakeoff.records import Prompt, read_table
from bakeoff.settings import Prompts

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
EDITS = (0.01, 0.05, 0.20)
COPIES = 500


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--datasketch", type=Path, help="Python interpreter of an environment with datasketch")
    parser.add_argument("--record", action="store_true", help="write docs/results/ingest.json")
    args = parser.parse_args()
    rows = redaction() + near_duplicates()
    with tempfile.TemporaryDirectory() as folder:
        rows += sizes(Path(folder), args.sizes, args.workers, args.datasketch)
    if args.record:
        results.record("ingest", rows)


def sizes(folder: Path, lines: list[int], workers: int, datasketch: Path | None) -> list[dict[str, Any]]:
    """One row of the table for each size."""
    found, shown = [], []
    for n in sorted(lines):
        log = folder / f"{n}.jsonl"
        ingest_log.write(log, n)
        seconds, memory = timed(log, folder / f"out-{n}", workers)
        if n == min(lines) <= 100_000:
            timed(log, folder / "out-one", 1)
            assert digest(folder / "out-one") == digest(folder / f"out-{n}"), "one and two workers differ"
        name = "million" if n == 1_000_000 else f"lines_{n}"
        found.append({"name": f"{name}_minutes", "value": seconds / 60, "n": n})
        found.append({"name": f"{name}_peak_memory_mb", "value": memory, "n": n})
        row: list[object] = [f"{n:,}", seconds, n / seconds, float(memory)]
        if datasketch and n == min(lines):  # its rate falls as its index grows: the smallest is its best
            theirs = peer(datasketch, log)
            found.append({"name": f"{name}_rate_vs_datasketch", "value": theirs / seconds, "n": n})
            row.append(n / theirs)
        row += [""] * (4 + bool(datasketch) - len(row))
        print(*row, flush=True)
        shown.append(row)
    head = ["lines", "s", "lines/s", "peak MB"] + (["datasketch lines/s"] if datasketch else [])
    work.table(f"Cleaning a log, {workers} workers", head, shown)
    return found


def timed(log: Path, out: Path, workers: int) -> tuple[float, int]:
    """(seconds, most MB held at once) of cleaning a log in a process of its own."""
    out.mkdir()
    start = time.perf_counter()
    process = subprocess.Popen([sys.executable, "-c", CLEAN, log, out, str(workers)])
    peak = 0
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


def peer(python: Path, log: Path) -> float:
    """Seconds that datasketch's MinHash and LSH take to find near-duplicates among the raw lines of a log."""
    script = Path(__file__).with_name("peer_datasketch.py")
    out = subprocess.run([python, script, log], capture_output=True, text=True, check=True)
    return json.loads(out.stdout)["seconds"]


def redaction() -> list[dict[str, Any]]:
    """Recall: labelled values that are gone. Precision: placeholders of a kind that stand for a value of that kind."""
    true, made, gone = Counter[str](), Counter[str](), Counter[str]()
    right: defaultdict[str, int] = defaultdict(int)
    rows = list(ingest_labels.labelled())
    for row in rows:
        (text,), counts = redact([row["text"]], Prompts().redact)
        made.update(counts)
        if row["kind"]:
            true[row["kind"]] += 1
            gone[row["kind"]] += row["value"] not in text
            right[row["kind"]] += min(1, counts[row["kind"]])
    found = []
    for kind, n in true.items():
        found.append({"name": f"recall.{kind}", **proportion(gone[kind], n).as_dict()})
        found.append({"name": f"precision.{kind}", **proportion(right[kind], made[kind]).as_dict()})
    untouched = [not redact([row["text"]], Prompts().redact)[1] for row in rows if not row["kind"]]
    found.append({"name": "look_alikes_untouched", **proportion(sum(untouched), len(untouched)).as_dict()})
    work.table("Redaction", ["measure", "value", "n"], [[r["name"], f"{r['value']:.3f}", r["n"]] for r in found])
    return found


def near_duplicates() -> list[dict[str, Any]]:
    """Of prompts that another repeats with slips in a share of its words, those that are merged; and of all that are
    merged, those that repeat one."""
    found = []
    for share in EDITS:
        log, rng = ingest_log.Log(7), random.Random(7)
        originals = [f"{log.document()}\n\n{log.question()}" for _ in range(COPIES)]
        texts = originals + [ingest_log.slips(rng, text, share) for text in originals]
        texts += [f"{log.document()}\n\n{log.question()}" for _ in range(COPIES)]
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "log.jsonl"
            path.write_text("".join(json.dumps({"prompt": t}) + "\n" for t in texts), encoding="utf-8")
            counts = clean_into(Path(folder), [path], Prompts(max_tokens=10_000), count_tokens=Tokens(""))
            prompts = read_table(Path(folder) / "prompts.parquet", Prompt)
        merged = counts.dropped.get("near duplicate", 0) + counts.dropped.get("duplicate", 0)
        alone = sum(p.count == 1 for p in prompts if int(p.source.rpartition(":")[2]) > 2 * COPIES)
        right, percent = merged - (COPIES - alone), round(100 * share)
        found.append({"name": f"recall.near_duplicates_{percent}", **proportion(right, COPIES).as_dict()})
        found.append({"name": f"precision.near_duplicates_{percent}", **proportion(right, merged).as_dict()})
    work.table("Near-duplicates", ["measure", "value", "n"], [[r["name"], f"{r['value']:.3f}", r["n"]] for r in found])
    return found


if __name__ == "__main__":
    main()
