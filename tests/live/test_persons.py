"""Who is who in the warehouse: whatever arrives, in whatever order and batches, the tables hold what a resolve from nothing gives."""

import random
from collections.abc import Iterator
from datetime import timedelta

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from landed_ids import START, Said, at, land

from headwater.errors import UsageError
from headwater.identity.settings import IdentitySettings
from headwater.live import persons
from headwater.warehouse import Warehouse

PLAIN = IdentitySettings()
TABLES = (
    "collected.events",
    "collected.identifies",
    "collected.aliases",
    "headwater.identity_links",
    "headwater.identities",
)


@pytest.fixture
def shop() -> Iterator[Warehouse]:
    with Warehouse(":memory:") as warehouse:
        persons.prepare(warehouse)
        yield warehouse


def follow(warehouse: Warehouse, *said: Said, limits: IdentitySettings = PLAIN) -> persons.Changed:
    after = _last(warehouse)
    with warehouse.transaction():
        land(warehouse, said, after)
        return persons.follow(warehouse, after, limits)


def _last(warehouse: Warehouse) -> int:
    return warehouse.value(
        "select coalesce(max(position), 0) from (select position from collected.events union all "
        "select position from collected.identifies union all select position from collected.aliases)"
    )


def who(warehouse: Warehouse) -> dict[tuple[str, str], str]:
    return {
        (kind, name): person
        for kind, name, person in warehouse.execute(
            "select id_kind, id, person_id from headwater.identities"
        ).fetchall()
    }


def link(warehouse: Warehouse, left: str, right: str) -> str:
    return warehouse.value(
        "select link_id from headwater.identity_links where left_id = ? and right_id = ?", [left, right]
    )


def test_a_visitor_becomes_known(shop):
    changed = follow(shop, Said("track", 0, "m1", anonymous="a"), Said("track", 1, "m2", anonymous="a", user="C1"))
    assert (changed.links, changed.identities) == (1, 2)
    assert who(shop) == {("anonymous", "a"): "C1", ("user", "C1"): "C1"}
    assert shop.execute(f"select count(*) from {changed.before}").fetchone() == (0,)
    assert shop.rows(f"select id, customer_id, linked_at, reason from {changed.after} order by id_kind") == [
        {"id": "a", "customer_id": "C1", "linked_at": at(1), "reason": "event"},
        {"id": "C1", "customer_id": "C1", "linked_at": at(1), "reason": "event"},
    ]


def test_the_same_rows_again_change_nothing(shop):
    follow(shop, Said("track", 1, "m2", anonymous="a", user="C1"))
    with shop.transaction():
        changed = persons.follow(shop, 0, PLAIN)
    assert not changed
    assert changed.links == 0


def test_a_shared_computer_belongs_to_the_customer_seen_there_first_even_when_told_late(shop):
    follow(shop, Said("track", 5, "m5", anonymous="kiosk", user="C5"))
    follow(shop, Said("track", 9, "m9", anonymous="kiosk", user="C9"))
    assert who(shop)[("anonymous", "kiosk")] == "C5"
    assert shop.value("select refused_because from headwater.identity_links where right_id = 'C9'") == "user_limit"
    changed = follow(shop, Said("track", 1, "m1", anonymous="kiosk", user="C9"))
    assert who(shop)[("anonymous", "kiosk")] == "C9"
    assert shop.value("select refused_because from headwater.identity_links where right_id = 'C9'") is None
    assert shop.value("select refused_because from headwater.identity_links where right_id = 'C5'") == "user_limit"
    images = shop.rows(
        f"select id, person_id from {changed.before} where id = 'kiosk' union all select id, person_id from {changed.after} where id = 'kiosk'"
    )
    assert [image["person_id"] for image in images] == ["C5", "C9"]


def test_two_browsers_with_one_address_are_one_person_and_then_a_customer(shop):
    follow(shop, Said("identify", 1, "m1", anonymous="phone", email="Ann@Example.org "))
    follow(shop, Said("identify", 2, "m2", anonymous="laptop", email="ann@example.org"))
    assert who(shop)[("anonymous", "laptop")] == who(shop)[("anonymous", "phone")] == "anon:phone"
    changed = follow(shop, Said("track", 3, "m3", anonymous="laptop", user="C1"))
    assert set(who(shop).values()) == {"C1"}
    assert {row["person_id"] for row in shop.rows(f"select person_id from {changed.before}")} == {"anon:phone"}
    assert {row["id"] for row in shop.rows(f"select id from {changed.after}")} == {
        "phone",
        "laptop",
        "ann@example.org",
        "C1",
    }


def test_a_device_links_until_its_limit_and_not_at_all_when_the_limit_is_nought(shop):
    follow(shop, Said("track", 1, "m1", anonymous="a", device="ipad"), Said("track", 2, "m2", user="C1", device="ipad"))
    assert who(shop)[("anonymous", "a")] == "C1"
    follow(shop, Said("track", 3, "m3", anonymous="b", device="tv"), limits=IdentitySettings(device_limit=0))
    assert ("device", "tv") not in who(shop)


def test_an_alias_joins_two_customers_under_the_new_id(shop):
    follow(shop, Said("track", 1, "m1", anonymous="a", user="OLD"), Said("track", 2, "m2", anonymous="b", user="NEW"))
    follow(shop, Said("alias", 3, "m3", previous="OLD", user="NEW"))
    assert {name: person for (_, name), person in who(shop).items()} == {
        "a": "NEW",
        "OLD": "NEW",
        "b": "NEW",
        "NEW": "NEW",
    }


def test_values_that_mean_nobody_link_nobody(shop):
    said = [
        Said("identify", n, f"m{n}", anonymous=f"a{n}", user=value, email="x@y.z" if n % 2 else None)
        for n, value in enumerate(["0000-000", "NULL", "", "-1", " anonymous "])
    ]
    follow(shop, *said)
    assert ("email", "x@y.z") in who(shop)
    assert not [name for kind, name in who(shop) if kind == "user"]
    changed = follow(
        shop, Said("track", 9, "m9", anonymous="b", user="Kiosk-1"), limits=IdentitySettings(blocked=["kiosk-1"])
    )
    assert changed.links == 0


def test_one_link_undone_takes_everything_behind_it_along_and_stays_undone(shop):
    follow(
        shop,
        Said("identify", 1, "m1", anonymous="a", email="a@x.org"),
        Said("identify", 2, "m2", user="C1", email="a@x.org"),
    )
    assert who(shop)[("anonymous", "a")] == "C1"
    link_id = link(shop, "a@x.org", "a")
    with shop.transaction():
        changed = persons.undo(shop, link_id, "the address was typed wrong", at(10), PLAIN)
    assert who(shop) == {("anonymous", "a"): "anon:a", ("email", "a@x.org"): "C1", ("user", "C1"): "C1"}
    assert [row["person_id"] for row in shop.rows(f"select person_id from {changed.before} where id = 'a'")] == ["C1"]
    assert shop.rows(
        "select undone_at, undone_because, refused_because from headwater.identity_links where undone_at is not null"
    ) == [{"undone_at": at(10), "undone_because": "the address was typed wrong", "refused_because": "undone"}]
    follow(shop, Said("identify", 0, "m0", anonymous="a", email="a@x.org"))
    assert who(shop)[("anonymous", "a")] == "anon:a"
    with shop.transaction():
        assert not persons.undo(shop, link_id, "again", at(11), PLAIN)


def test_an_unknown_link_is_refused_with_the_way_to_find_one(shop):
    with pytest.raises(UsageError) as error, shop.transaction():
        persons.undo(shop, "nonsense", "why not", at(1), PLAIN)
    assert (
        str(error.value)
        == "there is no identity link 'nonsense'; `headwater why CUSTOMER` shows the links of a customer with their ids"
    )


def test_a_clock_that_runs_ahead_dates_no_link_into_the_future(shop):
    with shop.transaction():
        shop.execute(
            "insert into collected.events (event_id, source, kind, event_name, customer_id, anonymous_id, occurred_at, received_at, position) "
            "values ('m1', 'web', 'track', 'x', 'C1', 'a', '2031-01-01', '2026-03-01', 1)"
        )
        persons.follow(shop, 0, PLAIN)
    assert shop.value("select max(linked_at) from headwater.identities") == START


def test_a_row_that_was_tampered_with_is_found(shop):
    follow(shop, Said("track", 1, "m1", anonymous="a", user="C1"))
    shop.execute("update headwater.identities set person_id = 'C2' where id = 'a'")
    shop.execute("delete from headwater.identities where id = 'C1'")
    shop.execute("insert into headwater.identities (id_kind, id, person_id, node) values ('user', 'C7', 'C7', 7)")
    found = persons.recompute_all(shop, PLAIN)
    assert [(d.id, d.stored and d.stored.person_id, d.resolved and d.resolved.person_id) for d in found] == [
        ("a", "C2", "C1"),
        ("C1", None, "C1"),
        ("C7", "C7", None),
    ]


def test_a_million_links_need_not_fit_into_one_chunk(shop):
    follow(shop, *(Said("track", n, f"m{n}", anonymous=f"a{n % 37}", user=f"C{n % 11}") for n in range(200)))
    assert persons.recompute_all(shop, PLAIN, chunk=3) == []


TIGHT = IdentitySettings(email_limit=2, device_limit=2, anonymous_limit=3, merge_cap=2, mapping_cap=6)
USERS = st.sampled_from(["U1", "U2", "U3", "U4"])
ANONYMOUS = st.sampled_from([f"a{n}" for n in range(8)])
EMAILS = st.sampled_from([f"e{n}@x.org" for n in range(4)])
DEVICES = st.sampled_from(["d1", "d2"])
MINUTES = st.integers(0, 400)


class Identities(RuleBasedStateMachine):
    """Calls in any order and in batches of any size, links undone; after each step the tables are what a resolve gives."""

    limits = PLAIN
    warehouse: Warehouse

    @initialize()
    def empty(self):
        self.warehouse = _warehouse()
        for table in TABLES:
            self.warehouse.execute(f"delete from {table}")
        self.said: list[Said] = []
        self.waiting: list[Said] = []
        self.image: dict[tuple[str, str], tuple] = {}

    def _say(self, kind: str, minute: int, **ids: str | None) -> None:
        call = Said(kind, minute, f"m{len(self.said):03}", **ids)
        self.said.append(call)
        self.waiting.append(call)

    @rule(minute=MINUTES, user=USERS, anonymous=ANONYMOUS)
    def both_ids(self, minute, user, anonymous):
        self._say("track", minute, user=user, anonymous=anonymous)

    @rule(minute=MINUTES, user=st.none() | USERS, anonymous=ANONYMOUS, email=EMAILS)
    def address(self, minute, user, anonymous, email):
        self._say("identify", minute, user=user, anonymous=anonymous, email=email)

    @rule(minute=MINUTES, user=st.none() | USERS, anonymous=ANONYMOUS, device=DEVICES)
    def app(self, minute, user, anonymous, device):
        self._say("track", minute, user=user, anonymous=anonymous, device=device)

    @rule(minute=MINUTES, previous=USERS | ANONYMOUS, user=USERS)
    def alias(self, minute, previous, user):
        self._say("alias", minute, previous=previous, user=user)

    @rule()
    def batch(self):
        self._apply(follow(self.warehouse, *self.waiting, limits=self.limits))
        self.waiting = []

    @rule(data=st.data())
    def undo(self, data):
        links = [
            row[0]
            for row in self.warehouse.execute(
                "select link_id from headwater.identity_links order by link_id"
            ).fetchall()
        ]
        if not links:
            return
        with self.warehouse.transaction():
            self._apply(persons.undo(self.warehouse, data.draw(st.sampled_from(links)), "wrong", at(999), self.limits))

    def _apply(self, changed: persons.Changed) -> None:
        """Keep a copy of the table by the images alone, as the engine keeps what depends on it."""
        columns = "id_kind, id, person_id, customer_id, linked_at, reason"
        for row in self.warehouse.execute(f"select {columns} from {changed.before}").fetchall():
            assert self.image.pop(row[:2]) == row
        for row in self.warehouse.execute(f"select {columns} from {changed.after}").fetchall():
            assert row[:2] not in self.image
            self.image[row[:2]] = row
        assert self.image == {
            row[:2]: row for row in self.warehouse.execute(f"select {columns} from headwater.identities").fetchall()
        }

    @invariant()
    def as_from_nothing(self):
        if hasattr(self, "said"):
            assert persons.recompute_all(self.warehouse, self.limits) == []

    @invariant()
    def two_users_are_one_only_by_alias(self):
        if hasattr(self, "said") and not any(call.kind == "alias" for call in self.said):
            assert all(person == name for (kind, name), person in who(self.warehouse).items() if kind == "user")

    def teardown(self):
        """The same calls in another order and in other batches: the same links, the same persons."""
        if not getattr(self, "said", None):
            return
        self.batch()
        undone = [
            row[0]
            for row in self.warehouse.execute(
                "select link_id from headwater.identity_links where undone_at is not null"
            ).fetchall()
        ]
        want = _tables(self.warehouse)
        shuffled = random.Random(len(self.said)).sample(self.said, len(self.said))
        for table in TABLES:
            self.warehouse.execute(f"delete from {table}")
        while shuffled:
            follow(self.warehouse, *shuffled[:3], limits=self.limits)
            shuffled = shuffled[3:]
        for link_id in undone:
            with self.warehouse.transaction():
                persons.undo(self.warehouse, link_id, "wrong", at(999), self.limits)
        assert _tables(self.warehouse) == want


class TightIdentities(Identities):
    """The same where limits and caps are met all the time."""

    limits = TIGHT


def _tables(warehouse: Warehouse) -> list[list[tuple]]:
    return [
        sorted(warehouse.execute(f"select {columns} from {table}").fetchall(), key=repr)
        for table, columns in (
            ("headwater.identities", "id_kind, id, person_id, customer_id, linked_at, reason"),
            ("headwater.identity_links", "link_id, reason, linked_at, event_id, undone_at, refused_because"),
        )
    ]


_kept: list[Warehouse] = []


def _warehouse() -> Warehouse:
    """One for all examples: its tables are emptied between them."""
    if not _kept:
        _kept.append(Warehouse(":memory:"))
        persons.prepare(_kept[0])
    return _kept[0]


_budget = settings(max_examples=8, stateful_step_count=10, deadline=None, suppress_health_check=list(HealthCheck))
TestIdentities = Identities.TestCase
TestIdentities.settings = _budget
TestTightIdentities = TightIdentities.TestCase
TestTightIdentities.settings = _budget


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("machine", [Identities, TightIdentities])
def test_many_more_programs(machine):
    many = type("Many", (machine.TestCase,), {"settings": settings(_budget, max_examples=300, stateful_step_count=40)})
    many("runTest").runTest()


def test_a_link_of_a_day_ago_is_dated_by_its_earliest_event(shop):
    follow(shop, Said("track", 100, "m2", anonymous="a", user="C1"))
    changed = follow(shop, Said("track", 50, "m1", anonymous="a", user="C1"))
    assert changed.links == 1
    assert shop.value("select max(linked_at) from headwater.identities") == START + timedelta(minutes=50)


@pytest.mark.parametrize(
    "said",
    [
        [Said("track", 90, "m90", anonymous="new", user="U3"), Said("track", 91, "m91", anonymous="newer", user="U3")],
        [Said("track", 90, "m90", anonymous="new", user="nobody-yet")],
        [
            Said("track", 90, "m90", anonymous="web", user="nobody-yet"),
            Said("track", 89, "m89", anonymous="web", user="nor-he"),
        ],
        [Said("track", 50, "m50", anonymous="web", user="late")],
        [Said("track", 90, "m90", anonymous="new", user="U4")],
    ],
    ids=[
        "of a known customer",
        "both new",
        "an id that a whole shop shares",
        "the same, late",
        "of one who was refused so far",
    ],
)
def test_what_needs_no_thought_is_not_thought_about(shop, monkeypatch, said):
    """One id on every event of a shop must not have the whole shop resolved anew in each batch."""
    follow(
        shop,
        *(Said("track", n, f"m{n:02}", anonymous="web", user=f"U{n}") for n in range(10)),
        Said("track", 20, "m20", anonymous="x", user="U3"),
    )
    with monkeypatch.context() as patched:
        patched.setattr(persons, "_component", lambda *_: pytest.fail("a component was looked up"))
        assert follow(shop, *said).links == len(said)
    assert persons.recompute_all(shop, PLAIN) == []
    refused = shop.execute(
        "select right_id from headwater.identity_links where refused_because = 'user_limit' order by all"
    ).fetchall()
    shop.execute("update headwater.identity_links set refused_because = null")
    with shop.transaction():
        persons.refresh(shop, [("anonymous", "web")], PLAIN)
    assert (
        shop.execute(
            "select right_id from headwater.identity_links where refused_because = 'user_limit' order by all"
        ).fetchall()
        == refused
    )
