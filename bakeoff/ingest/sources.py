"""From what a user names (files, folders, globs) to the files to read, and to their bytes."""

from __future__ import annotations

import glob
import gzip
from collections.abc import Iterable
from pathlib import Path
from typing import IO, cast

from bakeoff.errors import UserError

FORMATS = {
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".log": "jsonl",
    ".json": "json",
    ".csv": "csv",
    ".tsv": "tsv",
    ".tab": "tsv",
    ".parquet": "parquet",
    ".txt": "text",
    ".md": "text",
}


def format_of(path: Path) -> str | None:
    """The format that a file's name stands for, `.gz` or not; None when it is no format that is read."""
    name = path.with_suffix("") if path.suffix == ".gz" else path
    return FORMATS.get(name.suffix.lower())


def files(sources: Iterable[Path]) -> list[Path]:
    """The files that the sources stand for, each once, folders and globs in name order."""
    found: dict[Path, None] = {}
    for source in sources:
        for path in _expand(Path(source)):
            found.setdefault(path)
    return list(found)


def _expand(source: Path) -> list[Path]:
    if source.is_file():
        if format_of(source) is None:
            raise UserError(f"{source}: {source.suffix!r} is no format that is read; use one of {' '.join(FORMATS)}")
        return [source]
    if source.is_dir():
        inside = [p for p in sorted(source.rglob("*")) if p.is_file() and not _hidden(p.relative_to(source))]
        readable = [p for p in inside if format_of(p)]
        if not readable:
            raise UserError(f"{source}: no file to read among its {len(inside)}; expected {' '.join(FORMATS)}")
        return readable
    matches = [Path(p) for p in sorted(glob.glob(str(source), recursive=True))]
    readable = [p for p in matches if p.is_file() and format_of(p)]
    if not readable:
        raise UserError(f"{source}: no such file; check the path (it is taken from the working folder)")
    return readable


def _hidden(path: Path) -> bool:
    return any(part.startswith((".", "_")) for part in path.parts)


def open_bytes(path: Path) -> IO[bytes]:
    """The file's bytes, decompressed when it is gzip, whatever its name."""
    stream = path.open("rb")
    if stream.read(2) == b"\x1f\x8b":
        stream.close()
        return cast(IO[bytes], gzip.open(path, "rb"))
    stream.seek(0)
    return stream
