"""The engine of the data products killed at every point, with changes of a database and of its tables in the log."""

import os
import pickle
import subprocess
import sys
from pathlib import Path

import pytest
from retail_database import TABLES
from test_data_products import Shop
from test_engine_crash import CHILD, POINTS

from headwater.log.sqlite import SqliteLog


@pytest.mark.crash
def test_changes_survive_a_kill_at_every_point(retail_home: Path, tmp_path: Path) -> None:
    shop = Shop(tmp_path / "shop", retail_home)
    retail, db = shop.retail, shop.db
    path = retail.folder / "warehouse" / "log.sqlite"
    retail.log = SqliteLog(path)
    retail.restart()
    shop.land(*shop.begin())
    pickled = tmp_path / "project.pickle"
    pickled.write_bytes(pickle.dumps(retail.project))
    for number, point in enumerate([*POINTS, "live.reshaped", "live.statement:9"]):
        shop.later(seconds=1)
        columns = {**TABLES["products"], **{f"new_{n}": "text" for n in range(number + 1)}}
        entries = [
            *shop.order(1, (1, 1)),
            db.schema("products", columns),
            db.change("products", 1, price=f"{number + 1}.50"),
            db.change("customers", 2, segment=f"S{number}"),
            *shop.order(2, (1, 2)),
        ]
        retail.send(*entries)
        shop.reference.take(entries)
        retail.warehouse.close()
        retail.log.close()
        environment = {**os.environ, "HEADWATER_FAILPOINT": point}
        command = [sys.executable, str(CHILD), str(retail.folder), str(pickled), "1"]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 137, (point, done.stderr)
        retail.log = SqliteLog(path)
        retail.restart()
        retail.settle()
        shop.agrees()
    retail.close()
    retail.log.close()
