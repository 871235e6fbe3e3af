"""Strategies: other ways to ask, which share a group's N; the answers count as answers to the plain prompt.

A strategy that thinks first, or sees examples, finds better answers than the bare prompt does. Baked, the bare prompt
is enough. Each completion records its strategy, so that the report can say which earn their keep.
"""

import dataclasses
import json
import random
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from bakeoff.errors import UserError
from bakeoff.models import load as models
from bakeoff.records import Completion, Failure, Message, Pick, Prompt, content_id
from bakeoff.sampling.engine import Engine, Failed, Sampling, refuse
from bakeoff.sampling.resume import turned_away
from bakeoff.settings import Recipe, Strategy

Drawn = dict[str, list[Completion] | Failure]
"""By prompt, its completions, or why there are none."""
Picks = Callable[[], Sequence[Pick]]
"""What people prefer, read when examples are asked for."""


def check(recipe: Recipe) -> None:
    """Raise UserError for strategies that cannot share the group."""
    strategies = recipe.sample.strategies
    names = [s.name for s in strategies]
    if strategies and (not all(names) or len(set(names)) < len(names)):
        raise UserError(f"sample.strategies: each needs a name of its own; found {names!r}")
    if len(strategies) > recipe.sample.group_size:
        raise UserError(f"sample.strategies: {len(strategies)} cannot share a group of {recipe.sample.group_size}")
    for strategy in strategies:
        if strategy.examples and not recipe.reward.picks and not recipe.reward.feedback:
            raise UserError(f"sample.strategies: {strategy.name}: examples come from reward.picks, which names no file")
    alike = [s.name for s in strategies if not _adds(s) and not _marks(s)]
    if len(alike) > 1:
        raise UserError(f"sample.strategies: {alike!r} all ask the plain prompt; keep one, and give it their share")


def over(engine: Engine, model: str, recipe: Recipe, picks: Picks) -> Engine:
    """The engine itself, or one that draws by the recipe's strategies through it.

    Examples come from `picks`. Raises UserError where there are none.
    """
    if not recipe.sample.strategies:
        return engine
    wanted = [s.name for s in recipe.sample.strategies if s.examples]
    pool = [pick for pick in picks() if pick.decided] if wanted else []
    if wanted and not pool:
        raise UserError(
            f"sample.strategies: {wanted[0]}: neither reward.picks nor the logs hold picks to show; add some"
        )
    return StrategyEngine(engine, recipe.sample.strategies, models.load_tokenizer(model), pool)


def shares(strategies: Sequence[Strategy], size: int) -> list[int]:
    """How many of a group each strategy draws: at least one, the rest by `share`, what is left to the first."""
    total, free = sum(strategy.share for strategy in strategies), size - len(strategies)
    counts = [1 + free * strategy.share // total for strategy in strategies]
    for i in range(size - sum(counts)):
        counts[i] += 1
    return counts


class StrategyEngine:
    """See `bakeoff.sampling.Engine`. A prompt that one strategy cannot complete has no group."""

    def __init__(self, engine: Engine, strategies: Sequence[Strategy], tokenizer: Any, pool: Sequence[Pick]):
        self.engine, self.strategies, self.tokenizer, self.pool = engine, strategies, tokenizer, pool

    @property
    def turned_away(self) -> Counter[str]:
        return turned_away(self.engine)

    def complete(
        self, prompts: Sequence[Prompt], sampling: Sampling, failed: Failed = refuse
    ) -> Iterator[list[Completion]]:
        """One whole group per prompt, the strategies' completions one after another, in the order of the recipe."""
        groups: dict[str, list[Completion]] = {p.id: [] for p in prompts}
        for strategy, count in zip(self.strategies, shares(self.strategies, sampling.group_size), strict=True):
            left = [p for p in prompts if p.id in groups]
            drawn = self._drawn(strategy, left, dataclasses.replace(sampling, group_size=count))
            for prompt in left:
                found = drawn[prompt.id]
                if isinstance(found, Failure):
                    del groups[prompt.id]
                    failed(dataclasses.replace(found, prompt_id=prompt.id))
                else:
                    groups[prompt.id] += [self._answer(strategy, c) for c in found]
        for key, group in groups.items():
            yield [
                dataclasses.replace(c, id=content_id("completion", key, i, c.tokens), prompt_id=key, index=i)
                for i, c in enumerate(group)
            ]

    def _drawn(self, strategy: Strategy, prompts: Sequence[Prompt], sampling: Sampling) -> Drawn:
        """What a strategy drew for each prompt."""
        asked = {p.id: self._asked(strategy, p, sampling.seed) for p in prompts}
        first = self._through(list(asked.values()), sampling)
        found = {key: first[variant.id] for key, variant in asked.items()}
        if not strategy.revise:
            return found
        again = {
            (key, c.index): _revision(strategy, asked[key], c)
            for key, group in found.items()
            if not isinstance(group, Failure)
            for c in group
        }
        second = self._through(list(again.values()), dataclasses.replace(sampling, group_size=1))
        revised: Drawn = {
            key: group if isinstance(group, Failure) else list[Completion]() for key, group in found.items()
        }
        for (key, _), variant in again.items():
            result, so_far = second[variant.id], revised[key]
            if isinstance(so_far, list):
                revised[key] = result if isinstance(result, Failure) else so_far + result
        return revised

    def _through(self, prompts: Sequence[Prompt], sampling: Sampling) -> Drawn:
        found: Drawn = {}

        def note(failure: Failure) -> None:
            found[failure.prompt_id] = failure

        for group in self.engine.complete(prompts, sampling, note):
            found[group[0].prompt_id] = group
        return found

    def _asked(self, strategy: Strategy, prompt: Prompt, seed: int) -> Prompt:
        """The prompt as a strategy asks it; itself, with its own random streams, when the strategy is the plain one."""
        if not _adds(strategy) and not _marks(strategy):
            return prompt
        *before, last = prompt.messages
        asked = f"{last.content}\n\n{strategy.instruction}" if strategy.instruction else last.content
        others = [p for p in self.pool if p.messages != prompt.messages] if strategy.examples else []
        shown = random.Random(f"{seed} {prompt.id}").sample(others, min(strategy.examples, len(others)))
        pairs = [m for p in shown for m in (*p.messages, Message("assistant", p.completions[p.pick]))]
        said = [strategy.system, *(m.content for m in before if m.role == "system")]
        system = [Message("system", text)] if (text := "\n\n".join(filter(None, said))) else []
        turns = [m for m in (*pairs, *before) if m.role != "system"]  # templates take one, at the head
        messages = [*system, *turns, Message(last.role, asked)]
        return dataclasses.replace(prompt, id=content_id("strategy", strategy.name, prompt.id), messages=messages)

    def _answer(self, strategy: Strategy, completion: Completion) -> Completion:
        """The completion as an answer to the plain prompt: what a strategy marks as its answer, or all of it.

        A whole completion without the mark counts as cut short.
        """
        completion = dataclasses.replace(completion, strategy=strategy.name)
        if not _marks(strategy) or completion.finish != "stop":
            return completion
        text = _marked(strategy, completion.text)
        if not text:
            return dataclasses.replace(completion, finish="length")
        return dataclasses.replace(completion, text=text, tokens=models.answer_tokens(self.tokenizer, text), logp=None)


def _adds(strategy: Strategy) -> bool:
    """Whether a strategy asks more than the plain prompt."""
    return bool(strategy.system or strategy.instruction or strategy.examples or strategy.revise)


def _marks(strategy: Strategy) -> bool:
    """Whether only a part of a completion is the answer."""
    return bool(strategy.answer_after or strategy.answer_key)


def _revision(strategy: Strategy, asked: Prompt, tried: Completion) -> Prompt:
    turns = [*asked.messages, Message("assistant", tried.text), Message("user", strategy.revise)]
    return dataclasses.replace(asked, id=content_id("revision", asked.id, tried.index), messages=turns)


def _marked(strategy: Strategy, text: str) -> str:
    """What follows the last mark, or stands under the key of the JSON object in the text; empty when there is none."""
    if strategy.answer_after:
        return text.rpartition(strategy.answer_after)[2].strip() if strategy.answer_after in text else ""
    try:
        value = json.loads(text[text.index("{") : text.rindex("}") + 1])[strategy.answer_key]
    except (ValueError, KeyError, TypeError):
        return ""
    return value.strip() if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
