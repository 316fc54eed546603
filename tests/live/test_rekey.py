"""A merge moves the models for both sides, an undone link moves them back; and a fault in this does not go unseen."""

import pytest
from landed_ids import START, Said, land
from live_shop import CUSTOMERS, Live, call

from headwater.identity.settings import IdentitySettings
from headwater.live import persons
from headwater.live.engine import Engine
from headwater.warehouse import Warehouse

A, B, _ = CUSTOMERS
PLAIN = IdentitySettings()


def scores(live: Live, *people: str) -> dict[str, int]:
    return dict(
        live.rows(
            "select person_id, mql_score from main.user_mql_score where list_contains(?, person_id)", [list(people)]
        )
    )


def step(live: Live, *entries) -> None:
    live.push(minutes=1)
    live.step(*entries)
    assert live.wrong() == []


def test_a_visitor_who_becomes_known_takes_his_score_along(live: Live) -> None:
    live.settle()
    step(live, live.track("Demo Requested", anonymous="browser"))
    assert scores(live, "anon:browser", "L1") == {"anon:browser": 30}
    step(live, live.track("Page Viewed", "L1", "browser"))
    assert scores(live, "anon:browser", "L1") == {"L1": 30}


def test_an_alias_takes_the_old_customer_out_of_every_model_and_the_new_one_has_both(live: Live) -> None:
    live.settle()
    step(live, live.track("Demo Requested", "OLD", "b1"), live.track("Whitepaper Downloaded", "NEW", "b2"))
    assert scores(live, "OLD", "NEW") == {"OLD": 30, "NEW": 20}
    step(live, call("alias", 77, live.now, previousId="OLD", userId="NEW"))
    assert scores(live, "OLD", "NEW") == {"NEW": 50}
    assert live.rows("select count(*) from main.user_alerts where person_id = 'OLD'") == [(0,)]


def test_an_address_links_two_browsers_and_one_link_undone_parts_them_again(live: Live) -> None:
    live.settle()
    step(live, live.track("Demo Requested", anonymous="phone"))
    step(live, call("identify", 71, live.now, anonymousId="phone", traits={"email": "x@example.org"}))
    step(live, call("identify", 72, live.now, userId="L1", traits={"email": "x@example.org"}))
    assert scores(live, "anon:phone", "L1") == {"L1": 30}
    (link_id,) = live.rows("select link_id from headwater.identity_links where right_id = 'phone'")[0]
    live.engine.park()
    with live.warehouse.transaction():
        assert persons.undo(live.warehouse, link_id, "typed wrong", live.now, PLAIN)
    live.engine.resume()
    live.push(minutes=1)
    live.settle()
    assert live.wrong() == []
    assert scores(live, "anon:phone", "L1") == {"anon:phone": 30}


def test_an_engine_that_is_not_told_of_the_new_side_is_found_wrong(live: Live, monkeypatch) -> None:
    """The same merge with the images kept back: what the tests above hold against the models is worth something."""
    real = persons.follow

    def half(warehouse: Warehouse, after: int, settings: IdentitySettings) -> persons.Changed:
        changed = real(warehouse, after, settings)
        warehouse.execute(f"delete from {changed.after}")
        warehouse.execute(f"delete from {changed.before}")
        return changed

    live.settle()
    step(live, live.track("Demo Requested", "OLD", "b1"), live.track("Whitepaper Downloaded", "NEW", "b2"))
    monkeypatch.setattr(persons, "follow", half)
    live.push(minutes=1)
    live.step(call("alias", 77, live.now, previousId="OLD", userId="NEW"))
    assert any("user_mql_score" in sentence or "int_event_persons" in sentence for sentence in live.wrong())


# --- the same without an engine: each fault put in on purpose is seen by what the programs of test_persons.py check


@pytest.fixture
def shop():
    with Warehouse(":memory:") as warehouse:
        persons.prepare(warehouse)
        yield warehouse


def follow(warehouse: Warehouse, *said: Said) -> persons.Changed:
    after = warehouse.value(
        "select coalesce(max(position), 0) from (select position from collected.events union all select position from collected.identifies)"
    )
    with warehouse.transaction():
        land(warehouse, said, after)
        return persons.follow(warehouse, after, PLAIN)


TWO_BROWSERS = (
    Said("identify", 1, "m1", anonymous="phone", email="x@example.org"),
    Said("identify", 2, "m2", anonymous="laptop", email="x@example.org"),
)
KNOWN = Said("track", 3, "m3", anonymous="laptop", user="L1")


def seen(warehouse: Warehouse, changed: persons.Changed, before: set) -> bool:
    """Whether one of the two checks notices: a resolve from nothing, or a copy of the table kept by the images alone."""
    columns = "id_kind, id, person_id, customer_id, linked_at, reason"
    after = before - set(warehouse.execute(f"select {columns} from {changed.before}").fetchall())
    after |= set(warehouse.execute(f"select {columns} from {changed.after}").fetchall())
    stored = set(warehouse.execute(f"select {columns} from headwater.identities").fetchall())
    return bool(persons.recompute_all(warehouse, PLAIN)) or after != stored


def _identities(warehouse: Warehouse) -> set:
    return set(
        warehouse.execute(
            "select id_kind, id, person_id, customer_id, linked_at, reason from headwater.identities"
        ).fetchall()
    )


def _touched_ends_only(monkeypatch) -> None:
    """The component is not followed beyond the ends of the new link: the other browser keeps its old person."""
    real = persons._component

    def short(warehouse, nodes):
        whole = real(warehouse, nodes)
        ends = set(nodes.tolist())
        return persons._Component([row for row in whole.links if {row[10], row[11]} & ends], ends)

    monkeypatch.setattr(persons, "_component", short)


def _no_old_image(monkeypatch) -> None:
    """The old images are forgotten: whoever keys by them leaves the old rows standing."""
    real = persons._replace

    def forgetful(warehouse, gone, new):
        real(warehouse, gone, new)
        warehouse.execute(f"delete from {persons.BEFORE}")

    monkeypatch.setattr(persons, "_replace", forgetful)


def _old_rows_stay(monkeypatch) -> None:
    """New rows are written and the old ones are not removed."""
    real = persons._replace
    monkeypatch.setattr(persons, "_replace", lambda warehouse, gone, new: real(warehouse, [], new))


def _nothing_is_late(monkeypatch) -> None:
    """An earlier event of a link that is known already does not date it anew."""
    real = persons._fresh_sql
    late = "or first.linked_at <= held.held_at"
    monkeypatch.setattr(persons, "_fresh_sql", lambda *given: real(*given).replace(late, ""))


@pytest.mark.parametrize("fault", [_touched_ends_only, _no_old_image, _old_rows_stay])
def test_a_fault_in_a_merge_is_seen(shop, monkeypatch, fault):
    follow(shop, *TWO_BROWSERS)
    before = _identities(shop)
    fault(monkeypatch)
    changed = follow(shop, KNOWN)
    assert seen(shop, changed, before)


def test_the_same_merge_without_a_fault_is_quiet(shop):
    follow(shop, *TWO_BROWSERS)
    before = _identities(shop)
    changed = follow(shop, KNOWN)
    assert changed
    assert not seen(shop, changed, before)


def test_a_late_event_that_is_ignored_is_seen_by_the_replay_in_another_order(monkeypatch):
    calls = (
        Said("track", 9, "m9", anonymous="a", user="U1"),
        Said("track", 5, "m5", anonymous="a", user="U2"),
        Said("track", 1, "m1", anonymous="a", user="U1"),
    )
    assert (
        _replayed(calls)
        == _replayed(calls[::-1])
        == {("user", "U1", "U1"), ("user", "U2", "U2"), ("anonymous", "a", "U1")}
    )
    _nothing_is_late(monkeypatch)
    assert _replayed(calls) != _replayed(calls[::-1])


def _replayed(calls: tuple[Said, ...]) -> set:
    with Warehouse(":memory:") as warehouse:
        persons.prepare(warehouse)
        for one in calls:
            follow(warehouse, one)
        assert warehouse.value("select min(linked_at) from headwater.identities") >= START
        return set(warehouse.execute("select id_kind, id, person_id from headwater.identities").fetchall())


def test_a_value_that_the_shop_calls_nobody_is_nobody_in_the_models_too(live: Live) -> None:
    live.engine = Engine(
        live.warehouse, live.log, live.project, live.clock, live.settings, identity=IdentitySettings(blocked=["Kiosk"])
    )
    live.settle()
    step(live, live.track("Demo Requested", "kiosk", "b9"), live.track("Demo Requested", "NULL", "b10"))
    assert scores(live, "kiosk", "NULL", "anon:b9", "anon:b10") == {"anon:b9": 30, "anon:b10": 30}
