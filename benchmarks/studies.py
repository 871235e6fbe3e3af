"""What the studies share: one sampling and one reward model for many trainings, true answers, one way to measure.

`python benchmarks/study.py NAME [section.key=value ...] [--seeds 0 1 2] [--out DIR]` runs benchmarks/study_NAME.py.
Whatever is in `--out` already is read, not made again, so that a study is stopped and resumed at will, and takes in
seeds one by one.
"""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import json
import os
import random
import re
import shlex
import shutil
import sys
import tomllib
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pictures
import results

from bakeoff import config, pipeline, tasks
from bakeoff.data.seal import sealed
from bakeoff.errors import UserError
from bakeoff.evaluation.holdout import answers
from bakeoff.math import statistics
from bakeoff.models import load as models
from bakeoff.records import Completion, Prompt, Score, content_id, read_table
from bakeoff.run import Run, open_run, read_json, write_json
from bakeoff.sampling import Sampling, choose
from bakeoff.sampling.resume import complete_table
from bakeoff.scoring.verifiers import VERIFIERS
from bakeoff.settings import Bake, Recipe
from bakeoff.training import stage as bake

RECIPE = results.ROOT / "recipes" / "filings.toml"
FILINGS = RECIPE.parents[1] / "examples" / "filings"
DATA_SEED = 1
"""The seed that made the demo's files."""
ANSWERS = 4
"""First answers to each prompt with a true answer."""
CHOICES = ("BAKEOFF_SIZES", "BAKEOFF_PEERS")
"""Environment variables that choose among the arms of a study."""
FROM_ALL = ["bake.agreement_quantile=1.0", "bake.epochs=1"]
"""What the studies vary is baked from all groups, in one pass; only where they say so as the demo's recipe says."""


@dataclasses.dataclass(frozen=True, slots=True)
class Base:
    """A run of the demo up to its rewards, which every training of a study starts from."""

    run: Run
    recipe: Recipe

    def baking(self, settings: Bake) -> Base:
        """The same tables, to be baked by other settings."""
        return Base(self.run, dataclasses.replace(self.recipe, bake=settings))

    def arm(self, name: str) -> Run:
        """The folder of one training of a study."""
        run = Run(self.run.folder.with_name(f"{self.run.folder.name}-{name}"))
        run.folder.mkdir(parents=True, exist_ok=True)
        return run


def base(out: Path, seed: int, overrides: Sequence[str], last: str = "score") -> Base:
    """The demo of one seed, run up to the stage `last`: the studies under one folder share it."""
    recipe = config.load(RECIPE, [f"seed={seed}", *FROM_ALL, *overrides])
    return Base(upto(out / f"base-{seed}", recipe, last), recipe)


def each_seed(
    arms: Callable[[Base], dict[str, Any]], seeds: Sequence[int], out: Path, overrides: Sequence[str]
) -> dict:
    """What `arms` found on the base of every seed, by arm."""
    found: dict[str, list] = {}
    for seed in seeds:
        for name, values in arms(base(out, seed, overrides)).items():
            found.setdefault(name, []).append(values)
    return found


def upto(folder: Path, recipe: Recipe, last: str) -> Run:
    """A run with all its stages up to `last`; what the gate thinks of the reward model stops no study."""
    pipeline.check(recipe)
    run = open_run(folder, recipe)
    for stage in pipeline.STAGES:
        if stage.wanted(recipe) and not stage.made(run).exists():
            pipeline.run_stage(run, recipe, stage)
        if stage.name == last:
            break
    return run


def tables(run: Run) -> tuple[list[Prompt], list[Completion], list[Score]]:
    """The prompts, completions and rewards of a run."""
    return (
        read_table(run.table("prompts"), Prompt),
        read_table(run.table("completions"), Completion),
        read_table(run.table("scores"), Score),
    )


def bake_arm(
    of: Base,
    name: str,
    made: Callable[[], tuple[Sequence[Completion], Sequence[Score]]],
    dealt: Sequence[Score] | None = None,
) -> Run:
    """The arm with a policy baked from the completions and rewards that `made` gives, by the base's settings.

    `dealt` are trained on in place of the rewards. Raises UserError for one that was baked by other settings or from
    another base.
    """
    run = of.arm(name)
    source = {
        "scores": content(of.run.table("scores")),
        "bake": json.loads(json.dumps(dataclasses.asdict(of.recipe.bake))),
    }
    same_source(run, source)
    if not run.details("bake").exists():
        with sealed(tasks.gold_files(of.recipe).values()):
            completions, scores = made()
            prompts = read_table(of.run.table("prompts"), Prompt)
            lesson = bake.Lesson(of.recipe.model, prompts, completions, scores, of.recipe.seed, dealt)
            bake.train(run, of.recipe, lesson, "bake", run.policy)
    return run


def same_source(run: Run, source: Mapping[str, Any]) -> None:
    """Note what an arm is made from; raises UserError where it was made from something else."""
    if not run.details("arm").exists():
        write_json(run.details("arm"), {**source, "commit": results.commit()})
    found = read_json(run.details("arm"))
    if changed := [key for key in source if found[key] != source[key]]:
        raise UserError(f"{run.folder}: was made (at {found['commit']}) from other {', '.join(changed)}; remove it")


def content(file: Path) -> str:
    """A file's content, as a hash."""
    return hashlib.sha256(file.read_bytes()).hexdigest()[:16]


def whole(of: Base) -> Run:
    """The arm baked from all that the base has: one, which every study that grows up to it shares."""
    return bake_arm(of, "whole", lambda: tables(of.run)[1:])


def again(
    of: Base, name: str, overrides: Sequence[str], last: str = "bake", tables: Sequence[str] = ("prompts",)
) -> Run:
    """An arm that goes its own way from the base's tables on, by other settings, up to the stage `last`.

    Where the settings say nothing else, the base's reward model scores, and there is no control. Raises UserError for
    one that was made from another base.
    """
    run = of.arm(name)
    same_source(run, {"scores": content(of.run.table("scores"))})
    scorer = of.recipe.score.scorer
    if scorer == "reward_model":
        scorer = f"reward_model:{of.run.reward_model.resolve()}"
    given = ["bake.control=false", "reward.picks=[]", f"score.scorer={json.dumps(scorer)}", *overrides]
    recipe = config.overridden(tomllib.loads(config.dump(of.recipe)), given, name)
    for file in (file for table in tables for file in of.run.folder.glob(f"{table}.*")):
        if not (run.folder / file.name).exists():
            shutil.copy(file, run.folder / file.name)
    return upto(run.folder, recipe, last)


def grown(study: str, found: dict[str, list[np.ndarray]], seeds: Sequence[int], overrides: Sequence[str]) -> None:
    """Record a study over growing numbers: its arms, and by how much the last one is better than each other."""
    *fewer, most = found
    record(study, measured(study, found, [(most, name) for name in fewer]), seeds, overrides)


def right(run: Run, recipe: Recipe, model: str) -> np.ndarray:
    """[P]: the share of right first answers of a model to each prompt with a true answer; they stay in `run`."""
    return verified(recipe, drawn(run, "tuned", recipe, model, ANSWERS)).reshape(-1, ANSWERS).mean(1)


def drawn(run: Run, name: str, recipe: Recipe, model: str, size: int) -> list[Completion]:
    """So many answers of a model to each prompt with a true answer, in the run's table `name`."""
    sampling = dataclasses.replace(Sampling.of(recipe.sample, recipe.seed + 1), group_size=size)
    return complete_table(run, name, gold_prompts(recipe), sampling, lambda: choose.engine(model, recipe))


def gold_prompts(recipe: Recipe) -> list[Prompt]:
    """The prompts with a true answer."""
    return [Prompt(a.prompt_id, a.messages, a.source, 1, "heldout") for a in answers(recipe)]


def verified(recipe: Recipe, completions: Iterable[Completion]) -> np.ndarray:
    """[M]: whether each completion is right by the true answer to its prompt."""
    return agrees({a.prompt_id: (a.answer, a.verifier) for a in answers(recipe)}, completions)


def agrees(truth: Mapping[str, tuple[str, str]], completions: Iterable[Completion]) -> np.ndarray:
    """[M]: whether each of the completions whose prompt has a (true answer, verifier) is right by it."""
    pairs = ((c.text, *truth[c.prompt_id]) for c in completions if c.prompt_id in truth)
    return np.array([VERIFIERS[verifier](text, answer) for text, answer, verifier in pairs], float)


def picked(file: Path, numbers: range, model: str) -> Path:
    """The simulated tester's picks, written to `file` unless there, among a model's tries at some of the maker's cases.

    They are numbered as those of the demo's picks, and what comes after them.
    """
    sys.path.insert(0, str(FILINGS))
    from make import cases_of, picks_of, write_lines

    if not file.exists():
        asked = cases_of("picks", DATA_SEED, numbers.stop)[numbers.start :]
        made = picks_of(asked, random.Random(f"tester {numbers}"), DATA_SEED, model)
        write_lines(file, (json.dumps(row, ensure_ascii=False) for row in made))
    return file


def filings_answers(prompts: Sequence[Prompt], seed: int = DATA_SEED) -> dict[str, tuple[str, str]]:
    """(true answer, verifier) by id of those prompts cleaned from the demo's log that its maker knows the answer to."""
    sys.path.insert(0, str(FILINGS))
    from make import answers_to

    found = zip(prompts, answers_to((p.messages[-1].content for p in prompts), seed), strict=True)
    return {prompt.id: (case.answer, case.verifier) for prompt, case in found if case}


def words(text: str) -> str:
    """A text with all white space alike: what cleaning may change."""
    return " ".join(text.split())


def log_prompts(seed: int, count: int) -> list[str]:
    """Clean prompts of the demo's maker, of the companies of its log."""
    sys.path.insert(0, str(FILINGS))
    from companies import split_companies
    from questions import cases

    source = cases(random.Random(f"study {seed}"), split_companies(DATA_SEED)["log"])
    return [case.prompt for case in itertools.islice(source, count)]


def wrong_labels(truth: dict[str, tuple[str, str]], share: float, seed: int) -> dict[str, str]:
    """A label for each prompt, exactly `share` of them wrong: another prompt's answer, of the same form if any is.

    What is wrong at one share is wrong at every larger one, and with the same answer.
    """
    rng = random.Random(f"labels {seed}")
    order = rng.sample(sorted(truth), len(truth))
    labels = {key: answer for key, (answer, _) in truth.items()}
    for place, key in enumerate(order):
        answer, verifier = truth[key]
        others = [a for a, v in truth.values() if v == verifier and not VERIFIERS[verifier](a, answer)]
        alike = [a for a in others if _form(a) == _form(answer)]
        chosen = rng.choice(sorted(alike or others))
        if place < round(share * len(order)):
            labels[key] = chosen
    return labels


def _form(answer: str) -> str:
    """What kind of a value an answer is: `$# million`, `#%`, so many words."""
    return re.sub(r"[\d.,]+", "#", answer) if re.search(r"\d", answer) else str(len(answer.split()))


def labelled(of: Base, labels: dict[str, str]) -> tuple[list[Completion], list[Score]]:
    """Groups of two from which a bake learns the labels by heart: the label, rewarded 1, and a try that is none, 0."""
    tokenizer = models.load_tokenizer(of.recipe.model)
    rows, scores = [], []
    for draw in read_table(of.run.table("completions"), Completion):
        tokens = models.answer_tokens(tokenizer, labels.get(draw.prompt_id, ""))
        if draw.prompt_id not in labels or draw.tokens == tokens or (rows and rows[-1].prompt_id == draw.prompt_id):
            continue
        text = labels[draw.prompt_id]
        label = Completion(content_id(draw.prompt_id, text), draw.prompt_id, 0, text, tokens, None, "stop")
        rows += [label, dataclasses.replace(draw, index=1)]
        scores += [
            Score(row.id, row.prompt_id, "label", reward) for row, reward in zip(rows[-2:], (1.0, 0.0), strict=True)
        ]
    return rows, scores


def measured(
    study: str, found: dict[str, list[np.ndarray]], differences: Sequence[tuple[str, str]]
) -> list[dict[str, Any]]:
    """The rows of a study: each arm's value per prompt, one array a seed, and paired differences between arms.

    A prompt is one observation: its mean over the seeds. `seeds` holds the means of each seed, which differ by the luck
    of a training too.
    """
    values = dict(found)
    for one, other in differences:
        values[f"{one}_minus_{other}"] = [a - b for a, b in zip(found[one], found[other], strict=True)]
    return [
        {"name": f"{study}.{name}"}
        | statistics.bootstrap(np.mean(parts, axis=0), seed=0).as_dict()
        | {"seeds": [round(float(part.mean()), 4) for part in parts]}
        for name, parts in values.items()
    ]


def record(
    study: str,
    rows: Sequence[dict[str, Any]],
    seeds: Sequence[int],
    overrides: Sequence[str],
    replaced: Sequence[str] | None = None,
) -> None:
    """Write the numbers to docs/results/studies.json, with their pictures, and the table to the terminal.

    What stood there of the study, or matches the patterns `replaced`, goes.
    """
    command = shlex.join(["python", "benchmarks/study.py", study, *overrides, "--seeds", *map(str, seeds)])
    command = " ".join(
        [*(f"{name}={shlex.quote(os.environ[name])}" for name in CHOICES if name in os.environ), command]
    )
    gone = [f"{study}.*"] if replaced is None else replaced
    results.record("studies", [row | {"command": command} for row in rows], replaced=gone)
    results.main()
    pictures.main()
    named = {row["name"] for row in rows}
    print(results.table([row for row in results.read("studies") if row["name"] in named]))
