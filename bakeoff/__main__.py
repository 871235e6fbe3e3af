"""The process: `python -m bakeoff`, or the script `bakeoff`."""

import contextlib
import os
import signal
import sys
import warnings
from typing import Any

from tqdm import tqdm

from bakeoff.cli import STOPPED, main

UNREAD = 141
"""Exit code when nobody reads the output any more: a shell's for the signal SIGPIPE."""

SPINS = "1000"
"""How often an idle OpenMP thread looks for work before it sleeps. By its default of billions, one busy process beside
ours on two cores slows a training step tenfold and more, for threads spin while the one they wait for has no core."""


def entry() -> None:
    """Run the command line; it ends quietly when the reader of its output goes away, as `head` does.

    Ctrl-C ends the process at once with exit code 130. At once, because an exception raised from a signal can be
    swallowed by whichever destructor it interrupts; and safely, because a file that exists is complete.
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", SPINS)  # read when torch is first imported
    signal.signal(signal.SIGINT, _stop)
    warnings.showwarning = _warned
    try:
        try:
            code = main()
        finally:
            print(end="", flush=True)
    except BrokenPipeError:
        for stream in (1, 2):  # at the end Python writes what is left in its buffers
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream)
        code = UNREAD
    sys.exit(code)


def _stop(*_: object) -> None:
    with contextlib.suppress(OSError):  # Ctrl-C ends those that read the output, too
        os.write(2, f"\n{STOPPED}\n".encode())
    os._exit(130)


def _warned(message: Warning | str, *_: Any, **__: Any) -> None:
    """A warning on a line of its own, without that of the program that gave it."""
    tqdm.write(f"warning: {' '.join(str(message).split())}", file=sys.stderr)


if __name__ == "__main__":
    entry()
