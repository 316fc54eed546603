"""A small shop's warehouse and the shortest way to plan and deliver in it."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import stamina

from headwater.activation.deliver import Delivery, deliver
from headwater.activation.plan import Plan, plan
from headwater.activation.settings import DestinationSettings, SyncSettings
from headwater.clock import FixedClock
from headwater.warehouse import Warehouse


@dataclass
class Desk:
    """A warehouse in a temporary folder, a clock that stands still, and one sync."""

    folder: Path
    warehouse: Warehouse
    clock: FixedClock = field(default_factory=lambda: FixedClock(datetime(2026, 3, 1, 12, tzinfo=UTC)))
    destination: DestinationSettings = field(default_factory=lambda: DestinationSettings(type="nothing"))
    sync: SyncSettings = field(
        default_factory=lambda: SyncSettings(
            name="people", model="people", destination="there", key="id", fields={"name": "name", "city": "city"}
        )
    )

    def people(self, *rows: tuple[Any, ...]) -> None:
        """Replace the model: (id, name, city) per row."""
        self.warehouse.execute("create or replace table main.people (id varchar, name varchar, city varchar)")
        for row in rows:
            self.warehouse.execute("insert into main.people values (?, ?, ?)", row)

    def with_sync(self, **changes: Any) -> "Desk":
        self.sync = SyncSettings.model_validate({**self.sync.model_dump(), **changes})
        return self

    def plan(self, **more: Any) -> Plan:
        return plan(self.warehouse, self.sync, self.destination, self.clock, folder=self.folder, **more)

    def deliver(self, reviewed: Plan | None = None, *, dry_run: bool = False, **more: Any) -> Delivery:
        return deliver(
            self.warehouse, reviewed, self.sync, self.destination, self.clock, dry_run, folder=self.folder, **more
        )

    def delivered(self) -> dict[str, tuple[Any, ...]]:
        """Key → the mapped fields as the destination confirmed them."""
        if not self.warehouse.exists(f"delivered.{self.sync.name}"):
            return {}
        rows = self.warehouse.rows(
            f"select * exclude (_headwater_version, _headwater_confirmed_at) from delivered.{self.sync.name}"
        )
        return {row.pop("_headwater_key"): tuple(row.values()) for row in rows}

    def states(self) -> dict[str, int]:
        """Outbox state → rows of the sync."""
        return dict(
            self.warehouse.execute(
                "select state, count(*) from headwater.outbox where sync = ? group by 1 order by 1", [self.sync.name]
            ).fetchall()
        )


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    with Warehouse(tmp_path / "warehouse" / "shop.duckdb") as warehouse:
        yield Desk(tmp_path, warehouse)


@pytest.fixture(autouse=True)
def without_waiting() -> Iterator[None]:
    """Retries do not wait."""
    with stamina.set_testing(True, attempts=5, cap=True):
        yield


@pytest.fixture(scope="session", autouse=True)
def straight_to_this_machine() -> Iterator[None]:
    """A proxy in the environment must not come between a test and its receiver."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NO_PROXY", "127.0.0.1")
        yield
