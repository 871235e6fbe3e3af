"""What a model reads: conversations as token ids, exactly as its chat template writes them, or as plain text."""

import functools
import itertools
import os
from collections.abc import Sequence
from typing import Any

from bakeoff.errors import UserError
from bakeoff.records import Message

PROBE = "\u2042"
"""Stands for a text while the chat template is looked at."""
USER = Message("user", ".")


class Refused(UserError):
    """A chat template does not take a conversation."""


def chat_template(tokenizer: Any) -> str:
    """The chat template, of several the one named `default`; empty where there is none."""
    found = tokenizer.chat_template or ""
    if isinstance(found, dict) and "default" not in found:
        raise UserError(
            f"model {tokenizer.name_or_path!r}: its chat templates are named {', '.join(sorted(found))}, and none is "
            "named default; name one so in tokenizer_config.json"
        )
    return found["default"] if isinstance(found, dict) else found


def rendered(tokenizer: Any, messages: Sequence[Message], *, prompt: bool = False) -> str:
    """What the chat template writes of a conversation, with the start of an answer behind a `prompt`.

    Where it refuses: turns of one role in a row as one, then the system prompt at the head of the first user turn too.
    """
    plain = [{"role": m.role, "content": m.content} for m in messages]
    refusal = ""
    for turns in (plain, _joined(plain), _joined(_without_system(plain))):
        try:
            return tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=prompt)
        except Exception as error:  # a template is a program, and may raise anything
            refusal = refusal or str(error).partition("\n")[0] or type(error).__name__
    raise Refused(f"the model's chat template refuses the conversation ({refusal})")


def render(tokenizer: Any, messages: Sequence[Message]) -> list[int]:
    """Token ids of a conversation up to where its answer begins; turns joined as plain text without a chat template."""
    if chat_template(tokenizer):
        return tokenizer(rendered(tokenizer, messages, prompt=True), add_special_tokens=False).input_ids
    return opening_tokens(tokenizer, plain_text(messages))


def plain_text(messages: Sequence[Message]) -> str:
    """What a model without a chat template reads: the turns with an empty line after each."""
    return "".join(f"{m.content}\n\n" for m in messages)


def opening_tokens(tokenizer: Any, text: str) -> list[int]:
    """Token ids of a text that goes on: with what the tokenizer puts before it, without what it puts behind it."""
    own, whole = tokenizer(text, add_special_tokens=False).input_ids, tokenizer(text).input_ids
    starts = (start for start in range(len(whole)) if whole[start : start + len(own)] == own)
    return whole[: next(starts, len(whole)) + len(own)]


def answered(tokenizer: Any, messages: Sequence[Message], texts: Sequence[str]) -> tuple[list[int], list[list[int]]]:
    """(the tokens that a conversation with any of these answers begins with, those that follow with each of them).

    Together they are what `apply_chat_template` gives for the conversation with that answer: others read a reward
    where it ends. Without a chat template the end token stands behind the answer, if the tokenizer has one.
    """
    prompt = render(tokenizer, messages)
    if chat_template(tokenizer):
        wholes = [rendered(tokenizer, [*messages, Message("assistant", text)]) for text in texts]
        ids = tokenizer(wholes, add_special_tokens=False).input_ids
    else:
        ids = [prompt + plain_answer(tokenizer, text) for text in texts]
    shared = min(len(os.path.commonprefix([prompt, *ids])), *(len(whole) - 1 for whole in ids))
    if shared < 1:
        raise Refused("the model's chat template writes nothing before the answer that depends on the prompt alone")
    return ids[0][:shared], [whole[shared:] for whole in ids]


def plain_answer(tokenizer: Any, text: str) -> list[int]:
    end = [] if tokenizer.eos_token_id is None else [tokenizer.eos_token_id]
    return tokenizer(text, add_special_tokens=False).input_ids + end


def answer_tokens(tokenizer: Any, text: str) -> list[int]:
    """Token ids of a whole answer, for a policy to learn: as the chat template writes it behind a prompt, with an end.

    The end token follows where the template writes none.
    """
    if not chat_template(tokenizer):
        return plain_answer(tokenizer, text)
    before, _, after = _frame(chat_template(tokenizer), tokenizer)
    whole = rendered(tokenizer, [USER, Message("assistant", text)])
    said = whole.removeprefix(before) if whole.startswith(before) else text + after
    ids, ends = tokenizer(said, add_special_tokens=False).input_ids, {tokenizer.eos_token_id, turn_end(tokenizer)}
    return ids if ends & {*ids} else plain_answer(tokenizer, said)


def turn_end(tokenizer: Any) -> int | None:
    """The special token with which the chat template ends an answer; None where it writes none."""
    if not chat_template(tokenizer):
        return None
    after = tokenizer(_frame(chat_template(tokenizer), tokenizer)[2], add_special_tokens=False).input_ids
    return next((i for i in after if i in special_tokens(tokenizer)), None)


def special_tokens(tokenizer: Any) -> list[int]:
    named = [i for i, token in tokenizer.added_tokens_decoder.items() if token.special]
    return sorted({*named, *tokenizer.all_special_ids})


@functools.cache
def _frame(template: str, tokenizer: Any) -> tuple[str, str, str]:
    """What a chat template writes of a prompt, then before an answer to it and behind that; empty where it refuses."""
    try:
        before = rendered(tokenizer, [USER], prompt=True)
        start, answer, end = rendered(tokenizer, [USER, Message("assistant", PROBE)]).partition(PROBE)
    except Refused:
        return "", "", ""
    return before, start, end if answer else ""


def check_template(tokenizer: Any, *, answers: bool = False) -> None:
    """Raise UserError for a chat template that cannot be used: it fails, or leaves out what was said."""
    name, turns = tokenizer.name_or_path, [Message("user", PROBE)]
    if answers:
        turns = [USER, Message("assistant", PROBE)]
    try:
        if chat_template(tokenizer) and PROBE not in rendered(tokenizer, turns, prompt=not answers):
            raise Refused(f"the chat template leaves out what the {turns[-1].role} says")
    except Refused as error:
        raise UserError(f"model {name!r}: {error}; mend its chat template") from None


def padding(tokenizer: Any, rows: int) -> int:
    """A token among the embeddings' `rows` in which no conversation ends, to pad with.

    `transformers` reads the reward at the last token that is not padding: were the end of turn the padding token too,
    as it is in many instruct models, the reward would be read one token early.
    """
    prompt, answers = answered(tokenizer, [Message("system", "."), USER], ["a", "b."])
    ends = {whole[-1] for whole in answers}
    ended = len(ends) == 1  # else a text's own last token is where the reward is read
    named = [tokenizer.pad_token_id, *([tokenizer.unk_token_id] if ended else []), *special_tokens(tokenizer)]
    free = [i for i in named if i is not None and i < rows and i not in ends | {tokenizer.eos_token_id}]
    if unused := [i for i in free if i not in {*prompt, *itertools.chain(*answers)}]:
        return unused[0]
    if len(tokenizer) < rows:
        tokenizer.add_special_tokens({"pad_token": "<|pad|>"})
        return tokenizer.pad_token_id
    if free := [*free, *(_written_otherwise(tokenizer) if ended else [])]:
        return free[0]
    raise UserError(f"model {tokenizer.name_or_path!r}: no token is left to pad with; give its tokenizer one")


def _written_otherwise(tokenizer: Any) -> list[int]:
    """Tokens whose name no text holds, the rarest first: a padding token becomes a special one, cut out of texts."""
    names = enumerate(tokenizer.convert_ids_to_tokens(range(len(tokenizer))))
    return [i for i, name in names if name and {"\u0120", "\u2581"} & {*name}][::-1]


def _joined(turns: Sequence[dict[str, str]]) -> list[dict[str, str]]:
    """The conversation with turns of one role in a row as one."""
    found: list[dict[str, str]] = []
    for turn in turns:
        if found and found[-1]["role"] == turn["role"]:
            found[-1] = {**turn, "content": f"{found[-1]['content']}\n\n{turn['content']}"}
        else:
            found.append(turn)
    return found


def _without_system(turns: Sequence[dict[str, str]]) -> list[dict[str, str]]:
    """The conversation with the system prompt as the first thing that the user says."""
    system = [{**turn, "role": "user"} for turn in turns if turn["role"] == "system"]
    return [*system, *(turn for turn in turns if turn["role"] != "system")]
