"""Personal data and secrets become typed placeholders, the same one for the same value within a record.

Patterns are cheap and propose; `checks` decides. They read a folded text, in which full-width letters and the digits of
other scripts are ASCII: so letters of any other script end a value, and none of them is taken for a part of it.
"""

import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Sequence

from bakeoff.data.clean import checks
from bakeoff.data.clean.labels import ID_LABEL, KEY_LABELS, KEY_NAMES, KEY_NAMES_ELSE, OTHER_LABEL, PHONE_LABEL

_FOLD = {c: c - 0xFEE0 for c in range(0xFF01, 0xFF5F)} | dict.fromkeys(map(ord, "‐‑‒–—−"), "-") | {0x3000: " "}
_FOLD |= {c: str(d) for c in range(0x660, 0xFF10) if (d := unicodedata.decimal(chr(c), None)) is not None}
"""Character to the ASCII one that it stands for, one to one: a place in the folded text is that in the text."""
_FOLDED = re.compile(f"[{''.join(map(chr, _FOLD))}]").search
_WORD = r"\w\u00c0-\u024f"
"""Letters of a name or host, ASCII and those that Latin scripts add."""

KEY = re.compile(
    r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)"
    r"|\b(?:AKIA|ASIA)[0-9A-Z]{16}\b"  # AWS
    r"|\bgh[pousr]_[A-Za-z0-9]{30,}\b|\bgithub_pat_\w{40,}\b|\bglpat-[\w-]{20,}"  # GitHub, GitLab
    r"|\bsk-(?:ant-|proj-|or-)?[\w-]{20,}|\b[rs]k_(?:live|test)_\w{16,}|\bwhsec_\w{24,}"  # OpenAI, Anthropic, Stripe
    r"|\bxox[abeprs]-[\w-]{10,}|\bAIza[\w-]{35}|\bGOCSPX-[\w-]{20,}|\bya29\.[\w-]{20,}"  # Slack, Google
    r"|\bhf_[A-Za-z0-9]{30,}\b|\b(?:gsk_|xai-|nvapi-|shp(?:at|ca|pa|ss)_)[\w-]{24,}"  # Hugging Face, Groq, xAI, Shopify
    r"|\b(?:npm_|pypi-|dop_v1_|SG\.)[\w.-]{30,}"
    r"|\beyJ[\w-]{8,}\.[\w-]{8,}(?:\.[\w-]+)?"  # JSON Web Token
    r"|(?<=://)[^\s/:@]+:[^\s/@]+(?=@)"  # user:password@host
    r"|(?i:(?<=bearer )|(?<=bearer: ))[\w.~+/-]{20,}=*"
    rf"|{KEY_LABELS}[\"']?(?P<value>[^\s\"',;\u0590-\U0010ffff]{{6,}})",
    re.S | re.A,
)
EMAIL = re.compile(
    rf"(?<![{_WORD}+%])[{_WORD}+%][{_WORD}.+%'-]{{0,63}}@(?:[{_WORD}](?:[{_WORD}-]{{0,61}}[{_WORD}])?\.)+"
    rf"[A-Za-z\u00c0-\u024f]{{2,24}}(?![{_WORD}])"
    r"|[^\s@,;:<>()\"'，。、：；（）]{1,64}@(?:[^\s@.,;]{1,63}\.)+(?:рф|рус|укр|бел|бг|срб|中国|中國|公司|网络|在线|香港|台灣|台湾"
    r"|한국|भारत|ไทย|السعودية|امارات|مصر|ایران)",
    re.A,
)
IBAN = re.compile(r"\b[A-Z]{2}\d\d(?:[ -]?[A-Z0-9]){11,30}\b", re.I | re.A)
CARD = re.compile(
    r"(?<![\d.,-])(?:\d{14,19}|\d{4}([ -])\d{4}\1\d{4}\1\d{4}(?:\1\d{1,3})?|\d{4}([ -])\d{6}\2\d{4,5})(?![\d-]|[.,]\d)",
    re.A,
)
IP = re.compile(
    r"(?<![\d.])\d{1,3}(?:\.\d{1,3}){3}(?![\d]|\.\d)|(?<![\w:])(?:[0-9a-f]{0,4}:){2,7}[0-9a-f]{0,4}(?![\w:])",
    re.I | re.A,
)
ID = re.compile(
    r"(?<![\w-])(?:(?P<us__ssn>\d{3}-\d{2}-\d{4})|(?P<nino>[A-Z]{2} ?\d{2} ?\d{2} ?\d{2} ?[A-D])"
    r"|(?P<es__nif>[XYZ\d]\d{7}-?[A-Z])|(?P<br__cpf>\d{3}\.\d{3}\.\d{3}-\d{2})"
    r"|(?P<fr__nir>[12] ?\d{2} ?\d{2} ?\d[\dAB] ?\d{3} ?\d{3} ?\d{2})"
    r"|(?P<it__codicefiscale>[A-Z]{6}[\dL-NP-V]{2}[A-EHLMPRST][\dL-NP-V]{2}[A-Z][\dL-NP-V]{3}[A-Z])"
    r"|(?P<in___aadhaar>\d{4} \d{4} \d{4})|(?P<ric>\d{17}[\dXx])|(?P<rrn>\d{6}-[1-8]\d{6})"
    r"|(?P<th__pin>\d-\d{4}-\d{5}-\d\d-\d)|(?P<nordic>\d{6}[+A-F-]\d{3}[\dA-Y])"
    r"|(?P<cz__rc>\d{6}/\d{3,4})|(?P<mx__curp>[A-Z]{4}\d{6}[HM][A-Z]{5}[A-Z\d]\d)"
    r"|(?P<cl__rut>\d{1,2}\.\d{3}\.\d{3}-[\dkK])|(?P<my__nric>\d{6}-\d\d-\d{4})|(?P<pk__cnic>\d{5}-\d{7}-\d)"
    r"|(?P<ch__ssn>756\.\d{4}\.\d{4}\.\d\d)|(?P<be__nn>\d\d\.\d\d\.\d\d-\d{3}\.\d\d)|(?P<snils>\d{3}-\d{3}-\d{3} \d\d)"
    r"|(?P<labelled>[A-Z]{0,5}\d(?:[ .-]?\d){6,16}[A-Z]?|[A-Z]\d\d[A-Z\d]{5,6}))(?![\w-])",
    re.A,
)
PHONE = re.compile(
    r"(?P<plus>(?<![\w+])\+\(?\d(?:[ .()/-]{0,2}\d){6,16}(?!\w))|(?<![\w.,+-])(?:"
    r"(?P<us>(?:1[ .-])?(?:\([2-9]\d\d\) ?[2-9]\d\d[ .-]|[2-9]\d\d(?P<a>[.-])[2-9]\d\d(?P=a))\d{4})"  # (415) 555-0134
    r"|(?P<trunk>(?<!\d )(?!\d\d(?P<b>[ .-])\d\d(?P=b)(?:19|20)\d\d)(?:"  # no date
    r"\(?0[1-9]\d{0,3}\)?(?:(?P<c>[ .-])\d\d(?:(?P=c)\d\d){2,4}|[ -]\d{3,4}(?:[ -]\d{2,4}){1,2})"  # 06 12 34 56 78
    r"|\(?0[1-9]\d{1,3}\)?(?: ?/ ?|[ -])\d{6,8}|\(\d{2,5}\) ?\d{3,5}[ -]\d{3,4}))"  # 030/1234567, (11) 91234-5678
    r"|(?P<cn>1[3-9]\d(?P<d>[ -])\d{4}(?P=d)\d{4})|(?P<ru>8[ -]?\(?\d{3}\)?[ -]?\d{3}[ -]\d\d[ -]\d\d)"
    r"|(?P<bare>0[1-9]\d{7,9}|1[3-9]\d{9}|[89]\d{9,10})"
    r"|(?P<labelled>\(?\d{2,5}\)?(?:[ .-]?\d{2,5}){1,4}))(?![\w-]|[.,]\d|\s?[%元円원₽฿])",
    re.A,
)
LABELS, NEAR = 48, 32
"""Characters before a number in which its label stands; on both sides of it, whose letters tell the country."""


def redact(texts: Sequence[str], kinds: Sequence[str]) -> tuple[list[str], Counter[str]]:
    """The texts of one record with placeholders, and how many were put in by kind."""
    seen: dict[tuple[str, str], str] = {}
    counts: Counter[str] = Counter()

    def put(kind: str, value: str) -> str:
        key = (kind, re.sub(r"[\s()./-]", "", value).lower() if kind != "key" else value)
        counts[kind] += 1
        return seen.setdefault(key, f"[{kind.upper()}_{1 + sum(k == kind for k, _ in seen)}]")

    out = []
    for text in texts:
        folded = _folded(text)
        looks = _looks(folded)
        for kind in kinds:
            if kind in looks:
                text, folded = _redact_kind(text, folded, kind, put)
        out.append(text)
    return out, counts


def _folded(text: str) -> str:
    return text.translate(_FOLD) if not text.isascii() and _FOLDED(text) else text


def _redact_kind(text: str, folded: str, kind: str, put: Callable[[str, str], str]) -> tuple[str, str]:
    """The text and the folded text with placeholders for what is found in the folded one."""
    pattern, sound = RECOGNISERS[kind]
    at, cut = 0, list[tuple[int, int, str]]()
    while match := pattern.search(folded, at):
        at = match.end()
        if span := sound(match):
            at = span[1]
            cut.append((*span, put(kind, folded[slice(*span)])))
    for start, end, placeholder in reversed(cut):
        text = text[:start] + placeholder + text[end:]
        folded = folded[:start] + placeholder + folded[end:]
    return text, folded


Span = tuple[int, int] | None
"""Where in the text the value is that a candidate holds; None where it is none."""


def _whole(check: Callable[[re.Match[str]], bool]) -> Callable[[re.Match[str]], Span]:
    return lambda match: match.span() if check(match) else None


def _begins(match: re.Match[str], size: int) -> Span:
    return (match.start(), match.start() + size) if size else None


def _before(match: re.Match[str], size: int = LABELS) -> str:
    return match.string[max(0, match.start() - size) : match.start()]


def _key(match: re.Match[str]) -> Span:
    """What is called a secret is one, unless it is a placeholder or a plain word."""
    value = match["value"]
    if value is None:
        return match.span()
    secret = re.search(r"[\d!@#%^&*+]|[a-z][A-Z]", value) and value[0] not in "[<{$"
    return match.span("value") if secret else None


def _ip(match: re.Match[str]) -> bool:
    return checks.ip(match[0]) and not checks.VERSION.search(_before(match, 16))


def _id(match: re.Match[str]) -> bool:
    kind = str(match.lastgroup)
    return (kind != "labelled" and checks.national_id(kind, match[0])) or bool(ID_LABEL.search(_before(match)))


def _phone(match: re.Match[str]) -> Span:
    if match["plus"]:
        return _begins(match, checks.international(match[0]))
    if not 7 <= sum(c.isdigit() for c in match[0]) <= 15:
        return None
    before = _before(match)
    form = str(match.lastgroup)
    if not PHONE_LABEL.search(before):
        if form == "labelled" or OTHER_LABEL.search(before):
            return None
        where = _near(match) if form == "bare" else _REGIONS.get(form, "")
        if form != "us" and not checks.phone(match[0], where, mobile=form == "bare"):
            return None
    return match.span()


def _near(match: re.Match[str]) -> str:
    """The countries in which the letters around a number are written."""
    return checks.regions(match.string[max(0, match.start() - NEAR) : match.end() + NEAR])


_REGIONS = {"trunk": checks.NATIONAL, "cn": "CN", "ru": "RU"}
"""By form of a number that no label calls a phone's: the countries where it may be one."""

_NUMBER = re.compile(r"\d[\d .()/-]{5,}\d", re.A).search
_LETTERS_THEN_DIGITS = re.compile(r"\d\d(?<=[A-Za-z]\d\d)", re.A).search
_DOTS = re.compile(r"\.\d{1,3}\.\d", re.A).search
_COLONS = re.compile(r":[0-9a-fA-F]*:").search
_KEY_PARTS = (
    "-----BEGIN", "AKIA", "ASIA", "ghp_", "gho_", "ghu_", "ghs_", "ghr_", "github_pat_", "glpat-", "sk-", "sk_", "rk_",
    "whsec_", "xox", "AIza", "GOCSPX-", "ya29.", "hf_", "gsk_", "xai-", "nvapi-", "shp", "npm_", "pypi-", "dop_v1_",
    "SG.", "eyJ", "://",
)  # fmt: skip
"""Every key that is known by its form holds one of these, and every other one follows a name."""


def _secret(text: str) -> bool:
    small = text.lower()
    return (
        any(part in text for part in _KEY_PARTS)
        or any(name in small for name in (*KEY_NAMES, "bearer"))
        or (not text.isascii() and any(name in text for name in KEY_NAMES_ELSE))
    )


def _looks(text: str) -> set[str]:
    """The kinds that a text may hold: quick, and never wrong about one it leaves out."""
    number, code = _NUMBER(text), _LETTERS_THEN_DIGITS(text)
    hints = {
        "key": _secret(text),
        "email": "@" in text,
        "iban": code,
        "card": number,
        "ip": _DOTS(text) or _COLONS(text),
        "id": number or code,
        "phone": number,
    }
    return {kind for kind, hint in hints.items() if hint}


RECOGNISERS: dict[str, tuple[re.Pattern[str], Callable[[re.Match[str]], Span]]] = {
    "key": (KEY, _key),
    "email": (EMAIL, _whole(lambda match: True)),
    "iban": (IBAN, lambda match: _begins(match, checks.iban(match[0]))),
    "card": (CARD, _whole(lambda match: checks.card(match[0]))),
    "ip": (IP, _whole(_ip)),
    "id": (ID, _whole(_id)),
    "phone": (PHONE, _phone),
}
"""By kind: the candidates, and where in each a sound value is."""
