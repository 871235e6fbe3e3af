"""What a model thinks before it answers, where that stands in its text, by the marks of the model families."""

import re
from collections.abc import Sequence

TAGS = (
    (
        "<think>",
        "</think>",
    ),  # DeepSeek-R1, Qwen3, GLM-4.5, MiniMax, Nemotron, Phi-4, OLMo 3, Hunyuan, Granite 3.3 and 4.2
    ("<thinking>", "</thinking>"),
    ("<thought>", "</thought>"),  # EXAONE Deep
    ("<reasoning>", "</reasoning>"),
    ("<seed:think>", "</seed:think>"),  # Seed-OSS
    ("[THINK]", "[/THINK]"),  # Magistral
    ("\u25c1think\u25b7", "\u25c1/think\u25b7"),  # Kimi
    ("<|START_THINKING|>", "<|END_THINKING|>"),  # Cohere
    ("<|channel>thought", "<channel|>"),  # Gemma 4
    ("<|inner_prefix|>", "<|inner_suffix|>"),  # Apertus
    ("<|begin_of_thought|>", "<|end_of_thought|>"),  # OpenThinker
)
"""How a thought begins and ends. Where the chat template writes the first mark, a completion holds only the second."""
BEGUN = 0.1
"""Such a share of completions shows that it is the chat template that begins the thoughts; a stray mark does not."""
MARKS = {mark.removesuffix("thought") for pair in TAGS for mark in pair}
"""The marks that may be special tokens of a tokenizer, which decoding must keep."""
_SPOKEN = (
    (r"Here(?: is|'s) my thought process:", r"Here(?: is|'s) my response:"),  # Granite 3.2
    (  # gpt-oss
        r"(?:<\|start\|>assistant)?<\|channel\|>(?:analysis|commentary).{0,99}?<\|message\|>",
        r"<\|(?:end|call)\|>|(?=<\|start\|>)",
    ),
    (r"analysis(?=[A-Z\"'])", r"assistantfinal"),  # the same when its special tokens were left out
)
_WRITTEN = [(re.escape(a), rf"(?:(?<![`'\"]){re.escape(b)}|{re.escape(b)}(?![`'\"]))") for a, b in TAGS]
"""A mark in quotes is one that the text speaks of."""
_PAIRS = [(re.compile(rf"\s*{a}"), re.compile(b)) for a, b in (*_WRITTEN, *_SPOKEN)]
_WRAPPED = re.compile(
    r"\s*(?:<answer>(.*?)(?:</answer>\s*)?"  # Hunyuan
    r"|<response>(.*?)(?:</response>\s*)?"  # Granite 3.3
    r"|<\|START_RESPONSE\|>(.*?)(?:<\|END_RESPONSE\|>\s*)?"
    r"|<\|begin_of_solution\|>(.*?)(?:<\|end_of_solution\|>\s*)?"
    r"|(?:<\|start\|>assistant)?<\|channel\|>final[^<]*<\|message\|>(.*?)(?:<\|(?:return|end)\|>\s*)?)\Z",
    re.DOTALL,
)


def answer(text: str) -> str | None:
    """What a model's text says after its thoughts, the text itself where it holds none; None: a thought never ended.

    Thoughts count where they begin the text: what a text says of `<think>` further on is its own.
    """
    rest = _after_opened(text)
    while begun := next(((end, m) for start, end in _PAIRS if (m := start.match(rest))), None):
        ended = begun[0].search(rest, begun[1].end())
        if not ended:
            return None
        rest = rest[ended.end() :]
    if wrapped := _WRAPPED.match(rest) if rest is not text or rest.lstrip().startswith("<|") else None:
        rest = next(inner for inner in wrapped.groups() if inner is not None)
    return text if rest is text else rest.strip()


def answers(texts: Sequence[str]) -> list[str | None]:
    """The answers of completions by one model, as `answer` has them one by one.

    Where many of them end a thought that their prompt began, the prompts of all did: one without a mark never ended it.
    """
    begun = [_after_opened(text) is not text for text in texts]
    by_prompt = any(begun) and sum(begun) >= BEGUN * len(texts)
    return [None if by_prompt and said is text else said for text, said in zip(texts, map(answer, texts), strict=True)]


def _after_opened(text: str) -> str:
    """The text behind the end of a thought that the prompt began."""
    for (start, end), (_, ended) in zip(TAGS, _PAIRS, strict=False):
        if end in text and (found := ended.search(text)) and start not in text[: found.start()]:
            return text[found.end() :]
    return text
