"""Lines of a stream of bytes, whatever their encoding and their ends, never more of it at once than a row may have."""

import dataclasses
import io
from collections.abc import Callable, Iterator
from typing import IO, Any

from bakeoff.data.read.encodings import UNKNOWN, WESTERN, encoding, foreign, legacy

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
