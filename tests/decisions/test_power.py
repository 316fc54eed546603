import pytest

from headwater.decisions.power import power
from headwater.errors import InvalidValue


def test_a_small_shop_is_told_what_it_cannot_see():
    found = power(1_468, 0.10)
    assert found.detectable == pytest.approx(0.053, abs=0.0005)
    assert found.sentence == (
        "With 1,468 customers and a holdout of 10%, a difference below 5.3 percentage points cannot be seen "
        "(base rate 5%, power 80%, level 5%)"
    )


def test_four_times_the_customers_see_half_the_difference():
    assert power(40_000, 0.1).detectable == pytest.approx(power(10_000, 0.1).detectable / 2)


def test_without_a_holdout_nothing_can_be_measured():
    with pytest.raises(InvalidValue, match=r"holdout_share: found 0 of 100 customers; allowed: a share that leaves"):
        power(100, 0)
