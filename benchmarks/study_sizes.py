"""Do larger models gain more? The same recipe on a ladder of sizes, each with picks among its own answers.

Small Llamas are trained here from nothing on cases of the demo's maker, about companies of its log, a share of them
(`WRONG`) with the answer to another question about the same excerpt: they know the task, and are often mistaken. Then
come the demo's model and, in the folder that BAKEOFF_GEMMA names, a larger one. Each answers the prompts of the demo's
picks, the simulated tester picks, and a reward model is taught by that, which starts from the demo's model whatever
the size: what is compared are policies. The learning rate of a bake is the recipe's, times the width of the demo's
model by that of the policy. BAKEOFF_SIZES names some of the sizes, to measure these alone.
"""

from __future__ import annotations

import dataclasses
import json
import os
import random
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import results
import studies
import torch

from bakeoff.errors import UserError
from bakeoff.models import load as models
from bakeoff.models import packed_logps, packing
from bakeoff.models.optimizer import MasterAdamW, follow
from bakeoff.records import Message
from bakeoff.run import Run, read_json

LADDER = {"1m": (128, 4, 4), "3m": (192, 6, 6), "10m": (320, 8, 5), "30m": (512, 9, 8)}
"""Width, layers and heads of the models that are trained here."""
STEPS = 3000
"""As many for all: what they learn, to look an answer up, depends on the steps more than on the size."""
WORDS, CONTEXT = 2048, 1024
BATCH, RATE = 16, 1e-3
PICKS = 460
"""As many as the demo has."""
WRONG, ANSWER_WEIGHT = 0.5, 5.0
"""Share of wrong answers in the training; how much more a token of the answer counts than one of the prompt."""
FIGURES = ("reference_at_1", "reference_best_of_n", "tuned_at_1", "gain", "gap_closed", "equivalent_n")
FIGURES += ("reference_greedy", "tuned_greedy", "greedy_gain", "pick_accuracy", "chance")
TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


@dataclasses.dataclass(frozen=True, slots=True)
class Lesson:
    prompt: str
    answer: str


def study(seeds: Sequence[int], out: Path, overrides: Sequence[str]) -> None:
    """Every size on every seed, then the table."""
    rows = []
    for seed in seeds:
        of = studies.base(out, seed, overrides)
        for name, folder in sizes(out, seed, of.recipe.model):
            rows += measured(of, name, folder)
            print(f"seed {seed}: {name}: {rows[-len(FIGURES)]}", flush=True)
    studies.record("sizes", rows, seeds, overrides, replaced=())


def sizes(out: Path, seed: int, model: str) -> Iterator[tuple[str, str]]:
    """(name, model) from small to large."""
    known = {"135m": model} | ({"270m": gemma} if (gemma := os.environ.get("BAKEOFF_GEMMA")) else {})
    wanted = os.environ.get("BAKEOFF_SIZES", " ".join([*LADDER, *known])).split()
    if unknown := set(wanted) - set(LADDER) - set(known):
        raise UserError(f"study sizes: BAKEOFF_SIZES: no size {sorted(unknown)}; known: {' '.join([*LADDER, *known])}")
    for name in wanted:
        yield name, known.get(name) or str(trained(out / f"sizes-{seed}-{name}-start", name, seed))


def measured(of: studies.Base, name: str, model: str) -> list[dict[str, Any]]:
    """The figures of one model before and after the recipe."""
    policy = models.load_policy(model, of.recipe)[0]
    settings, tables = list[str](), ("prompts", "completions", "sample", "scores")
    if model != of.recipe.model:
        settings, tables = own(of, name, model, policy.config.hidden_size), ("prompts",)
    run = studies.again(of, f"sizes-{name}", settings, "evaluate", tables)
    judge = of.run if model == of.recipe.model else run
    quality = read_json(judge.details("reward_model")) | read_json(run.details("evaluation"))["quality"]
    count = sum(p.numel() for p in policy.parameters())
    rows = [{"name": f"sizes.{name}.parameters.seed{of.recipe.seed}", "value": count}]
    for figure in FIGURES:
        kept = {key: quality[figure][key] for key in results.MEASURED if key != "name"}
        rows.append({"name": f"sizes.{name}.{figure}.seed{of.recipe.seed}"} | kept)
    return rows


def own(of: studies.Base, name: str, model: str, width: int) -> list[str]:
    """The settings of another model: picks among its own answers, and a rate that suits its width."""
    file = studies.picked(of.arm(f"sizes-{name}-picks").folder / "picks.jsonl", range(PICKS), model).resolve()
    rate = of.recipe.bake.learning_rate * models.load_policy(of.recipe.model, of.recipe)[0].config.hidden_size / width
    named = {"model": model, "reward.picks": [str(file)], "reward.base": of.recipe.model}
    named |= {"score.scorer": "reward_model", "bake.learning_rate": rate}
    return [f"{key}={json.dumps(value)}" for key, value in named.items()]


def trained(folder: Path, name: str, seed: int) -> Path:
    """A Llama of the ladder, trained from nothing; a training that was stopped goes on."""
    from transformers import LlamaConfig, LlamaForCausalLM

    made = folder / "model"
    if made.exists():
        return made
    folder.mkdir(parents=True, exist_ok=True)
    width, layers, heads = LADDER[name]
    tokenizer = own_tokenizer(seed)
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=width,
        intermediate_size=width * 8 // 3 // 8 * 8,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=heads,
        max_position_embeddings=CONTEXT,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    start = folder / "start"
    if not start.exists():
        models.save(LlamaForCausalLM(config), tokenizer, start)
    model, tokenizer = models.load_policy(str(start))
    optimizer = MasterAdamW(model.parameters(), learning_rate=RATE, steps=STEPS)
    follow(Run(folder), "train", optimizer, taught(model, tokenizer, optimizer, seed))
    models.save(model, tokenizer, made)
    return made


def taught(model: Any, tokenizer: Any, optimizer: MasterAdamW, seed: int) -> Iterator[dict[str, float]]:
    """The steps that are left: each on a batch of its own, as likely as possible token by token."""
    while optimizer.taken < optimizer.steps:
        batch = lessons(f"{seed} {optimizer.taken}", BATCH)
        pairs = [(models.render(tokenizer, [Message("user", b.prompt)]), b.answer) for b in batch]
        answers = [models.answer_tokens(tokenizer, answer) for _, answer in pairs]
        rows = [
            packing.SharedPrefix(i, prompt[:1], [prompt[1:] + answer])
            for i, ((prompt, _), answer) in enumerate(zip(pairs, answers, strict=True))
        ]
        total = sum(len(p) - 1 + ANSWER_WEIGHT * len(a) for (p, _), a in zip(pairs, answers, strict=True))
        loss = 0.0
        for part in packing.batches(rows, packed_logps.TRAIN_TOKENS):
            pack = packing.pack(part, model)
            logps, _ = packed_logps.token_logps(model, pack)
            weights = [
                [1.0] * (len(tree.completions[0]) - len(answers[tree.key])) + [ANSWER_WEIGHT] * len(answers[tree.key])
                for _, tree, _, _ in pack.starts()
            ]
            lost = -(logps * torch.tensor([w for row in weights for w in row])).sum() / total
            lost.backward()
            loss += float(lost.detach())
        yield {"loss": loss, "grad_norm": optimizer.step()}
    optimizer.close()


def lessons(key: str, count: int) -> list[Lesson]:
    """Cases of the demo's maker, some with the answer to another question about the same excerpt."""
    sys.path.insert(0, str(studies.FILINGS))
    from companies import split_companies
    from excerpts import excerpt
    from questions import case

    rng, names = random.Random(f"sizes {key}"), split_companies(studies.DATA_SEED)["log"]
    made = []
    for _ in range(count):
        source = excerpt(rng, rng.choice(names))
        right = case(rng, source)
        others = [f.answer for f in source.facts if f.verifier == right.verifier and f.answer != right.answer]
        wrong = others and rng.random() < WRONG
        made.append(Lesson(right.prompt, rng.choice(others) if wrong else right.answer))
    return made


def own_tokenizer(seed: int) -> Any:
    """Byte pairs learnt from the maker's cases; every digit is a token."""
    from tokenizers import Tokenizer, decoders, pre_tokenizers, trainers
    from tokenizers.models import BPE
    from transformers import PreTrainedTokenizerFast

    backend = Tokenizer(BPE())
    pieces = [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    backend.pre_tokenizer = pre_tokenizers.Sequence(pieces)
    backend.decoder = decoders.ByteLevel()
    special = ["<|pad|>", "<|im_start|>", "<|im_end|>"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=WORDS, special_tokens=special, initial_alphabet=alphabet)
    texts = (f"user assistant\n{lesson.prompt}\n{lesson.answer}" for lesson in lessons(f"words {seed}", 2000))
    backend.train_from_iterator(texts, trainer)
    made = PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="<|im_end|>", pad_token="<|pad|>")
    made.chat_template = TEMPLATE
    return made
