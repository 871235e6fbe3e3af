"""Scorers made of others: a blend of several, one for each task, one that is asked about complete answers only."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np

from bakeoff.models.incomplete import fault
from bakeoff.records import Completion, Prompt, Score
from bakeoff.scorer import NOT_WHOLE, Group, Peers, Scorer, finite, in_batches, same_group, used


class Blend:
    """Rewards a completion by sum(w q) / sum(|w|), q its quantile by each scorer in its group or its prompt's `peers`.

    Quantiles, not standardised rewards: scorers have no unit in common, only the order of what they prefer. One right
    answer among sixteen counts as much above the wrong ones as one among two, and a heavy tail weighs no more than a
    win.
    A scorer that rewards no peer of a prompt has no say on that prompt. Otherwise a completion without a reward by one
    scorer has none by the blend: so failing at one is never better than being wrong.
    """

    def __init__(self, scorers: Sequence[Scorer], weights: Sequence[float] = (), peers: Peers | None = None) -> None:
        self.scorers, self.weights = scorers, np.array(weights or [1.0] * len(scorers))
        self.peers = peers or {}
        self.peer_rewards: list[dict[str, list[float]]] = [{} for _ in scorers]
        """By scorer and prompt: the rewards of its peers, which are the same for every policy."""

    @property
    def used(self) -> Counter[str]:
        return used(*self.scorers)

    @in_batches
    def score(self, groups: Sequence[Group]) -> Iterator[list[Score]]:
        """See `bakeoff.scorer.Scorer`."""
        scores = [[[finite(s) for s in row] for row in scorer.score(groups)] for scorer in self.scorers]
        scales = [self._scales(number, groups, rows) for number, rows in enumerate(scores)]
        for (_, group), rows, scale in zip(groups, zip(*scores, strict=True), zip(*scales, strict=True), strict=True):
            yield [self._blended(c, row, scale) for c, row in zip(group, zip(*rows, strict=True), strict=True)]

    def _scales(self, number: int, groups: Sequence[Group], scores: Sequence[list[Score]]) -> list[list[float]]:
        """For each group the rewards by one scorer that its quantiles are taken among, those of its peers."""
        known = self.peer_rewards[number]
        absent = []
        for (messages, group), row in zip(groups, scores, strict=True):
            key = group[0].prompt_id
            peers = self.peers.get(key, group)
            if same_group(peers, group):
                known[key] = _rewards(row)
            elif key not in known:
                absent.append((messages, list(peers)))
        for (_, peers), row in zip(absent, self.scorers[number].score(absent), strict=True):
            known[peers[0].prompt_id] = _rewards(map(finite, row))
        return [known[group[0].prompt_id] for _, group in groups]

    def _blended(self, completion: Completion, scores: Sequence[Score], scales: Sequence[list[float]]) -> Score:
        having_a_say = [i for i, scale in enumerate(scales) if scale]
        asked = [scores[i] for i in having_a_say] or scores[:1]
        if lacking := next((s for s in asked if s.reward is None), None if having_a_say else scores[0]):
            reason = f"{lacking.reason.partition(':')[0]}: by {lacking.scorer}: {lacking.reason}"
            return Score(completion.id, completion.prompt_id, "blend", None, reason)
        weights = self.weights[having_a_say]
        quantiles = [quantile(s.reward or 0.0, scales[i]) for s, i in zip(asked, having_a_say, strict=True)]
        reward = float(weights @ quantiles / np.abs(weights).sum())
        return Score(completion.id, completion.prompt_id, "blend", reward)


def quantile(reward: float, among: Sequence[float]) -> float:
    """The share of `among` that is below, and half of those equal: the chance to beat one of them."""
    known = np.array(among)
    return float(((known < reward) + 0.5 * (known == reward)).mean())


def _rewards(scores: Iterable[Score]) -> list[float]:
    return [s.reward for s in scores if s.reward is not None]


class ByTask:
    """Each prompt's completions go to the scorer of its task: rewards are comparable within a task, not across."""

    def __init__(self, scorers: Mapping[str, Scorer], prompts: Iterable[Prompt]) -> None:
        self.scorers, self.task = scorers, {prompt.id: prompt.task for prompt in prompts}

    @property
    def used(self) -> Counter[str]:
        return used(*self.scorers.values())

    def score(self, groups: Sequence[Group]) -> Iterator[list[Score]]:
        """See `bakeoff.scorer.Scorer`."""
        tasks = [self.task[group[0].prompt_id] for _, group in groups]
        scored: dict[int, list[Score]] = {}
        for name in dict.fromkeys(tasks):
            places = [i for i, task in enumerate(tasks) if task == name]
            scored |= zip(places, self.scorers[name].score([groups[i] for i in places]), strict=True)
        yield from (scored[i] for i in range(len(groups)))


class CompleteOnly:
    """Another scorer, one that rewards each completion by itself, asked about complete answers only.

    The bake ranks all others last, whatever a scorer would say of them. They are the longest ones, so that on the demo
    half of a reward model's work falls away.
    """

    def __init__(self, scorer: Scorer, name: str) -> None:
        self.scorer, self.name = scorer, name

    @property
    def used(self) -> Counter[str]:
        return used(self.scorer)

    def score(self, groups: Sequence[Group]) -> Iterator[list[Score]]:
        """See `bakeoff.scorer.Scorer`."""
        faults = {c.id: fault(c.text, c.tokens, c.finish) for _, group in groups for c in group}
        asked = [(messages, whole) for messages, group in groups if (whole := [c for c in group if not faults[c.id]])]
        scored = iter(self.scorer.score(asked))
        for _, group in groups:
            rewarded = {s.completion_id: s for s in (next(scored) if not all(faults[c.id] for c in group) else ())}
            yield [rewarded.get(c.id) or self._missing(c, faults[c.id]) for c in group]

    def _missing(self, completion: Completion, why: str) -> Score:
        return Score(completion.id, completion.prompt_id, self.name, None, f"{NOT_WHOLE}: {why}")
