"""Make the messages' data from a seed: `python examples/messages/make.py`. All of it is synthetic."""

from __future__ import annotations

import argparse
import itertools
import json
import random
from pathlib import Path

from messages import Case, cases

from bakeoff.run import write_text

GOOD, REPEATED, EMPTY, BROKEN, GOLD = 400, 40, 15, 15, 150


def main() -> None:
    """Write `log.jsonl` and `gold.jsonl`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent, help="folder to write to")
    args = parser.parse_args()
    for name, lines in (("log", log(args.seed)), ("gold", map(_json, gold(args.seed)))):
        write_text(args.out / f"{name}.jsonl", "".join(f"{line}\n" for line in lines))


def log(seed: int) -> list[str]:
    """The lines of the raw log: good requests, some of them sent again, empty messages and broken lines."""
    rng = random.Random(f"messages log {seed}")
    good = [_json({"id": f"msg-{n:05d}", "messages": _turns(c)}) for n, c in enumerate(first(rng, "log", GOOD))]
    lines = good + rng.choices(good, k=REPEATED)
    lines += [_json({"id": f"msg-{rng.randrange(9**5):05d}", "messages": [{"role": "user", "content": ""}]})] * EMPTY
    lines += [line[: rng.randint(10, len(line) - 3)] for line in rng.sample(good, BROKEN)]
    rng.shuffle(lines)
    return lines


def gold(seed: int) -> list[dict[str, object]]:
    """Held-out requests with their true answers."""
    made = first(random.Random(f"messages gold {seed}"), "gold", GOLD)
    return [{"messages": _turns(c), "answer": c.answer, "verifier": c.verifier} for c in made]


def first(rng: random.Random, split: str, n: int) -> list[Case]:
    return list(itertools.islice(cases(rng, split), n))


def _turns(case: Case) -> list[dict[str, str]]:
    return [{"role": role, "content": text} for role, text in case.messages]


def _json(row: dict[str, object]) -> str:
    return json.dumps(row, ensure_ascii=False)


if __name__ == "__main__":
    main()
