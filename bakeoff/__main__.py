"""The process: `python -m bakeoff`, or the script `bakeoff`."""

import contextlib
import os
import signal
import statistics
import sys
import time
import warnings
from pathlib import Path
from typing import Any

from tqdm import tqdm

from bakeoff.cli import STOPPED, main

UNREAD = 141
"""Exit code when nobody reads the output any more: a shell's for the signal SIGPIPE."""

SPINS = "1000"
"""How often an idle OpenMP thread looks for work before it sleeps, on a machine that others use too. By its default it
spins while the thread that it waits for has no core: one busy process beside ours on two cores slowed a training step
tenfold and more; with this it takes 1.7 times as long as by the default alone, which is a quarter faster than this."""


def entry() -> None:
    """Run the command line; it ends quietly when the reader of its output goes away, as `head` does.

    Ctrl-C ends the process at once with exit code 130. At once, because an exception raised from a signal can be
    swallowed by whichever destructor it interrupts; and safely, because a file that exists is complete.
    """
    if "OMP_WAIT_POLICY" not in os.environ and _shared():
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


def _shared() -> bool:
    """Whether other processes are running just now, by the count of those that are ready to run."""
    counts = []
    for _ in range(9):
        time.sleep(0.01)
        try:
            counts.append(int(Path("/proc/loadavg").read_text(encoding="ascii").split()[3].partition("/")[0]))
        except OSError:  # not Linux
            return False
    return statistics.median(counts) > 1  # itself


def _stop(*_: object) -> None:
    with contextlib.suppress(OSError):  # Ctrl-C ends those that read the output, too
        os.write(2, f"\n{STOPPED}\n".encode())
    os._exit(130)


def _warned(message: Warning | str, *_: Any, **__: Any) -> None:
    """A warning on a line of its own, without that of the program that gave it."""
    tqdm.write(f"warning: {' '.join(str(message).split())}", file=sys.stderr)


if __name__ == "__main__":
    entry()
