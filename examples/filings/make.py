"""Make the demo's data from a seed: `python examples/filings/make.py [--picks]`. All of it is synthetic."""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import json
import random
from collections.abc import Iterable, Iterator
from pathlib import Path

from companies import split_companies
from dirt import dirty_log
from questions import Case, cases
from tester import pick

from bakeoff.records import Message, Prompt, atomic, prompt_id
from bakeoff.sampling import Sampling

GOLD, PICKS, QUICK = 200, 460, 200
MODEL = "smollm2-135m"
SAMPLING = Sampling(group_size=8, temperature=0.7, max_tokens=40)


def main() -> None:
    """Write `log.jsonl` and `gold.jsonl`; with --picks, also sample the model and write `picks.jsonl`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent, help="folder to write to")
    parser.add_argument("--picks", action="store_true", help="also sample the demo model for picks.jsonl (minutes)")
    parser.add_argument("--pick", type=Path, nargs=2, metavar=("ASK", "PICKS"), help="only pick in a file of groups")
    args = parser.parse_args()
    if args.pick:
        write_lines(args.pick[1], map(_json, picked(args.pick[0], args.seed)))
        return
    write_lines(args.out / "log.jsonl", log(args.seed))
    write_lines(args.out / "gold.jsonl", map(_json, gold(args.seed)))
    if args.picks:
        rows = [_json(row) for row in picks(args.seed)]
        write_lines(args.out / "picks.jsonl", rows)
        write_lines(args.out / f"picks_{QUICK}.jsonl", rows[:QUICK])


def log(seed: int) -> list[str]:
    """The lines of the raw log."""
    names = split_companies(seed)["log"]
    rng = random.Random(f"log {seed}")
    return dirty_log(rng, cases(rng, names), names)


def log_cases(seed: int) -> list[Case]:
    """What the log asks, with its true answers, which the log does not hold."""
    names, made, rng = split_companies(seed)["log"], list[Case](), random.Random(f"log {seed}")
    dirty_log(rng, (made.append(case) or case for case in cases(rng, names)), names)
    return made


def answers_to(texts: Iterable[str], seed: int) -> list[Case | None]:
    """The case that each cleaned prompt of the log came from; None where it cannot be told."""
    known = {_words(case.prompt): case for case in log_cases(seed)}
    asked = [_words(text) for text in texts]
    return [known.get(t) or next((case for words, case in known.items() if words in t), None) for t in asked]


def picked(path: Path, seed: int) -> Iterator[dict[str, object]]:
    """The groups of `path` (`messages`, `completions`) that ask what the log asks, with the simulated tester's pick."""
    groups = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    rng = random.Random(f"tester {seed} {len(groups)}")
    for group, case in zip(groups, answers_to((g["messages"][-1]["content"] for g in groups), seed), strict=True):
        if case:
            yield group | {"pick": pick(rng, group["completions"], case.answer, case.verifier)}


def gold(seed: int) -> list[dict[str, object]]:
    """Held-out prompts with their true answers."""
    return [{"prompt": c.prompt, "answer": c.answer, "verifier": c.verifier} for c in cases_of("gold", seed, GOLD)]


def picks(seed: int) -> list[dict[str, object]]:
    """The demo's picks."""
    return picks_of(cases_of("picks", seed, PICKS), random.Random(f"tester {seed}"), seed)


def picks_of(asked: list[Case], rng: random.Random, seed: int, model: str = MODEL) -> list[dict[str, object]]:
    """Groups really sampled from the model, each with the simulated tester's pick."""
    rows = []
    for case, completions in zip(asked, sample(asked, seed, model), strict=True):
        choice = pick(rng, completions, case.answer, case.verifier)
        rows.append({"prompt": case.prompt, "completions": completions, "pick": choice})
    return rows


def sample(asked: list[Case], seed: int, model: str = MODEL) -> Iterator[list[str]]:
    """The completions of the model, one group per case, in the order of the cases."""
    from tqdm import tqdm

    from bakeoff.models.load import load_policy
    from bakeoff.sampling.local import LocalEngine

    prompts = [_prompt(case) for case in asked]
    sampling = dataclasses.replace(SAMPLING, seed=seed)
    groups = LocalEngine(*load_policy(model)).complete(prompts, sampling)
    texts = {group[0].prompt_id: [c.text for c in group] for group in tqdm(groups, total=len(prompts), unit="prompt")}
    return (texts[p.id] for p in prompts)


def write_lines(path: Path, lines: Iterable[str]) -> None:
    with atomic(path) as beside:
        beside.write_text("".join(line + "\n" for line in lines), "utf-8")


def cases_of(split: str, seed: int, n: int) -> list[Case]:
    """The first n cases of a split; more of them begin with the same ones."""
    source = cases(random.Random(f"{split} {seed}"), split_companies(seed)[split])
    return list(itertools.islice(source, n))


def _prompt(case: Case) -> Prompt:
    messages = [Message("user", case.prompt)]
    return Prompt(prompt_id(messages), messages, "make.py", 1, "train")


def _words(text: str) -> str:
    return " ".join(text.split())


def _json(row: dict[str, object]) -> str:
    return json.dumps(row, ensure_ascii=False)


if __name__ == "__main__":
    main()
