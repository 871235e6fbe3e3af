import json
import math

import numpy as np
import pytest

from bakeoff.math.statistics import Measured, bootstrap, interval


def test_the_bootstrap_of_a_mean_matches_its_standard_error():
    values = np.tile([0.0, 1.0], 200)  # mean 0.5, standard error 0.5/20 = 0.025, so 0.5 -+ 0.049
    measured = bootstrap(values, seed=0)
    assert measured.value == 0.5 and measured.n == 400
    assert measured.low == pytest.approx(0.451, abs=0.004)
    assert measured.high == pytest.approx(0.549, abs=0.004)
    assert bootstrap(values, seed=0) == measured
    assert bootstrap(np.array([1.0, 2.0, 9.0]), np.median, seed=0).value == 2


def test_ninety_five_of_a_hundred_intervals_hold_the_truth():
    draws = np.random.default_rng(1).normal(3.0, 2.0, size=(400, 100))
    held = [m.low <= 3.0 <= m.high for m in (bootstrap(d, seed=i, resamples=400) for i, d in enumerate(draws))]
    assert 0.91 <= np.mean(held) <= 0.98


def test_a_paired_gain_is_sharper_than_its_parts():
    before = np.random.default_rng(0).normal(size=300)
    after = before + 0.1
    gain = interval(lambda i: after[i].mean() - before[i].mean(), 300, seed=0)
    assert gain.value == pytest.approx(0.1)
    assert gain.high - gain.low == pytest.approx(0, abs=1e-9)
    assert bootstrap(after, seed=0).high - bootstrap(after, seed=0).low > 0.2


def test_a_ratio_whose_denominator_vanishes_has_no_bounds():
    bottom = np.array([1.0] + [0.0] * 9)  # (9/10)^10 = 35 % of the resamples divide by zero
    ratio = interval(lambda i: np.ones(10)[i].mean() / bottom[i].mean(), 10, seed=0)
    assert ratio.value == pytest.approx(10)
    assert (ratio.low, ratio.high) == (-math.inf, math.inf)
    assert ratio.as_dict() == {"value": 10.0, "low": None, "high": None, "n": 10}


def test_a_rare_undefined_resample_widens_the_interval_and_a_common_one_removes_it():
    values = np.arange(100.0)  # means of resamples: 49.5 with standard error 2.89
    plain, rare, common = (
        interval(lambda i, top=top: np.where(values[i].mean() > top, np.nan, values[i].mean()), 100, seed=0)
        for top in (99, 56.2, 54)  # never, in 1 % and in 6 % of the resamples
    )
    assert plain.low - 1.5 < rare.low < plain.low < 49.5 < plain.high <= rare.high
    assert (common.low, common.high) == (-math.inf, math.inf)


def test_rows_of_one_owner_are_drawn_together():
    values = np.random.default_rng(0).normal(size=100)
    owned = bootstrap(np.repeat(values, 4), seed=0, owners=list(np.repeat(range(100), 4)))
    alone = bootstrap(values, seed=0)
    assert (owned.value, owned.low, owned.high) == pytest.approx(
        (alone.value, alone.low, alone.high)
    ) and owned.n == 400
    assert bootstrap(values, seed=0, owners=[str(i) for i in range(100)]) == alone
    assert bootstrap(values, seed=0, owners=["one"] * 100).high == math.inf


def test_one_row_or_none_knows_no_bounds():
    assert bootstrap(np.array([0.7]), seed=0) == Measured(0.7, -math.inf, math.inf, 1)
    none = bootstrap(np.array([]), seed=0)
    assert math.isnan(none.value) and none.n == 0
    assert json.dumps(none.as_dict()) == '{"value": null, "low": null, "high": null, "n": 0}'


def test_json_holds_five_significant_digits():
    assert Measured(0.123456789, 0.1, 1234.5678, 3).as_dict() == {"value": 0.12346, "low": 0.1, "high": 1234.6, "n": 3}
    unbounded = Measured(2.0, -math.inf, math.inf, 1)
    assert Measured.of(unbounded.as_dict() | {"k": 4}) == unbounded
    assert math.isnan(Measured.of({"value": None, "low": 0.0, "high": 1.0, "n": 0}).value)
