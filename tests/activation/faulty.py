"""One activation to a twin in a process of its own, to be killed: `python faulty.py FOLDER SETTINGS`.

SETTINGS is JSON: destination (type, options), secrets. Prints `started` once the imports are done, and what became of the run.
"""

import json
import sys
from datetime import UTC, datetime
from pathlib import Path

import stamina

from headwater.activation import deliver as module
from headwater.activation.settings import DestinationSettings, SyncSettings
from headwater.clock import FixedClock
from headwater.warehouse import Warehouse

CLOCK = FixedClock(datetime(2026, 3, 1, 12, tzinfo=UTC))
SYNC = SyncSettings(
    name="people",
    model="people",
    destination="crm",
    key="email",
    mode="mirror",
    fields={"LastName": "name", "Company": "company", "MQL_Score__c": "score"},
    max_removal_share=1,
    max_failed_share=1,
)


def build(folder: Path, rows: int, version: int) -> None:
    """The model: in version 2 every third score changed, every seventh person is gone, and some are new."""
    with Warehouse(folder / "shop.duckdb") as warehouse:
        warehouse.execute(
            f"create or replace table main.people as select 'p' || i || '@example.org' as email, 'Name ' || i as name, "
            f"'Company ' || (i % 9) as company, cast(i % 100 + case when i % 3 = 0 then {version} / 10 else 0 end as decimal(9,2)) as score "
            f"from range({rows + 50 * (version - 1)}) t(i) where {version} = 1 or i % 7 <> 0"
        )


def run(folder: Path, destination: DestinationSettings, secrets: dict[str, str]) -> module.Delivery:
    """Deliver once, without waiting between tries."""
    stamina.set_testing(True, attempts=3, cap=True)
    with Warehouse(folder / "shop.duckdb") as warehouse:
        return module.deliver(
            warehouse, None, SYNC, destination, CLOCK, False, folder=folder, environment=secrets, most_claimed=2_000
        )


if __name__ == "__main__":
    told = json.loads(sys.argv[2])
    print("started", flush=True)
    done = run(Path(sys.argv[1]), DestinationSettings.model_validate(told["destination"]), told["secrets"])
    print(done.status, done.message, flush=True)
