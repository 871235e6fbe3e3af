"""Which prompts an engine can take, and the recorded reason for each of the others."""

from collections.abc import Sequence
from typing import Any

from bakeoff.models import chat
from bakeoff.records import Failure, Prompt
from bakeoff.sampling.engine import Failed, Sampling


def readable(
    tokenizer: Any, prompts: Sequence[Prompt], sampling: Sampling, window: float, failed: Failed
) -> list[tuple[Prompt, list[int]]]:
    """The prompts as token ids that fit the context window with `max_tokens`; the others go to `failed`."""
    read = []
    for prompt in not_empty(prompts, failed):
        try:
            tokens = chat.render(tokenizer, prompt.messages)
        except chat.Refused as error:
            detail = f"{prompt.source}: {error}; mend or remove it"
            failed(Failure(prompt.id, "template", detail))
            continue
        if len(tokens) + sampling.max_tokens <= window:
            read.append((prompt, tokens))
            continue
        detail = (
            f"{prompt.source}: {len(tokens)} prompt tokens and max_tokens = {sampling.max_tokens} exceed the model's "
            f"context window of {window}; shorten the prompt or lower max_tokens"
        )
        failed(Failure(prompt.id, "too_long", detail))
    return read


def not_empty(prompts: Sequence[Prompt], failed: Failed) -> list[Prompt]:
    """The prompts that hold any text; the others go to `failed`."""
    full = []
    for prompt in prompts:
        if any(m.content.strip() for m in prompt.messages):
            full.append(prompt)
        else:
            failed(Failure(prompt.id, "empty", f"{prompt.source}: the prompt is empty; remove it"))
    return full
