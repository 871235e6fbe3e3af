"""The process: `python -m bakeoff`, or the script `bakeoff`."""

import os
import signal
import sys

from bakeoff.cli import STOPPED, main

SPINS = "1000"
"""How often an idle OpenMP thread looks for work before it sleeps. By its default of billions, one busy process beside
ours on two cores slows a training step tenfold and more, for threads spin while the one they wait for has no core."""


def entry() -> None:
    """Run the command line; Ctrl-C ends the process at once with exit code 130.

    At once, because an exception raised from a signal can be swallowed by whichever destructor it interrupts; and
    safely, because a file that exists is complete.
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", SPINS)  # read when torch is first imported
    signal.signal(signal.SIGINT, _stop)
    sys.exit(main())


def _stop(*_: object) -> None:
    os.write(2, f"\n{STOPPED}\n".encode())
    os._exit(130)


if __name__ == "__main__":
    entry()
