"""The combined choice: features by hand, label-free weights without picks, weights by picks; likelihood."""

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

from bakeoff.math.choice import probabilities
from bakeoff.models import chat
from bakeoff.models.load import load_tokenizer
from bakeoff.records import Completion, Message, Pick
from bakeoff.scoring import combined
from bakeoff.scoring.combined import LABEL_FREE, Combined, fitted
from bakeoff.scoring.likelihood import Likelihood
from bakeoff.scoring.majority import Majority

ASKED = [Message("user", "How much?")]


@pytest.fixture
def likelihood(tiny_llama):
    return Likelihood(AutoModelForCausalLM.from_pretrained(tiny_llama).eval(), load_tokenizer(str(tiny_llama)), 0.7)


def group(texts, prompt="p", finish="stop"):
    return ASKED, [Completion(f"{prompt}{i}", prompt, i, text, [], None, finish) for i, text in enumerate(texts)]


def test_likelihood_is_that_of_a_plain_row(likelihood):
    (scores,) = likelihood.score([group(["12 euros", "none"])])
    for score, text in zip(scores, ["12 euros", "none"], strict=True):
        prompt = chat.render(likelihood.tokenizer, ASKED)
        tokens = chat.answer_tokens(likelihood.tokenizer, text)
        assert tokens[-1] == likelihood.end
        with torch.no_grad():
            logps = (likelihood.model(torch.tensor([prompt + tokens])).logits[0] / 0.7).log_softmax(-1)
        plain = sum(float(logps[len(prompt) - 1 + i, t]) for i, t in enumerate(tokens))
        assert score.reward == pytest.approx(plain, abs=1e-3)


def test_a_text_beyond_the_context_has_no_likelihood(likelihood):
    (scores,) = likelihood.score([group(["x" * 600, "y"])])
    assert scores[0].reward is None and "too long" in scores[0].reason and scores[1].reward is not None


def test_features_by_hand(likelihood):
    texts = ["it is 4", "4", "four or five", "it is 4"]
    known = np.array([[-2.0, 2, 0.0], [-1.0, 1, 1.0], [-6.0, 3, 2.0], [-2.0, 2, 3.0]])
    _, completions = group(texts)
    rows = Combined(likelihood, Majority())._rows(completions, completions, known)
    by_name = dict(zip(LABEL_FREE, rows.T, strict=True))
    assert by_name["mean_logp"].tolist() == [-1.0, -1.0, -2.0, -1.0]
    assert by_name["agreement"] == pytest.approx([2 / 3, 2 / 3, 0.0, 2 / 3])
    # "it is 4" shares one of four words with "4" (F1 1/2), none with the third, all with its equal
    assert by_name["similarity"] == pytest.approx([0.5, 1 / 3, 0.0, 0.5])
    assert by_name["length"] == pytest.approx(np.log([2, 1, 3, 2]))
    assert by_name["reward"].tolist() == [0.0, 1.0, 2.0, 3.0]


def test_without_picks_the_choice_is_label_free_and_incomplete_answers_have_no_reward(likelihood):
    told = fitted(Combined(likelihood, Majority()), [])
    assert {name: w["value"] for name, w in told["weights"].items()} == LABEL_FREE and told["picks"] == 0
    messages, whole = group(["7", "7", "it may be 9 or 11"])
    cut = Completion("cut", "p", 3, "it goes on", [], None, "length")
    (scores,) = Combined(likelihood, Majority()).score([(messages, [*whole, cut])])
    assert scores[3].reward is None and scores[3].reason.startswith("no whole answer")
    assert scores[0].reward == scores[1].reward > scores[2].reward


def test_one_completion_alone_and_none_whole(likelihood):
    scorer = Combined(likelihood, Majority())
    one, none = scorer.score([group(["7"], "a"), group(["7", "8"], "b", finish="length")])
    assert [s.reward for s in one] == [0.0] and [s.reward for s in none] == [None, None]


def test_completions_are_measured_among_their_peers(likelihood):
    messages, peers = group(["7", "7", "8", "nine"])
    alone = Combined(likelihood, Majority(), peers={"p": peers})
    (expected,) = Combined(likelihood, Majority()).score([(messages, peers)])
    (found,) = alone.score([(messages, [Completion("other", "p", 0, "8", [], None, "stop"), peers[0]])])
    assert found[1].reward == pytest.approx(expected[0].reward)
    assert found[0].reward is not None


def test_picks_move_the_weights_towards_what_people_choose(likelihood):
    """People here choose the longest answer, which the label-free weights do not."""
    rng, picks = np.random.default_rng(0), []
    for i in range(60):
        texts = ["a b " * int(n) + "c" for n in rng.permutation([1, 3, 6, 10])]
        longest = int(np.argmax([len(t) for t in texts]))
        picks.append(Pick([Message("user", f"question {i}")], texts, longest, f"picks:{i}"))
    told = fitted(Combined(likelihood, Majority()), picks)
    assert told["picks"] == 60 and told["weights"]["logp"]["high"] < LABEL_FREE["logp"]
    assert told["choosing"]["combined"] > 0.9 > told["choosing"]["label_free"]
    assert told["ece"] < 0.3
    weights = {name: w["value"] for name, w in told["weights"].items()}
    messages, completions = group(["a c", "a b a b a b a b c"])
    (scores,) = Combined(likelihood, Majority(), weights=weights).score([(messages, completions)])
    assert scores[1].reward > scores[0].reward


def test_fewer_picks_than_can_tell_change_nothing(likelihood):
    picks = [Pick([Message("user", f"q{i}")], ["a", "b c d e"], 1, "x") for i in range(combined.ENOUGH_PICKS - 1)]
    told = fitted(Combined(likelihood, Majority()), picks)
    assert {name: w["value"] for name, w in told["weights"].items()} == LABEL_FREE


def test_the_reward_is_a_log_odds():
    assert probabilities(np.array([[2.0], [0.0]]), np.array([1.0]))[0] == pytest.approx(1 / (1 + np.exp(-2)))
