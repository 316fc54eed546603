"""The twins of a demo project: what was delivered stands there, stays there, and is delivered once."""

import json
import shutil
import socket
import sqlite3

import httpx2
import pytest

from headwater import config
from headwater.clock import SystemClock
from headwater.errors import UsageError
from headwater.stack import Stack
from headwater.testing.twins import beside
from headwater.testing.twins.serving import serve
from headwater.testing.twins.shelf import Shelf
from headwater.warehouse import Warehouse

SYNCS = ["mql_to_salesforce", "contacts_to_hubspot"]


def kept(folder, name):
    """The records of a twin, as its file has them."""
    with sqlite3.connect(folder / "twins" / f"{name}.sqlite") as file:
        return [json.loads(record) for (record,) in file.execute("select record from records")]


@pytest.fixture
def shop(demo, tmp_path):
    return shutil.copytree(demo.folder, tmp_path / "shop")


def deliver(folder):
    """What each of the two syncs said."""
    with beside.standing(folder), Stack(folder, clock=SystemClock()) as stack:
        return {result.stage.split()[1]: result.details for result in stack.activate(syncs=SYNCS, dry_run=False)}


def test_the_demo_ends_with_leads_and_contacts_in_the_twins(demo):
    with Warehouse(demo.folder / "warehouse" / "shop.duckdb") as warehouse:
        leads = warehouse.rows("select person_id, mql_score from main.user_alerts where last_name is not null")
        emails = warehouse.rows(
            "select distinct lower(trim(email)) as email from main.dim_customer where email is not null"
        )
    there = {lead["Person_Id__c"]: lead for lead in kept(demo.folder, "salesforce")}
    assert {one["person_id"] for one in leads} == set(there)
    assert {lead["MQL_Status__c"] for lead in there.values()} == {"Qualified"}
    with Warehouse(demo.folder / "warehouse" / "shop.duckdb") as warehouse:
        known = warehouse.rows("select remote_id, key, customer_id from headwater.remote_ids")
    assert {one["remote_id"] for one in known if one["key"] in there} == {
        f"salesforce:{one['Id']}" for one in there.values()
    }
    assert {one["remote_id"] for one in known if "@" in one["key"]} == {
        f"hubspot:contact:{one['id']}" for one in kept(demo.folder, "hubspot")
    }
    assert all(one["customer_id"] for one in known)
    contacts = {record["properties"]["email"] for record in kept(demo.folder, "hubspot")}
    assert contacts == {one["email"] for one in emails}


def test_a_second_delivery_sends_nothing_and_one_changed_customer_one_row(shop):
    again = deliver(shop)
    assert [again[sync]["sent"] for sync in SYNCS] == [0, 0]
    with Warehouse(shop / "warehouse" / "shop.duckdb") as warehouse:
        lead = warehouse.rows("select person_id from main.user_alerts where last_name is not null limit 1")[0][
            "person_id"
        ]
        warehouse.execute("update main.user_alerts set mql_score = 99 where person_id = ?", [lead])
    changed = deliver(shop)
    assert [changed[sync]["sent"] for sync in SYNCS] == [1, 0]
    assert [one["Person_Id__c"] for one in kept(shop, "salesforce") if str(one["MQL_Score__c"]) == "99"] == [lead]


def test_a_twin_that_is_started_again_shows_what_was_delivered(shop):
    twin = beside.made("salesforce", shop)
    with serve(twin) as address:
        shown = httpx2.get(address).text
    twin.shelf.close()
    assert "172 records" in shown
    assert "Qualified" in shown


def test_a_project_has_each_twin_once(shop):
    twin = beside.made("hubspot", shop)
    with pytest.raises(UsageError, match=r"the hubspot twin of this project stands already on http://127.0.0.1:"):
        beside.made("hubspot", shop)
    twin.shelf.close()


def test_a_port_that_somebody_has_gives_way_to_another_and_the_settings_say_so(shop):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        beside._look_for("hubspot", shop, f"http://127.0.0.1:{taken.getsockname()[1]}")
        with beside.standing(shop):
            now = config.load(shop).destinations["hubspot"].options["base_url"]
            assert httpx2.get(f"{now}/twin").json()["kept_in"] == str((shop / "twins" / "hubspot.sqlite").resolve())
        said = deliver(shop)  # it is the same twin, and has all that is confirmed
        assert said["contacts_to_hubspot"]["status"] == "nothing"


def test_records_that_are_removed_are_gone_from_the_file_too(tmp_path):
    shelf = Shelf(tmp_path / "twin.sqlite")
    shelf.keep([("Lead", "1", {"Id": "1"}), ("Lead", "2", {"Id": "2"})])
    shelf.keep([("Lead", "1", None), ("Lead", "2", {"Id": "2", "City": "Rome"})])
    shelf.close()
    again = Shelf(tmp_path / "twin.sqlite")
    assert again.load() == {"Lead": {"2": {"Id": "2", "City": "Rome"}}}
    again.close()
