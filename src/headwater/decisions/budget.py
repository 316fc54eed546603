"""Step 12: a contact reserves its cost in every budget that prices its channel, in all of them or in none.

A budget's periods are fixed windows of `days` days counted from 1970-01-01 UTC. What is used is the sum of the
reservations of the period; a decision that is superseded before it was sent gives its reservation back as a negative row.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal

from headwater.decisions.hashing import digest
from headwater.decisions.settings import DecisionSettings

EPOCH = datetime(1970, 1, 1)  # noqa: DTZ001 (naive UTC, as the warehouse stores it)


@dataclass(frozen=True, slots=True)
class Reservation:
    """One row of `headwater.budget_ledger`; money in the shop's currency, four places."""

    reservation_id: str
    budget: str
    period_start: datetime
    decision_id: str
    amount: Decimal


@dataclass(frozen=True)
class Budget:
    """One budget in its period that holds `moment`."""

    name: str
    amount: Decimal
    period_start: datetime
    costs: Mapping[str, Decimal]


def budgets(settings: DecisionSettings, moment: datetime) -> list[Budget]:
    """The budgets of the settings, each in its current period."""
    found = []
    for budget in settings.budgets:
        whole = (moment - EPOCH).days // budget.days * budget.days
        costs: dict[str, Decimal] = {name: _money(cost) for name, cost in budget.cost_per_contact.items()}
        found.append(Budget(budget.name, _money(budget.amount), EPOCH + timedelta(days=whole), costs))
    return found


def reserve(
    current: list[Budget], used: dict[str, Decimal], channel: str, decision_id: str
) -> list[Reservation] | None:
    """The reservations of one contact, `used` (by budget) moved up by them; None when one budget cannot bear it.

    The caller holds the ledger's lock.
    """
    wanted = [(budget, budget.costs[channel]) for budget in current if budget.costs.get(channel)]
    if any(used.get(budget.name, Decimal(0)) + cost > budget.amount for budget, cost in wanted):
        return None
    for budget, cost in wanted:
        used[budget.name] = used.get(budget.name, Decimal(0)) + cost
    return [
        Reservation(digest("budget", b.name, decision_id), b.name, b.period_start, decision_id, cost)
        for b, cost in wanted
    ]


def _money(value: float) -> Decimal:
    return Decimal(repr(value)).quantize(Decimal("0.0001"))
