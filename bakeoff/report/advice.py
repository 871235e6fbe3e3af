"""What to do next about the data: sentences that follow from the counts."""

from collections.abc import Iterator, Sequence
from typing import Any

from bakeoff.report import wording

FEW_PROMPTS, FEW_HELDOUT = 200, 100
"""Fewer prompts to train on teach little; on fewer held-out prompts an interval is wider than most gains."""
UNKNOWN = "not known"
"""The language of a text that is too short to say."""
OFTEN = 0.05
"""A reason for this share of the rows is worth a sentence."""
REASONS = {
    "broken JSON": "look at the examples: the export may cut long lines",
    "unknown encoding": "convert the files to UTF-8: their bytes spell nothing in the encodings that are tried",
    "damaged file": "fetch the files again: what follows the damage is lost",
    "no prompt found": "name the field that holds the prompt with --prompt-field, or leave out rows of other events",
    "one message of a conversation": 'give each row a conversation_id, or join the rows as {"messages": [...]}',
    "several prompts in one record": "write one record a prompt, or name the field of the one with --prompt-field",
    "unknown role": "rename the role to system, user or assistant",
    "cut JSON": "raise the limit of length of the tool that wrote the log: prompts are cut in the middle",
    "Python repr": "write the messages as JSON (json.dumps), not as Python shows them",
    "no user turn": "the rows hold only answers or system prompts: check which side of the traffic was exported",
    "other language": "prompts.languages keeps others out; add a language to it, or empty it to keep all",
    "too long": "raise prompts.max_tokens if the model has room for them and for the completion",
    "too short": "name short in prompts.skip if such short prompts are real",
    "one word": "name short in prompts.skip if single words are real prompts",
    "images only": "the model reads text: log the text that came with the images, or leave such rows out",
    "health check": "stop logging probes, or leave them out of the export",
    "row too long": "split rows of more than 4 MB before they are read",
}
"""What to do about rows that are set aside for a reason."""


def advice(
    counts: dict[str, Any], languages: Sequence[tuple[str, int]], repeated: Sequence[tuple[str, int]]
) -> Iterator[str]:
    """What to do next; nothing when nothing stands out."""
    train, heldout, rows = counts["train"], counts["heldout"], counts["read"]
    if train < FEW_PROMPTS:
        yield f"Gather more prompts: {train:,} to train on teach little; aim at {FEW_PROMPTS} or more."
    if not heldout:
        yield "Hold out some prompts (prompts.heldout): without any, no gain can be measured."
    elif heldout < FEW_HELDOUT:
        width = f"a share is known to within {wording.points(0.98 / heldout**0.5)} either way"
        yield f"Hold out more prompts (prompts.heldout): with {heldout:,}, {width}."
    for reason, n in counts["dropped"].items():
        known = next((what for start, what in REASONS.items() if reason.startswith(start)), None)
        if known and n > OFTEN * rows:
            yield f"{wording.percent(n / rows)} of the rows are {reason!r}: {known}."
    if repeated and (most := repeated[0][1]) > max(10, OFTEN * rows):
        share = wording.percent(most / rows)
        yield f"One prompt makes {share} of the rows: see whether a script or a template sends it."
    total = sum(n for _, n in languages)
    often = [name for name, n in languages if name != UNKNOWN and n > OFTEN * total]
    if len(often) > 1:
        yield f"The prompts are in {' and '.join(often)}: if one is meant, name it in prompts.languages."
    if keys := counts["redacted"].get("key"):
        yield f"Revoke the keys and passwords that users pasted ({keys:,} found): they stand in your logs in the clear."
