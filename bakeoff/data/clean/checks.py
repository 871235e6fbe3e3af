"""Which candidates are an account, card, address, national or phone number of somebody, and not just look like one."""

import contextlib
import functools
import importlib
import ipaddress
import re
from collections.abc import Callable
from typing import Any

import phonenumbers
from stdnum import luhn, numdb
from stdnum.iso7064 import mod_97_10

VERSION = re.compile(
    r"(?:[<>=~]=|[<>~^]|(?:(?<![a-z])(?:v|version|release|build|section|sec\.|rev\.?)|§|版本?|バージョン|버전|верси[яию]"
    r"|الإصدار|เวอร์ชัน)\W{0,3})$",
    re.I,
)
_MOBILE = (phonenumbers.PhoneNumberType.MOBILE, phonenumbers.PhoneNumberType.FIXED_LINE_OR_MOBILE)
NATIONAL = (
    "GB FR DE IT NL BE CH AT SE FI IE TR UA RO BG RS IL SA AE EG MA DZ JO IQ IR PK IN BD LK ID MY TH VN PH CN TW JP KR "
    "AU NZ ZA NG KE BR AR"
)
"""Where numbers are written with a leading zero, or with an area code in brackets."""
_SCRIPTS = {
    "[\u3040-\u30ff]": "JP", "[\u4e00-\u9fff]": "CN TW", "[\uac00-\ud7a3]": "KR", "[\u0e00-\u0e7f]": "TH",
    "[\u0400-\u04ff]": "RU UA KZ BG RS", "[\u0600-\u06ff]": "SA AE EG MA DZ JO IQ IR PK", "[\u0590-\u05ff]": "IL",
    "[\u0900-\u0dff]": "IN BD LK",
}  # fmt: skip
"""Letters to the countries in which they are written."""


def card(text: str) -> bool:
    """A number that a card network gives out and whose Luhn digit is right."""
    number = re.sub(r"\D", "", text)
    first4, size = int(number[:4]), len(number)
    brand = (
        (size == 16 and (number[0] == "4" or 5100 <= first4 <= 5599 or 2221 <= first4 <= 2720))
        or (size == 16 and (first4 == 6011 or 6440 <= first4 <= 6599 or 3528 <= first4 <= 3589))
        or (16 <= size <= 19 and number[:2] == "62")
        or (size == 15 and number[:2] in ("34", "37"))
        or (size == 14 and (number[:2] in ("36", "38", "39") or 3000 <= first4 <= 3059))
    )
    return brand and luhn.is_valid(number) and len(set(number)) > 1


def iban(text: str) -> int:
    """How many characters at the beginning of a text are an account number (ISO 13616); 0: none."""
    places = [i for i, c in enumerate(text, 1) if c.isalnum()]
    number = "".join(c for c in text.upper() if c.isalnum())
    form = numdb.get("iban").info(number)[0][1].get("bban", "")
    size = 4 + sum(map(int, re.findall(r"(\d+)!", form)))
    sound = form and len(number) >= size and mod_97_10.is_valid(number[4:size] + number[:4])
    return places[size - 1] if sound else 0


def ip(text: str) -> bool:
    """An address of somebody's machine: not loopback, unspecified, or a time of day."""
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return False
    if address.version == 6 and (text.count(":") < 3 or not re.search(r"\d", text)):
        return False
    return not (address.is_loopback or address.is_unspecified or text.startswith("255."))


@functools.cache
def _program(name: str) -> Any:
    return importlib.import_module(f"stdnum.{name}")


def national_id(kind: str, text: str) -> bool:
    """The checksum and the dates of one country's number for a person, or the rules of issue where there is none."""
    if kind in _RULES:
        return _RULES[kind](text)
    return _program(".".join(kind.rsplit("__", 1))).is_valid(text)


def _nino(text: str) -> bool:
    """United Kingdom: some letters and prefixes are never issued."""
    n = text.replace(" ", "")
    return not (set(n[:2]) & set("DFIQUV") or n[1] == "O" or n[:2] in ("BG", "GB", "NK", "KN", "TN", "NT", "ZZ"))


def _snils(text: str) -> bool:
    """Russia: nine digits, weighed by their place from the right, modulo 101."""
    *digits, tens, ones = map(int, re.findall(r"\d", text))
    return sum(d * w for d, w in zip(digits, range(9, 0, -1), strict=True)) % 101 % 100 == 10 * tens + ones


def _dated(kind: str, n: str) -> bool:
    """A number that begins with a date of birth, whose other digits may be of an issuer that a table does not know."""
    try:
        return bool(_program(kind).get_birth_date(n))
    except ValueError:
        return False


_RULES: dict[str, Callable[[str], bool]] = {
    "nino": _nino,
    "snils": _snils,
    "nordic": lambda n: any(_program(f).is_valid(n) for f in ("fi.hetu", "se.personnummer", "is_.kennitala")),
    "ric": lambda n: _dated("cn.ric", n) and _program("cn.ric").calc_check_digit(n) == n[-1].upper(),
    "rrn": lambda n: _dated("kr.rrn", n),  # since 2020 its last digit is no checksum
}


def phone(text: str, regions: str, *, mobile: bool = False) -> bool:
    """Whether a number is one that can be dialled in one of the countries; with `mobile`, a mobile phone's."""
    for region in regions.split():
        with contextlib.suppress(phonenumbers.NumberParseException):
            number = phonenumbers.parse(text, region)
            if phonenumbers.is_valid_number(number) and not (
                mobile and phonenumbers.number_type(number) not in _MOBILE
            ):
                return True
    return False


def international(text: str) -> int:
    """How many characters of a text that begins with "+" are a phone number, up to a gap between digits; 0: none.

    One that is in use, or else one as long as those of its country are.
    """
    ends = [len(text), *(m.start() for m in re.finditer(r"(?<=\d)\D", text))]
    for check in (phonenumbers.is_valid_number, phonenumbers.is_possible_number):
        for end in sorted(ends, reverse=True):
            with contextlib.suppress(phonenumbers.NumberParseException):
                if check(phonenumbers.parse(text[:end])):
                    return end
    return 0


def regions(text: str) -> str:
    """The countries in which the letters of a text are written; none for Latin ones."""
    return " ".join(some for letters, some in _SCRIPTS.items() if re.search(letters, text))
