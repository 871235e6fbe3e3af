"""Checksums and forms that tell an account, card, address or national number from a number that looks like one."""

import ipaddress
import re

VERSION = re.compile(
    r"(?:[<>=~]=|[<>~^]|(?:\bv|\bversion|\brelease|\bbuild|\bsection|\bsec\.|§|\brev\.?)\W{0,3})$", re.I
)

IBAN_LENGTHS = {
    15: "NO", 16: "BE", 18: "DK FI FO GL NL SD", 19: "MK SI", 20: "AT BA EE KZ LT LU XK", 21: "CH HR LI LV UA",
    22: "BG BH CR DE GB GE IE ME RS VA", 23: "AE GI IL IQ OM SO TL", 24: "AD CZ ES MD PK RO SA SE SK TN VG",
    25: "LY PT ST", 26: "IS TR", 27: "BI DJ FR GR IT MC SM", 28: "AL AZ BY CY DO GT HU LB NI PL SV",
    29: "BR EG PS QA", 30: "JO KW MU YE", 31: "MT SC", 32: "LC", 33: "RU",
}  # fmt: skip
"""ISO 13616: in which countries an account number is so long."""


def digits(text: str) -> list[int]:
    return [int(c) for c in text if c.isdigit()]


def card(text: str) -> bool:
    """A number that a card network gives out and whose Luhn digit is right."""
    number = re.sub(r"\D", "", text)
    first4, size = int(number[:4]), len(number)
    brand = (
        (size == 16 and (number[0] == "4" or 5100 <= first4 <= 5599 or 2221 <= first4 <= 2720))
        or (size == 16 and (first4 == 6011 or 6440 <= first4 <= 6599 or 3528 <= first4 <= 3589 or number[:2] == "62"))
        or (size == 15 and number[:2] in ("34", "37"))
        or (size == 14 and (number[:2] in ("36", "38", "39") or 3000 <= first4 <= 3059))
    )
    return brand and luhn(number) and len(set(number)) > 1


def luhn(number: str) -> bool:
    total = sum(d if i % 2 == 0 else sum(divmod(2 * d, 10)) for i, d in enumerate(reversed(digits(number))))
    return total % 10 == 0


def iban(text: str) -> bool:
    """ISO 13616: 1 modulo 97, when letters are numbers from 10 and the first four characters come last."""
    number = re.sub(r"[ -]", "", text)
    return int("".join(str(int(c, 36)) for c in number[4:] + number[:4])) % 97 == 1


def ip(text: str) -> bool:
    """An address of somebody's machine: not loopback, unspecified, or a time of day."""
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return False
    if address.version == 6 and (text.count(":") < 3 or not re.search(r"\d", text)):
        return False
    return not (address.is_loopback or address.is_unspecified or text.startswith("255."))


def national_id(kind: str, text: str) -> bool:
    """The checksum, or the rules of issue where there is none, of one country's number for a person."""
    return _NATIONAL[kind](re.sub(r"[ .-]", "", text))


def _ssn(n: str) -> bool:
    """United States: areas 000, 666 and 900-999, group 00 and serial 0000 are never issued."""
    return n[:3] not in ("000", "666") and n[0] != "9" and n[3:5] != "00" and n[5:] != "0000"


def _nino(n: str) -> bool:
    """United Kingdom: some letters and prefixes are never issued."""
    return not (set(n[:2]) & set("DFIQUV") or n[1] == "O" or n[:2] in ("BG", "GB", "NK", "KN", "TN", "NT", "ZZ"))


def _dni(n: str) -> bool:
    """Spain: the letter is the number modulo 23."""
    number = int(n[:-1].translate(str.maketrans("XYZ", "012")))
    return n[-1] == "TRWAGMYFPDXBNJZSQVHLCKE"[number % 23]


def _cpf(n: str) -> bool:
    """Brazil: two check digits modulo 11."""
    d = digits(n)
    check = [sum(a * b for a, b in zip(d, range(k, 1, -1), strict=False)) * 10 % 11 % 10 for k in (10, 11)]
    return check == d[9:] and len(set(d)) > 1


def _nir(n: str) -> bool:
    """France: 97 minus the number modulo 97."""
    return 1 <= int(n[3:5]) <= 12 and 97 - int(n[:13]) % 97 == int(n[13:])


def _fiscal(n: str) -> bool:
    """Italy: odd places by a table, even places by rank, modulo 26."""
    odd = [1, 0, 5, 7, 9, 13, 15, 17, 19, 21, 2, 4, 18, 20, 11, 3, 6, 8, 12, 14, 16, 10, 22, 25, 24, 23]
    rank = [int(c) if c.isdigit() else ord(c) - 65 for c in n]
    return (sum(odd[r] if i % 2 == 0 else r for i, r in enumerate(rank[:15]))) % 26 == rank[15]


def _aadhaar(n: str) -> bool:
    """India: Verhoeff's checksum; the first digit is 2 or more."""
    check = 0
    for i, d in enumerate(reversed(digits(n))):
        check = _dihedral(check, _permuted(i, d))
    return check == 0 and n[0] > "1"


def _dihedral(a: int, b: int) -> int:
    """The product of two elements of the dihedral group of order ten (5 to 9 are the reflections)."""
    if a < 5:
        return (a + b) % 5 if b < 5 else 5 + (a + b - 5) % 5
    return 5 + (a - 5 - b) % 5 if b < 5 else (a - b) % 5


def _permuted(place: int, digit: int) -> int:
    for _ in range(place % 8):
        digit = (1, 5, 7, 6, 2, 8, 3, 0, 9, 4)[digit]
    return digit


_NATIONAL = {
    "ssn": _ssn, "nino": _nino, "dni": _dni, "cpf": _cpf, "nir": _nir, "fiscal": _fiscal, "aadhaar": _aadhaar,
}  # fmt: skip
