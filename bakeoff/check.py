"""`bakeoff check MODEL`: all that would go wrong with a model, before any work is done with it."""

import dataclasses
import itertools
import os
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

from bakeoff.errors import UserError
from bakeoff.models import chat, checkpoint, packed_forward
from bakeoff.models.load import (
    check_base,
    context_window,
    freeze_layers,
    load_config,
    load_tokenizer,
    lora_rank,
    open_model,
    reads_left_to_right,
)
from bakeoff.records import Message
from bakeoff.sampling.local import LocalEngine
from bakeoff.sampling.stop import end_tokens
from bakeoff.settings import Recipe

OK, WARNING, REFUSED = "ok", "warning", "refused"
SYSTEM, ASKED, ANSWER = Message("system", "Be brief."), Message("user", "Why?"), Message("assistant", chat.PROBE)
BYTES_TO_TRAIN = 12
"""Of a weight that is trained: its float32 master and the two moments of AdamW; its gradient comes beside."""


class Doubt(Exception):
    """What a user should know of a model, and can go on with."""


@dataclasses.dataclass(frozen=True, slots=True)
class Finding:
    state: str
    """`ok`, `warning` or `refused`."""
    name: str
    said: str


@dataclasses.dataclass(slots=True)
class Subject:
    """A model that is looked at: as a policy, or as a judge, which is a reward model or the base of one."""

    name: str
    recipe: Recipe
    judge: bool
    config: Any
    tokenizer: Any
    model: Any = None

    @property
    def base(self) -> bool:
        """Whether it is no reward model yet."""
        return not ", ".join(self.config.architectures or []).endswith("ForSequenceClassification")


def findings(name: str, recipe: Recipe, *, judge: bool = False) -> Iterator[Finding]:
    """What each check says, in their order; what needs weights is left out where those are refused."""
    subject = Subject(name, recipe, judge, load_config(name), load_tokenizer(name))
    refused = set[str]()
    checks = BEFORE_WEIGHTS | OF_WEIGHTS | (OF_JUDGE if judge else OF_POLICY)
    for word, does in checks.items():
        if word not in BEFORE_WEIGHTS and refused & {"quantization", "weights", "finite"}:
            continue
        try:
            yield Finding(OK, word, does(subject))
        except Doubt as doubt:
            yield Finding(WARNING, word, str(doubt))
        except UserError as error:
            refused.add(word)
            yield Finding(REFUSED, word, str(error).removeprefix(f"model {name!r}: "))


def _quantization(subject: Subject) -> str:
    if subject.judge and not subject.base and (method := checkpoint.quantization(subject.config)):
        return f"{method}: good for reading only"
    checkpoint.check_not_quantized(subject.name, subject.config)
    return "none"


def _weights(subject: Subject) -> str:
    where = subject.name, subject.config, subject.recipe
    if subject.judge:
        (check_base if subject.base else checkpoint.check_classifier)(subject.name, subject.config)
        model, _, loaded = open_model(AutoModelForSequenceClassification, *where, num_labels=1)
    else:
        model, _, loaded = open_model(AutoModelForCausalLM, *where)
    checkpoint.check_whole(subject.name, loaded, new_head=subject.judge and subject.base)
    subject.model, precision = model, str(model.dtype).removeprefix("torch.")
    said = f"{sum(p.numel() for p in model.parameters()):,}, all in the checkpoint, {precision}"
    left = sorted(k for k in loaded["unexpected_keys"] if not (subject.judge and k.startswith("lm_head.")))
    if left:
        raise Doubt(f"{said}; {len(left)} in the checkpoint are not used ({left[0]}): merge adapters, if it holds some")
    return said


def _finite(subject: Subject) -> str:
    checkpoint.check_finite(subject.name, subject.model)
    return "weights and outputs"


def _template(subject: Subject) -> str:
    chat.check_template(subject.tokenizer, answers=subject.judge)
    if not chat.chat_template(subject.tokenizer):
        raise Doubt("there is none: turns are joined as plain text, with an empty line after each; give a chat model")
    several = subject.tokenizer.chat_template
    return f"`default` of {', '.join(sorted(several))}" if isinstance(several, dict) else "takes what a user says"


def _system(subject: Subject) -> str:
    text = _taken(subject, [SYSTEM, ASKED], "takes no system turn: it goes to the head of the first user turn")
    if SYSTEM.content not in text:
        raise Doubt("the template leaves out what a system turn says; write it into the user's turn")
    return "a system turn is taken"


def _alternation(subject: Subject) -> str:
    turns = [ASKED, Message("assistant", "Wait."), Message("assistant", "Now."), ASKED]
    _taken(subject, turns, "takes no two turns of one role in a row: they are joined")
    return "two turns of the assistant in a row are taken"


def _taken(subject: Subject, turns: list[Message], otherwise: str) -> str:
    if not chat.chat_template(subject.tokenizer):
        return chat.plain_text(turns)
    written = chat.rendered(subject.tokenizer, turns, prompt=True)
    try:
        asked = [dataclasses.asdict(turn) for turn in turns]
        subject.tokenizer.apply_chat_template(asked, tokenize=False, add_generation_prompt=True)
    except Exception:  # a template is a program, and may raise anything
        raise Doubt(f"the template {otherwise}") from None
    return written


def _answer(subject: Subject) -> str:
    """What stands between the question and the answer: in a prompt, and in a whole conversation."""
    if not chat.chat_template(subject.tokenizer):
        return "follows the prompt"
    bare, opened = (chat.rendered(subject.tokenizer, [ASKED], prompt=prompt) for prompt in (False, True))
    before, said, _ = chat.rendered(subject.tokenizer, [ASKED, ANSWER]).partition(chat.PROBE)
    if opened == bare and before.removeprefix(bare).strip() and said:
        raise Doubt(
            f"a prompt opens no turn of the assistant, so the policy writes {before.removeprefix(bare)!r} itself; let "
            "the template write it under add_generation_prompt"
        )
    if said and before != opened:
        part = before.removeprefix(opened) if before.startswith(opened) else before
        raise Doubt(
            f"the template writes {part!r} before a last answer, but not in a prompt: reward models are trained on it "
            "so, and read so by others; the policy is trained on what it samples"
        )
    return f"a prompt ends with {opened[-20:]!r}"


def _end(subject: Subject) -> str:
    known, own = end_tokens(subject.model, subject.tokenizer), chat.turn_end(subject.tokenizer)
    names = ", ".join(subject.tokenizer.convert_ids_to_tokens(known))
    if not known:
        raise UserError(
            "neither tokenizer, template nor generation_config.json name an end token; set eos_token in "
            "tokenizer_config.json, or give sample.stop"
        )
    if own is None and chat.chat_template(subject.tokenizer):
        raise Doubt(f"the template ends an answer with no special token; completions end with {names}")
    configured = subject.model.generation_config.eos_token_id
    if own is not None and own not in (configured if isinstance(configured, list) else [configured]):
        token = subject.tokenizer.convert_ids_to_tokens(own)
        raise Doubt(f"generation_config.json does not end at {token}, the template's end of turn; add it for servers")
    return names


def _padding(subject: Subject) -> str:
    had = subject.tokenizer.pad_token
    if not reads_left_to_right(subject.model):
        return str(had)
    pad = chat.padding(subject.tokenizer, checkpoint.embedding_rows(subject.model))
    token = subject.tokenizer.convert_ids_to_tokens(pad)
    return f"{token} (was {had}, where a text may end)" if token != had else token


def _vocabulary(subject: Subject) -> str:
    checkpoint.check_tokens(subject.name, subject.model, subject.tokenizer)
    return f"{len(subject.tokenizer):,} tokens, {checkpoint.embedding_rows(subject.model):,} embeddings"


def _context(subject: Subject) -> str:
    longest = context_window(subject.config.get_text_config())
    wanted = subject.recipe.prompts.max_tokens + subject.recipe.sample.max_tokens
    if longest < wanted:
        raise Doubt(
            f"{longest} tokens; prompts.max_tokens and sample.max_tokens are together {wanted} unless you lower them: "
            "what is longer is left out"
        )
    return f"{longest:,} tokens" if longest < float("inf") else "the configuration names no limit"


def _packed(subject: Subject) -> str:
    if subject.judge and not reads_left_to_right(subject.model):
        return "an encoder reads row by row"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        differs = packed_forward.verify(subject.model)
    if differs:
        raise Doubt(f"{differs}: training and rewards read row by row, which is right and slower")
    return "packed sequences give the outputs of plain ones"


def _sampling(subject: Subject) -> str:
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        LocalEngine(subject.model, subject.tokenizer)
    if warned:
        raise Doubt(str(warned[0].message))
    return "completions share what was read of their prompt"


def _memory(subject: Subject) -> str:
    """Weights, and what training adds to them; in a bake the reference is not held beside the policy."""
    model = subject.model
    weights = sum(t.numel() * t.element_size() for t in itertools.chain(model.parameters(), model.buffers()))
    if lora_rank(model, subject.recipe.lora):
        needed, said = weights * 1.1, "with adapters"
    else:
        freeze_layers(model)
        trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
        needed, said = weights + trained * (BYTES_TO_TRAIN + 4), f"with {trained:,} weights trained"
    text = f"{_size(weights)} of weights, about {_size(needed)} to train {said}, and batches"
    on_gpu = model.device.type == "cuda"
    there = (
        torch.cuda.mem_get_info(model.device)[1] if on_gpu else os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    )
    if needed > there:
        raise Doubt(f"{text}; {model.device} has {_size(there)}: set lora")
    return text


def _size(count: float) -> str:
    return f"{count / 1e9:.1f} GB" if count >= 1e8 else f"{count / 1e6:.1f} MB"


Check = Callable[[Subject], str]
BEFORE_WEIGHTS: dict[str, Check] = {
    "quantization": _quantization,
    "template": _template,
    "system turn": _system,
    "alternation": _alternation,
    "answer": _answer,
    "context window": _context,
}
"""What is looked at first, in this order: it needs no weights."""
OF_WEIGHTS: dict[str, Check] = {
    "weights": _weights,
    "finite": _finite,
    "vocabulary": _vocabulary,
    "packing": _packed,
    "memory": _memory,
}
OF_POLICY: dict[str, Check] = {"end": _end, "sampling": _sampling}
OF_JUDGE: dict[str, Check] = {"padding": _padding}
