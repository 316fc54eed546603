"""The engine's landing keeps the contract: the conformance kit that users run against theirs."""

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import pytest

from headwater.clock import naive_utc
from headwater.live.landing import Landing
from headwater.records.logged import Record
from headwater.testing import landing_checks
from headwater.warehouse import Warehouse

TABLES = ("events", "identifies", "aliases")


class EngineBench(landing_checks.LandingBench):
    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.restart()

    def restart(self) -> None:
        if hasattr(self, "warehouse"):
            self.warehouse.close()
        self.warehouse = Warehouse(self.folder / "shop.duckdb")
        self.landing = Landing(self.warehouse)

    def land(self, records: Sequence[Record]) -> None:
        with self.warehouse.transaction():
            newest = max(record.received_at for record in records) / 1_000_000
            landed = self.landing.land(records, naive_utc(datetime.fromtimestamp(newest, UTC)))
        assert landed.conserved
        assert landed.read == len(records)

    def landed(self) -> list[tuple[str, str, str]]:
        union = " union all ".join(
            f"select source, event_id, {'properties' if table == 'events' else 'null'} as properties, position"
            f" from collected.{table}"
            for table in TABLES
        )
        return self.warehouse.execute(
            f"select source, event_id, coalesce(properties ->> '$.mark', '') from ({union}) order by position"
        ).fetchall()

    def quarantined(self) -> list[str]:
        rows = self.warehouse.rows("select message_id from headwater.rejected_events")
        return [row["message_id"] for row in rows]

    def close(self) -> None:
        self.warehouse.close()


@pytest.mark.parametrize("check", landing_checks.CHECKS, ids=lambda check: check.__name__)
def test_the_engine_lands_each_event_once(check: landing_checks.Check, tmp_path: Path) -> None:
    check(EngineBench(tmp_path))
