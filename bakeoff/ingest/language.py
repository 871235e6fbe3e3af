"""Which language a text is in: by script, or by the commonest words of the languages written in Latin letters."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter

_COMMON = {
    "en": "the of and to in is that for it was on with as be at by this are or from what how you your which were "
    "has have do does did can will would should my me we i write give please tell who when where why an a "
    "not",
    "de": "der die das und ist nicht ein eine zu den von mit sich auf für dem im des auch es an wie ich sie was "
    "wird sind bei hat einen oder kann bitte mir welche warum wurde einer zum zur ihr wir über",
    "fr": "le la les de des et est un une du en que qui dans pour pas sur au avec ce il elle sont par plus je "
    "vous nous quel quelle comment pourquoi été cette mon ma aux ou où être avez peux moi",
    "es": "el la los las de y es un una que en por con para no se del al lo como más su qué cuál cómo está son mi "
    "me fue puedes hay sobre dónde cuando quién entre este esta eso sus yo",
    "it": "il la le di e è un una che in per con non si del della gli lo come più sono al mi da dei nel alla qual "
    "quale perché questo questa anche ho hai cosa puoi sul fatto delle ha stata",
    "pt": "o a os as de e é um uma que em por com para não se do da no na como mais dos das ao qual você foi são "
    "meu minha está pode sobre isso este esta pelo pela eu seu sua quais",
    "nl": "de het een en van is in dat op te voor met niet zijn aan er om als bij ook wat hoe ik je maar naar uit "
    "kan deze wordt mijn werd waarom welke heeft dit die u over hun",
    "sv": "och att det i en är som på för av den med inte till har om jag ett från hur vad kan du vi så var men "
    "de när eller vilka varför mig min skriv sig detta under",
    "pl": "w i na z się nie do to że jest o jak za po co przez od dla są czy ale mnie mi tego jaki jaka był może "
    "które który proszę ten ta",
    "tr": "ve bir bu da de için ile ne mi nasıl çok daha olarak olan gibi var kadar en ben sen hangi neden nedir "
    "mı şu değil bana ya ise",
}
STOPWORDS = frozenset(word for words in _COMMON.values() for word in words.split())
"""Words too common to say what a text is about."""
_WORDS = {language: frozenset(words.split()) for language, words in _COMMON.items()}
_SCRIPTS = {
    "CYRILLIC": "ru",
    "ARABIC": "ar",
    "CJK": "zh",
    "HIRAGANA": "ja",
    "KATAKANA": "ja",
    "HANGUL": "ko",
    "DEVANAGARI": "hi",
    "GREEK": "el",
    "HEBREW": "he",
    "THAI": "th",
}

LANGUAGES = (*_COMMON, *dict.fromkeys(_SCRIPTS.values()))
"""What `prompts.languages` may name."""


def language(text: str) -> str:
    """The language of a text, or "" when there is too little to tell by."""
    text = text[:4000]
    letters = [c for c in text if not c.isascii() and c.isalpha()]
    if letters and 2 * len(letters) > sum(c.isalpha() for c in text):
        scripts = Counter(_SCRIPTS.get(unicodedata.name(c, "").split()[0], "") for c in letters[:400])
        if scripts["ja"] * 10 > len(letters[:400]):
            return "ja"
        found, n = scripts.most_common(1)[0]
        if found and 2 * n > len(letters[:400]):
            return found
    counts = Counter(re.findall(r"[^\W\d_]+", text.lower()))
    scores = {name: sum(counts[w] for w in words) for name, words in _WORDS.items()}
    best = max(scores, key=lambda name: scores[name])
    return best if scores[best] >= 2 and 12 * scores[best] >= sum(counts.values()) else ""
