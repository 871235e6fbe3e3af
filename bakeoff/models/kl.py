"""How far a policy has moved from its reference: exact divergences along completions, and what it has forgotten."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from bakeoff.models import packed_logps
from bakeoff.models.memory import pass_tokens
from bakeoff.models.packing import SharedPrefix, batches, pack
from bakeoff.progress import Progress

KL_TOKENS = 2048
"""Padded tokens per pass when the divergence of two policies is measured."""


@torch.inference_mode()
def sequence_kl(policy: Any, reference: Any, drawn: Sequence[SharedPrefix], temperature: float) -> np.ndarray:
    """KL(policy || reference) of each prompt in nats per sequence, from completions that the policy drew; [P].

    At every token of a completion the exact divergence of the two next-token distributions, summed over the
    completion (Amini, Vieira & Cotterell, arXiv:2504.10637): unbiased, and of less variance than the log-ratio.
    `temperature` is that of the draws. The groups' keys are their places.
    """
    total_P = np.zeros(len(drawn))
    parts = batches(drawn, pass_tokens(policy, KL_TOKENS))
    with Progress("divergence", len(parts), unit="batches", leave=False) as bar:
        for batch in parts:
            packed = pack(batch, policy)
            owner = [group.key for _, group, _, _ in packed.starts()]
            sums = torch.zeros(len(owner))
            both = (packed_logps.next_token_logps(model, packed, temperature) for model in (policy, reference))
            for (logp, number), (ref_logp, _) in zip(*both, strict=True):
                sums.index_add_(0, number.cpu(), (logp.exp() * (logp - ref_logp)).sum(-1).cpu())
            np.add.at(total_P, owner, sums.numpy())
            bar.update()
    return total_P / np.array([max(1, len(g.completions)) for g in drawn])


@torch.inference_mode()
def forgotten(policy: Any, reference: Any, drawn: Sequence[SharedPrefix]) -> np.ndarray:
    """By how many nats per token the policy finds the completions less likely than the reference does; [P]."""
    drop_P, tokens_P = np.zeros(len(drawn)), np.zeros(len(drawn))
    for batch in batches(drawn, pass_tokens(policy, KL_TOKENS)):
        packed = pack(batch, policy)
        owner = np.array([group.key for _, group, _, _ in packed.starts()])
        logp, number = packed_logps.token_logps(policy, packed)
        ref_logp, _ = packed_logps.token_logps(reference, packed)
        np.add.at(drop_P, owner[number.cpu()], (ref_logp - logp).cpu().numpy())
        np.add.at(tokens_P, owner[number.cpu()], 1)
    return drop_P / np.maximum(1, tokens_P)
