"""Looking often: the ordinary interval lies to whoever does, the safe one does not."""

import numpy as np
import pytest

from headwater.decisions.sequential import PLANNED, safe_interval, widening
from headwater.errors import InvalidValue


def test_whoever_looks_often_is_misled_by_the_ordinary_interval_and_not_by_the_safe_one():
    draw = np.random.default_rng(1)
    looks = np.unique(np.geomspace(100, 20_000, 60).astype(int))
    misled = {"ordinary": 0, "safe": 0}
    for _ in range(300):
        difference = np.cumsum(draw.normal(0, 1, looks[-1]))[looks - 1] / looks
        error = 1 / np.sqrt(looks)
        misled["ordinary"] += bool((np.abs(difference) > 1.96 * error).any())
        misled["safe"] += bool((np.abs(difference) > np.array([widening(n) for n in looks]) * error).any())
    assert misled["ordinary"] > 75, "more than one in four finds an effect where there is none"
    assert misled["safe"] <= 15


def test_it_is_tightest_where_it_was_planned_and_never_as_tight_as_an_ordinary_one():
    reach = {n: widening(n) for n in (50, 500, PLANNED, 50_000, 5_000_000)}
    assert min(reach.values()) > 1.96
    assert reach[PLANNED] < 3.2
    assert widening(PLANNED) / np.sqrt(PLANNED) < widening(1_000) / np.sqrt(1_000), "it shrinks with more to see"
    low, high = safe_interval(0.5, 0.1, PLANNED)
    assert (low + high) / 2 == pytest.approx(0.5)
    with pytest.raises(InvalidValue, match=r"found units 0 and level 0\.05; allowed: 1 unit or more"):
        widening(0)
