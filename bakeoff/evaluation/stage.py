"""Stage: reference and tuned policy in, the honest figures of the difference out."""

import dataclasses
import functools
import itertools
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import cast

import numpy as np

from bakeoff import tasks
from bakeoff.data import splits
from bakeoff.errors import UserError
from bakeoff.evaluation import metrics
from bakeoff.evaluation.figures import MAIN, Comparison, Judges, Outside, Policies
from bakeoff.math import best_of_n, statistics
from bakeoff.models import kl
from bakeoff.models.load import give_back_memory, load_policy
from bakeoff.preferences import known_picks, reward_model
from bakeoff.records import Answer, Completion, Message, Prompt, Score, prompt_id, read_table
from bakeoff.run import Run, write_json
from bakeoff.sampling import Engine, Sampling, choose
from bakeoff.sampling.resume import complete_table, failures
from bakeoff.scorer import by_prompt, missing_rewards, score_table, score_tables
from bakeoff.scoring import Verdicts, read_answers, verdicts
from bakeoff.scoring import choose as scorers
from bakeoff.settings import Recipe
from bakeoff.training.stage import packed

UNRELATED = Path(__file__).with_name("unrelated.txt")
"""Everyday prompts, one a line, on which forgetting is measured."""
UNRELATED_TOKENS = 64
Everyday = tuple[list[Prompt], list[Completion]]


@dataclasses.dataclass(frozen=True, slots=True)
class Draws:
    """What one policy answered: per prompt its completions, in order, and the rewards of them, NaN where missing."""

    completions: list[list[Completion]]
    reward_PM: np.ndarray
    referee_PM: np.ndarray | None = None
    """The rewards of a second reward model, made from other picks."""

    def of(self, ids: set[str]) -> "Draws":
        """The draws for some prompts only."""
        kept = [group[0].prompt_id in ids for group in self.completions]
        referee = None if self.referee_PM is None else self.referee_PM[kept]
        return Draws(list(itertools.compress(self.completions, kept)), self.reward_PM[kept], referee)


def evaluate(run: Run, recipe: Recipe) -> None:
    """Sample first answers of both policies on held-out prompts, score and verify them; writes `evaluation.json`."""
    answers, leaked = held_out_answers(run, recipe)
    prompts = evaluation_prompts(run, recipe, answers)
    if not prompts:
        raise UserError("nothing to evaluate: no prompt was held out; raise prompts.heldout or give evaluate.holdout")
    drawn, everyday = _draws(run, recipe, prompts)
    failed = Counter({f.prompt_id: f.reason for name in drawn for f in failures(run, name)}.values())
    prompts, drawn = answered_by_all(prompts, drawn)
    moved = movement(run, recipe, prompts, drawn["tuned"], everyday)
    asked = (c for draws in drawn.values() for group in draws.completions for c in group)
    right = verdicts(answers, asked)
    made = figures(recipe, right, prompts, on_one_scale(recipe, prompts, drawn), moved)
    if not (made["quality"] or made["reward"]):
        raise UserError("nothing to evaluate: no held-out prompt has a reward or a true answer; see *_scores.parquet")
    each: dict[str, Policies] = {}
    for name, alone in tasks.each(recipe).items() if recipe.tasks else ():
        mine = np.array([p.task == name for p in prompts])
        own = list(itertools.compress(prompts, mine))
        if own:
            draws_of = {policy: draws.of({p.id for p in own}) for policy, draws in drawn.items()}
            found = figures(alone, right, own, draws_of, (moved[0][mine], moved[1]))
            each |= {name: found} if found["quality"] or found["reward"] else {}
    counts = {
        "leaked": leaked,
        "failed": failed,
        "missing": missing_rewards(run, [f"{name}_scores" for name in drawn]),
        "unverified": unverified(right, answers, drawn),
    }
    write_json(run.details("evaluation"), made | {"tasks": each} | counts)


def on_one_scale(recipe: Recipe, prompts: Sequence[Prompt], drawn: dict[str, Draws]) -> dict[str, Draws]:
    """The draws with rewards that can be averaged over tasks: in standard deviations of the reference's, by task."""
    if not tasks.scored_differently(recipe):
        return drawn
    rewards = {name: draws.reward_PM for name, draws in drawn.items()}
    scaled = tasks.standardised_by_task(rewards, [p.task for p in prompts], rewards["reference"])
    return {name: dataclasses.replace(draws, reward_PM=scaled[name]) for name, draws in drawn.items()}


def _policies(run: Run, recipe: Recipe) -> Iterator[tuple[str, tuple[str, Sampling]]]:
    """(name, (model, how it is sampled)), model by model: an engine may take minutes to start."""
    sampling = dataclasses.replace(Sampling.of(recipe.sample, recipe.seed + 1), group_size=recipe.evaluate.samples)
    greedy = dataclasses.replace(sampling, temperature=0.0, group_size=1)
    tuned = str(run.policy)
    yield "reference", (recipe.model, dataclasses.replace(sampling, group_size=recipe.sample.group_size))
    yield "reference_greedy", (recipe.model, greedy)
    yield "tuned", (tuned, sampling)
    yield "tuned_greedy", (tuned, greedy)
    if recipe.bake.control:
        yield "control", (str(run.control), sampling)


def answered_by_all(prompts: Sequence[Prompt], drawn: dict[str, Draws]) -> tuple[list[Prompt], dict[str, Draws]]:
    """The prompts that every policy has a whole group for, and their draws: so that all comparisons stay paired.

    Raises UserError when there is none.
    """
    ids = set.intersection(*({group[0].prompt_id for group in draws.completions} for draws in drawn.values()))
    if not ids:
        raise UserError(
            "nothing to evaluate: no held-out prompt could be completed by every policy; see *_failed.parquet"
        )
    return [p for p in prompts if p.id in ids], {name: draws.of(ids) for name, draws in drawn.items()}


def gold_answers(recipe: Recipe) -> list[Answer]:
    """The held-out prompts and true answers of all tasks; of a prompt that several have, the first one's.

    Only the evaluation reads them; `bakeoff.data.seal` keeps the files shut until then.
    """
    files = tasks.gold_files(recipe).items()
    rows = [dataclasses.replace(answer, task=name) for name, path in files for answer in read_gold(Path(path))]
    return list({answer.prompt_id: answer for answer in reversed(rows)}.values())[::-1]


def read_gold(path: Path) -> list[Answer]:
    """The prompts and true answers of the file `evaluate.holdout`, as `read_answers` reads them; at least one."""
    if not (found := read_answers(path, "evaluate.holdout")):
        raise UserError(f"{path}: holds no true answers; correct evaluate.holdout")
    return found


def held_out_answers(run: Run, recipe: Recipe) -> tuple[dict[str, Answer], int]:
    """(true answers by prompt id, how many were left out because their prompt was trained on)."""
    answers = {a.prompt_id: a for a in gold_answers(recipe)}
    if not answers:
        return {}, 0
    seen = {p.id for p in read_table(run.table("prompts"), Prompt) if p.split == "train"}
    seen |= {prompt_id(pick.messages) for pick in known_picks(run.whole(), recipe.reward)}
    kept = {key: answer for key, answer in answers.items() if key not in seen}
    return kept, len(answers) - len(kept)


def evaluation_prompts(run: Run, recipe: Recipe, answers: dict[str, Answer]) -> list[Prompt]:
    """Of each task the prompts with true answers, or, where it has none, those held out of the log."""
    with_gold = [Prompt(a.prompt_id, a.messages, a.source, 1, "heldout", a.task) for a in answers.values()]
    answered = {p.task for p in with_gold}
    held_out = splits.evaluation(read_table(run.table("prompts"), Prompt), recipe)
    return tasks.limited_by_task(with_gold + [p for p in held_out if p.task not in answered], recipe.evaluate.prompts)


def _draws(run: Run, recipe: Recipe, prompts: list[Prompt]) -> tuple[dict[str, Draws], Everyday]:
    """What every policy answers, and what one scorer makes of it; and the reference's answers to unrelated prompts."""
    policies, tables = dict(_policies(run, recipe)), dict[str, list[Completion]]()
    for model, names in itertools.groupby(policies, lambda name: policies[name][0]):
        engine = functools.cache(functools.partial(choose.engine, model, recipe))
        for name in names:
            tables[name] = complete_table(run, name, prompts, policies[name][1], engine)
        if model == recipe.model:
            everyday = unrelated(run, recipe, engine)
        engine.cache_clear()
        give_back_memory()  # for the next
    peers = by_prompt(tables["reference"])
    scorer = functools.cache(lambda: scorers.make_scorer(run, recipe, prompts, peers))

    def rewards(name: str, by: str) -> np.ndarray:
        scores = read_table(run.table(f"{name}_{by}"), Score)
        return np.array([s.reward for s in scores], float).reshape(-1, policies[name][1].group_size)

    scored = {f"{name}_scores": table for name, table in tables.items()}
    if not scorers.one_by_one(recipe):  # which compare what they are given with the reference's answers
        score_table(run, "reference_scores", prompts, scored.pop("reference_scores"), scorer)
    score_tables(run, scored, prompts, scorer, together="answers_scores")
    drawn = {name: Draws([*by_prompt(table).values()], rewards(name, "scores")) for name, table in tables.items()}
    if run.referee.exists():
        main = {f"{name}_referee": tables[name] for name in MAIN}
        score_tables(
            run, main, prompts, lambda: reward_model.RewardModel.load(run.referee, recipe), together="answers_referee"
        )
        for name in MAIN:
            drawn[name] = dataclasses.replace(drawn[name], referee_PM=rewards(name, "referee"))
    return drawn, everyday


def movement(
    run: Run, recipe: Recipe, prompts: Sequence[Prompt], tuned: Draws, everyday: Everyday
) -> tuple[np.ndarray, np.ndarray]:
    """([P] nats per sequence from the reference, by two tuned completions each; [U] forgotten, nats per token).

    What is forgotten is measured on prompts that have nothing to do with any task, answered by the reference.
    """
    policy, tokenizer = load_policy(str(run.policy), recipe)
    reference, _ = load_policy(recipe.model, recipe)

    kl_P = kl.sequence_kl(
        policy,
        reference,
        packed(tokenizer, prompts, [group[:2] for group in tuned.completions]),
        recipe.sample.temperature or 1.0,
    )
    return kl_P, kl.forgotten(policy, reference, packed(tokenizer, everyday[0], [[c] for c in everyday[1]]))


def unrelated(run: Run, recipe: Recipe, engine: Callable[[], Engine]) -> Everyday:
    """Everyday prompts and the reference's answers, by its engine, to those that it could take."""
    texts = UNRELATED.read_text(encoding="utf-8").splitlines()
    turns = [[Message("user", text)] for text in texts]
    prompts = [Prompt(prompt_id(m), m, f"{UNRELATED.name}:{i}", 1, "heldout") for i, m in enumerate(turns, 1)]
    sampling = Sampling(group_size=1, max_tokens=UNRELATED_TOKENS, seed=recipe.seed)
    rows = complete_table(run, "unrelated", prompts, sampling, engine)
    answered = {c.prompt_id for c in rows}
    return [p for p in prompts if p.id in answered], rows


def figures(
    recipe: Recipe,
    right: Verdicts,
    prompts: Sequence[Prompt],
    drawn: dict[str, Draws],
    moved: tuple[np.ndarray, np.ndarray],
) -> Policies:
    """Everything the report and `summary.json` say about quality, reward, divergence and style."""
    seed, (kl_P, forgotten_U) = recipe.seed, moved
    gold_P = np.array([p.id in right for p in prompts])
    raw = {name: draws.reward_PM for name, draws in drawn.items()}
    rewards, rewarded_P = best_of_n.known_rewards(raw)
    picker = scorers.scorer_noun(recipe)
    quality, reward, judges = None, None, Judges(scorer=None, outside=None)
    if gold_P.any():
        correct = {name: _correct(right, draws)[gold_P] for name, draws in drawn.items()}
        found = metrics.comparison(correct, _of(gold_P, rewards), rewarded_P[gold_P], seed=seed)
        quality = cast(Comparison, {"metric": "correct", "picker": picker, "measure": "true answers"} | found)
        judges["outside"] = _outside("true answers", correct, _of(gold_P, raw), kl_P[gold_P], seed=seed)
    elif referee := {name: draws.referee_PM for name, draws in drawn.items() if draws.referee_PM is not None}:
        judges["outside"] = _outside("referee", referee, raw, kl_P, seed=seed)
    if rewarded_P.any():
        known = _of(rewarded_P, rewards)
        found = metrics.comparison(known, known, seed=seed)
        reward = cast(Comparison, {"metric": "reward", "picker": picker, "measure": picker} | found)
        judges["scorer"] = metrics.wins(picker, known, kl_P[rewarded_P], seed=seed)
    tries = recipe.bake.n or recipe.sample.group_size
    size = min(len(drawn[name].completions[0]) for name in MAIN)  # equally many first answers of each
    shown = {name: [group[:size] for group in drawn[name].completions] for name in MAIN}
    style = {name: metrics.style(groups, seed=seed) for name, groups in shown.items()}
    return {
        "quality": quality,
        "reward": reward,
        "wins": judges,
        "kl": {"tuned": statistics.bootstrap(kl_P, seed=seed), "best_of_n": best_of_n.kl_bound(tries)},
        "forgotten": statistics.bootstrap(forgotten_U, seed=seed),
        "length": {name: row.pop("length") for name, row in style.items()},
        "truncated": {
            name: float(np.mean([c.finish == "length" for c in itertools.chain(*drawn[name].completions)]))
            for name in MAIN
        },
        "style": style,
    }


def _of(kept_P: np.ndarray, columns: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {name: rows[kept_P] for name, rows in columns.items()}


def _outside(
    judge: str, value: dict[str, np.ndarray], rewards: dict[str, np.ndarray], kl_P: np.ndarray, *, seed: int
) -> Outside:
    """What a judge that took no part in the training says: wins, the first answer's gain, coverage, agreement."""
    gain_P = value["tuned"].mean(1) - value["reference"].mean(1)
    return {
        **metrics.wins(judge, value, kl_P, seed=seed),
        "gain": statistics.bootstrap(gain_P, seed=seed),
        "coverage": metrics.coverage(value, seed=seed),
        "agreement": metrics.order_agreement(value, rewards, seed=seed),
    }


def _correct(right: Verdicts, draws: Draws) -> np.ndarray:
    """1 where a completion is right by its prompt's verifier, else 0; prompts without a true answer are 0."""
    found = [[right.get(c.prompt_id, {}).get(c.text) for c in group] for group in draws.completions]
    return np.array([[(verdict and verdict.reward) or 0.0 for verdict in group] for group in found], float)


def unverified(right: Verdicts, answers: dict[str, Answer], drawn: dict[str, Draws]) -> dict[str, int]:
    """How many completions could not be verified, by the row of the true answer and the reason."""
    found = Counter[str]()
    for completion in (c for draws in drawn.values() for group in draws.completions for c in group):
        verdict = right.get(completion.prompt_id, {}).get(completion.text)
        if verdict and verdict.reward is None:
            found[f"{answers[completion.prompt_id].source}: {verdict.reason}"] += 1
    return found
