"""Programs that check a completion against a true answer. This table is what others use."""

from bakeoff.scoring.verifiers.by_name import VERIFIERS

__all__ = ["VERIFIERS"]
