"""How long the tests take once everything is installed: `python benchmarks/suite.py`, then docs/results/suite.json."""

from __future__ import annotations

import subprocess
import sys
import time

import results


def main() -> None:
    """Run the suite, which must pass, and record its minutes."""
    start = time.perf_counter()
    subprocess.run([sys.executable, "-m", "pytest", results.ROOT], cwd=results.ROOT, check=True)
    results.record("suite", [{"name": "suite.minutes", "value": (time.perf_counter() - start) / 60, "n": 1}])
    results.main()


if __name__ == "__main__":
    main()
