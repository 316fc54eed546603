"""Rows that wait: for a field that the destination cannot do without, and until they have settled."""

from datetime import timedelta

import pytest

from headwater.errors import ConfigError


def held(desk):
    return [(one.key, one.rule, one.sentence) for one in desk.plan().held()]


def moving_people(desk, *rows):
    """(id, name, city, seconds since the row changed) per row."""
    desk.warehouse.execute(
        "create or replace table main.people (id varchar, name varchar, city varchar, updated_at timestamp)"
    )
    for key, name, city, ago in rows:
        moment = desk.clock.now().replace(tzinfo=None) - timedelta(seconds=ago)
        desk.warehouse.execute("insert into main.people values (?, ?, ?, ?)", [key, name, city, moment])


@pytest.mark.parametrize("missing", [None, "", "  "])
def test_a_row_without_a_required_field_waits_and_goes_when_it_has_one(desk, missing):
    desk.with_sync(requires=["city"])
    desk.people(("c1", "Ann", "Oslo"), ("c2", "Bo", missing))
    assert held(desk) == [
        (
            "c2",
            "requires",
            "city has no value, and the sync requires one; give it in the model or a default in the mapping",
        )
    ]
    assert (desk.deliver().confirmed, desk.states()) == (1, {"done": 1, "held": 1})
    desk.people(("c1", "Ann", "Oslo"), ("c2", "Bo", "Rome"))
    assert desk.deliver().confirmed == 1
    assert desk.delivered() == {"c1": ("Ann", "Oslo"), "c2": ("Bo", "Rome")}


def test_a_row_that_just_changed_settles_first(desk):
    desk.with_sync(settle_seconds=60)
    moving_people(desk, ("c1", "Ann", "Oslo", 61), ("c2", "Bo", "Rome", 59))
    assert held(desk) == [
        ("c2", "settle", "the row changed less than 60 s ago and may change again; a later run sends it")
    ]
    assert desk.deliver().confirmed == 1
    desk.clock.push(timedelta(seconds=1))
    assert desk.deliver().confirmed == 1


def test_a_row_that_repeats_itself_settles_by_its_latest_change(desk):
    desk.with_sync(settle_seconds=60)
    moving_people(desk, ("c1", "Ann", "Oslo", 100), ("c1", "Ann", "Oslo", 10))
    assert [rule for _, rule, _ in held(desk)] == ["settle"]


def test_a_removal_waits_for_nothing(desk):
    desk.with_sync(mode="mirror", requires=["city"], settle_seconds=60, max_removal_share=1)
    moving_people(desk, ("c1", "Ann", "Oslo", 100))
    desk.deliver()
    moving_people(desk)
    assert [one.operation for one in desk.plan().operations()] == ["delete"]


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"requires": ["town"]}, "syncs.people.requires: found 'town'; the sync has no such field. Fields: name, city"),
        (
            {"settle_seconds": 5},
            "syncs.people.settle_by: found 'updated_at'; the model 'main.people' has no such column. Columns: id, name, city",
        ),
    ],
)
def test_a_field_that_is_not_there_is_said(desk, change, sentence):
    desk.with_sync(**change)
    desk.people(("c1", "Ann", "Oslo"))
    with pytest.raises(ConfigError) as caught:
        desk.plan()
    assert sentence in str(caught.value)
