"""Which encoding the bytes of a file are in: UTF-8, UTF-16, Windows-1252, or another by what it spells."""

import codecs
import functools
import re
import unicodedata

UTF16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
WESTERN = "cp1252"
UNKNOWN = "unknown encoding"
"""Why a row is set aside whose bytes spell nothing in any encoding that is tried."""
FEW, LOOKED_AT = 4, 1 << 16
"""Fewer bytes that are no UTF-8 do not tell an encoding; so many do."""
_COMMON_BYTES = {
    "cp949": ((0xB0, 0xC8),),  # the Hangul of KS X 1001
    "gb18030": ((0xB0, 0xD7),),  # level 1 of GB 2312
    "euc_jp": ((0xA4, 0xA5), (0xB0, 0xCF)),
    "big5": ((0xA4, 0xC6),),  # level 1 of Big5
    "cp932": ((0x82, 0x83), (0x88, 0x97)),  # kana, level 1 of JIS X 0208
}
"""First bytes of the characters that make up nearly all of a text in an encoding of two bytes a character."""
_CYRILLIC, _LETTERS = ("cp1251", "koi8-r"), frozenset("оеаинтсрвл")
"""The letters make up more than half of a Russian or Ukrainian text."""
_ACCENTED = re.compile("[^\\W\\d_]*[\u00c0-\u024f][^\\W\\d_]*")
_ALONE = frozenset("àáèéêìíòóôöåæøúý")
"""Letters that are words."""


def _bytewise(error: UnicodeError) -> tuple[str, int]:
    """The bytes that are no UTF-8, read as Windows-1252."""
    assert isinstance(error, UnicodeDecodeError)
    return error.object[error.start : error.end].decode(WESTERN, "replace"), error.end


BYTEWISE = "bakeoff.bytewise"
codecs.register_error(BYTEWISE, _bytewise)


def decode(data: bytes) -> str:
    """Bytes as text: UTF-8, and Windows-1252 for every byte that is none."""
    return data.decode("utf-8-sig", BYTEWISE)


def encoding(head: bytes) -> str:
    """The encoding of a file that begins so: UTF-16, by its mark or by its zeros, or else UTF-8."""
    if head.startswith(UTF16):
        return "utf-16"
    zeros = head[::2].count(0), head[1::2].count(0)
    if max(zeros) > 0.4 * len(head) / 2 and 4 * min(zeros) < max(zeros) and len(head) >= 4:
        return "utf-16-be" if zeros[0] > zeros[1] else "utf-16-le"
    return "utf-8-sig"


def legacy(sample: bytes) -> str:
    """The encoding of the lines of a sample that are no UTF-8: "" when there are too few of them to tell, UNKNOWN when
    they spell nothing in any that is tried."""
    lines = sample.splitlines()
    odd = [line for line in lines[:-1] or lines if foreign(line)]  # the last line may be cut
    data = b"\n".join(odd)[:LOOKED_AT]
    if sum(byte > 127 for byte in data) < FEW:
        return ""
    two = (name for name in _COMMON_BYTES if _spells(data, name, 0.9))
    one = (name for name in _CYRILLIC if _spells(data, name, 0.5))
    return next(two, "") or (WESTERN if _western(data) else next(one, UNKNOWN))


def foreign(line: bytes) -> bool:
    """Whether a line is in another encoding than UTF-8, and not UTF-8 that was cut or damaged."""
    try:
        line.decode()
    except UnicodeDecodeError:
        text = line.decode("utf-8", "surrogateescape")  # by chance, pairs of bytes of another encoding are UTF-8
        return 4 * sum("\udc80" <= c <= "\udcff" for c in text) > sum(not c.isascii() for c in text)
    return False


def _western(data: bytes) -> bool:
    """Whether most of what is beyond ASCII is words with a few accents, as Western Europe writes them."""
    words = _ACCENTED.findall(decode(data))
    sound = sum(w in _ALONE or 3 * sum(not c.isascii() for c in w) <= 2 * len(w) > 2 for w in words)
    return 2 * sound >= len(words) > 0


def _spells(data: bytes, name: str, usual: float) -> bool:
    """Whether more than the usual share of the letters that an encoding reads are common ones."""
    text = data.decode(name, "replace")
    letters = [c for c in text if c == "\ufffd" or not (c.isascii() or unicodedata.category(c)[0] in "PSZ")]
    return sum(c in _common(name) for c in letters) > usual * len(letters)


@functools.cache
def _common(name: str) -> frozenset[str]:
    if name in _CYRILLIC:
        return _LETTERS
    pairs = (
        bytes([a, b]) for low, high in _COMMON_BYTES[name] for a in range(low, high + 1) for b in range(0x40, 0xFF)
    )
    return frozenset(text for pair in pairs if len(text := pair.decode(name, "ignore")) == 1)
