"""Which language a text is in: by script, or by the commonest words of the languages written in Latin letters."""

import re
import tomllib
import unicodedata
from collections import Counter
from pathlib import Path

_KNOWN = tomllib.loads(Path(__file__).with_name("languages.toml").read_text(encoding="utf-8"))
_WORDS = {language: frozenset(words.split()) for language, words in _KNOWN["words"].items()}
_SCRIPTS = _KNOWN["scripts"]
STOPWORDS = frozenset[str]().union(*_WORDS.values())
"""Words too common to say what a text is about."""

LANGUAGES = (*_WORDS, *dict.fromkeys(_SCRIPTS.values()))
"""What `prompts.languages` may name."""


def language(text: str) -> str:
    """The language of a text, or "" when there is too little to tell by."""
    text = text[:4000]
    letters = [c for c in text if not c.isascii() and c.isalpha()]
    if letters and 2 * len(letters) > sum(c.isalpha() for c in text):
        scripts = Counter(_SCRIPTS.get(unicodedata.name(c, "").partition(" ")[0], "") for c in letters[:400])
        if scripts["ja"] * 10 > len(letters[:400]):
            return "ja"
        found, n = scripts.most_common(1)[0]
        if found and 2 * n > len(letters[:400]):
            return found
    counts = Counter(re.findall(r"[^\W\d_]+", text.lower()))
    scores = {name: sum(counts[w] for w in words) for name, words in _WORDS.items()}
    best = max(scores, key=lambda name: scores[name])
    return best if scores[best] >= 2 and 12 * scores[best] >= sum(counts.values()) else ""
