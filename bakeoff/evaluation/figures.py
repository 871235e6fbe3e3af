"""The figures of an evaluation and of a run, as `evaluation.json` and `summary.json` hold them (docs/summary.md)."""

from typing import Any, NotRequired, TypedDict

from bakeoff.math.statistics import Measured
from bakeoff.training.figures import Earned

MAIN = ("reference", "tuned")
"""The policies that are compared; the others are reported beside them."""


class Point(TypedDict):
    """A value of a curve over tries."""

    k: int
    value: float | None
    low: float | None
    high: float | None
    n: int


class Comparison(TypedDict):
    """`quality` and `reward`: one measure of all policies, picked by one scorer."""

    metric: str
    picker: str
    measure: str
    reference_at_1: Measured
    reference_best_of_n: Measured
    selection_gain: Measured
    tuned_at_1: Measured
    gain: Measured
    gap_closed: Measured
    equivalent_n: Measured
    k_eff: Measured
    reference_greedy: NotRequired[Measured]
    tuned_greedy: NotRequired[Measured]
    control_at_1: NotRequired[Measured]
    gain_over_control: NotRequired[Measured]
    greedy_gain: NotRequired[Measured]
    curve: list[Point]
    oracle: list[Point]
    tuned_curve: list[Point]
    tuned_oracle: list[Point]


class Wins(TypedDict):
    """Tuned answers against reference answers, by one judge."""

    judge: str
    win_rate: Measured
    k_eff: Measured
    kl_efficiency: Measured


class Change(TypedDict):
    reference: Measured
    tuned: Measured
    change: Measured


class Coverage(Change):
    k: int


class Outside(Wins):
    """What a judge says that took no part in the training."""

    gain: Measured
    coverage: Coverage
    agreement: Change


class Judges(TypedDict):
    scorer: Wins | None
    outside: Outside | None


class Divergence(TypedDict):
    tuned: Measured
    best_of_n: float


class Policies(TypedDict):
    """The figures of the policies on all prompts, or on those of one task."""

    quality: Comparison | None
    reward: Comparison | None
    wins: Judges
    kl: Divergence
    forgotten: Measured
    length: dict[str, Measured]
    truncated: dict[str, float]
    style: dict[str, dict[str, Measured]]


class Summary(Policies):
    """`summary.json`."""

    tasks: dict[str, Policies]
    leaked: int
    unverified: dict[str, int]
    prompts: dict[str, Any]
    failed: dict[str, dict[str, int]]
    reward_model: dict[str, Measured] | None
    referee: dict[str, Measured] | None
    scorer: dict[str, Any]
    turned_away: dict[str, int]
    model_note: str | None
    completions: dict[str, int]
    strategies: dict[str, Earned]
    rounds: dict[str, Any] | None
    seconds: dict[str, float]
    tokens: dict[str, int]
    peak_memory_mb: int
    alarms: list[str]


def measure_of(figures: Policies) -> Comparison:
    """By what the policies are compared: true answers where there are any, else the scorer's reward."""
    found = figures["quality"] or figures["reward"]
    assert found is not None, "an evaluation without either is an error"
    return found
