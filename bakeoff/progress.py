"""Progress on a terminal, which promises no time before it is known.

Loading and the first wave of work say nothing of the pace: they are the warm-up, and are not extrapolated.
"""

import time
from collections.abc import Callable
from typing import Any

from tqdm import tqdm

LEAST_SECONDS = 5.0
"""The pace is told after so much time beyond the warm-up."""
LEAST_DONE = 2
"""And after so many things were done in it."""


class Pace:
    """What is left of a work, in seconds, by the marks that were made of it: the first one ends the warm-up."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.clock = clock
        self.first: tuple[int, float] | None = None
        self.last = (0, 0.0)

    def mark(self, done: int) -> None:
        """Note that so much is done. Between two marks lies a fair share of the work, such as a whole batch."""
        self.last = (done, self.clock())
        self.first = self.first or self.last

    def left(self, total: float | None) -> float | None:
        """The seconds until all is done, None while they are not known."""
        done, seconds = (b - a for a, b in zip(self.first or self.last, self.last, strict=True))
        if not total or done < LEAST_DONE or seconds < LEAST_SECONDS:
            return None
        return max(0.0, (total - self.last[0]) * seconds / done - (self.clock() - self.last[1]))


class Progress(tqdm):
    """A bar of what is done, and what is left of it where that is known.

    Each update is a mark of the pace, unless things come `in_waves`, many at once: then the caller marks what is fair.
    """

    def __init__(self, desc: str, total: int | None = None, *, unit: str, in_waves: bool = False, **more: Any) -> None:
        self.pace, self.in_waves = Pace(), in_waves
        shown = "{desc}: {n_fmt} {unit} [{elapsed}]"
        if total is not None:
            shown = "{desc}: {percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt} {unit} [{elapsed}{left}]"
        super().__init__(desc=desc, total=total, unit=unit, bar_format=shown, **more)

    def update(self, n: float | None = 1) -> bool | None:
        """See `tqdm.update`."""
        if not self.in_waves:
            self.pace.mark(int(self.n + (n or 0)))
        return super().update(n)

    def mark(self) -> None:
        """What is done so far is a fair share of the work."""
        self.pace.mark(int(self.n))

    @property
    def format_dict(self) -> dict[str, Any]:
        """See `tqdm.format_dict`."""
        left = self.pace.left(self.total)
        return super().format_dict | {"left": "" if left is None else f", about {self.format_interval(left)} left"}
