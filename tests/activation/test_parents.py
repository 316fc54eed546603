"""Parents before children: the order of syncs, and rows that wait for the rows they refer to."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headwater import config
from headwater.activation.deliver import deliver
from headwater.activation.parents import cycle, in_order
from headwater.activation.settings import DestinationSettings, SyncSettings
from headwater.errors import ConfigError


def sync(name, **more):
    return SyncSettings(name=name, model=name, destination="there", key="id", **more)


@given(st.permutations(["a", "b", "c", "d"]))
def test_each_comes_after_its_parents_whatever_the_order_in_the_file(order):
    parents = {"a": {}, "b": {"a": "a_id"}, "c": {"b": "b_id", "a": "a_id"}, "d": {"elsewhere": "x"}}
    found = [one.name for one in in_order([sync(name, parents=parents[name]) for name in order])]
    assert sorted(found) == ["a", "b", "c", "d"]
    assert found.index("a") < found.index("b") < found.index("c")


def test_a_circle_is_found_and_named():
    circle = [sync("a", parents={"b": "x"}), sync("b", parents={"c": "x"}), sync("c", parents={"a": "x"})]
    assert cycle(circle) == ["a", "b", "c"]
    assert cycle(circle[:2]) == []
    assert len(in_order(circle)) == 3


def test_a_child_waits_until_its_parent_is_confirmed(desk):
    desk.people(("1", "Ada", "London"))
    desk.warehouse.execute("create table main.orders (id varchar, person varchar, total bigint)")
    for row in (("o1", "1"), ("o2", "2"), ("o3", None), ("o4", " 1 ")):
        desk.warehouse.execute("insert into main.orders values (?, ?, 5)", row)
    orders = sync("orders", parents={"people": "person"}, fields={"total": "total"})

    def send_orders():
        return deliver(
            desk.warehouse, None, orders, DestinationSettings(type="nothing"), desk.clock, False, folder=desk.folder
        )

    first = send_orders()
    assert (first.confirmed, first.held) == (1, 3)
    reason = desk.warehouse.value("select reason from headwater.outbox where sync = 'orders' and key = 'o1'")
    assert reason == "parent: the row that person names is not confirmed by the sync people yet; it goes after that one"
    desk.deliver()
    second = send_orders()
    assert (second.confirmed, second.held) == (2, 1)
    assert desk.warehouse.value("select key from headwater.outbox where sync = 'orders' and state = 'held'") == "o2"


def test_rows_of_one_key_that_differ_in_their_parent_alone_are_one_row(desk):
    desk.people(("1", "Ada", "London"))
    desk.deliver()
    desk.warehouse.execute(
        "create table main.orders as select 'o1' as id, p as person, 5 as total from (values ('1'), ('9')) t(p)"
    )
    orders = sync("orders", parents={"people": "person"}, fields={"total": "total"})
    done = deliver(
        desk.warehouse, None, orders, DestinationSettings(type="nothing"), desk.clock, False, folder=desk.folder
    )
    assert (done.confirmed, done.held) == (0, 1)


PROJECT = """
destinations: {{crm: {{type: files}}}}
syncs:
  - {{name: people, model: people, destination: crm, key: id{people}}}
  - {{name: orders, model: orders, destination: crm, key: id{orders}}}
decisions: {{channels: {{}}}}
"""


@pytest.mark.parametrize(
    ("people", "orders", "sentence"),
    [
        ("", ", parents: {persons: x}", "syncs.orders.parents.persons: there is no such sync. Known: orders, people"),
        (
            ", parents: {orders: x}",
            ", parents: {people: x}",
            "syncs: people → orders → people: each waits for the next",
        ),
    ],
)
def test_parents_that_cannot_come_first_are_an_error(tmp_path, people, orders, sentence):
    (tmp_path / "headwater.yml").write_text(PROJECT.format(people=people, orders=orders))
    with pytest.raises(ConfigError, match="problem") as error:
        config.load(tmp_path)
    assert sentence in str(error.value)


EXPOSURES = """
version: 2
exposures:
  - name: contacts
    type: application
    owner: {name: marketing}
    depends_on: [ref('customer_360')]
    config: {meta: {headwater: {sync: {destination: crm, key: email, mode: mirror}}}}
  - name: tagged
    type: application
    owner: {name: sales}
    depends_on: [ref('a'), ref('b')]
    meta: {headwater: {sync: {model: "tag:hightouch", destination: crm, key: id}}}
  - name: people
    type: application
    owner: {name: sales}
    depends_on: [ref('people')]
    config: {meta: {headwater: {sync: people}}}
"""


def test_an_exposure_may_declare_a_sync(tmp_path):
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "exposures.yml").write_text(EXPOSURES)
    (tmp_path / "headwater.yml").write_text(PROJECT.format(people="", orders=""))
    found = {one.name: one for one in config.load(tmp_path).syncs}
    assert list(found) == ["people", "orders", "contacts", "tagged"]
    assert (found["contacts"].model, found["contacts"].mode) == ("customer_360", "mirror")
    assert found["tagged"].model == "tag:hightouch"


def test_a_sync_that_is_declared_twice_is_an_error(tmp_path):
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "exposures.yml").write_text(EXPOSURES.replace("name: contacts", "name: orders"))
    (tmp_path / "headwater.yml").write_text(PROJECT.format(people="", orders=""))
    with pytest.raises(ConfigError, match="the name 'orders' is used twice"):
        config.load(tmp_path)


@pytest.mark.parametrize(
    ("type_", "options", "calls", "quota"),
    [
        ("hubspot", {}, 3, "they count for the account's day"),
        (
            "salesforce",
            {"login_url": "http://x", "object": "Lead", "external_id": "Id__c"},
            2,
            "they count for the organisation's day; the sync stops when 80% of it is used",
        ),
        ("nothing", {}, 1, ""),
    ],
)
def test_a_plan_says_what_of_the_limits_it_uses(desk, type_, options, calls, quota):
    desk.warehouse.execute(
        "create or replace table main.people as select 'p' || i as id, 'n' as name, 'c' as city from range(201) t(i)"
    )
    desk.destination = DestinationSettings(type=type_, options=options, rate_per_second=2)
    made = desk.plan()
    assert (made.calls, made.quota) == (calls, quota)
    assert quota in made.summary()
    assert made.read(made.write(desk.folder / "plan.json")).quota == quota
