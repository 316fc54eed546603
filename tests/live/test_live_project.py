"""Which models are live, in which order, and what happens when their SQL or their views change."""

import shutil
from pathlib import Path

import live_shop
import pytest

from headwater.errors import StageFailed
from headwater.live import project as projects
from headwater.live.engine import Engine
from headwater.warehouse import Warehouse
from headwater.warehouse.dbt import Dbt


def test_models_come_after_all_that_they_read(live: live_shop.Live) -> None:
    place = {model.relation: number for number, model in enumerate(live.project.models)}
    for model in live.project.models:
        assert all(place[table] < place[model.relation] for table in model.analysis.reads if table in place)
    assert {"user_alerts", "fct_events", "int_customer_360"} <= {model.name for model in live.project.models}
    assert "main.mql_score" in live.project.sources
    assert "collected.events" in live.project.sources


def test_no_model_of_the_template_is_full_without_a_reason(live: live_shop.Live) -> None:
    for model in live.project.models:
        assert (model.analysis.mode == "full") == bool(model.analysis.why_full), model.name


def test_an_unknown_mode_and_a_throttle_that_is_none_are_refused(live_home: Path, tmp_path: Path) -> None:
    folder = tmp_path / "shop"
    live_shop.copy(live_home, folder)
    (folder / "target").unlink()
    shutil.copytree(live_home / "target" / "live", folder / "target" / "live")
    manifest = folder / "target" / "live" / "manifest.json"
    text = manifest.read_text()
    with Warehouse(folder / "warehouse" / "shop.duckdb") as warehouse:
        for said, sentence in (
            ('{"key": "person_id", "mode": "sometimes"}', "a live model takes auto, keyed, full or delta"),
            ('{"key": "person_id", "max_every": "often"}', "it is a number with ms, s, m or h"),
        ):
            manifest.write_text(text.replace('{"key": "person_id"}', said))
            project = projects.read(warehouse, folder)
            assert sentence in project.refused["user_alerts"]
            assert "dim_customer" in {model.name for model in project.models}


@pytest.fixture(scope="module")
def editable(live_home: Path, tmp_path_factory: pytest.TempPathFactory) -> live_shop.Live:
    """A shop with its dbt project, for tests that change models."""
    folder = tmp_path_factory.mktemp("editable") / "shop"
    shutil.copytree(live_home, folder)
    return live_shop.Live(folder)


@pytest.mark.long
@pytest.mark.timeout(1_200)
def test_changed_and_broken_models_are_followed_at_the_next_resume(editable: live_shop.Live) -> None:
    """One dbt project, changed three times while the engine was parked; what it writes follows."""
    live = editable
    dbt = Dbt(live.folder, live.warehouse.path)
    live.engine = Engine(
        live.warehouse,
        live.log,
        live.project,
        live.clock,
        live.settings,
        reload=lambda: projects.load(live.warehouse, dbt),
    )
    live.settle()
    live.step(live.track("Newsletter Subscribed", "L1"))
    alerts = live.folder / "models" / "marts" / "leads" / "user_alerts.sql"
    original = alerts.read_text()

    live.engine.park()
    alerts.write_text(original.replace("{{ setting('mql_threshold') }}", "10"))
    live.engine.resume()
    live.settle()
    assert live.rows("select mql_score from user_alerts where person_id = 'L1'") == [(10,)]

    live.engine.park()
    alerts.write_text(original.replace("leads.mql_score,", "leads.mql_score, leads.mql_score * 2 as twice,"))
    live.engine.resume()
    live.settle()
    live.step(live.track("Demo Requested", "L1"))
    assert live.rows("select mql_score, twice from user_alerts where person_id = 'L1'") == [(40, 80)]

    live.engine.park()
    alerts.write_text(original.replace("leads.mql_score,", "leads.mql_score, current_date as today,"))
    live.engine.resume()
    live.step(live.track("Demo Requested", "L2"))
    assert (
        "current_date"
        in live.rows("select message from headwater.live_models where model = 'user_alerts'")[0][0].lower()
    )
    assert live.rows("select person_id from user_alerts where person_id in ('L1', 'L2')") == [("L1",)]
    assert live.rows("select mql_score from user_mql_score where person_id = 'L2'") == [(30,)]
    live.engine.park()

    alerts.write_text("select nonsense from {{ ref('no_such_model') }}")
    with pytest.raises(StageFailed, match="no_such_model"):
        live.engine.resume()

    alerts.write_text(original)
    live.engine.resume()
    live.settle()
    assert live.rows("select person_id, mql_score from user_alerts where person_id in ('L1', 'L2') order by 1") == [
        ("L1", 40),
        ("L2", 30),
    ]
    live.project = live.engine.project
    assert live.wrong() == []
    live.close()
