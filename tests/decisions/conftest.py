"""A warehouse for the tests of decisions, and what it takes to fill it."""

from collections.abc import Iterable
from datetime import datetime

import pytest

from headwater.decisions import log
from headwater.decisions.customer import COLUMNS, Customer
from headwater.warehouse import Warehouse

TYPES = dict.fromkeys(("has_email", "has_phone", "email_consent", "sms_consent"), "boolean") | {"margin_pct": "double"}


class Candidates:
    """`main.int_decision_candidates` in a warehouse of its own, with a clock that is set."""

    def __init__(self, warehouse: Warehouse) -> None:
        self.warehouse = warehouse
        columns = ", ".join(f"{name} {TYPES.get(name, 'varchar')}" for name in COLUMNS)
        warehouse.execute(f"create table main.int_decision_candidates ({columns}, updated_at timestamp)")
        self.set_clock(datetime(2026, 3, 1))  # noqa: DTZ001

    def set_clock(self, as_of: datetime) -> None:
        self.warehouse.execute("delete from headwater.clock")
        self.warehouse.execute("insert into headwater.clock values (?, null, ?)", [as_of, as_of])

    def fill(self, customers: Iterable[Customer]) -> None:
        """Replace all rows."""
        self.warehouse.execute("delete from main.int_decision_candidates")
        rows = [{**{name: getattr(c, name, None) for name in COLUMNS}, **(c.features or {})} for c in customers]
        columns = {name: [row[name] for row in rows] for name in COLUMNS}
        given, parameters = log.given(columns, TYPES)
        self.warehouse.execute(f"insert into main.int_decision_candidates select *, null from {given}", parameters)

    def empty_ledgers(self) -> None:
        for table in (
            "decision_log",
            "decision_traces",
            "decision_rejects",
            "contact_ledger",
            "budget_ledger",
            "consent_state",
            "kill_switch",
        ):
            self.warehouse.execute(f"delete from headwater.{table}")

    def count(self, table: str, where: str = "true") -> int:
        return self.warehouse.value(f"select count(*) from headwater.{table} where {where}")

    def contact(self, customer: str, channel: str, at: datetime, decision_id: str = "earlier") -> None:
        self.warehouse.execute(
            "insert into headwater.contact_ledger values (?, ?, ?, 'x', ?, ?)",
            [f"{customer}{channel}{at}", customer, channel, decision_id, at],
        )

    def say(self, customer: str, channel: str, consented: bool, at: datetime) -> None:
        self.warehouse.execute(
            "insert into headwater.consent_state values (?, ?, ?, 'test', ?)", [customer, channel, consented, at]
        )

    def switch(self, scope: str | None, on: bool | None = True) -> None:
        self.warehouse.execute("insert into headwater.kill_switch values (?, ?, 'test', 'test', null)", [scope, on])


@pytest.fixture
def shop(tmp_path) -> Candidates:
    warehouse = Warehouse(tmp_path / "shop.duckdb")
    yield Candidates(warehouse)
    warehouse.close()
