"""Held-out prompts, by cluster: prompts that share a passage, or nearly all their words, stay on one side."""

import hashlib
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]

ALIKE = 12
"""Prompts that share this many of 32 bands (about three quarters of their shingles) stay on one side of the split."""
BOILERPLATE = 0.02
"""A passage in more than this share of the prompts (and in more than 50) is an instruction, not a document."""
SHARDS = 16
"""Fingerprints are sorted in so many goes, which bounds memory."""


def shared_passages(marks: npt.NDArray[np.uint64], owners: npt.NDArray[np.uint32], rows: Ints, n: int) -> Ints:
    """Pairs of prompts that share a passage which is no boilerplate: each with the next that has it.

    `marks[i]` is of row `owners[i]` among n; `rows` are those that count, and pairs are places in `rows`.
    """
    place = np.full(n, -1, np.int32)
    place[rows] = np.arange(len(rows), dtype=np.int32)
    limit = max(50, BOILERPLATE * len(rows))
    shard = (marks >> np.uint64(60)).astype(np.uint8)
    return np.concatenate(
        [_joined(marks[here], place[owners[here]], limit) for s in range(SHARDS) for here in [shard == s]]
    )


def _joined(marks: npt.NDArray[np.uint64], owners: npt.NDArray[np.int32], limit: float) -> Ints:
    order = np.lexsort((owners, marks))
    order = order[owners[order] >= 0]
    marks, owners = marks[order], owners[order]
    once = np.r_[True, (marks[1:] != marks[:-1]) | (owners[1:] != owners[:-1])][: len(marks)]
    marks, owners = marks[once], owners[once]
    _, index, counts = np.unique(marks, return_inverse=True, return_counts=True)
    together = (marks[1:] == marks[:-1]) & (counts[index] <= limit)[1:]
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


def heldout(ids: Sequence[str], cluster: Ints, share: float, seed: int) -> npt.NDArray[np.bool_]:
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
