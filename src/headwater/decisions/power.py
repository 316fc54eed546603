"""What an experiment of this size can see at all, said before anybody looks at its result."""

from dataclasses import dataclass
from math import sqrt
from statistics import NormalDist

from headwater.errors import InvalidValue

BASE_RATE = 0.05


@dataclass(frozen=True)
class Power:
    """`detectable` is the smallest true difference in rates (0.053 = 5.3 percentage points) that is found with `power`."""

    customers: int
    holdout_share: float
    base_rate: float
    detectable: float
    power: float
    level: float

    @property
    def sentence(self) -> str:
        """What the product says."""
        return (
            f"With {self.customers:,} customers and a holdout of {self.holdout_share:.0%}, a difference below "
            f"{self.detectable * 100:.1f} percentage points cannot be seen (base rate {self.base_rate:.0%}, "
            f"power {self.power:.0%}, level {self.level:.0%})"
        )


def power(
    customers: int,
    holdout_share: float,
    base_rate: float = BASE_RATE,
    *,
    power: float = 0.8,
    level: float = 0.05,
) -> Power:
    """The smallest difference between treated and held-out customers that a two-sided test finds.

    Normal approximation with the variance of the base rate in both groups, which are taken in whole customers. Raises
    InvalidValue when a group would be empty.
    """
    held = round(customers * holdout_share)
    treated = customers - held
    if held < 1 or treated < 1:
        raise InvalidValue(
            f"holdout_share: found {holdout_share!r} of {customers:,} customers; allowed: a share that leaves at least one customer on either side"
        )
    z = NormalDist().inv_cdf(1 - level / 2) + NormalDist().inv_cdf(power)
    spread = sqrt(base_rate * (1 - base_rate) * (1 / treated + 1 / held))
    return Power(customers, holdout_share, base_rate, z * spread, power, level)
