"""Runs a study, an experiment with its table; goes on where it stopped.

`python benchmarks/study.py NAME [section.key=value ...] [--seeds 0 1 2] [--out DIR]`, from a checkout of the source,
calls benchmarks/study_NAME.py.
"""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Sequence
from pathlib import Path

from bakeoff.errors import UserError

FOLDER = Path(__file__).parent


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a study; 0 when it went well, 2 after a one-line error that the user can mend."""
    known = sorted(path.stem.removeprefix("study_") for path in FOLDER.glob("study_*.py"))
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name", metavar="NAME", help=f"one of {', '.join(known)}")
    parser.add_argument("overrides", nargs="*", metavar="section.key=value", help="settings of all its runs")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0], help="a run of each (default: 0)")
    parser.add_argument("--out", type=Path, default=Path("runs/studies"), help="folder of the runs")
    parsed = parser.parse_intermixed_args(arguments)
    if str(FOLDER) not in sys.path:
        sys.path.insert(0, str(FOLDER))  # as `python -m benchmarks.study`, from the checkout
    try:
        if parsed.name not in known:
            raise UserError(f"unknown study {parsed.name!r}; known: {', '.join(known)}")
        importlib.import_module(f"study_{parsed.name}").study(parsed.seeds, parsed.out, parsed.overrides)
    except UserError as error:
        print(f"study: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
