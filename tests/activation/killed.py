"""One activation in a process of its own, to be killed: `python killed.py FOLDER SETTINGS`.

SETTINGS is JSON: destination (type, options), mode, claim_rows, whether the rows are decisions. Prints `started` once the imports are done.
"""

import json
import sys
from datetime import UTC, datetime
from pathlib import Path

import stamina

from headwater.activation import deliver as module
from headwater.activation.destinations import Limits
from headwater.activation.destinations.files import Files
from headwater.activation.settings import DestinationSettings, SyncSettings
from headwater.clock import FixedClock
from headwater.warehouse import Warehouse

CLOCK = FixedClock(datetime(2026, 3, 1, 12, tzinfo=UTC))


def sync(mode: str, *, decisions: bool) -> SyncSettings:
    return SyncSettings(
        name="people",
        model="people",
        destination="there",
        key="id",
        fields={"name": "name", "city": "city"},
        mode=mode,
        max_removal_share=1,
        decisions=decisions,
    )


def build(folder: Path, rows: int, version: int) -> None:
    """The model: in version 2 every third name changed, every fifth row is gone, and some are new."""
    with Warehouse(folder / "shop.duckdb") as warehouse:
        warehouse.execute(
            f"create or replace table main.people as select 'c' || i as id, 'd' || i as decision_id, "
            f"case when i % 3 = 0 then 'name {version}' else 'name' end as name, 'city ' || (i % 4) as city "
            f"from range({rows + 7 * (version - 1)}) t(i) where {version} = 1 or i % 5 <> 0"
        )
        warehouse.execute("create table if not exists main.contacts (decision_id varchar)")


def run(
    folder: Path, destination: DestinationSettings, mode: str, claim_rows: int, *, decisions: bool = True
) -> module.Delivery:
    """Deliver; of decisions, people are written down as contacted in the claim's transaction, once per decision."""
    module.CLAIM_ROWS = claim_rows
    Files.limits = Limits(max_rows=claim_rows)
    stamina.set_testing(True, attempts=3, cap=True)
    with Warehouse(folder / "shop.duckdb") as warehouse:

        def release(relation: str) -> None:
            warehouse.execute(
                f"insert into main.contacts select decision_id from {relation} "
                f"where decision_id not in (select decision_id from main.contacts)"
            )

        return module.deliver(
            warehouse,
            None,
            sync(mode, decisions=decisions),
            destination,
            CLOCK,
            False,
            (lambda relation: []) if decisions else None,
            release if decisions else None,
            folder=folder,
        )


if __name__ == "__main__":
    told = json.loads(sys.argv[2])
    print("started", flush=True)
    run(
        Path(sys.argv[1]),
        DestinationSettings.model_validate(told["destination"]),
        told["mode"],
        told["claim_rows"],
        decisions=told["decisions"],
    )
