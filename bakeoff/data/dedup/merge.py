"""The part of the work that looks at all prompts at once: duplicates, the split, and the final tables.

In memory are a prompt's fingerprints (some 300 bytes), never its text.
"""

import dataclasses
import functools
import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from bakeoff.data.clean.steps import EXCERPT
from bakeoff.data.dedup import U32, U64, Bools, Ints, duplicates
from bakeoff.data.dedup.minhash import BANDS, summed
from bakeoff.data.parts import Part
from bakeoff.records import Prompt, SetAside, atomic, schema

ALIKE = 12
"""Prompts that share this many of 32 bands (about three quarters of their shingles) stay on one side of the split."""
BOILERPLATE = 0.02
"""A passage in more than this share of the prompts (and in more than 50) is an instruction, not a document."""
SHARDS = 16
"""Fingerprints are sorted in so many goes, which bounds memory."""


def shared_passages(fingerprints: U64, owners: U32, rows: Ints, n: int) -> Ints:
    """Pairs of prompts that share a passage which is no boilerplate: each with the next that has it.

    `fingerprints[i]` is of row `owners[i]` among n; `rows` are those that count, and pairs are places in `rows`.
    """
    place = np.full(n, -1, np.int32)
    place[rows] = np.arange(len(rows), dtype=np.int32)
    limit = max(50, BOILERPLATE * len(rows))
    shard = (fingerprints >> np.uint64(60)).astype(np.uint8)
    return np.concatenate(
        [_joined(fingerprints[here], place[owners[here]], limit) for s in range(SHARDS) for here in [shard == s]]
    )


def _joined(fingerprints: U64, owners: npt.NDArray[np.int32], limit: float) -> Ints:
    order = np.lexsort((owners, fingerprints))
    order = order[owners[order] >= 0]
    fingerprints, owners = fingerprints[order], owners[order]
    once = np.r_[True, (fingerprints[1:] != fingerprints[:-1]) | (owners[1:] != owners[:-1])][: len(fingerprints)]
    fingerprints, owners = fingerprints[once], owners[once]
    _, index, counts = np.unique(fingerprints, return_inverse=True, return_counts=True)
    together = (fingerprints[1:] == fingerprints[:-1]) & (counts[index] <= limit)[1:]
    return np.stack([owners[:-1][together], owners[1:][together]], 1).astype(np.int64)


def clusters(n: int, pairs: Ints) -> Ints:
    """For each of `n` items the first item that it is joined to, through however many pairs."""
    label = np.arange(n)
    while len(pairs):
        ends = label[pairs]
        apart = ends[:, 0] != ends[:, 1]
        if not apart.any():
            break
        pairs, ends = pairs[apart], ends[apart]
        np.minimum.at(label, ends.max(axis=1), ends.min(axis=1))
        while (label[label] != label).any():
            label = label[label]
    return label


def heldout(ids: Sequence[str], cluster: Ints, share: float, seed: int) -> Bools:
    """Which prompts are held out: clusters in the order of their hash, each that still fits, up to `share`."""
    _, first, index, sizes = np.unique(cluster, return_index=True, return_inverse=True, return_counts=True)
    order = sorted(range(len(first)), key=lambda i: hashlib.sha256(f"{seed} {ids[int(first[i])]}".encode()).digest())
    room = round(share * len(ids))
    chosen = np.zeros(len(first), bool)
    for i in order:
        if sizes[i] <= room:
            chosen[i] = True
            room -= int(sizes[i])
    return chosen[index]


OVER = "over the limit"
"""Why a row is set aside whose prompt was not chosen."""
Starmap = Callable[[Callable[..., Any], Any], Iterator[Any]]

NEIGHBOURS = 3
"""How many earlier prompts of a crowded bucket each one is compared with: work stays linear."""
_CHUNK = 20_000
"""Pairs compared in one go."""


@dataclasses.dataclass(frozen=True, slots=True)
class Fate:
    """What becomes of every kept row, in order."""

    head: Ints
    """The row that it is merged into: itself, for a prompt."""
    count: Ints
    """How many rows a prompt stands for."""
    equal: Ints
    """The first row that is equal, word for word."""
    together: Ints
    """The cluster that a prompt shares a side of the split with."""


def fates(parts: Sequence[Part], folder: Path, *, near: bool, starmap: Starmap) -> Fate:
    """Find exact and near duplicates, and the clusters for the split; `folder` is for temporary files."""
    loaded = [np.load(p.fingerprints) for p in parts]
    sizes = [len(m["exact"]) for m in loaded]
    _, first, inverse = np.unique(np.concatenate([m["exact"] for m in loaded]), return_index=True, return_inverse=True)
    equal = first[inverse]
    unique = np.flatnonzero(equal == np.arange(len(equal)))
    pairs, shared = candidates(np.concatenate([m["bands"] for m in loaded])[unique])
    same = np.zeros(len(pairs), bool)
    if near:
        np.save(folder / "counts.npy", np.stack(word_counts(loaded)))
        same = _same(parts, sizes, unique[pairs], folder, starmap)
    passages = shared_passages(*_passages(loaded, sizes), unique, len(equal))
    merged = clusters(len(unique), pairs[same])
    alike = np.concatenate([pairs[same | (shared >= ALIKE)], passages])
    together = unique[clusters(len(unique), alike)]
    head = unique[merged][np.searchsorted(unique, equal)]
    return Fate(head, np.bincount(head, minlength=len(head)), equal, together[np.searchsorted(unique, equal)])


def candidates(keys: U32) -> tuple[Ints, Ints]:
    """Pairs (earlier, later) [pairs, 2] that share a band, and how many bands they share."""
    n = len(keys)
    pairs, shared = np.zeros(0, np.int64), np.zeros(0, np.int64)
    for band in range(BANDS):
        order = np.argsort(keys[:, band], kind="stable")
        ordered = keys[order, band]
        found = [pairs]
        for step in range(1, NEIGHBOURS + 1):
            together = ordered[step:] == ordered[:-step]
            found.append(order[:-step][together] * n + order[step:][together])
        weights = np.concatenate([shared, np.ones(sum(map(len, found[1:])), np.int64)])
        pairs, index = np.unique(np.concatenate(found), return_inverse=True)
        shared = np.bincount(index, weights, len(pairs)).astype(np.int64)
    return np.stack([pairs // n, pairs % n], 1), shared


def word_counts(loaded: Sequence[Any]) -> tuple[U32, U32]:
    """The hashes of the words of all parts' fingerprints, in order, and in how many rows each occurs."""
    hashes, counts = (np.concatenate([part[name] for part in loaded]) for name in ("words", "counts"))
    return summed(hashes, counts)


def _passages(loaded: Sequence[Any], sizes: Sequence[int]) -> tuple[U64, U32]:
    starts = np.cumsum([0, *sizes[:-1]])
    owners = [m["owners"] + np.uint32(start) for m, start in zip(loaded, starts, strict=True)]
    return np.concatenate([m["passages"] for m in loaded]), np.concatenate(owners)


def _same(parts: Sequence[Part], sizes: Sequence[int], pairs: Ints, folder: Path, starmap: Starmap) -> Bools:
    """Which pairs of rows differ in slips only."""
    ends = np.cumsum(sizes)
    np.save(folder / "offsets.npy", np.concatenate([np.load(p.fingerprints)["offsets"] for p in parts]))
    chunks = ((folder, [p.words for p in parts], ends, pairs[i : i + _CHUNK]) for i in range(0, len(pairs), _CHUNK))
    return np.concatenate([np.zeros(0, bool), *starmap(same_chunk, chunks)])


def same_chunk(folder: Path, paths: Sequence[Path], ends: Ints, pairs: Ints) -> Bools:
    """`duplicates.same` for each pair of rows, whose words are read from the parts' files at `paths`."""
    seen = duplicates.WordCounts(*np.load(folder / "counts.npy"))
    part = np.searchsorted(ends, pairs, "right")
    offsets = np.load(folder / "offsets.npy", mmap_mode="r")
    places = pairs + part  # each part's offsets are one more than its rows
    starts, sizes = offsets[places], offsets[places + 1] - offsets[places]
    words = (
        [_words(paths[p], start, size) for p, start, size in zip(*row, strict=True)]
        for row in zip(part.tolist(), starts.tolist(), sizes.tolist(), strict=True)
    )
    return np.fromiter((duplicates.same(a, b, seen) for a, b in words), bool, len(pairs))


@functools.lru_cache(256)
def _file(path: Path) -> Any:
    return path.open("rb", buffering=0)


def _words(path: Path, start: int, size: int) -> list[str]:
    return os.pread(_file(path).fileno(), size, start).decode().split()


def write_prompts(path: Path, parts: Sequence[Part], fate: Fate, heldout: Bools) -> None:
    """The prompts of all parts as one table, atomically."""
    start = 0
    with atomic(path) as beside, pq.ParquetWriter(beside, schema(Prompt)) as writer:
        for part in parts:
            table = pq.read_table(part.kept)
            here = slice(start, start + len(table))
            start += len(table)
            table = table.set_column(3, "count", pa.array(fate.count[here]))
            table = table.set_column(4, "split", pa.array(np.where(heldout[here], "heldout", "train").tolist()))
            writer.write_table(table.filter(pa.array(fate.count[here] > 0)).cast(schema(Prompt)))


def write_aside(path: Path, parts: Sequence[Part], fate: Fate) -> None:
    """The rows set aside of all parts, and those whose prompt is over the limit, as one table, atomically."""
    over = fate.count[fate.head] == 0
    start = 0
    with atomic(path) as beside, pq.ParquetWriter(beside, schema(SetAside)) as writer:
        for part in parts:
            writer.write_table(pq.read_table(part.aside))
            size = pq.read_metadata(part.kept).num_rows
            here = np.flatnonzero(over[start : start + size])
            start += size
            if len(here):
                rows = pq.read_table(part.kept, columns=["messages", "source"]).take(here).to_pylist()
                texts = [row["messages"][-1]["content"][:EXCERPT] for row in rows]
                sources = [row["source"] for row in rows]
                reasons = [OVER] * len(rows)
                writer.write_table(pa.table([reasons, sources, texts], schema=schema(SetAside)))


def ids(parts: Sequence[Part]) -> list[str]:
    """The id of every kept row."""
    return [i for part in parts for i in pq.read_table(part.kept, columns=["id"])["id"].to_pylist()]
