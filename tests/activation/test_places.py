"""A destination that has moved: what its old address has confirmed is not at the new one, and nobody is told that it is."""

import pytest

from headwater.activation import places
from headwater.activation.destinations import make
from headwater.activation.settings import DestinationSettings
from headwater.errors import Refused
from headwater.testing.twins import serving
from headwater.testing.twins.hubspot import HubSpot

PEOPLE = [("1", "Ada", "Rome"), ("2", "Bo", "Oslo"), ("3", "Cy", "Lima")]


def to_folder(desk, folder):
    desk.destination = DestinationSettings(type="files", options={"folder": folder})


@pytest.fixture
def settled(desk):
    """Three people that are confirmed in one folder."""
    to_folder(desk, "first")
    desk.people(*PEOPLE)
    assert desk.deliver().confirmed == 3
    return desk


def test_a_destination_that_has_moved_stops_its_sync_and_nothing_else_is_said_to_be_well(settled):
    to_folder(settled, "second")
    plan = settled.plan()
    assert plan.counts.planned == 0
    (stop,) = plan.stops
    assert stop.rule == "moved"
    assert "3 rows are confirmed at files first" in stop.sentence
    assert "files second" in stop.sentence
    with pytest.raises(Refused, match="retry people --confirmed"):
        settled.deliver()
    assert not (settled.folder / "second").exists()
    to_folder(settled, "first")
    assert settled.plan().stops == ()


def test_started_anew_all_rows_go_to_the_new_place_once(settled):
    settled.people(*PEOPLE[:2], ("4", "Di", "Rome"))
    to_folder(settled, "second")
    assert places.start_anew(settled.warehouse, "people", settled.clock) == 3
    assert settled.deliver().confirmed == 3
    assert len(list((settled.folder / "second" / "people").iterdir())) == 1
    assert set(settled.delivered()) == {"1", "2", "4"}
    assert settled.deliver().status == "nothing"


def test_the_same_tool_under_another_address_keeps_what_it_has(settled):
    to_folder(settled, "renamed")
    assert settled.deliver(allow=["moved"]).status == "nothing"
    assert settled.plan().stops == ()
    settled.people(*PEOPLE[:2], ("3", "Cy", "Quito"))
    assert settled.deliver().confirmed == 1
    to_folder(settled, "first")  # what looks at it from elsewhere knows it by its other name
    assert settled.plan().stops == ()


def test_an_address_that_nobody_answers_at_is_no_place(settled):
    settled.destination = DestinationSettings(
        type="webhook", options={"url": "http://127.0.0.1:1/", "secret_headers": {"Authorization": "MISSING"}}
    )
    settled.people(*PEOPLE, ("4", "Di", "Rome"))
    places.start_anew(settled.warehouse, "people", settled.clock)
    assert settled.deliver(environment={}).confirmed == 0
    assert settled.warehouse.rows("from headwater.sync_places") == []


def test_what_is_sent_anew_has_ids_that_nobody_has_seen(settled):
    """A receiver that remembers ids would take it for a repetition, and do nothing."""
    seen = "select operation_id from headwater.sync_rows"
    before = {row["operation_id"] for row in settled.warehouse.rows(seen)}
    places.start_anew(settled.warehouse, "people", settled.clock)
    settled.deliver()
    again = {row["operation_id"] for row in settled.warehouse.rows(seen)} - before
    assert len(again) == 3
    places.start_anew(settled.warehouse, "people", settled.clock)
    settled.people(*PEOPLE, PEOPLE[0])  # the long way: a row that stands there twice
    settled.deliver()
    assert len({row["operation_id"] for row in settled.warehouse.rows(seen)} - before - again) == 3


def test_a_sync_of_which_nothing_is_confirmed_may_go_anywhere(desk):
    to_folder(desk, "first")
    desk.people()
    desk.deliver()
    to_folder(desk, "second")
    desk.people(*PEOPLE)
    assert desk.deliver().confirmed == 3


def test_another_crm_gets_everybody_when_it_is_asked_for(desk):
    desk.with_sync(destination="crm", fields={"email": "id", "firstname": "name", "city": "city"}, key="id")
    desk.people(*[(f"{number}@example.com", name, city) for number, name, city in PEOPLE])
    secrets = {"HUBSPOT_TOKEN": "pat-twin"}
    first, second = HubSpot(), HubSpot()
    with serving.serve(first, port=0) as one, serving.serve(second, port=0) as other:
        desk.destination = DestinationSettings(type="hubspot", options={"base_url": one})
        assert desk.deliver(environment=secrets).confirmed == 3
        desk.destination = DestinationSettings(type="hubspot", options={"base_url": other})
        with pytest.raises(Refused, match="moved"):
            desk.deliver(environment=secrets)
        places.start_anew(desk.warehouse, "people", desk.clock)
        assert desk.deliver(environment=secrets).confirmed == 3


@pytest.mark.parametrize(
    ("address", "place"),
    [
        (
            "postgresql://shop:s3cret@db.example:5433/shop?sslmode=require",
            "postgres db.example:5433/shop public.people",
        ),
        ("postgresql://shop:other@db.example:5433/shop", "postgres db.example:5433/shop public.people"),
        (
            "host=db.example port=5433 dbname=shop user=shop password=s3cret",
            "postgres db.example:5433/shop public.people",
        ),
        ("postgresql://shop:Tr0ub4dor#3@db.example/shop", "postgres db.example:5432/shop public.people"),
        ("postgresql://shop:s?c[ret@db.example/shop?port=5433", "postgres db.example:5433/shop public.people"),
        ("postgresql://postgres:@/postgres?host=/run/postgres", "postgres /run/postgres:5432/postgres public.people"),
        ("no address", ""),
        ("", ""),
    ],
)
def test_the_place_of_a_table_has_no_user_and_no_password(desk, address, place):
    settings = DestinationSettings(
        type="postgres", options={"dsn_env": "SHOP_DSN", "table": "people", "key_column": "id"}
    )
    made = make("shop", settings, folder=desk.folder, environment={"SHOP_DSN": address})
    assert places.of(made, settings) == place


@pytest.mark.parametrize(
    ("kind", "options", "place"),
    [
        ("webhook", {"url": "https://api.example/people"}, "webhook https://api.example/people"),
        ("webhook", {"url_env": "PEOPLE_URL"}, "webhook $PEOPLE_URL"),
        ("salesforce", {"login_url": "https://shop.example/", "object": "Lead", "external_id": "Id__c"}, "salesforce https://shop.example Lead"),
        ("kafka", {"bootstrap_servers": "b1:9092", "topic": "people"}, "kafka b1:9092 people"),
        ("nothing", {}, ""),
    ],
)  # fmt: skip
def test_every_destination_says_where_it_is(desk, kind, options, place):
    settings = DestinationSettings(type=kind, options=options)
    made = make("there", settings, folder=desk.folder, environment={"PEOPLE_URL": "https://s3cret.example"})
    assert places.of(made, settings) == place
