"""Several scorers as one: the weighted mean of their quantiles among the completions of a prompt.

Quantiles, not standardised rewards: scorers have no unit in common, only the order of what they prefer. A quantile is
the chance to beat one of the prompt's completions, ties half, whatever increasing change a scorer's numbers undergo.
One right answer among sixteen counts as much above the wrong ones as one among two, and a heavy tail weighs no more
than a win.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from bakeoff.records import Completion, Message, Score
from bakeoff.scorer import Scorer, are, finite, used

GROUPS_AT_ONCE = 32
Known = list[float]
Group = tuple[list[Message], list[Completion]]


class Blend:
    """Rewards a completion by sum(w q) / sum(|w|), q its quantile by each scorer in its group or its prompt's `peers`.

    A scorer that rewards no peer of a prompt has no say on that prompt. Otherwise a completion without a reward by one
    scorer has none by the blend: so failing at one is never better than being wrong.
    """

    def __init__(
        self,
        scorers: Sequence[Scorer],
        weights: Sequence[float] = (),
        peers: Mapping[str, Sequence[Completion]] | None = None,
    ) -> None:
        self.scorers, self.weights = scorers, np.array(weights or [1.0] * len(scorers))
        self.peers = peers or {}
        self.measured: list[dict[str, Known]] = [{} for _ in scorers]
        """By scorer and prompt: the rewards of its peers, which are the same for every policy."""

    @property
    def used(self) -> Counter[str]:
        return used(*self.scorers)

    def score(self, groups: Sequence[Group]) -> Iterator[list[Score]]:
        """See `bakeoff.scorer.Scorer`."""
        for start in range(0, len(groups), GROUPS_AT_ONCE):
            some = groups[start : start + GROUPS_AT_ONCE]
            own = [[[finite(s) for s in row] for row in scorer.score(some)] for scorer in self.scorers]
            among = [self._among(number, some, rows) for number, rows in enumerate(own)]
            for (_, group), scores, known in zip(some, zip(*own, strict=True), zip(*among, strict=True), strict=True):
                yield [self._blended(c, row, known) for c, row in zip(group, zip(*scores, strict=True), strict=True)]

    def _among(self, number: int, groups: Sequence[Group], own: Sequence[list[Score]]) -> list[Known]:
        """For each group the rewards that its quantiles are taken among, those of its peers."""
        known = self.measured[number]
        absent = []
        for (messages, group), scores in zip(groups, own, strict=True):
            key = group[0].prompt_id
            peers = self.peers.get(key, group)
            if are(peers, group):
                known[key] = _known(scores)
            elif key not in known:
                absent.append((messages, list(peers)))
        for (_, peers), scores in zip(absent, self.scorers[number].score(absent), strict=True):
            known[peers[0].prompt_id] = _known([finite(s) for s in scores])
        return [known[group[0].prompt_id] for _, group in groups]

    def _blended(self, completion: Completion, scores: Sequence[Score], among: Sequence[Known]) -> Score:
        heard = [i for i, known in enumerate(among) if known]
        lacking = [scores[i] for i in heard if scores[i].reward is None] or ([] if heard else list(scores[:1]))
        if lacking:
            reason = f"{lacking[0].reason.partition(':')[0]}: by {lacking[0].scorer}: {lacking[0].reason}"
            return Score(completion.id, completion.prompt_id, "blend", None, reason)
        weights = self.weights[heard]
        quantiles = [quantile(scores[i].reward, among[i]) for i in heard]
        reward = float(weights @ quantiles / np.abs(weights).sum())
        return Score(completion.id, completion.prompt_id, "blend", reward)


def quantile(reward: float | None, among: Known) -> float:
    """The share of `among` that is below, and half of those equal."""
    known = np.array(among)
    assert reward is not None
    return float(((known < reward) + 0.5 * (known == reward)).mean())


def _known(scores: Sequence[Score]) -> Known:
    return [s.reward for s in scores if s.reward is not None]
