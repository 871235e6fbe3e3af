"""What makes cleaning quick changes no result."""

from __future__ import annotations

import random
import re
from pathlib import Path

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from bakeoff.data import stage
from bakeoff.data.clean import redact
from bakeoff.settings import PERSONAL
from benchmarks.ingest import labelled

TEXTS = [
    "",
    " ",
    "one",
    "the cat, the hat",
    "a  b   c",
    " lead and trail ",
    "l\n\n m\n n\to",
    "été 漢字 😀 x=1; 3.14",
    "a b " * 9,
    "a" * 999,
]


def saved(folder: Path, cut) -> str:
    """A tokenizer of 400 tokens, learnt from this file's own text."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = cut
    text = Path(__file__).read_text(encoding="utf-8").splitlines()
    tokenizer.train_from_iterator(text, trainers.BpeTrainer(vocab_size=400, show_progress=False))
    PreTrainedTokenizerFast(tokenizer_object=tokenizer).save_pretrained(folder)
    (folder / "config.json").write_text('{"model_type": "llama"}')
    return str(folder)


@pytest.mark.parametrize("by_words", [True, False])
def test_tokens_counted_by_words_are_the_tokenizers(tmp_path, by_words):
    cut = pre_tokenizers.ByteLevel(add_prefix_space=False) if by_words else pre_tokenizers.Metaspace(split=False)
    model = saved(tmp_path / "model", cut)
    rng = random.Random(0)
    texts = TEXTS + ["".join(rng.choices("ab cd.\n1é ", k=40)) for _ in range(300)]
    tokenizer = stage._tokenizer(model)
    expected = [len(tokenizer(text).input_ids) for text in texts]
    assert stage.Tokens(model)(texts) == expected == stage.Tokens(model)(texts)
    assert stage._splits_at_spaces(model) == by_words


def test_no_secret_is_missed_because_the_text_did_not_look_like_it():
    rows = list(labelled(per_kind=60))
    for row in rows:
        for kind in PERSONAL:
            pattern, sound = redact.RECOGNISERS[kind]
            if any(sound(match) for match in re.finditer(pattern, row["text"])):
                assert kind in redact._looks(row["text"]), row
