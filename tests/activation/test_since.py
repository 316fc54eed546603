"""Following changes: what a live sync sends when it looks at changed rows alone is what it would send having compared everything."""

import json
import tempfile
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headwater.activation.deliver import deliver
from headwater.activation.plan import plan
from headwater.activation.settings import DestinationSettings, SyncSettings
from headwater.activation.since import Since, forget, newest
from headwater.clock import FixedClock
from headwater.warehouse import Warehouse

CLOCK = FixedClock(datetime(2026, 3, 1, tzinfo=UTC))
NOTHING = DestinationSettings(type="nothing")
KEYS = st.sampled_from([None, " ", "a@x", "A@x ", "b@x", "c@x"])
ROW = st.none() | st.tuples(KEYS, st.sampled_from([None, "Ada", "Bob"]))
STEPS = st.lists(st.dictionaries(st.sampled_from(["1", "2", "3", "4"]), ROW, min_size=1), min_size=1, max_size=6)


def change(warehouse, version, rows):
    """Set rows (email, name) of the model by id, None removes; written down as the engine does."""
    for id_, row in rows.items():
        old = warehouse.rows("select * from main.people where id = ?", [id_])
        warehouse.execute("delete from main.people where id = ?", [id_])
        if row is not None:
            warehouse.execute(
                "insert into main.people values (?, ?, ?, 1.50, timestamp '2026-03-01 10:00:00')", [id_, *row]
            )
        images = [
            None
            if image is None
            else json.dumps(
                {"id": id_, "email": image[0], "name": image[1], "spent": 1.50, "seen_at": "2026-03-01 10:00:00"}
            )
            for image in ((old[0]["email"], old[0]["name"]) if old else None, row)
        ]
        if any(images):
            op = "insert" if images[0] is None else "delete" if images[1] is None else "update"
            warehouse.execute(
                "insert into headwater.model_changes values ('people', ?, ?, ?, ?, ?, ?)",
                [id_, op, *images, version, CLOCK.now().replace(tzinfo=None)],
            )


@settings(max_examples=25, deadline=None)
@given(
    steps=STEPS,
    mode=st.sampled_from(["upsert", "mirror", "insert"]),
    every=st.integers(1, 3),
    prefer=st.sampled_from([None, "id"]),
)
@pytest.mark.long
def test_following_changes_leaves_nothing_that_a_whole_comparison_would_send(steps, mode, every, prefer):
    sync = SyncSettings(
        name="people", model="people", destination="there", key="{email}", key_form="lower", mode=mode, prefer=prefer,
        fields={"name": "name", "spent": "spent"}, max_removal_share=1,
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as folder, Warehouse(":memory:") as warehouse:
        warehouse.execute(
            "create table main.people (id varchar, email varchar, name varchar, spent decimal(9,2), seen_at timestamp)"
        )

        def send(since=None):
            return deliver(warehouse, None, sync, NOTHING, CLOCK, False, folder=Path(folder), since=since)

        send()
        seen = 0
        for version, rows in enumerate(steps, 1):
            change(warehouse, version, rows)
            if version % every == 0 or version == len(steps):
                upto = newest(warehouse)
                send(Since("people", "id", seen, upto))
                seen = upto
                forget(warehouse, {"people": seen})
        whole = plan(warehouse, sync, NOTHING, CLOCK, folder=Path(folder))
        assert whole.counts.planned == 0, [operation.key for operation in whole.operations()]


@pytest.fixture
def shop(desk):
    desk.warehouse.execute(
        "create or replace table main.people (id varchar, email varchar, name varchar, spent decimal(9,2), seen_at timestamp)"
    )
    return desk.with_sync(key="email", fields={"name": "name"})


def test_rows_that_did_not_change_are_not_looked_at(shop):
    change(shop.warehouse, 1, {"1": ("a@x", "Ada"), "2": ("b@x", "Bob")})
    shop.deliver()
    shop.warehouse.execute("update main.people set name = 'nobody wrote this down' where id = '1'")
    change(shop.warehouse, 2, {"2": ("b@x", "Bo")})
    assert [row.key for row in shop.plan(since=Since("people", "id", 1, 2)).operations()] == ["b@x"]
    assert [row.key for row in shop.plan().operations()] == ["a@x", "b@x"]


def test_changes_that_all_have_looked_at_go_but_the_newest_from_which_versions_are_counted_on(shop):
    for version in (1, 2, 3):
        change(shop.warehouse, version, {"1": ("a@x", f"Ada {version}")})
    shop.warehouse.execute("insert into headwater.model_changes values ('others', '1', 'insert', null, null, 1, null)")

    def left():
        listed = shop.warehouse.execute("select model, version from headwater.model_changes order by all")
        return listed.fetchall()

    forget(shop.warehouse, {"people": 2})
    assert left() == [("others", 1), ("people", 3)]
    forget(shop.warehouse, {"people": 3})
    assert left() == [("others", 1), ("people", 3)]


def test_what_was_left_open_is_looked_at_again(shop):
    change(shop.warehouse, 1, {"1": ("a@x", "Ada"), "2": ("b@x", "Bob")})
    shop.deliver(
        recheck=lambda relation: [
            (row["operation_id"], "consent", "no") for row in shop.warehouse.rows(f"from {relation}")
        ]
    )
    assert shop.states() == {"held": 2}
    assert shop.deliver(since=Since("people", "id", 1, 1)).confirmed == 2
