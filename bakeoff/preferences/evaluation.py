"""A reward model and what people judged in, the figures of how far it can be trusted out: `bakeoff reward eval`."""

import dataclasses
import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bakeoff.errors import UserError
from bakeoff.math import statistics
from bakeoff.models.optimizer import follow
from bakeoff.preferences import curves, ensemble, gate, reward_model
from bakeoff.preferences.calibration import calibration
from bakeoff.preferences.length import length_bias
from bakeoff.preferences.seen import seen
from bakeoff.preferences.slices import features, slices
from bakeoff.records import Completion, Message, Pick, Prompt, content_id, prompt_id
from bakeoff.run import Run, write_json
from bakeoff.scorer import score_table
from bakeoff.settings import Recipe

FRACTIONS = (8, 4, 2, 1)
"""The learning curve: an eighth of the picks, a quarter, half, all."""
Texts = tuple[Sequence[Message], Sequence[str]]


@dataclasses.dataclass(frozen=True, slots=True)
class Graded:
    """Completions of a prompt with their true worth, higher is better."""

    messages: list[Message]
    completions: list[str]
    worth: list[float]


def evaluate_reward(
    run: Run, name: str, picks: Sequence[Pick], gold: Sequence[Graded] = (), learn: Sequence[Pick] = (), *, base: str
) -> dict[str, Any]:
    """Every figure of the reward model `name` on picks, and `reward_eval.json` in the folder.

    Picks of prompts that it was trained on are counted, and decide nothing: doubts are those on the others.
    `gold` adds the best-of-k curve by true answers, `learn` the learning curve of reward models trained from `base`.
    """
    seed = Recipe().seed
    scored = rewards(run, name, [(p.messages, p.completions) for p in picks])
    groups = gate.judged(picks, scored)
    if not gate.telling(groups):
        raise UserError("nothing to measure: in no group is one completion preferred to another that differs from it")
    agreement = _as_json(gate.agreement(groups, seed=seed))
    known = seen(name, picks)
    count = sum(map(bool, known))
    fresh = [g for g, trained in zip(groups, known, strict=True) if not trained]
    unseen = _as_json(gate.agreement(fresh, seed=seed)) if count else agreement
    enough = unseen["pick_accuracy"]["n"] >= gate.FEW
    figures = {
        "data": {
            "groups": len(groups),
            "prompts": len({g.prompt for g in groups}),
            "seen": None if None in known else count,
        },
        "unseen": unseen if count and enough else None,
        "agreement": agreement,
        "doubts": gate.doubts(unseen | {"picks": {"seen": count}}),
        "people": _people(groups, picks, seed=seed),
        "calibration": calibration(groups, seed=seed),
        "length": _as_json(length_bias(groups, seed=seed)),
        "slices": slices(groups, [features(p) for p in picks], seed=seed),
        "gold": _gold(run, name, gold, seed=seed) if gold else None,
        "learning": learning(run, learn, picks, base=base) if learn else None,
    }
    write_json(run.details("reward_eval"), figures)
    return figures


def _people(groups: Sequence[gate.Judged], picks: Sequence[Pick], *, seed: int) -> dict[str, Any] | None:
    found = gate.with_people(groups, [p.values if p.shape == "votes" else [] for p in picks], seed=seed)
    return None if found is None else _as_json(found)


def _as_json(figures: Mapping[str, statistics.Measured]) -> dict[str, Any]:
    return {key: value.as_dict() for key, value in figures.items()}


def rewards(run: Run, name: str, groups: Sequence[Texts]) -> list[list[float]]:
    """The model's reward of every text; made in parts that a stopped process leaves behind.

    The table's name tells model and texts, so that neither other weights nor other data are taken for these.
    """
    weights = [(p.name, p.stat().st_size, p.stat().st_mtime_ns) for p in sorted(Path(name).glob("*.safetensors"))]
    prompts, completions = [], []
    for i, (messages, texts) in enumerate(groups):
        prompts.append(Prompt(str(i), list(messages), "", 1, "heldout"))
        completions += [Completion(f"{i}.{k}", str(i), k, text, [], None, "stop") for k, text in enumerate(texts)]
    table = f"scores-{content_id(str(Path(name).resolve()), weights, prompts, completions)}"
    scores = iter(score_table(run, table, prompts, completions, lambda: ensemble.load([Path(name)], Recipe())))
    found = []
    for messages, texts in groups:
        row = [*itertools.islice(scores, len(texts))]
        if lost := next((s for s in row if s.reward is None), None):
            raise UserError(f"{messages[-1].content[:40]!r}: an answer has no reward ({lost.reason}); leave it out")
        found.append([s.reward for s in row if s.reward is not None])
    return found


def _gold(run: Run, name: str, gold: Sequence[Graded], *, seed: int) -> dict[str, Any]:
    scored = rewards(run, name, [(g.messages, g.completions) for g in gold])
    groups = [
        gate.Judged(prompt_id(g.messages), np.array(g.worth), np.array(r), np.array([len(c) for c in g.completions]))
        for g, r in zip(gold, scored, strict=True)
    ]
    agreement = _as_json(gate.agreement(groups, seed=seed))
    return curves.best_of_k(groups, seed=seed) | {"agreement": agreement}


def learning(run: Run, learn: Sequence[Pick], picks: Sequence[Pick], *, base: str) -> dict[str, Any]:
    """The pick accuracy of reward models trained on an eighth, a quarter, half and all of `learn`.

    Picks of prompts on which it is measured are left out of the training.
    """
    seed, measured_on = Recipe().seed, {prompt_id(p.messages) for p in picks}
    usable = [p for p in learn if prompt_id(p.messages) not in measured_on]
    sizes = [len(usable) // part for part in FRACTIONS if len(usable) // part >= reward_model.PICKS_PER_STEP]
    if len(sizes) < 2:
        raise UserError(
            f"a learning curve needs more than {len(usable)} picks to train on, of other prompts; give more"
        )
    order = sorted(usable, key=lambda p: content_id(seed, prompt_id(p.messages)))
    groups_S = [_learnt(run, order[:size], picks, base=base) for size in sizes]
    right_SP = np.array([gate.column(groups, lambda g: float(g.chosen @ g.best)) for groups in groups_S])
    owners = [g.prompt for g in groups_S[0]]
    step = curves.per_doubling(sizes, right_SP, owners, seed=seed)
    points = [gate.ratio(groups, right, seed=seed) for groups, right in zip(groups_S, right_SP, strict=True)]
    return {
        "left_out": len(learn) - len(usable),
        "curve": [{"picks": size} | point.as_dict() for size, point in zip(sizes, points, strict=True)],
        "per_doubling": step.as_dict(),
        "label_more": bool(step.low > 0),
    }


def _learnt(run: Run, training: Sequence[Pick], picks: Sequence[Pick], *, base: str) -> list[gate.Judged]:
    """The groups that tell something, with the rewards of a model trained on some picks (kept in the folder)."""
    recipe = Recipe()
    own = Run(run.folder / f"learning-{content_id(base, training)}")
    own.folder.mkdir(parents=True, exist_ok=True)
    if not own.reward_model.exists():
        scorer = reward_model.fresh(base, recipe)
        steps = reward_model.Training(scorer, training, recipe.reward, seed=recipe.seed)
        follow(own, "reward", steps.optimizer, steps.steps())
        reward_model.save(scorer, own.reward_model)
    scored = rewards(own, str(own.reward_model), [(p.messages, p.completions) for p in picks])
    return gate.telling(gate.judged(picks, scored))
