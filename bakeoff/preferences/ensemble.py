"""Several reward models as one, against over-optimisation: what they differ on is not believed.

The mean less a multiple of the variance over members (uncertainty-weighted optimisation, arXiv:2310.02743).
"""

import random
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from bakeoff.preferences import reward_model
from bakeoff.records import Completion, Message, Pick, Score, prompt_id
from bakeoff.settings import Recipe

GROUPS_AT_ONCE = 32
PENALTY = 0.5
"""How many times the variance over members is taken off their mean; no study here varied it."""


class Ensemble:
    """Rewards by several reward models, each centred on the completions of a prompt, or on its `peers`.

    Picks tell a reward model only how the completions of one prompt compare, so members may differ by any constant a
    prompt; without the centring that would count as disagreement.
    """

    def __init__(
        self,
        members: Sequence[reward_model.RewardModel],
        peers: Mapping[str, Sequence[Completion]] | None = None,
    ) -> None:
        self.members, self.peers = members, peers or {}
        self.centres: dict[str, np.ndarray] = {}
        """By prompt: each member's mean reward of the peers, which are the same for every policy."""

    def rewards(self, groups: Sequence[tuple[Sequence[Message], Sequence[str]]]) -> list[list[float]]:
        """One reward per text of each (messages, texts) group."""
        combined_N = [combined(r_KN, r_KN.mean(1)) for r_KN in self._each(groups)]
        return reward_model.whole(self, groups, combined_N)

    def unread(self, messages: Sequence[Message], text: str) -> str:
        """Why a text has no reward: what the first member says that cannot read it."""
        return next(filter(None, (member.unread(messages, text) for member in self.members)), "")

    def score(self, groups: Sequence[tuple[list[Message], list[Completion]]]) -> Iterator[list[Score]]:
        """See `bakeoff.scorer.Scorer`."""
        for start in range(0, len(groups), GROUPS_AT_ONCE):
            some = groups[start : start + GROUPS_AT_ONCE]
            self._centre([(m, peers) for m, g in some if (peers := self.peers.get(g[0].prompt_id))])
            read = self._each([(messages, [c.text for c in group]) for messages, group in some])
            for (messages, group), r_KN in zip(some, read, strict=True):
                centre_K = self.centres.get(group[0].prompt_id, centre(r_KN))
                yield reward_model.scores(self, messages, group, combined(r_KN, centre_K))

    def _centre(self, peers: Sequence[tuple[list[Message], Sequence[Completion]]]) -> None:
        new = [(messages, group) for messages, group in peers if group[0].prompt_id not in self.centres]
        read = self._each([(messages, [c.text for c in group]) for messages, group in new])
        self.centres |= {group[0].prompt_id: centre(r_KN) for (_, group), r_KN in zip(new, read, strict=True)}

    def _each(self, groups: Sequence[tuple[Sequence[Message], Sequence[str]]]) -> list[np.ndarray]:
        """For each group [K, N]: the rewards of its texts by every member."""
        by_member = [member.each(groups) for member in self.members]
        return [np.array(rows) for rows in zip(*by_member, strict=True)]


def centre(r_KN: np.ndarray) -> np.ndarray:
    """[K]: each member's mean over the texts that it can read."""
    return np.ma.masked_invalid(r_KN).mean(1).filled(np.nan)


def combined(r_KN: np.ndarray, centre_K: np.ndarray) -> np.ndarray:
    """[N]: mean over members less `PENALTY` times their variance, after each member's centre is taken off."""
    apart_KN = r_KN - centre_K[:, None]
    return centre_K.mean() + apart_KN.mean(0) - PENALTY * apart_KN.var(0)


def bootstrap(picks: Sequence[Pick], *, seed: int, number: int) -> list[Pick]:
    """As many prompts as there are, drawn with replacement, each with all its picks: what a further member learns."""
    by_prompt: dict[str, list[Pick]] = {}
    for pick in picks:
        by_prompt.setdefault(prompt_id(pick.messages), []).append(pick)
    drawn = random.Random(f"member {seed} {number}").choices(list(by_prompt.values()), k=len(by_prompt))
    return [pick for group in drawn for pick in group]


def load(
    folders: Sequence[Path], recipe: Recipe, peers: Mapping[str, Sequence[Completion]] | None = None
) -> reward_model.RewardModel | Ensemble:
    """The scorer in one folder, or the ensemble of those in several."""
    members = [reward_model.load(folder, recipe) for folder in folders]
    return members[0] if len(members) == 1 else Ensemble(members, peers)
