"""Prompts that nobody can answer: empty, too short, mashed keys, a probe that asks whether anybody is there."""

import itertools
import re

ROWS = ("qwertyuiop[]", "asdfghjkl;'", "zxcvbnm,./", "1234567890")
_NEIGHBOURS = frozenset(a + b for row in ROWS for i, a in enumerate(row) for b in row[max(0, i - 1) : i + 2])
_CJK = "\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af\u0e00-\u0e7f"
_WORD = re.compile(rf"[{_CJK}]|[^\W{_CJK}]+(?:['\u2019.,-]\w+)*")
_PROBE = re.compile(
    r"(?:health[ _-]?check|ping|pong|hello|hi|hey|test(?:ing)?|warm[ -]?up|probe|heartbeat|keep[ -]?alive|status"
    r"|(?:are|is) (?:you|anybody|anyone|it) (?:there|alive|up|working|online)|this is (?:a|just a) test(?: message)?"
    r"|(?:hello|hi|hey) (?:there|world)|say (?:hi|hello|ok|ping|pong|test)|\d+|[,.!?\s-])+",
    re.I,
)


def short(text: str, min_words: int) -> str:
    """Why a text has too few words to be asked, or ""; where words are not written apart, characters count."""
    n = sum(1 for _ in itertools.islice(_WORD.finditer(text), max(2, min_words)))
    return "empty" if not n else "" if n >= min_words else "one word" if n == 1 else "too short"


def probe(text: str) -> bool:
    """Whether all that the text does is to see whether the service answers."""
    return len(text) < 80 and bool(_PROBE.fullmatch(text.strip()))


def noise(text: str) -> bool:
    """Whether most of the text is keys hit at random, or one thing over and over."""
    if len(text) > 400 or not text.isascii():
        return False
    found = [w.lower() for w in text.split()]
    if len(found) >= 4 and len(set(found)) == 1:
        return True
    size = sum(map(len, found))
    return 2 * sum(len(w) for w in found if mashed(w)) > size


def mashed(word: str) -> bool:
    """Whether a word of five letters or more walks along the keyboard, repeats itself, or has no vowel."""
    word = re.sub(r"[?!.,:;]+$", "", word)
    if len(word) < 5 or not re.search(r"[a-z;]", word) or re.search(r"[\d_/@=(){}<>-]", word):
        return False
    if re.fullmatch(r"(.{1,4}?)\1{2,}.{0,3}", word):
        return True
    steps = [a + b in _NEIGHBOURS for a, b in zip(word, word[1:], strict=False)]
    return sum(steps) >= 0.75 * len(steps) or not re.search(r"[aeiouy]", word)
