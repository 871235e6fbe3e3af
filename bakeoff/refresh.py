"""Between rounds: testers pick among the current policy's completions, and the reward model learns from all picks.

A policy that was baked by a reward model moves to where that model was never taught; new picks teach it there.
"""

import dataclasses
import itertools
import json
from collections.abc import Sequence

from bakeoff.errors import UserError
from bakeoff.records import Completion, Prompt
from bakeoff.rewards import choose as scorers
from bakeoff.rewards.picks import read_picks
from bakeoff.run import Run, write_text
from bakeoff.settings import Recipe
from bakeoff.train_reward import train_reward


def refreshed(
    current: Run, recipe: Recipe, prompts: Sequence[Prompt], completions: Sequence[Completion], earlier: Sequence[Run]
) -> Recipe:
    """The recipe with the reward model of this round, which learns from the picks of this and of earlier rounds too.

    Raises UserError while testers have not picked yet: the bake then goes on by the same command.
    """
    if not recipe.bake.ask:
        return recipe
    asked = [] if current.picks.exists() else ask(prompts, completions, recipe.bake.ask)
    if asked:
        write_text(current.ask, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in asked))
        raise UserError(
            f"{current.ask}: testers, pick among the current policy's completions of these {len(asked)} prompts: give "
            f"each row a `pick`, save as {current.picks.name} beside it, then the same command goes on from here"
        )
    new = [str(run.picks) for run in (*earlier, current) if run.picks.exists()]
    more = dataclasses.replace(recipe, reward=dataclasses.replace(recipe.reward, picks=[*recipe.reward.picks, *new]))
    read_picks(new)
    if not current.details(current.reward_model.name).exists():
        train_reward(current, more)
    own = f"{scorers.TRAINED}:{current.reward_model}"
    return dataclasses.replace(recipe, score=dataclasses.replace(recipe.score, scorer=own))


def ask(prompts: Sequence[Prompt], completions: Sequence[Completion], count: int) -> list[dict]:
    """Rows for testers: the first prompts whose different completions are at least two, until there are `count`."""
    messages = {p.id: [dataclasses.asdict(m) for m in p.messages] for p in prompts}
    rows = []
    for key, group in itertools.groupby(completions, lambda c: c.prompt_id):
        texts = list(dict.fromkeys(c.text for c in group))
        if len(texts) > 1:
            rows.append({"messages": messages[key], "completions": texts})
    return rows[:count]


def check(recipe: Recipe) -> None:
    """Raise UserError where there is no reward model of the recipe's own to teach, or no round to ask between."""
    if recipe.bake.ask and (recipe.tasks or recipe.score.scorer != scorers.TRAINED or recipe.bake.rounds == 1):
        raise UserError(
            f"bake.ask: {recipe.bake.ask} prompts are for a reward model that learns between rounds: "
            "score.scorer must be reward_model, bake.rounds more than 1, and there must be no tasks"
        )
    if recipe.bake.ask and recipe.reward.members > 1:
        raise UserError("bake.ask: a reward model that learns between rounds is one; set reward.members to 1")
