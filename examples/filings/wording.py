"""The words of the generator, read from `wording.toml`, which explains its marks."""

from __future__ import annotations

import random
import re
import tomllib
from pathlib import Path

WORDING = tomllib.loads(Path(__file__).with_name("wording.toml").read_text("utf-8"))


def spin(rng: random.Random, text: str) -> str:
    """One reading of `text`: each `<a|b>` becomes a or b, the innermost first."""
    while "<" in text:
        text = re.sub(r"<([^<>]*)>", lambda m: rng.choice(m[1].split("|")), text)
    return text
