"""Makes labelled rows from a seed: personal data and secrets in filings' sentences, and numbers that only look like it.

python benchmarks/ingest_labels.py labelled.jsonl     # one {"text", "kind", "value"} a line; look-alikes have kind ""
"""

from __future__ import annotations

import base64
import json
import random
import string
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

CARRIERS = (
    "Net revenue rose to $12,345,678 in 2021-2022 (11,222,333 before). {} What drove the change of 12.5%?",
    "Please check this for me: {}",
    "{} is what the customer wrote; draft a polite answer, and mention invoice 20210034 of 2021-03-04.",
    "| item | 2022 | 2021 |\n| net sales | 1,203.5 | (4,512) |\n\n{}\n\nSum up the table in 3 sentences.",
    "Summarise the ticket.\n> {}\n> Thanks, 14 people are waiting",
)
PER_KIND = 150


def digits(rng: random.Random, n: int) -> str:
    return "".join(rng.choices(string.digits, k=n))


def chars(rng: random.Random, n: int, extra: str = "") -> str:
    return "".join(rng.choices(string.ascii_letters + string.digits + extra, k=n))


def grouped(rng: random.Random, number: str, sizes: list[int]) -> str:
    """A number as it is, or in groups apart by blanks or hyphens."""
    separator = rng.choice(["", " ", "-"])
    parts, at = [], 0
    for size in sizes:
        parts.append(number[at : at + size])
        at += size
    return separator.join(p for p in parts if p)


def email(rng: random.Random) -> str:
    first, last = (
        rng.choice(["ann", "Bob", "c.x", "d_e", "zoë", "o'neil"]),
        rng.choice(["smith", "lee-ray", "van.dam", "k9"]),
    )
    host = rng.choice(["example.com", "mail.example.co.uk", "EXAMPLE.ORG", "x.example.museum", "sub-domain.example.de"])
    return f"{first}{rng.choice(['.', '_', '+', ''])}{last}{rng.choice(['', digits(rng, 2)])}@{host}"


def luhn(body: str) -> str:
    """The body with its Luhn digit."""
    total = sum(int(d) if i % 2 else sum(divmod(2 * int(d), 10)) for i, d in enumerate(reversed(body)))
    return body + str(-total % 10)


def card(rng: random.Random) -> str:
    prefix, size = rng.choice([("4", 16), ("51", 16), ("55", 16), ("2300", 16), ("6011", 16), ("34", 15), ("37", 15)])
    number = luhn(prefix + digits(rng, size - len(prefix) - 1))
    return grouped(rng, number, [4, 4, 4, 4] if size == 16 else [4, 6, 5])


def iban(rng: random.Random) -> str:
    country, form = rng.choice(
        [("DE", "n" * 18), ("GB", "aaaa" + "n" * 14), ("FR", "n" * 23), ("NL", "aaaa" + "n" * 10), ("ES", "n" * 20)]
        + [("NO", "n" * 11), ("CH", "n" * 17), ("MT", "aaaa" + "n" * 23), ("PL", "n" * 24)]
    )
    body = "".join(rng.choice(string.digits if c == "n" else string.ascii_uppercase) for c in form)
    check = 98 - int("".join(str(int(c, 36)) for c in f"{body}{country}00")) % 97
    number = f"{country}{check:02d}{body}"
    number = " ".join(number[i : i + 4] for i in range(0, len(number), 4)) if rng.random() < 0.5 else number
    return number.lower() if rng.random() < 0.1 else number


def key(rng: random.Random) -> str:
    jwt = ".".join(
        base64.urlsafe_b64encode(json.dumps(p).encode()).decode().rstrip("=") for p in ({"alg": "HS256"}, {"id": 7})
    )
    makes: list[Callable[[], str]] = [
        lambda: "AKIA" + "".join(rng.choices(string.ascii_uppercase + string.digits, k=16)),
        lambda: rng.choice(["ghp_", "gho_", "ghs_"]) + chars(rng, 36),
        lambda: "sk-" + chars(rng, 48),
        lambda: "sk-ant-api03-" + chars(rng, 80, "-_"),
        lambda: "sk-proj-" + chars(rng, 60, "-_"),
        lambda: f"xoxb-{digits(rng, 12)}-{chars(rng, 24)}",
        lambda: "AIza" + chars(rng, 35, "-_"),
        lambda: "hf_" + chars(rng, 34),
        lambda: rng.choice(["sk_live_", "rk_test_"]) + chars(rng, 24),
        lambda: "glpat-" + chars(rng, 20),
        lambda: f"{jwt}.{chars(rng, 43, '-_')}",
        lambda: f"-----BEGIN RSA PRIVATE KEY-----\n{chars(rng, 64)}\n{chars(rng, 64)}\n-----END RSA PRIVATE KEY-----",
    ]
    return rng.choice(makes)()


def named_key(rng: random.Random) -> tuple[str, str]:
    """A sentence with a secret in it, and the secret."""
    secret = chars(rng, rng.randint(12, 40), "+/_-") + digits(rng, 1)
    forms = [
        "password: {}",
        "API_KEY={}",
        'api_key = "{}"',
        "Authorization: Bearer {}",
        "the secret: {}",
        "my passwd={}",
    ]
    forms += ['"aws_secret_access_key": "{}"', "postgres://app:{}@db.example.com/x", "token={}&x=1", "Password is: {}"]
    form = rng.choice(forms)
    secret = secret.replace("/", "x") if "://" in form else secret
    return form.format(secret if "Bearer" not in form else secret * 2), secret


def phone(rng: random.Random) -> str:
    d = lambda n: digits(rng, n)  # noqa: E731
    return rng.choice(
        [
            f"+1 415 555 {d(4)}",
            f"+1-212-555-{d(4)}",
            f"(415) 555-{d(4)}",
            f"628-555-{d(4)}",
            f"+49 30 {d(3)} {d(4)}",
            f"+44 20 7946 0{d(3)}",
            f"+33 6 {d(2)} {d(2)} {d(2)} {d(2)}",
            f"06 {d(2)} {d(2)} {d(2)} {d(2)}",
            f"020 7946 0{d(3)}",
            f"+4915{d(9)}",
            f"call 555 {d(4)}",
            f"phone: 415 555 {d(4)}",
        ]
    )


def ip(rng: random.Random) -> str:
    v4 = ".".join(str(rng.randint(1, 126)) for _ in range(4))
    v6 = ":".join(f"{rng.randrange(65536):x}" for _ in range(8))
    return rng.choice([v4, v4, v6, f"2001:db8::{rng.randrange(1, 65536):x}:{rng.randrange(65536):x}"])


def national(rng: random.Random) -> str:
    n = rng.randrange(10**8)
    nir = f"{rng.choice('12')}{rng.randint(10, 99)}{rng.randint(1, 12):02d}{rng.randint(1, 95):02d}{digits(rng, 6)}"
    cpf = [rng.randrange(10) for _ in range(9)]
    for k in (10, 11):
        cpf.append(sum(a * b for a, b in zip(cpf, range(k, 1, -1), strict=True)) * 10 % 11 % 10)
    c = "".join(map(str, cpf))
    return rng.choice(
        [
            f"{rng.randint(100, 665)}-{rng.randint(1, 99):02d}-{rng.randint(1, 9999):04d}",
            f"{n:08d}{'TRWAGMYFPDXBNJZSQVHLCKE'[n % 23]}",
            f"{c[:3]}.{c[3:6]}.{c[6:9]}-{c[9:]}",
            f"{nir}{97 - int(nir) % 97:02d}",
            f"{rng.choice(['AB', 'CE', 'JG'])} {digits(rng, 2)} {digits(rng, 2)} {digits(rng, 2)} {rng.choice('ABCD')}",
        ]
    )


def look_alike(rng: random.Random) -> str:
    d = lambda n: digits(rng, n)  # noqa: E731
    hexed = "".join(rng.choices("0123456789abcdef", k=40))
    isbn = f"978{d(9)}"
    isbn += str(-sum(int(x) * (1, 3)[i % 2] for i, x in enumerate(isbn)) % 10)
    return rng.choice(
        [
            f"Order {rng.choice('123789')}{d(15)} shipped.",
            f"Order no. {d(3)}-{d(7)}-{d(7)}.",
            f"Version {d(1)}.{d(2)}.{d(1)}.{d(3)} of the driver fails.",
            f"Use v{d(1)}.{d(1)}.{d(2)} or >={d(1)}.{d(1)}.{d(1)}.{d(1)}.",
            f"ISBN {isbn[:3]}-{isbn[3]}-{isbn[4:6]}-{isbn[6:12]}-{isbn[12]} and ISBN {isbn}.",
            f"Commit {hexed} broke it, build {d(8)}.",
            f"Trace {hexed[:8]}-{hexed[8:12]}-4{hexed[13:16]}-a{hexed[17:20]}-{hexed[20:32]} timed out.",
            f"At 12:34:56 on 2021-03-{rng.randint(10, 28)}, 09:15:{d(2)} before.",
            f"Revenue 1 {d(3)} {d(3)} {d(3)}, costs {rng.randint(1, 9)} {d(3)} {d(3)}.",
            f"Shares: 100 200 300 400; {rng.randint(10, 99)},{d(3)},{d(3)},{d(3)} in all.",
            f"CAS 7732-18-5, part {d(3)}-{d(4)}-{d(2)}, SKU AB{d(6)}.",
            f"MAC 00:1a:2b:3c:4d:{d(2)}, std::vector a::b, x::y.",
            f"Coordinates 52.{d(6)}, 13.{d(6)}; 1990-2000; 555-{d(2)}.",
            "Tweet to @someone, meet @ 5pm, 10@30 bid, user@host, a@b.",
            f"ISIN US{d(9)}0, EIN {d(2)}-{d(7)}, invoice INV-2021-{d(6)}.",
            f"The token limit is {d(4)}; the secret of the success? Keys: task-oriented, risk-adjusted.",
            "password: [hidden], token: none, secret sauce: garlic",
            f"See section 1.2.3.4 and page {d(3)} of 10-K 0001{d(6)}-21-{d(6)}.",
            f"Tracking 1Z999AA1{d(10)}, room {d(3)}, ext. {d(3)}.",
            f"Pi is 3.14159265358979, e is 2.71828182845905, {d(12)} ns.",
        ]
    )


KINDS: dict[str, Callable[[random.Random], str]] = {
    "email": email, "card": card, "iban": iban, "key": key, "phone": phone, "ip": ip, "id": national,
}  # fmt: skip


def labelled(seed: int = 0, per_kind: int = PER_KIND) -> Iterator[dict[str, str]]:
    rng = random.Random(seed)
    for kind, make in KINDS.items():
        for _ in range(per_kind):
            value = make(rng)
            yield {"text": rng.choice(CARRIERS).format(value), "kind": kind, "value": value}
    for _ in range(per_kind):
        sentence, value = named_key(rng)
        yield {"text": rng.choice(CARRIERS).format(sentence), "kind": "key", "value": value}
    for _ in range(4 * per_kind):
        yield {"text": rng.choice(CARRIERS).format(look_alike(rng)), "kind": "", "value": ""}


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(
        "".join(json.dumps(r, ensure_ascii=False) + "\n" for r in labelled()), encoding="utf-8"
    )
