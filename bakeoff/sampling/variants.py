"""Prompt variants, which share a group's N; the answers count as answers to the plain prompt.

A variant that asks for a reasoning first, or shows examples, gives better answers than the plain prompt does; after
the bake the plain prompt is enough. Each completion records its variant, so that the report can compare them.
"""

import dataclasses
import random
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from bakeoff import tasks
from bakeoff.errors import UserError
from bakeoff.models.chat import answer_tokens
from bakeoff.models.load import load_tokenizer
from bakeoff.records import Completion, Failure, Message, Pick, Prompt, content_id
from bakeoff.sampling.engine import Engine, Failed, Sampling, refuse
from bakeoff.sampling.resume import turned_away
from bakeoff.settings import Recipe, Variant

Drawn = dict[str, list[Completion] | Failure]
"""By prompt, its completions, or why there are none."""
Picks = Callable[[], Sequence[Pick]]
"""What people prefer, read when examples are asked for."""


def check_variants(recipe: Recipe) -> None:
    """Raise UserError for variants that cannot share the group."""
    variants = recipe.sample.variants
    names = [v.name for v in variants]
    if variants and (not all(names) or len(set(names)) < len(names)):
        raise UserError(f"sample.variants: each needs a name of its own; found {names!r}")
    if len(variants) > recipe.sample.group_size:
        raise UserError(f"sample.variants: {len(variants)} cannot share a group of {recipe.sample.group_size}")
    for variant in variants:
        if variant.examples and not recipe.reward.picks and not tasks.learns_from_logs(recipe):
            raise UserError(f"sample.variants: {variant.name}: examples come from reward.picks, which names no file")
    alike = [v.name for v in variants if _plain(v)]
    if len(alike) > 1:
        raise UserError(f"sample.variants: {alike!r} all ask the plain prompt; keep one, and give it their share")


def over(engine: Engine, model: str, recipe: Recipe, picks: Picks) -> Engine:
    """The engine itself, or one that samples the recipe's prompt variants through it.

    Examples come from `picks`. Raises UserError where there are none.
    """
    if not recipe.sample.variants:
        return engine
    wanted = [v.name for v in recipe.sample.variants if v.examples]
    pool = [pick for pick in picks() if pick.decided] if wanted else []
    if wanted and not pool:
        raise UserError(f"sample.variants: {wanted[0]}: neither reward.picks nor the logs hold picks to show; add some")
    return VariantEngine(engine, recipe.sample.variants, load_tokenizer(model), pool)


def variant_counts(variants: Sequence[Variant], size: int) -> list[int]:
    """How many of a group each variant samples: at least one, the rest by `share`, what is left to the first."""
    total, free = sum(variant.share for variant in variants), size - len(variants)
    counts = [1 + free * variant.share // total for variant in variants]
    for i in range(size - sum(counts)):
        counts[i] += 1
    return counts


class VariantEngine:
    """See `bakeoff.sampling.Engine`. A prompt that one variant cannot complete has no group."""

    def __init__(self, engine: Engine, variants: Sequence[Variant], tokenizer: Any, pool: Sequence[Pick]):
        self.engine, self.variants, self.tokenizer, self.pool = engine, variants, tokenizer, pool

    @property
    def turned_away(self) -> Counter[str]:
        return turned_away(self.engine)

    def complete(
        self, prompts: Sequence[Prompt], sampling: Sampling, failed: Failed = refuse
    ) -> Iterator[list[Completion]]:
        """One whole group per prompt, the variants' completions one after another, in the order of the recipe."""
        groups: dict[str, list[Completion]] = {p.id: [] for p in prompts}
        for variant, count in zip(self.variants, variant_counts(self.variants, sampling.group_size), strict=True):
            left = [p for p in prompts if p.id in groups]
            drawn = self._drawn(variant, left, dataclasses.replace(sampling, group_size=count))
            for prompt in left:
                found = drawn[prompt.id]
                if isinstance(found, Failure):
                    del groups[prompt.id]
                    failed(dataclasses.replace(found, prompt_id=prompt.id))
                else:
                    groups[prompt.id] += [self._answer(variant, c) for c in found]
        for key, group in groups.items():
            yield [
                dataclasses.replace(c, id=content_id("completion", key, i, c.tokens), prompt_id=key, index=i)
                for i, c in enumerate(group)
            ]

    def _drawn(self, variant: Variant, prompts: Sequence[Prompt], sampling: Sampling) -> Drawn:
        """What a variant gave for each prompt."""
        asked = {p.id: self._asked(variant, p, sampling.seed) for p in prompts}
        found: Drawn = {}

        def note(failure: Failure) -> None:
            found[failure.prompt_id] = failure

        for group in self.engine.complete(list(asked.values()), sampling, note):
            found[group[0].prompt_id] = group
        return {key: found[as_asked.id] for key, as_asked in asked.items()}

    def _asked(self, variant: Variant, prompt: Prompt, seed: int) -> Prompt:
        """The prompt as a variant asks it, with its own random streams; the plain one is the prompt itself."""
        if _plain(variant):
            return prompt
        *before, last = prompt.messages
        asked = f"{last.content}\n\n{variant.instruction}" if variant.instruction else last.content
        others = [p for p in self.pool if p.messages != prompt.messages] if variant.examples else []
        shown = random.Random(f"{seed} {prompt.id}").sample(others, min(variant.examples, len(others)))
        pairs = [m for p in shown for m in (*p.messages, Message("assistant", p.completions[p.pick]))]
        said = [variant.system, *(m.content for m in before if m.role == "system")]
        system = [Message("system", text)] if (text := "\n\n".join(filter(None, said))) else []
        turns = [m for m in (*pairs, *before) if m.role != "system"]  # templates take one, at the head
        messages = [*system, *turns, Message(last.role, asked)]
        return dataclasses.replace(prompt, id=content_id("strategy", variant.name, prompt.id), messages=messages)

    def _answer(self, variant: Variant, completion: Completion) -> Completion:
        """The completion as an answer to the plain prompt: what follows the variant's mark, or all of it.

        A whole completion without the mark counts as cut short.
        """
        completion = dataclasses.replace(completion, strategy=variant.name)
        if not variant.answer_after or completion.finish != "stop":
            return completion
        _, mark, text = completion.text.rpartition(variant.answer_after)
        if not mark or not (text := text.strip()):
            return dataclasses.replace(completion, finish="length")
        return dataclasses.replace(completion, text=text, tokens=answer_tokens(self.tokenizer, text), logp=None)


def _plain(variant: Variant) -> bool:
    """Whether a variant asks the plain prompt and takes the whole completion."""
    return not (variant.system or variant.instruction or variant.examples or variant.answer_after)
