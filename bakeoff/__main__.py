"""The process: `python -m bakeoff`, or the script `bakeoff`."""

import os
import signal
import sys

from bakeoff.cli import STOPPED, main


def entry() -> None:
    """Run the command line; Ctrl-C ends the process at once with exit code 130.

    At once, because an exception raised from a signal can be swallowed by whichever destructor it interrupts; and
    safely, because a file that exists is complete.
    """
    signal.signal(signal.SIGINT, _stop)
    sys.exit(main())


def _stop(*_: object) -> None:
    os.write(2, f"\n{STOPPED}\n".encode())
    os._exit(130)


if __name__ == "__main__":
    entry()
