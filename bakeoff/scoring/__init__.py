"""Completions to rewards. These names are what other stages use, beside `stage` and `choose`, which import torch."""

from bakeoff.scoring.majority import Majority
from bakeoff.scoring.verifiers import VERIFIERS
from bakeoff.scoring.verifiers.answers import Verdicts, read_answers, read_graded, verdicts

__all__ = ["VERIFIERS", "Majority", "Verdicts", "read_answers", "read_graded", "verdicts"]
