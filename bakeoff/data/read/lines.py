"""Lines of a stream of bytes, whatever their encoding and their ends, never more of it at once than a row may have."""

import codecs
import dataclasses
import functools
import io
import re
import unicodedata
from collections.abc import Callable, Iterator
from typing import IO, Any

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


ROW_BYTES = 4 << 20
"""A longer row is no prompt; only its beginning is looked at, so that memory stays bounded."""
Item = tuple[int, Any, str]
"""Where a row begins, what it holds, and the reason why nothing can be read there."""


@dataclasses.dataclass(frozen=True, slots=True)
class Row:
    """One row of a source: what was found there, or the reason why nothing was."""

    source: str
    """`file:line` (`file:row` where a format has no lines)."""
    value: Any
    """A record; or the bytes of a JSON line that is not parsed yet."""
    reason: str = ""


def lines(stream: IO[bytes]) -> Iterator[Item]:
    """Numbered lines in UTF-8, or with stray bytes of Windows-1252; one that is too long is cut, and says so."""
    assert isinstance(stream, io.BufferedReader)
    name = ""  # of the encoding of lines that are no UTF-8
    for number, piece in enumerate(_pieces(stream), 1):
        line, reason = piece[:ROW_BYTES].rstrip(b"\r\n"), "row too long" if len(piece) > ROW_BYTES else ""
        if not reason and foreign(line):
            name = name or legacy(line + b"\n" + stream.peek())
            if name == UNKNOWN:
                reason = UNKNOWN
            elif name not in ("", WESTERN):
                line = line.decode(name, "replace").encode()
        yield number, line, reason


def _pieces(stream: io.BufferedReader) -> Iterator[bytes]:
    """Lines of at most ROW_BYTES + 1 bytes: what follows in a longer one is read and forgotten."""
    readline = _line_of(stream)
    while piece := readline(ROW_BYTES + 1):
        yield piece
        while piece and not piece.endswith(b"\n"):
            piece = readline(ROW_BYTES)


def _line_of(stream: io.BufferedReader) -> Callable[[int], bytes]:
    """The stream's `readline`, in UTF-8 when the file is in UTF-16, and with line feeds for bare carriage returns."""
    head = stream.peek()
    name, written = encoding(head[:64]), "utf-8"
    if not name.startswith("utf-16"):
        if b"\n" in head or b"\r" not in head:
            return stream.readline
        name = written = "latin-1"  # every byte as it is
    text = io.TextIOWrapper(stream, name, "replace")
    return lambda size: text.readline(size).encode(written, "replace")
