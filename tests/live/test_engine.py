"""The engine against the one oracle there is: after every batch each live table holds what its SQL gives in full."""

import json
from datetime import datetime, timedelta
from pathlib import Path

import live_shop
import pytest
from live_shop import CUSTOMERS, KEYED, LEADS, Live, call

from headwater.errors import StageFailed
from headwater.live import upkeep
from headwater.live.engine import READER
from headwater.live.refresh import Refresh
from headwater.live.settings import LiveSettings
from headwater.log.memory import MemoryLog
from headwater.warehouse import Warehouse

A, B, C = CUSTOMERS


def test_a_click_makes_a_lead_and_thirty_silent_days_unmake_it(live: Live) -> None:
    live.settle()
    live.push(seconds=1)
    result = live.step(live.track("Demo Requested", "L1"))
    assert "user_alerts" in result.moved
    assert live.rows("select mql_score from user_alerts where person_id = 'L1'") == [(30,)]
    live.push(days=30)
    live.settle()
    assert live.rows("select * from user_alerts where person_id = 'L1'") == []
    assert live.wrong() == []


def test_a_lead_keeps_its_score_until_the_window_ends_to_the_microsecond(live: Live) -> None:
    live.push(seconds=1)
    live.step(live.track("Demo Requested", "L1"))
    live.push(days=30, microseconds=-1)
    live.settle()
    assert live.rows("select mql_score from user_mql_score where person_id = 'L1'") == [(30,)]
    live.push(microseconds=1)
    live.settle()
    assert live.rows("select mql_score from user_mql_score where person_id = 'L1'") == []


def test_every_batch_leaves_every_table_as_its_sql_in_full(live: Live) -> None:
    live.settle()
    story = [
        [live.track("Page Viewed", None, "a-1", number=1)],
        [live.track("Demo Requested", None, "a-1", number=2), live.track("Page Viewed", A, number=3)],
        [call("identify", 4, live.now, userId=A, anonymousId="a-1", traits={"nps": 3, "city": "Lyon"})],
        [live.track("Whitepaper Downloaded", A, "a-1", number=5, ago=40 * 86_400)],
        [call("identify", 6, live.now, userId="NEW", traits={"email": "new@example.org"})],
        [
            live.track("Newsletter Subscribed", "NEW", "a-2", number=7),
            live.track("Newsletter Subscribed", "NEW", number=7),
        ],
        [call("alias", 8, live.now, previousId="a-2", userId=B)],
        [live.track("Page Viewed", B, ago=-3600, number=9)],
    ]
    for number, entries in enumerate(story):
        live.push(minutes=20)
        result = live.step(*entries)
        assert result.landed.conserved
        assert live.wrong() == [], f"after batch {number}"
    live.push(hours=2)
    live.settle()
    assert live.wrong() == []


def test_an_anonymous_history_moves_to_the_customer_once_he_is_known(live: Live) -> None:
    live.step(live.track("Demo Requested", None, "a-9"))
    assert live.rows("select person_id, mql_score from user_alerts where person_id in ('anon:a-9', 'L9')") == [
        ("anon:a-9", 30)
    ]
    live.push(seconds=5)
    live.step(call("identify", "i", live.now, userId="L9", anonymousId="a-9"))
    assert live.rows("select person_id, mql_score from user_alerts where person_id in ('anon:a-9', 'L9')") == [
        ("L9", 30)
    ]
    assert live.wrong() == []


def test_a_changed_score_moves_the_leads_at_once(live: Live) -> None:
    live.step(live.track("Meetup Attended", "L1"))
    assert live.rows("select * from user_alerts where person_id = 'L1'") == []
    live.engine.park()
    live.warehouse.execute("update main.mql_score set mql_score = 25 where event_name = 'meetup_attended'")
    live.warehouse.close()
    live.engine.resume()
    live.settle()
    assert live.rows("select mql_score from user_alerts where person_id = 'L1'") == [(25,)]
    assert live.wrong() == []


def test_rows_that_somebody_else_changed_are_put_right_at_the_next_start(live: Live) -> None:
    live.settle()
    live.engine.park()
    live.warehouse.execute(
        "update user_mql_score set mql_score = 99 where person_id = (select min(person_id) from user_mql_score)"
    )
    live.warehouse.execute(f"delete from dim_customer where customer_id = '{A}'")
    live.restart()
    live.settle()
    assert live.rows("select count(*) from user_mql_score where mql_score = 99") == [(0,)]
    assert live.wrong() == []


def test_while_the_engine_is_parked_nothing_is_lost(live: Live) -> None:
    live.settle()
    live.engine.park()
    live.push(seconds=1)
    live.send(live.track("Demo Requested", "L1"), live.track("Demo Requested", "L2"))
    live.engine.resume()
    live.settle()
    assert live.rows("select count(*) from user_alerts where person_id in ('L1', 'L2')") == [(2,)]


@pytest.mark.long
def test_four_hundred_silent_days_in_one_push_and_in_sixteen_are_the_same(
    live: Live, live_home: Path, tmp_path: Path
) -> None:
    """Windows shrink by themselves, however the clock gets there; a year and more, so that the longest window ends too."""
    other = Live(live_shop.copy(live_home, tmp_path / "other"), settings=LiveSettings(full_every=0))
    for shop in (live, other):
        shop.settle()
        shop.push(seconds=1)
        shop.step(shop.track("Demo Requested", "L1"), shop.track("Page Viewed", A, "a-1"))
    live.push(days=400)
    live.settle()
    for _ in range(16):
        other.push(days=25)
        other.settle()
    assert live.wrong() == []
    assert other.wrong() == []
    assert live.tables() == other.tables()
    other.close()


@pytest.mark.slow
@pytest.mark.timeout(3_600)
def test_four_hundred_silent_days_in_four_hundred_pushes(live: Live) -> None:
    live.settle()
    for _ in range(400):
        live.push(days=1)
        live.settle()
    assert live.wrong() == []


@pytest.mark.parametrize(
    ("size", "part"),
    [(1, {}), (7, {}), (1_000, {}), (1_000, {"_PART": 5, "_READ": 2}), (1_000, {"_PART_SIZE": 900, "_READ": 2})],
)
def test_where_a_batch_or_a_part_of_it_ends_changes_nothing(
    live_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int, part: dict[str, int]
) -> None:
    def entries(shop: Live) -> list[live_shop.Entry]:
        found = []
        for number in range(24):
            name = ("Page Viewed", "Demo Requested", "Newsletter Subscribed")[number % 3]
            who = (None, A, "L1", None, B)[number % 5]
            found.append(
                shop.track(
                    name, who, f"a-{number % 4}" if number % 2 else None, ago=86_400 * (number % 7), number=number // 2
                )
            )
        return found

    live, one = (Live(live_shop.copy(live_home, tmp_path / name), models=LEADS) for name in ("cut", "one"))
    for shop in (live, one):
        shop.settle()
        shop.push(seconds=10)
        shop.send(*entries(shop))
    with monkeypatch.context() as smaller:
        for name, value in part.items():
            smaller.setattr(f"headwater.live.engine.{name}", value)
        batches = live.settle(size)
    one.settle()
    assert live.tables() == one.tables()
    assert live.wrong() == []
    assert [batch.landed.read for batch in batches if batch.landed.read] == [
        min(size, 24 - at) for at in range(0, 24, size)
    ]
    positions = [row[0] for row in live.rows("select position from collected.events")]
    assert positions == sorted(positions), (
        "events stand in the order of the log, so that a scan of the newest ones is short"
    )
    live.close()
    one.close()


def test_tables_are_looked_after_only_when_changes_wait(live: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    live.restart()
    looked: list[int] = []
    inside = live.engine._changes.prepare
    monkeypatch.setattr(
        live.engine._changes, "prepare", lambda records, now: (looked.append(len(records)), inside(records, now))[1]
    )
    live.push(seconds=1)
    live.step(live.track("Page Viewed", A))
    assert looked == []
    change = {"kind": "snapshot", "state": "started", "id": "s", "lsn": 1, "at": "2026-06-30T00:00:00Z", "tables": []}
    live.step(live_shop.Entry("changes", "shop", "", "s", 1, json.dumps(change).encode()))
    assert looked == [1]


def test_the_position_is_committed_with_the_rows_and_then_acknowledged(live: Live) -> None:
    live.step(live.track("Page Viewed", A), live.track("Page Viewed", B))
    assert json.loads(live.rows("select position from headwater.clock")[0][0]) == {
        "events": 2,
        "changes": 0,
        "rejected": 0,
    }
    assert live.log.facts().unread[READER]["events"] == 0


def test_the_clock_never_goes_back(live: Live) -> None:
    live.push(hours=1)
    live.step(live.track("Page Viewed", A))
    reached = live.engine.as_of
    live.clock.at -= timedelta(hours=2)
    live.step(live.track("Page Viewed", B))
    assert live.engine.as_of == reached


def test_an_idle_step_commits_nothing_and_knows_how_long_it_may_sleep(live: Live) -> None:
    live.settle()
    before = live.rows("select as_of, set_at from headwater.clock")
    live.push(milliseconds=1)
    result = live.engine.step()
    assert not result.committed
    assert 0 < result.wait_seconds <= 60
    assert live.rows("select as_of, set_at from headwater.clock") == before


def test_an_event_of_the_future_is_seen_when_its_time_has_come(live: Live) -> None:
    live.settle()
    live.push(seconds=1)
    live.step(live.track("Demo Requested", "L1", ago=-90))
    assert live.rows("select * from user_alerts where person_id = 'L1'") == []
    live.push(seconds=89)
    assert not live.engine.step().committed
    live.push(seconds=1)
    live.settle()
    assert live.rows("select mql_score from user_alerts where person_id = 'L1'") == [(30,)]


def test_more_ended_windows_than_a_batch_takes_wait_their_turn_and_are_late_not_wrong(
    live_home: Path, tmp_path: Path
) -> None:
    live = Live(live_shop.copy(live_home, tmp_path / "shop"), settings=KEYED.model_copy(update={"due_per_batch": 5}))
    live.settle()
    live.push(days=29)
    result = live.engine.step()
    assert result.backlog > 0
    assert any(v.late for v in live.engine.verify())
    assert [d for v in live.engine.verify() for d in v.differences] == []
    live.settle()
    assert live.engine.backlog == 0
    assert live.wrong() == []
    live.close()


def test_changes_of_a_followed_model_are_written_down(live: Live) -> None:
    live.settle()
    live.warehouse.execute("delete from headwater.model_changes")
    live.push(seconds=1)
    live.step(live.track("Demo Requested", "L1"))
    live.push(seconds=1)
    live.step(live.track("Newsletter Subscribed", "L1"))
    live.push(days=31)
    live.settle()
    found = live.rows(
        "select op, old->>'mql_score', new->>'mql_score' from headwater.model_changes"
        " where model = 'user_alerts' and key = 'L1' order by version"
    )
    assert found == [("insert", None, "30"), ("update", "30", "40"), ("delete", "40", None)]


def test_many_touched_keys_make_a_model_whole_for_once(live_home: Path, tmp_path: Path) -> None:
    live = Live(
        live_shop.copy(live_home, tmp_path / "shop"), settings=LiveSettings(full_share=0.01, full_above=3, full_every=0)
    )
    live.settle()
    few = live.step(live.track("Page Viewed", A))
    many = live.step(*(live.track("Page Viewed", f"P{n}") for n in range(60)))
    assert not few.models["fct_events"].whole
    assert many.models["fct_events"].whole
    assert live.wrong() == []
    live.close()


def test_the_clock_of_the_first_start_is_the_batch_builds(live: Live) -> None:
    live.settle()
    assert live.engine.as_of == datetime(2026, 6, 30)  # noqa: DTZ001


def test_a_parked_engine_that_nobody_wrote_behind_looks_at_no_table_again(
    live: Live, monkeypatch: pytest.MonkeyPatch
) -> None:
    live.settle()
    looked = []
    monkeypatch.setattr(upkeep.contents, "changed", lambda *_: looked.append("again") or {})
    live.engine.park()
    with Warehouse(live.warehouse.path) as reader:
        reader.rows("select * from user_alerts")
    live.engine.resume()
    assert looked == []
    live.engine.park()
    with Warehouse(live.warehouse.path) as writer:
        writer.execute("create table main.note as select 1 as i")
    live.engine.resume()
    assert looked == ["again"]


def test_a_log_that_is_not_the_one_that_was_followed_stops_the_engine(live: Live) -> None:
    """It would begin again at 1, and nothing below the old position would ever be read."""
    live.step(live.track("Demo Requested", "L1"))
    live.engine.park()
    live.engine.log = MemoryLog()
    with pytest.raises(StageFailed, match=r"and the log ends at 0: it is not the log that this warehouse followed"):
        live.engine.open()


def test_far_behind_the_log_the_calls_land_first_and_the_models_follow_once(live_home: Path, tmp_path: Path) -> None:
    behind = LiveSettings(batch_rows=2, max_batch_rows=20, full_share=0.01, full_above=3, full_every=0)
    live = Live(live_shop.copy(live_home, tmp_path / "shop"), settings=behind)
    live.settle()
    live.send(*(live.track("Demo Requested", f"P{n % 30}") for n in range(200)))
    batches = live.settle()
    landed = [(batch.landed.events, "user_mql_score" in batch.models) for batch in batches]
    late = [events for events, refreshed in landed if not refreshed]
    assert len(late) > 3, "most batches only land"
    assert sum(events for events, _ in landed) == 200
    assert [moved for _, moved in landed].count(True) <= 2, "the models are recomputed when little waits"
    assert live.rows("select count(*) from user_alerts where person_id like 'P%'") == [(30,)]
    assert live.wrong() == []
    assert live.rows("select count(*) from headwater.due_keys") == [(0,)]
    live.close()


def test_tables_that_are_filled_straight_hold_what_the_engine_says_of_them(
    live_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    filled: list[str] = []
    inside = Refresh._grown
    monkeypatch.setattr(Refresh, "_grown", lambda self, sql: (filled.append(self.model.name), inside(self, sql))[1])
    for bound in ("refresh._MANY", "refresh.GROWN", "upkeep.GROWN"):
        monkeypatch.setattr(f"headwater.live.{bound}", 0)
    behind = LiveSettings(batch_rows=2, max_batch_rows=20, full_share=0.01, full_above=3, full_every=0)
    live = Live(live_shop.copy(live_home, tmp_path / "shop"), settings=behind)
    live.settle()
    filled.clear()
    live.send(*(live.track("Demo Requested", f"P{n % 30}") for n in range(60)))
    live.settle()
    assert {"int_event_persons", "fct_events", "user_alerts"} <= set(filled)
    assert live.wrong() == []
    tables = [model.relation for model in live.engine.project.models]
    assert upkeep.contents.changed(live.engine.warehouse, tables) == {}
    told = "select key from headwater.model_changes where model = 'user_alerts' and version > 1 and (op = 'delete' or key not like 'P%')"
    assert live.rows(told) == [], "a row that stays is no change"
    assert live.rows("select count(*) from user_alerts where person_id like 'P%'") == [(30,)]
    live.close()


def test_an_engine_stopped_far_behind_refreshes_what_it_owes_when_it_starts_again(
    live_home: Path, tmp_path: Path
) -> None:
    behind = LiveSettings(batch_rows=2, max_batch_rows=20, full_share=0.01, full_above=3, full_every=0)
    live = Live(live_shop.copy(live_home, tmp_path / "shop"), settings=behind)
    live.settle()
    live.send(*(live.track("Demo Requested", f"P{n % 30}") for n in range(200)))
    for _ in range(3):
        live.engine.step()
    owed = live.rows("select message from headwater.live_models where model = 'user_mql_score'")
    live.restart()
    live.settle()
    assert live.wrong() == [], owed
    assert live.rows("select count(*) from user_alerts where person_id like 'P%'") == [(30,)]
    live.close()


def test_models_are_put_off_for_ten_minutes_at_most(live_home: Path, tmp_path: Path) -> None:
    behind = LiveSettings(batch_rows=2, max_batch_rows=20, full_share=0.01, full_above=3, full_every=0)
    live = Live(live_shop.copy(live_home, tmp_path / "shop"), settings=behind)
    live.settle()
    live.send(*(live.track("Demo Requested", f"P{n % 30}") for n in range(400)))
    put_off = [live.engine.step() for _ in range(4)]
    live.push(minutes=11)
    then = live.engine.step()
    assert not any(batch.models for batch in put_off[1:])
    assert then.lag > 20
    assert "fct_events" in then.models
    live.close()
