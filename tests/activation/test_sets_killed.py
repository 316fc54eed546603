"""A process killed at each moment of a delivery by sets, to a real Postgres: the table ends as the model is, nobody is
contacted twice, nothing is lost."""

import re

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
AHEAD = ["activate.claimed:2", "activate.answered", "activate.sent", "activate.claimed:3", "activate.answered:2"]


@pytest.fixture
def settings(postgres_server, monkeypatch, request):
    monkeypatch.setenv("DB", postgres_server)
    table = "killed_" + re.sub(r"\W", "_", request.node.callspec.id).lower()
    options = {"dsn_env": "DB", "table": table, "key_column": "id", "auto_create": True}
    return DestinationSettings(type="postgres", options={**options, "batch_size": 3, "set_size": 8})


@pytest.mark.long
@pytest.mark.parametrize(("point", "decisions"), [*((one, True) for one in POINTS), *((one, False) for one in AHEAD)])
def test_killed_at_a_failpoint_of_a_set(point, decisions, settings, postgres_server, tmp_path):
    """Sets of decisions go one after the other; of other rows the next is claimed while one is at the destination."""
    killed.build(tmp_path, ROWS, 1)
    killed.run(tmp_path, settings, "mirror", 3, decisions=decisions)
    killed.build(tmp_path, ROWS, 2)
    child = start(tmp_path, settings, point, decisions=decisions)
    _, errors = child.communicate(timeout=60)
    assert child.returncode == 137, f"the process did not come to {point}: {errors}"
    killed.run(tmp_path, settings, "mirror", 3, decisions=decisions)
    with Warehouse(tmp_path / "shop.duckdb") as warehouse, psycopg.connect(postgres_server) as connection:
        model = warehouse.execute("select id, name, city from main.people order by id").fetchall()
        there = connection.execute(f"select id, name, city from {settings.options['table']} order by id").fetchall()
        assert there == model
    assert all(times == 1 for _, times in contacts(tmp_path)), "and every row is done"
