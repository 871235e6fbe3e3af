"""What users said of old answers, as picks: within one row, or among the rows that one prompt stands for."""

import dataclasses
import itertools
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from bakeoff.data.dedup import Bools, Ints
from bakeoff.data.dedup.merge import Fate
from bakeoff.data.parts import Part
from bakeoff.records import LoggedPick, Message, atomic, content_id, schema

Floats = npt.NDArray[np.float64]

_MOST = 8
"""Rated answers of one pick, at most: from the worst to the best, evenly."""
_CHUNK = 1024
"""Picks written in one go."""
COMPARED = ("thumbs", "rating")
"""Kinds of which those on one scale, of one prompt, are compared; any other kind is a pick by itself."""


@dataclasses.dataclass(frozen=True, slots=True)
class Ratings:
    """Of all remarks, in order; NaN values for those that are no ratings."""

    group: Ints
    """Equal for ratings of the same prompt on the same scale."""
    answer: Ints
    """Equal for equal answers."""
    value: Floats
    """From 0, the worst on its scale, to 1, the best."""


def write_picks(path: Path, parts: Sequence[Part], fate: Fate, held: Bools) -> tuple[Counter[str], int]:
    """Write the picks, if there are any, atomically; returns (what was said by kind, how many picks came of it).

    A pick is `heldout` when its prompt shares a cluster with one that is.
    """
    path.unlink(missing_ok=True)
    kinds, ratings = _ratings(parts, fate)
    heldout = np.isin(fate.together, np.unique(fate.together[held]))[fate.head]
    picks = _picks(parts, compared(ratings), heldout)
    first = list(itertools.islice(picks, 1))
    if not first:
        return kinds, 0
    n = 0
    with atomic(path) as beside, pq.ParquetWriter(beside, schema(LoggedPick)) as writer:
        rest = itertools.chain(first, picks)
        while chunk := [dataclasses.asdict(pick) for pick in itertools.islice(rest, _CHUNK)]:
            writer.write_table(pa.Table.from_pylist(chunk, schema=schema(LoggedPick)))
            n += len(chunk)
    return kinds, n


def _remarks(parts: Sequence[Part], columns: list[str]) -> Iterator[tuple[int, dict[str, Any]]]:
    """Every remark, with the place of its row among the kept rows of all parts."""
    start = 0
    for part in parts:
        for remark in pq.read_table(part.remarks, columns=["row", *columns]).to_pylist():
            yield start + remark["row"], remark
        start += pq.read_metadata(part.kept).num_rows


def _ratings(parts: Sequence[Part], fate: Fate) -> tuple[Counter[str], Ratings]:
    kinds = Counter[str]()
    rows: list[tuple[int, int, int]] = []
    values: list[float] = []
    for row, said in _remarks(parts, ["kind", "scale", "about", "answers", "values"]):
        kinds[said["kind"]] += 1
        prompt = said["about"] or int(fate.head[row])
        rows.append((_hash(prompt, said["scale"]), _hash(said["answers"][0]), _hash(said["scale"])))
        values.append(said["values"][0] if said["kind"] in COMPARED else np.nan)
    group, answer, scale = np.array(rows, np.int64).reshape(-1, 3).T
    return kinds, Ratings(group, answer, _in_units(np.array(values, float), scale))


def _in_units(values: Floats, scales: Ints) -> Floats:
    """Values of each scale from 0 to 1; on a scale with negative values, 0 says nothing."""
    out = np.full(len(values), np.nan)
    for scale in np.unique(scales[~np.isnan(values)]):
        here = (scales == scale) & ~np.isnan(values)
        low, high = values[here].min(), values[here].max()
        here &= (values != 0) | (low >= 0)
        out[here] = (values[here] - low) / (high - low or 1.0)
    return out


def compared(ratings: Ratings) -> dict[int, tuple[int, float, bool]]:
    """Remark to (group, mean rating of its answer, whether it is the last of the group), for groups that prefer."""
    rated = np.flatnonzero(~np.isnan(ratings.value))
    order = rated[np.lexsort((rated, ratings.answer[rated], ratings.group[rated]))]
    found: dict[int, tuple[int, float, bool]] = {}
    for group in np.split(order, np.flatnonzero(np.diff(ratings.group[order])) + 1):
        if len(group) < 2:
            continue
        answers = np.split(group, np.flatnonzero(np.diff(ratings.answer[group])) + 1)
        means = sorted((float(np.mean(ratings.value[same])), int(same[0])) for same in answers)
        places = np.unique(np.linspace(0, len(means) - 1, _MOST).round().astype(int))
        chosen = [means[i] for i in places]
        if len({value for value, _ in chosen}) > 1:
            last = max(remark for _, remark in chosen)
            found |= {remark: (int(ratings.group[remark]), value, remark == last) for value, remark in chosen}
    return found


def _picks(parts: Sequence[Part], rated: dict[int, tuple[int, float, bool]], heldout: Bools) -> Iterator[LoggedPick]:
    """The picks in the order of the rows that complete them, each once."""
    open_groups: dict[int, list[tuple[dict[str, Any], float]]] = {}
    seen = set[int]()
    columns = ["kind", "messages", "answers", "values", "source", "scale", "about"]
    for number, (row, said) in enumerate(_remarks(parts, columns)):
        side = "heldout" if heldout[row] else "train"
        if said["kind"] not in COMPARED:
            pick = _one(said, side)
        elif number in rated:
            group, value, last = rated[number]
            open_groups.setdefault(group, []).append((said, value))
            pick = _among(open_groups.pop(group), side) if last else None
        else:
            continue
        if pick and (key := _hash(pick.messages, pick.completions, pick.pick, pick.ratings)) not in seen:
            seen.add(key)
            yield pick


def _one(said: dict[str, Any], split: str) -> LoggedPick | None:
    """What a single remark prefers; None where the answers are alike."""
    best = said["answers"][int(np.argmax(said["values"]))]
    texts = list(dict.fromkeys(said["answers"]))
    messages = [Message(**m) for m in said["messages"]]
    pick = LoggedPick(messages, texts, texts.index(best), [], said["kind"], said["source"], split)
    return pick if len(texts) > 1 else None


def _among(rated: Sequence[tuple[dict[str, Any], float]], split: str) -> LoggedPick:
    """What the ratings of one prompt's answers say."""
    first, texts = rated[0][0], [said["answers"][0] for said, _ in rated]
    messages = [Message(**m) for m in first["messages"]]
    return LoggedPick(messages, texts, None, [value for _, value in rated], first["kind"], first["source"], split)


def _hash(*parts: object) -> int:
    """63 bits of the content."""
    return int(content_id(*parts), 16) >> 1
