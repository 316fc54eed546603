"""The oracle earns its name: an engine that forgets old keys, an expiry, a key path or a delta is caught by it."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import live_shop
import pytest
from live_shop import CUSTOMERS, KEYED, LEADS, Live, call

from headwater.live.deltas import Deltas
from headwater.live.horizon import Horizon
from headwater.live.project import Project
from headwater.live.refresh import Refresh

Patch = pytest.MonkeyPatch
A = CUSTOMERS[0]


def nothing(_patch: Patch) -> None:
    """The engine as it is."""


def forget_old_keys(patch: Patch) -> None:
    both = Deltas._both

    def only_new(self: Deltas, relation: str) -> str:
        delta = self._deltas[relation]
        if delta.added is None:
            return both(self, relation)
        return f"(select {self._columns[relation]} from {delta.added})"

    patch.setattr(Deltas, "_both", only_new)


def forget_expiries(patch: Patch) -> None:
    def due(*_: Any) -> list[str]:
        return []

    patch.setattr(Horizon, "due", due)


def forget_that_time_comes_nearer(patch: Patch) -> None:
    """New rows do not bring the next due moment nearer."""

    def follow(*_: Any) -> None:
        return None

    patch.setattr(Horizon, "follow", follow)


def forget_a_key_path(patch: Patch) -> None:
    del patch  # the project is changed instead, see `without_a_path`


def forget_deltas(patch: Patch) -> None:
    """What one model changed is not handed on to the next."""
    delta = Refresh.delta

    def none_of_it(self: Refresh, done: Any) -> Any:
        found = delta(self, done)
        return found if self.model.name != "user_mql_events" else type(found)()

    patch.setattr(Refresh, "delta", none_of_it)


def without_a_path(project: Project) -> Project:
    models = tuple(
        replace(
            model,
            analysis=replace(
                model.analysis,
                paths=tuple(path for path in model.analysis.paths if path.source != "main.int_person_ids"),
            ),
        )
        for model in project.models
    )
    return Project(models, project.sources)


def story(live: Live) -> None:
    """A visitor is known later, scores, and is silent for longer than the window."""
    live.settle()
    live.engine.step()
    for entries in (
        [live.track("Demo Requested", None, "a-9"), live.track("Page Viewed", A)],
        [live.track("Newsletter Subscribed", None, "a-8", ago=29.9 * 86_400)],
        [call("identify", "i", live.now, userId="L9", anonymousId="a-9")],
        [live.track("Newsletter Subscribed", "L9", ago=-600)],
    ):
        live.push(seconds=30)
        live.step(*entries)
        live.push(milliseconds=1)
        assert not live.engine.step().committed  # idle: it looks for the next moment at which something is due


@pytest.mark.parametrize(
    ("mutate", "caught"),
    [(nothing, False), (forget_old_keys, True), (forget_expiries, True), (forget_that_time_comes_nearer, True),
     (forget_a_key_path, True), (forget_deltas, True)],
)  # fmt: skip
def test_a_mutation_is_caught(
    live_home: Path, tmp_path: Path, monkeypatch: Patch, mutate: Callable[[Patch], None], caught: bool
) -> None:
    mutate(monkeypatch)
    live = Live(live_shop.copy(live_home, tmp_path / "shop"), settings=KEYED, models=LEADS)
    if mutate is forget_a_key_path:
        live.project = without_a_path(live.project)
        live.restart()
    story(live)
    wrong = list(live.wrong())
    live.push(minutes=20)
    live.engine.step()
    late = live.rows(
        "select count(*) from user_mql_events where person_id = 'L9' and event_name = 'newsletter_subscribed'"
    )
    live.push(days=40)
    live.engine.step()
    wrong += live.wrong()
    assert bool(wrong or late != [(1,)]) == caught
    live.close()
