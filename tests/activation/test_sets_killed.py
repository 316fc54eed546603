"""A process killed at each moment of a delivery by sets, to a real Postgres: the table ends as the model is, nobody is
contacted twice, nothing is lost."""

import killed
import psycopg
import pytest
from test_kill import ROWS, contacts, start

from headwater.activation.settings import DestinationSettings
from headwater.warehouse import Warehouse

POINTS = [
    "activate.planned",
    "activate.claimed",
    "activate.claimed:2",
    "activate.answered",
    "activate.sent:2",
    "activate.recorded",
    "activate.finished",
]


@pytest.fixture
def settings(postgres_server, monkeypatch, request):
    monkeypatch.setenv("DB", postgres_server)
    table = f"killed_{POINTS.index(request.node.callspec.params['point'])}"
    options = {"dsn_env": "DB", "table": table, "key_column": "id", "auto_create": True}
    return DestinationSettings(type="postgres", options={**options, "batch_size": 3, "set_size": 8})


@pytest.mark.long
@pytest.mark.parametrize("point", POINTS)
def test_killed_at_a_failpoint_of_a_set(point, settings, postgres_server, tmp_path):
    killed.build(tmp_path, ROWS, 1)
    killed.run(tmp_path, settings, "mirror", 3)
    killed.build(tmp_path, ROWS, 2)
    child = start(tmp_path, settings, point)
    _, errors = child.communicate(timeout=60)
    assert child.returncode == 137, f"the process did not come to {point}: {errors}"
    killed.run(tmp_path, settings, "mirror", 3)
    with Warehouse(tmp_path / "shop.duckdb") as warehouse, psycopg.connect(postgres_server) as connection:
        model = warehouse.execute("select id, name, city from main.people order by id").fetchall()
        there = connection.execute(f"select id, name, city from {settings.options['table']} order by id").fetchall()
        assert there == model
    assert all(times == 1 for _, times in contacts(tmp_path))
