"""The combined choice: likelihood, agreement and a reward model's rewards as one conditional logit (`math.choice`).

Without picks its weights are the label-free ones below. Held-out picks, which trained no reward model, move them.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from bakeoff.math import choice
from bakeoff.models.incomplete import fault
from bakeoff.models.thoughts import answer
from bakeoff.records import Completion, Pick, Score, content_id, prompt_id
from bakeoff.scorer import NOT_WHOLE, Group, Peers, Scorer, in_batches, texts_of
from bakeoff.scoring.likelihood import Likelihood
from bakeoff.scoring.majority import Majority
from bakeoff.scoring.verifiers.words import words

LABEL_FREE = {"logp": 1.0, "mean_logp": 0.0, "agreement": 0.5, "similarity": 0.0, "length": 0.0, "reward": 0.0}
"""The weights before any pick, of features in units of their deviation within the group."""
FOLDS = 5
ENOUGH_PICKS = 20
"""On fewer decided picks than this no weight is moved."""


class Combined:
    """Rewards a whole answer by x w: its features within its group, or among its prompt's `peers`, times the weights.

    The reward is a log-odds: softmax over the group is the probability that each would be chosen.
    """

    def __init__(
        self,
        likelihood: Likelihood,
        majority: Majority,
        reward: Scorer | None = None,
        weights: Mapping[str, float] = LABEL_FREE,
        peers: Peers | None = None,
    ) -> None:
        self.likelihood, self.majority, self.reward, self.peers = likelihood, majority, reward, peers or {}
        self.weight_F = np.array([weights[name] for name in LABEL_FREE])

    @in_batches
    def score(self, groups: Sequence[Group]) -> Iterator[list[Score]]:
        """See `bakeoff.scorer.Scorer`."""
        for (_, group), feature_NF in zip(groups, self.features(groups), strict=True):
            yield [self._score(c, feature_F) for c, feature_F in zip(group, feature_NF, strict=True)]

    def features(self, groups: Sequence[Group]) -> list[np.ndarray]:
        """For each group [N, F] the features of its completions, standardised; NaN for one that is no whole answer."""
        voters = [_whole(self.peers.get(group[0].prompt_id, group)) for _, group in groups]
        everyone = [
            (messages, list({c.id: c for c in (*_whole(group), *among)}.values()))
            for (messages, group), among in zip(groups, voters, strict=True)
        ]
        found = []
        for (_, group), among, (_, whole), known in zip(groups, voters, everyone, self._known(everyone), strict=True):
            own = dict(zip((c.id for c in whole), self._rows(whole, among, known), strict=True))
            nothing = np.full(len(LABEL_FREE), np.nan)
            rows_NF = np.array([own.get(c.id, nothing) for c in group])
            among_MF = np.array([own[c.id] for c in among]).reshape(-1, len(LABEL_FREE))
            found.append(choice.standardised(rows_NF, among_MF) if len(among) else rows_NF)
        return found

    def _known(self, groups: Sequence[Group]) -> list[np.ndarray]:
        """For each group [N, 3]: log-probabilities, numbers of tokens and rewards; NaN where a model gives none."""
        logps = self.likelihood.logps([*map(texts_of, groups)])
        full = [group for group in groups if group[1]]
        no_model = ([Score(c.id, "", "", 0.0) for c in group] for _, group in full)
        scores = iter(self.reward.score(full)) if self.reward else no_model
        rewards = [[np.nan if s.reward is None else s.reward for s in next(scores)] if g else [] for _, g in groups]
        return [
            np.column_stack([logp_N2, reward]) if len(reward) else np.zeros((0, 3))
            for logp_N2, reward in zip(logps, rewards, strict=True)
        ]

    def _rows(self, whole: Sequence[Completion], among: Sequence[Completion], known_N3: np.ndarray) -> np.ndarray:
        """[N, F]: the features of whole answers as they are, agreement and similarity with those `among` them."""
        answers = {c.id: self.majority.answer(c.text) for c in whole}
        votes = Counter(answers[c.id] for c in among)
        bags = {c.id: Counter(words(answer(c.text) or "")) for c in whole}
        voting = {c.id for c in among}
        rows = []
        for c, (logp, tokens, reward) in zip(whole, known_N3, strict=True):
            others = max(1, len(among) - (c.id in voting))
            agreement = (votes[answers[c.id]] - (c.id in voting)) / others if answers[c.id] is not None else 0.0
            similarity = sum(_f1(bags[c.id], bags[o.id]) for o in among if o.id != c.id) / others
            rows.append([logp, logp / tokens, agreement, similarity, np.log(tokens), reward])
        return np.array(rows).reshape(-1, len(LABEL_FREE))

    def _score(self, completion: Completion, feature_F: np.ndarray) -> Score:
        wrong = fault(completion.text, completion.tokens, completion.finish)
        unread = not wrong and bool(np.isnan(feature_F).any())
        reason = f"{NOT_WHOLE}: {wrong}" if wrong else "too long, or no reward by the reward model" if unread else ""
        reward = None if reason else float(feature_F @ self.weight_F)
        return Score(completion.id, completion.prompt_id, "combined", reward, reason)


def fitted(chooser: Combined, picks: Sequence[Pick]) -> dict[str, Any]:
    """The weights by what people chose, with their 95 % intervals, and how well they choose, as JSON.

    `choosing` holds shares of picks that are met, each by weights fitted on the picks of other prompts: by all
    features, by the label-free weights, and by each feature alone. `ece` is the calibration error of the probability.
    """
    decided = [pick for pick in picks if pick.decided]
    groups = [(pick.messages, _completions(pick)) for pick in decided]
    features = chooser.features(groups) if groups else []
    kept = [i for i, x in enumerate(features) if not np.isnan(x).any()]
    prior_F = np.array([*LABEL_FREE.values()])
    if len(kept) < ENOUGH_PICKS:
        return {"picks": len(kept), "weights": {name: {"value": value} for name, value in LABEL_FREE.items()}}
    choices = choice.Choices([features[i] for i in kept], [int(np.argmax(decided[i].worth)) for i in kept])
    weights = choice.fit(choices, prior_F)
    folds = [int(prompt_id(decided[i].messages), 16) % FOLDS for i in kept]
    crossed = choice.cross_fitted(choices, prior_F, folds)
    met = [int(np.argmax(share_N)) == chosen for share_N, chosen in zip(crossed, choices.chosen, strict=True)]
    alone = {"label_free": prior_F} | {name: np.eye(len(prior_F))[i] for i, name in enumerate(LABEL_FREE)}
    shares = {
        name: np.mean([_hit(x @ weight_F, c) for x, c in zip(choices.features, choices.chosen, strict=True)])
        for name, weight_F in alone.items()
    }
    return {
        "picks": len(kept),
        "weights": {
            name: {"value": value, "low": value - 1.96 * off, "high": value + 1.96 * off}
            for name, value, off in zip(LABEL_FREE, weights.value_F.tolist(), weights.deviation_F.tolist(), strict=True)
        },
        "choosing": {"combined": float(np.mean(met))} | {name: float(share) for name, share in shares.items()},
        "ece": choice.calibration_error([float(x.max()) for x in crossed], met),
    }


def _hit(utility_N: np.ndarray, chosen: int) -> float:
    """Whether the largest utility is the chosen one's; ties share."""
    top = utility_N >= utility_N.max() - 1e-12
    return float(top[chosen] / top.sum())


def _completions(pick: Pick) -> list[Completion]:
    own = prompt_id(pick.messages)
    return [
        Completion(content_id("text", own, i, text), own, i, text, [], None, "stop")
        for i, text in enumerate(pick.completions)
    ]


def _whole(group: Sequence[Completion]) -> list[Completion]:
    return [c for c in group if not fault(c.text, c.tokens, c.finish)]


def _f1(one: Counter[str], other: Counter[str]) -> float:
    """The harmonic mean of precision and recall of the words (Rajpurkar et al., arXiv:1606.05250)."""
    shared = (one & other).total()
    return 2 * shared / (one.total() + other.total()) if shared else 0.0
