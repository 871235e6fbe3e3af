"""A reward model and what people judged in, the figures of how far it can be trusted out: `bakeoff reward eval`."""

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bakeoff.errors import UserError
from bakeoff.math import statistics
from bakeoff.preferences import gate, metrics
from bakeoff.preferences.reward_model import RewardModel
from bakeoff.preferences.reward_training import PICKS_PER_STEP
from bakeoff.preferences.split import trained_on
from bakeoff.preferences.stage import train_reward_model
from bakeoff.records import Completion, Pick, Prompt, content_id, prompt_id
from bakeoff.run import Run, write_json
from bakeoff.scorer import Texts, score_table
from bakeoff.settings import Recipe

FRACTIONS = (8, 4, 2, 1)
"""The learning curve: an eighth of the picks, a quarter, half, all."""


def evaluate_reward(
    run: Run, name: str, picks: Sequence[Pick], gold: Sequence[Pick] = (), learn: Sequence[Pick] = (), *, base: str
) -> dict[str, Any]:
    """Every figure of the reward model `name` on picks, and `reward_eval.json` in the folder.

    Picks of prompts that it was trained on are counted, and decide nothing: doubts are those on the others.
    `gold` adds the best-of-k curve by true answers, `learn` the learning curve of reward models trained from `base`.
    """
    seed = Recipe().seed
    groups = gate.judged(picks, table_rewards(run, name, [(p.messages, p.completions) for p in picks]))
    if not gate.informative(groups):
        raise UserError("nothing to measure: in no group is one completion preferred to another that differs from it")
    agreement = _as_json(gate.pick_agreement(groups, seed=seed))
    known = trained_on(name, picks)
    count = sum(map(bool, known))
    fresh = [g for g, trained in zip(groups, known, strict=True) if not trained]
    unseen = _as_json(gate.pick_agreement(fresh, seed=seed)) if count else agreement
    enough = unseen["pick_accuracy"]["n"] >= gate.ENOUGH_PROMPTS
    votes = [p.values if p.shape == "votes" else [] for p in picks]
    people = gate.human_agreement(groups, votes, seed=seed)
    seen = None if None in known else count
    figures = {
        "data": {"groups": len(groups), "prompts": len({g.prompt for g in groups}), "seen": seen},
        "unseen": unseen if count and enough else None,
        "agreement": agreement,
        "doubts": gate.doubts(unseen | {"picks": {"seen": count}}),
        "people": people and _as_json(people),
        "calibration": metrics.calibration(groups, seed=seed),
        "length": _as_json(metrics.length_bias(groups, seed=seed)),
        "slices": metrics.slices(groups, [metrics.features(p) for p in picks], seed=seed),
        "gold": _gold(run, name, gold, seed=seed) if gold else None,
        "learning": learning_curve(run, learn, picks, base=base) if learn else None,
    }
    write_json(run.details("reward_eval"), figures)
    return figures


def _as_json(figures: Mapping[str, statistics.Measured]) -> dict[str, Any]:
    return {key: value.as_dict() for key, value in figures.items()}


def table_rewards(run: Run, name: str, groups: Sequence[Texts]) -> list[list[float]]:
    """The model's reward of every text; made in parts that a stopped process leaves behind.

    The table's name tells model and texts, so that neither other weights nor other data are taken for these.
    """
    weights = [(p.name, p.stat().st_size, p.stat().st_mtime_ns) for p in sorted(Path(name).glob("*.safetensors"))]
    prompts = [Prompt(str(i), list(messages), "", 1, "heldout") for i, (messages, _) in enumerate(groups)]
    completions = [
        Completion(f"{i}.{k}", str(i), k, text, [], None, "stop")
        for i, (_, texts) in enumerate(groups)
        for k, text in enumerate(texts)
    ]
    table = f"scores-{content_id(str(Path(name).resolve()), weights, prompts, completions)}"
    scores = iter(score_table(run, table, prompts, completions, lambda: RewardModel.load(name, Recipe())))
    found = []
    for messages, texts in groups:
        row = [*itertools.islice(scores, len(texts))]
        if lost := next((s for s in row if s.reward is None), None):
            raise UserError(f"{messages[-1].content[:40]!r}: an answer has no reward ({lost.reason}); leave it out")
        found.append([s.reward for s in row if s.reward is not None])
    return found


def _gold(run: Run, name: str, gold: Sequence[Pick], *, seed: int) -> dict[str, Any]:
    groups = gate.judged(gold, table_rewards(run, name, [(g.messages, g.completions) for g in gold]))
    agreement = _as_json(gate.pick_agreement(groups, seed=seed))
    return metrics.best_of_k(groups, seed=seed) | {"agreement": agreement}


def learning_curve(run: Run, learn: Sequence[Pick], picks: Sequence[Pick], *, base: str) -> dict[str, Any]:
    """The pick accuracy of reward models trained on an eighth, a quarter, half and all of `learn`.

    Picks of prompts on which it is measured are left out of the training.
    """
    seed, measured_on = Recipe().seed, {prompt_id(p.messages) for p in picks}
    usable = [p for p in learn if prompt_id(p.messages) not in measured_on]
    sizes = [len(usable) // part for part in FRACTIONS if len(usable) // part >= PICKS_PER_STEP]
    if len(sizes) < 2:
        raise UserError(
            f"a learning curve needs more than {len(usable)} picks to train on, of other prompts; give more"
        )
    order = sorted(usable, key=lambda p: content_id(seed, prompt_id(p.messages)))
    groups_S = [_trained_on_part(run, order[:size], picks, base=base) for size in sizes]
    right_SP = np.array([gate.column(groups, lambda g: g.right) for groups in groups_S])
    step = metrics.per_doubling(sizes, right_SP, [g.prompt for g in groups_S[0]], seed=seed)
    points = [gate.ratio(groups, right, seed=seed) for groups, right in zip(groups_S, right_SP, strict=True)]
    return {
        "left_out": len(learn) - len(usable),
        "curve": [{"picks": size} | point.as_dict() for size, point in zip(sizes, points, strict=True)],
        "per_doubling": step.as_dict(),
        "label_more": bool(step.low > 0),
    }


def _trained_on_part(run: Run, training: Sequence[Pick], picks: Sequence[Pick], *, base: str) -> list[gate.Judged]:
    """The informative groups with the rewards of a model trained on some picks (kept in the folder)."""
    own = Run(run.folder / f"learning-{content_id(base, training)}")
    own.folder.mkdir(parents=True, exist_ok=True)
    if not own.reward_model.exists():
        train_reward_model(own, Recipe(model=base), "reward", training, own.reward_model)
    scored = table_rewards(own, str(own.reward_model), [(p.messages, p.completions) for p in picks])
    return gate.informative(gate.judged(picks, scored))
