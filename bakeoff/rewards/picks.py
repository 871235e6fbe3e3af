"""Reading testers' picks."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from bakeoff.errors import UserError
from bakeoff.records import Message, Pick, prompt_id


def read_picks(paths: Sequence[str]) -> list[Pick]:
    """The picks of JSONL files with `prompt` (text) or `messages`, `completions` and `pick`.

    Raises UserError naming file and line when a file is missing or a row is not a pick.
    """
    return [pick for path in paths for pick in _read_file(Path(path))]


def _read_file(path: Path) -> list[Pick]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        raise UserError(f"{path}: no such file of picks; check reward.picks") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not UTF-8 text ({error}); convert it") from None
    picks = [_pick(line, f"{path}:{number}") for number, line in enumerate(lines, 1) if line.strip()]
    if not picks:
        raise UserError(f"{path}: holds no picks; give rows of prompt, completions, pick")
    return picks


def _pick(line: str, source: str) -> Pick:
    try:
        row = json.loads(line)
    except json.JSONDecodeError as error:
        raise UserError(f"{source}: not JSON ({error.msg}); mend or remove the line") from None
    if (
        not isinstance(row, dict)
        or not {"completions", "pick"} <= row.keys()
        or not row.keys() & {"prompt", "messages"}
    ):
        raise UserError(f"{source}: a pick needs prompt or messages, completions and pick; found {line[:80]!r}")
    completions, pick = row["completions"], row["pick"]
    if not isinstance(completions, list) or len(completions) < 2 or not all(isinstance(c, str) for c in completions):
        raise UserError(f"{source}: completions must be a list of two or more strings; found {str(completions)[:80]!r}")
    if type(pick) is not int or not 0 <= pick < len(completions):
        raise UserError(
            f"{source}: pick must be an index from 0 to {len(completions) - 1}; found {pick!r}; mend or remove the line"
        )
    return Pick(messages(row, source), completions, pick, source)


def messages(row: dict, source: str) -> list[Message]:
    """The conversation of a row with `prompt` (text) or `messages` (role, content).

    Raises UserError naming the source when it is neither.
    """
    turns = row.get("messages", [{"role": "user", "content": row.get("prompt")}])
    try:
        found = [Message(turn["role"], turn["content"]) for turn in turns]
    except (TypeError, KeyError):
        raise UserError(f"{source}: messages must be a list of role and content; found {turns!r:.80}") from None
    if not found or not all(isinstance(m.role, str) and isinstance(m.content, str) and m.content for m in found):
        raise UserError(f"{source}: prompt or messages hold no text; found {turns!r:.80}")
    return found


def split(picks: Sequence[Pick], heldout: float) -> tuple[list[Pick], list[Pick]]:
    """(train, held out) by a hash of the prompt, so that no prompt is on both sides."""
    sides: tuple[list[Pick], list[Pick]] = ([], [])
    for pick in picks:
        share = int(prompt_id(pick.messages), 16) / 16**16
        sides[share < heldout].append(pick)
    return sides
