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
    assert places.start_anew(settled.warehouse, "people") == 3
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
        places.start_anew(desk.warehouse, "people")
        assert desk.deliver(environment=secrets).confirmed == 3


@pytest.mark.parametrize(
    ("address", "place"),
    [
        (
            "postgresql://shop:s3cret@db.example:5433/shop?sslmode=require",
            "postgres db.example:5433/shop public.people",
        ),
        ("postgresql://shop:other@db.example:5433/shop", "postgres db.example:5433/shop public.people"),
        ("postgresql://postgres:@/postgres?host=/run/postgres", "postgres /run/postgres/postgres public.people"),
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
