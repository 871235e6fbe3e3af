"""What people prefer, to a reward model. These names are what other stages use."""

from bakeoff.preferences.gate import ENOUGH_PROMPTS, doubts
from bakeoff.preferences.load import known_picks, read_picks
from bakeoff.preferences.split import split

__all__ = ["ENOUGH_PROMPTS", "doubts", "known_picks", "read_picks", "split"]
