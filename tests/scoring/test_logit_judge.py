"""The one-pass judge against a plain forward pass, on tiny models and once on the real one."""

import pytest
import torch
from conftest import save_tiny

from bakeoff.models.load import load_policy
from bakeoff.records import Completion, Message
from bakeoff.scoring.judge import RUBRIC, YES_OR_NO, judge_prompt
from bakeoff.scoring.logit_judge import LogitJudge
from bakeoff.settings import Recipe

RECIPE = Recipe(dtype="float32")
GROUPS = [
    ([Message("user", "What is 2 + 2?")], ["It is 4.", "five", "It is 4.", ""]),
    ([Message("system", "Be brief."), Message("user", "Which capital has Italy?")], ["Rome", "Rome, of course: Rome!"]),
]


def plain(judge, messages, text):
    """log P(yes) - log P(yes or no) by the usual forward pass over the whole rendered text."""
    turn = Message("user", judge_prompt(messages, text, RUBRIC, YES_OR_NO))
    ids = judge.tokenizer(judge._rendered(turn), add_special_tokens=not judge.tokenizer.chat_template).input_ids
    with torch.inference_mode():
        p = judge.model(torch.tensor([ids])).logits[0, -1].double().softmax(-1)
    return (p[judge.yes].sum() / p[judge.yes + judge.no].sum()).log().item()


@pytest.mark.parametrize("template", [True, False])
def test_the_packed_pass_is_a_plain_forward_pass(tiny, template):
    judge = LogitJudge(*load_policy(str(tiny), RECIPE))
    if not template:
        judge.tokenizer.chat_template = None
    for (messages, texts), found in zip(GROUPS, judge.rewards(GROUPS), strict=True):
        assert found == pytest.approx({t: plain(judge, messages, t) for t in texts}, abs=1e-4)
        assert all(value < 0 for value in found.values())


def test_scores_in_the_order_of_completions_and_what_does_not_fit_is_missing(tmp_path):
    judge = LogitJudge(*load_policy(str(save_tiny("llama", tmp_path)), RECIPE))
    texts = ["short", "x" * 600, "short"]
    rows = [Completion(f"c{i}", "p", i, t, [], None, "stop") for i, t in enumerate(texts)]
    scores = next(judge.score([([Message("user", "ask")], rows)]))
    assert [s.completion_id for s in scores] == ["c0", "c1", "c2"] and {s.scorer for s in scores} == {"logit_judge"}
    assert scores[0].reward == scores[2].reward is not None
    assert scores[1].reward is None and scores[1].reason == "too long: more than 512 tokens with its prompt"
