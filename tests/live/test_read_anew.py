"""Models are read anew between two batches: when it fails they are read again later, and those beside the engine wait for it."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from live_shop import LEADS, copy
from test_aside import ALERTS, ASIDE, SCORE, TWICE, Aside, holds, slow, with_model

from headwater.errors import StageFailed
from headwater.live.project import Project
from headwater.up.life import Life

BELOW = "select alerts.*, score.twice from ({sql}) as alerts left join main.user_mql_score as score using (person_id)"


@pytest.fixture
def shop(live_home: Path, tmp_path: Path) -> Iterator[Aside]:
    opened = Aside(copy(live_home, tmp_path / "shop"), models=LEADS)
    opened.settle()
    opened.step(opened.track("Demo Requested", "L1"))
    opened.settings = ASIDE
    opened.reopen()
    yield opened
    opened.close()


def to_be_swapped(shop: Aside, monkeypatch: pytest.MonkeyPatch) -> Project:
    """The score is built with a column that the alerts wait for; the project as it is to be read then."""
    with slow(monkeypatch):
        shop.project = with_model(with_model(shop.project, ALERTS, BELOW), SCORE, TWICE)
        models = shop.project
        alerts = models.model(ALERTS)
        shop.project = replace(
            models,
            models=tuple(model for model in models.models if model is not alerts),
            refused={ALERTS: "there is no column twice"},
            above={ALERTS: frozenset([SCORE])},
        )
        shop.reopen()
        shop.step()
        assert shop.engine.rebuilding == SCORE
    shop.project = models
    shop.wait()
    return models


def test_models_that_could_not_be_read_anew_after_a_swap_are_read_again_in_a_while(
    shop: Aside, monkeypatch: pytest.MonkeyPatch
) -> None:
    models = to_be_swapped(shop, monkeypatch)

    def broken() -> Project:
        raise StageFailed("somebody is in the middle of an edit")

    shop.engine._reload = broken
    with pytest.raises(StageFailed):
        shop.engine.step()
    shop.engine.park()
    shop.step(shop.track("Demo Requested", "L2"))
    assert shop.rows("select twice from user_mql_score where person_id = 'L2'") == [(60,)], "the engine goes on"
    assert shop.state(ALERTS) == ("stopped", "there is no column twice")
    with pytest.raises(StageFailed):
        shop.push(seconds=30)
        shop.engine.step()
    shop.engine._reload = lambda: models
    shop.push(seconds=29)
    shop.step()
    assert shop.state(ALERTS)[0] == "stopped"
    shop.push(seconds=1)
    holds(shop)
    assert shop.rows("select twice from user_alerts where person_id = 'L2'") == [(60,)]


@pytest.mark.long
def test_a_model_that_could_not_be_asked_for_its_columns_is_live_when_it_can(shop: Aside) -> None:
    shop.changed(SCORE, "select * from ({sql}) where exists (select 1 from main.not_there_yet)")
    shop.settle()
    assert shop.state()[0] == "stopped"
    assert SCORE not in [model.name for model in shop.engine.project.models]
    shop.warehouse.execute("create table main.not_there_yet as select 1 as one")
    shop.engine.park()
    shop.engine.resume()
    holds(shop)
    assert SCORE in [model.name for model in shop.engine.project.models]


class Others:
    """Who has connections of their own beside the engine's: which models there were when they were started."""

    def __init__(self, life: Life) -> None:
        self._life = life
        self.running = True
        self.started: list[list[str]] = []

    def start(self) -> None:
        self.running = True
        self.started.append(sorted(self._life._followed()))

    def pause(self) -> None:
        self.running = False


@pytest.mark.long
def test_who_is_beside_the_engine_goes_on_with_the_models_that_it_has_then(
    shop: Aside, monkeypatch: pytest.MonkeyPatch
) -> None:
    models = to_be_swapped(shop, monkeypatch)
    life = Life.__new__(Life)
    life.engine, life._on_demand = shop.engine, None
    life._parked = life._is_alone = False
    others = life._deliveries = Others(life)  # type: ignore[assignment]

    def load() -> Project:
        assert not others.running
        return models

    life._load = load  # type: ignore[method-assign]
    shop.engine._reload, shop.engine._reopened = life._load_anew, life._reopened
    holds(shop)
    assert others.running
    live = sorted(model.name for model in models.models)
    assert others.started == [live, live], "once for the score, and once for the alerts"
