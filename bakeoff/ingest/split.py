"""Held-out prompts, by cluster: prompts that share a passage, or nearly all their words, stay on one side."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from bakeoff.ingest.duplicates import Hashes

Pairs = npt.NDArray[np.int64]
Passages = npt.NDArray[np.uint64]

WORDS, WINDOW = 8, 12
"""Two prompts that share WORDS + WINDOW - 1 = 19 words in a row are sure to share a fingerprint (winnowing,
Schleimer, Wilkerson and Aiken, 2003)."""
BOILERPLATE = 0.02
"""A passage in more than this share of the prompts (and in more than 50) is an instruction, not a document."""


def passages(words: Hashes) -> Passages:
    """Fingerprints of a prompt's passages: the least hash of eight words in each window of twelve."""
    if len(words) < WORDS:
        return np.zeros(0, np.uint64)
    mixed = np.zeros(len(words) - WORDS + 1, np.uint64)
    for i in range(WORDS):
        mixed = (mixed ^ words[i : i + len(mixed)]) * np.uint64(0x9E3779B97F4A7C15)
        mixed ^= mixed >> np.uint64(32)
    if len(mixed) <= WINDOW:
        return mixed.min(keepdims=True)
    return np.unique(np.lib.stride_tricks.sliding_window_view(mixed, WINDOW).min(axis=1))


def shared_passages(found: Sequence[Passages]) -> Pairs:
    """Pairs of prompts that share a passage which is no boilerplate: each with the next that has it."""
    if not found:
        return np.zeros((0, 2), np.int64)
    owner = np.repeat(np.arange(len(found)), [len(f) for f in found])
    marks = np.concatenate(found)
    order = np.argsort(marks, kind="stable")
    marks, owner = marks[order], owner[order]
    _, index, counts = np.unique(marks, return_inverse=True, return_counts=True)
    few = counts[index] <= max(50, BOILERPLATE * len(found))
    together = (marks[1:] == marks[:-1]) & few[1:]
    return np.stack([owner[:-1][together], owner[1:][together]], 1)


def clusters(n: int, pairs: Pairs) -> npt.NDArray[np.int64]:
    """For each of `n` items the first item that it is joined to, through however many pairs."""
    label = np.arange(n)
    while len(pairs):
        least = np.minimum(label[pairs[:, 0]], label[pairs[:, 1]])
        before = label.copy()
        np.minimum.at(label, label[pairs[:, 0]], least)
        np.minimum.at(label, label[pairs[:, 1]], least)
        label = label[label]
        if (label == before).all():
            break
    while (label[label] != label).any():
        label = label[label]
    return label


def heldout(ids: Sequence[str], cluster: npt.NDArray[np.int64], share: float, seed: int) -> npt.NDArray[np.bool_]:
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
