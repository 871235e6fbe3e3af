"""Whether a run's summary.json holds what a finished run must: `python check_summary.py summary.json`."""

import json
import math
import sys
from pathlib import Path

summary = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
measure = summary["quality"] or summary["reward"]
for name in ("reference_at_1", "reference_best_of_n", "tuned_at_1", "gain"):
    figure = measure[name]
    assert figure["n"] > 0 and math.isfinite(figure["value"]), f"{name}: {figure}"
assert summary["seconds"]["total"] > 0 and summary["peak_memory_mb"] < 4000, summary["peak_memory_mb"]
print(
    f"{sys.argv[1].rsplit('/', 3)[-2]}: {measure['tuned_at_1']['value']} after {measure['reference_at_1']['value']}, "
    f"{summary['seconds']['total']:.0f} s, {summary['peak_memory_mb']} MB"
)
