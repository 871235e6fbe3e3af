"""The reward model, alone or in an ensemble: rewards any policy's completions."""

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bakeoff.errors import UserError
from bakeoff.models import chat, packed_logps, packing
from bakeoff.models.load import context_window, load_reward_model, reads_left_to_right
from bakeoff.models.memory import pass_tokens
from bakeoff.records import Message, Score
from bakeoff.scorer import Group, Peers, Texts, in_batches, texts_of
from bakeoff.settings import Recipe

SCORE_TOKENS = 4096
ROWS_AT_ONCE = 16
VARIANCE_PENALTY = 0.5
"""How many times the variance over members is taken off their mean; no study here varied it."""
NOT_FINITE = "not finite: the model's output is no number"


class RewardModel:
    """A sequence classifier with one output; the completions of a prompt share it as a prefix, equal ones once."""

    def __init__(self, model: Any, tokenizer: Any):
        self.model, self.tokenizer = model, tokenizer
        self.window = context_window(model.config.get_text_config())

    @classmethod
    def load(cls, name: str | Path, recipe: Recipe | None = None) -> "RewardModel":
        """The scorer in a sequence-classification folder; raises UserError when it is another kind of model."""
        scorer = cls(*load_reward_model(str(name), recipe))
        if getattr(scorer.model.config, "bakeoff_length_slope", 0.0):
            raise UserError(
                f"{name}: was trained with length_control, which this version no longer has; train it again"
            )
        return scorer

    @classmethod
    def fresh(cls, name: str | Path, recipe: Recipe | None = None) -> "RewardModel":
        """A scorer to be trained, over any model's weights."""
        return cls(*load_reward_model(str(name), recipe, base=True))

    def shared_prefix(self, key: int, messages: Sequence[Message], texts: Sequence[str]) -> packing.SharedPrefix:
        """See `answer_tree`."""
        return answer_tree(self.tokenizer, key, messages, texts, self.window)

    def unread(self, messages: Sequence[Message], text: str) -> str:
        """Why a text has no reward; empty where the model can read it."""
        try:
            self.shared_prefix(0, messages, [text])
        except chat.Refused as error:
            return f"template: {error}"
        except UserError as error:
            return str(error)
        return ""

    def rewards(self, groups: Sequence[Texts]) -> list[list[float]]:
        """One reward per text of each (messages, texts) group; raises UserError where a text has none."""
        found = self.each(groups)
        for (messages, texts), reward_N in zip(groups, found, strict=True):
            for text, reward in zip(texts, reward_N, strict=True):
                if not math.isfinite(reward):
                    raise UserError(f"no reward for {text[:40]!r}: {self.unread(messages, text) or NOT_FINITE}")
        return [reward_N.tolist() for reward_N in found]

    @in_batches
    def score(self, groups: Sequence[Group]) -> Iterator[list[Score]]:
        """See `bakeoff.scorer.Scorer`."""
        for group, reward_N in zip(groups, self.each([*map(texts_of, groups)]), strict=True):
            yield self._scores(group, reward_N)

    def _scores(self, group: Group, reward_N: np.ndarray) -> list[Score]:
        return [
            Score(c.id, c.prompt_id, "reward_model", float(reward))
            if math.isfinite(reward)
            else Score(c.id, c.prompt_id, "reward_model", None, self.unread(group[0], c.text) or NOT_FINITE)
            for c, reward in zip(group[1], reward_N, strict=True)
        ]

    def each(self, groups: Sequence[Texts]) -> list[np.ndarray]:
        """For each group [N]: the rewards of its texts; NaN for a text that the model cannot read."""
        read = self._packed if reads_left_to_right(self.model) else self._in_rows
        found = read([(messages, list(dict.fromkeys(texts))) for messages, texts in groups])
        return [np.array([found.get((i, text), math.nan) for text in texts]) for i, (_, texts) in enumerate(groups)]

    @torch.inference_mode()
    def _packed(self, groups: Sequence[tuple[Sequence[Message], list[str]]]) -> dict[tuple[int, str], float]:
        """(place of the group, text) to its reward."""
        prefixes = []
        for i, (messages, texts) in enumerate(groups):
            try:
                prefixes.append(self.shared_prefix(i, messages, texts))
            except UserError:  # of one of them
                texts[:] = [text for text in texts if not self.unread(messages, text)]
                prefixes += [self.shared_prefix(i, messages, texts)] if texts else []
        found: dict[tuple[int, str], float] = {}
        for batch in packing.batches(prefixes, pass_tokens(self.model, SCORE_TOKENS)):
            values = packed_logps.rewards(self.model, packed := packing.pack(batch, self.model)).tolist()
            for value, (_, prefix, number, _) in zip(values, packed.starts(), strict=True):
                found[prefix.key, groups[prefix.key][1][prefix.first + number]] = value
        return found

    @torch.inference_mode()
    def _in_rows(self, groups: Sequence[tuple[Sequence[Message], list[str]]]) -> dict[tuple[int, str], float]:
        """The same with an encoder: the question and each answer as a pair of texts."""
        rows = [(i, chat.plain_text(m).strip(), text) for i, (m, texts) in enumerate(groups) for text in texts]
        rows.sort(key=lambda row: len(row[1]) + len(row[2]))
        limit = min(self.tokenizer.model_max_length, self.model.config.max_position_embeddings)
        found: dict[tuple[int, str], float] = {}
        for start in range(0, len(rows), ROWS_AT_ONCE):
            keys, questions, answers = zip(*rows[start : start + ROWS_AT_ONCE], strict=True)
            batch = self.tokenizer(
                questions, answers, padding=True, truncation=True, max_length=limit, return_tensors="pt"
            )
            values = self.model(**batch.to(self.model.device)).logits[:, 0].tolist()
            found |= zip(zip(keys, answers, strict=True), values, strict=True)
        return found


def answer_tree(
    tokenizer: Any, key: int, messages: Sequence[Message], texts: Sequence[str], limit: float
) -> packing.SharedPrefix:
    """The texts as answers to a conversation; raises UserError where one is refused, or over the limit of tokens."""
    prompt, answers = chat.answered(tokenizer, messages, texts)
    longest = len(prompt) + max(map(len, answers))
    if longest > limit:
        raise UserError(f"too long: {longest} tokens, and the model's context window has {limit}")
    return packing.SharedPrefix(key, prompt, answers)


class Ensemble(RewardModel):
    """Several reward models as one, against over-optimisation: what they differ on is not believed.

    The mean less a multiple of the variance over members (uncertainty-weighted optimisation, arXiv:2310.02743). Picks
    tell a reward model only how the completions of one prompt compare, so members may differ by any constant a prompt:
    each is centred on the completions of the prompt, or on its `peers`.
    """

    def __init__(self, members: Sequence[RewardModel], peers: Peers | None = None) -> None:
        self.members, self.peers = members, peers or {}
        self.centres: dict[str, np.ndarray] = {}
        """By prompt: each member's mean reward of the peers, which are the same for every policy."""

    def each(self, groups: Sequence[Texts]) -> list[np.ndarray]:
        return [combined(r_KN, centre(r_KN)) for r_KN in self._by_member(groups)]

    def unread(self, messages: Sequence[Message], text: str) -> str:
        return next(filter(None, (member.unread(messages, text) for member in self.members)), "")

    @in_batches
    def score(self, groups: Sequence[Group]) -> Iterator[list[Score]]:
        """See `bakeoff.scorer.Scorer`."""
        keys = [group[0].prompt_id for _, group in groups]
        asked = {key: messages for key, (messages, _) in zip(keys, groups, strict=True)}
        new = [key for key in asked if key in self.peers and key not in self.centres]
        read = self._by_member([(asked[key], [c.text for c in self.peers[key]]) for key in new])
        self.centres |= {key: centre(r_KN) for key, r_KN in zip(new, read, strict=True)}
        for key, group, r_KN in zip(keys, groups, self._by_member([*map(texts_of, groups)]), strict=True):
            yield self._scores(group, combined(r_KN, self.centres.get(key, centre(r_KN))))

    def _by_member(self, groups: Sequence[Texts]) -> list[np.ndarray]:
        """For each group [K, N]: the rewards of its texts by every member."""
        by_member = [member.each(groups) for member in self.members]
        return [np.array(rows) for rows in zip(*by_member, strict=True)]


def centre(r_KN: np.ndarray) -> np.ndarray:
    """[K]: each member's mean over the texts that it can read."""
    return np.ma.masked_invalid(r_KN).mean(1).filled(np.nan)


def combined(r_KN: np.ndarray, centre_K: np.ndarray) -> np.ndarray:
    """[N]: mean over members less `VARIANCE_PENALTY` times their variance, each member's centre taken off first."""
    apart_KN = r_KN - centre_K[:, None]
    return centre_K.mean() + apart_KN.mean(0) - VARIANCE_PENALTY * apart_KN.var(0)


def load_scorer(folders: Sequence[Path], recipe: Recipe, peers: Peers | None = None) -> RewardModel:
    """The scorer in one folder, or the ensemble of those in several."""
    members = [RewardModel.load(folder, recipe) for folder in folders]
    return members[0] if len(members) == 1 else Ensemble(members, peers)
