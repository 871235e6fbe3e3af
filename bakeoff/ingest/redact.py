"""Personal data and secrets become typed placeholders, the same one for the same value within a record."""

import re
from collections import Counter
from collections.abc import Callable, Sequence

from bakeoff.ingest import checks

_LABEL = re.compile(
    r"\b(?:tel|telephone|phone|mobile|cell|fax|whatsapp|call|dial|sms|text|reach|ring)\b[^\d+\n]{0,24}$", re.I
)


def _iban(length: int, countries: str) -> str:
    """The pattern of the account numbers of countries where they are so long."""
    return rf"(?:{countries.replace(' ', '|')})\d\d(?:[ -]?[A-Z0-9]){{{length - 4}}}"


KEY = re.compile(
    r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)"
    r"|\b(?:AKIA|ASIA)[0-9A-Z]{16}\b"  # AWS
    r"|\bgh[pousr]_[A-Za-z0-9]{30,}\b|\bgithub_pat_\w{40,}\b|\bglpat-[\w-]{20,}"  # GitHub, GitLab
    r"|\bsk-(?:ant-|proj-|or-)?[\w-]{20,}|\b[rs]k_(?:live|test)_\w{16,}"  # OpenAI, Anthropic, Stripe
    r"|\bxox[abeprs]-[\w-]{10,}|\bAIza[\w-]{35}|\bhf_[A-Za-z0-9]{30,}\b"  # Slack, Google, Hugging Face
    r"|\b(?:npm_|pypi-|dop_v1_|SG\.)[\w.-]{30,}"
    r"|\beyJ[\w-]{8,}\.[\w-]{8,}(?:\.[\w-]+)?"  # JSON Web Token
    r"|(?<=://)[^\s/:@]+:[^\s/@]+(?=@)"  # user:password@host
    r"|(?i:(?<=bearer )|(?<=bearer: ))[\w.~+/-]{20,}=*"
    r"|(?i:pass(?:word|wd|phrase)|api[_-]?key|secret|token|_key)[\"']?\s?(?:is\s?)?[:=]\s?[\"']?(?P<value>[^\s\"',;]{6,})",
    re.S,
)
EMAIL = re.compile(r"(?<![\w.+%-])[\w.+%-]{1,64}@(?:[^\W_](?:[\w-]{0,61}[^\W_])?\.)+[^\W\d_]{2,24}(?![\w-])")
IBAN = re.compile(rf"\b(?:{'|'.join(_iban(n, countries) for n, countries in checks.IBAN_LENGTHS.items())})\b", re.I)
CARD = re.compile(r"(?<![\d.,-])(?:\d{14,16}|\d{4}([ -])\d{4}\1\d{4}\1\d{4}|\d{4}([ -])\d{6}\2\d{4,5})(?![\d-]|[.,]\d)")
IP = re.compile(
    r"(?<![\d.])\d{1,3}(?:\.\d{1,3}){3}(?![\d]|\.\d)|(?<![\w:])(?:[0-9a-f]{0,4}:){2,7}[0-9a-f]{0,4}(?![\w:])", re.I
)
ID = re.compile(
    r"(?<![\w-])(?:(?P<ssn>\d{3}-\d{2}-\d{4})"
    r"|(?P<nino>[A-Z]{2} ?\d{2} ?\d{2} ?\d{2} ?[A-D])|(?P<dni>[XYZ\d]\d{7}-?[A-Z])"
    r"|(?P<cpf>\d{3}\.\d{3}\.\d{3}-\d{2})|(?P<nir>[12] ?\d{2} ?\d{2} ?\d{2} ?\d{3} ?\d{3} ?\d{2})"
    r"|(?P<fiscal>[A-Z]{6}\d{2}[A-EHLMPRST]\d{2}[A-Z]\d{3}[A-Z])|(?P<aadhaar>\d{4} \d{4} \d{4}))(?![\w-])"
)
PHONE = re.compile(
    r"(?<![\w.,+-])(?:"
    r"(?P<sure>\+\d{1,3}[ .-]?(?:\(\d{1,4}\)[ .-]?)?\d{1,4}(?:[ .-]?\d{2,4}){1,4}"  # +49 30 1234567
    r"|(?:1[ .-])?\([2-9]\d\d\) ?[2-9]\d\d[ .-]\d{4}|(?:1[ .-])?[2-9]\d\d([.-])[2-9]\d\d\2\d{4}"  # (415) 555-0134
    r"|(?<!\d )(?:0[1-9](?:([ .-])\d\d)(?:\3\d\d){3}|\(?0\d{2,4}\)?[ -]\d{3,4}[ -]\d{3,4}))"  # 06 12 34 56 78
    r"|(?P<labelled>\(?\d{2,5}\)?(?:[ .-]?\d{2,5}){1,4}))(?![\w-]|[.,]\d)"
)


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
        looks = _looks(text)
        for kind in kinds:
            if kind in looks:
                text = _redact_kind(text, kind, put)
        out.append(text)
    return out, counts


def _redact_kind(text: str, kind: str, put: Callable[[str, str], str]) -> str:
    pattern, sound = RECOGNISERS[kind]

    def replace(match: re.Match[str]) -> str:
        if not sound(match):
            return match[0]
        value = match.groupdict().get("value")
        return match[0].replace(value, put(kind, value)) if value else put(kind, match[0])

    return pattern.sub(replace, text)


def _key(match: re.Match[str]) -> bool:
    """What is called a secret is one, unless it is a placeholder or a plain word."""
    value = match.groupdict().get("value")
    return value is None or bool(re.search(r"[\d!@#%^&*+]|[a-z][A-Z]", value) and value[0] not in "[<{$")


def _ip(match: re.Match[str]) -> bool:
    return checks.ip(match[0]) and not checks.VERSION.search(match.string[max(0, match.start() - 16) : match.start()])


def _id(match: re.Match[str]) -> bool:
    return checks.national_id(str(match.lastgroup), match[0])


def _phone(match: re.Match[str]) -> bool:
    digits = sum(c.isdigit() for c in match[0])
    if match["sure"]:
        return 8 <= digits <= 15
    return 7 <= digits <= 15 and bool(_LABEL.search(match.string[max(0, match.start() - 48) : match.start()]))


_NUMBER = re.compile(r"\d[\d .()/-]{5,}\d").search
_LETTERS_THEN_DIGITS = re.compile(r"\d\d(?<=[A-Za-z]\d\d)").search
_DOTS = re.compile(r"\.\d{1,3}\.\d").search
_COLONS = re.compile(r":[0-9a-fA-F]*:").search
_KEY_PARTS = (
    "-----BEGIN", "AKIA", "ASIA", "ghp_", "gho_", "ghu_", "ghs_", "ghr_", "github_pat_", "glpat-", "sk-", "sk_", "rk_",
    "xox", "AIza", "hf_", "npm_", "pypi-", "dop_v1_", "SG.", "eyJ", "://",
)  # fmt: skip
"""Every key that is known by its form holds one of these..."""
_KEY_NAMES = ("password", "passwd", "passphrase", "apikey", "api-key", "_key", "secret", "token", "bearer")
"""...and every other one follows one of these, in any case."""


def _looks(text: str) -> set[str]:
    """The kinds that a text may hold: quick, and never wrong about one it leaves out."""
    number, code, small = _NUMBER(text), _LETTERS_THEN_DIGITS(text), text.lower()
    hints = {
        "key": any(part in text for part in _KEY_PARTS) or any(name in small for name in _KEY_NAMES),
        "email": "@" in text,
        "iban": code,
        "card": number,
        "ip": _DOTS(text) or _COLONS(text),
        "id": number or code,
        "phone": number,
    }
    return {kind for kind, hint in hints.items() if hint}


RECOGNISERS: dict[str, tuple[re.Pattern[str], Callable[[re.Match[str]], bool]]] = {
    "key": (KEY, _key),
    "email": (EMAIL, lambda match: True),
    "iban": (IBAN, lambda match: checks.iban(match[0])),
    "card": (CARD, lambda match: checks.card(match[0])),
    "ip": (IP, _ip),
    "id": (ID, _id),
    "phone": (PHONE, _phone),
}
"""By kind: the candidates, and which of them are sound."""
