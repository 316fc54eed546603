"""The HubSpot destination against the twin over real HTTP: the kit, the answers of the vendor's reference, faults in any order."""

import itertools
import json
import random
from decimal import Decimal

import httpx2
import pytest

from headwater.activation.destinations import Batch, Later, Operation, Rejected, Unusable, make
from headwater.activation.settings import DestinationSettings
from headwater.testing import checks
from headwater.testing.twins.hubspot import HubSpot
from headwater.testing.twins.serving import Rolling, serve

FIELDS = {"name": "string", "amount": "number", "note": "string"}


class HubSpotBench(checks.Bench):
    """Contacts by a unique property of their own, so that the kit's keys need not be e-mail addresses."""

    faults = frozenset({"later", "lost_answer", "refuse", "poison", "echo"})

    def __init__(self, folder):
        super().__init__(folder)
        self.twin = HubSpot(token=checks.SECRET)
        self.twin.properties["contacts"] |= {"shop_key": "string"} | FIELDS
        self.twin.unique["contacts"] = "shop_key"
        self.serving = serve(self.twin)
        self.url = self.serving.__enter__()

    @property
    def settings(self):
        return DestinationSettings(type="hubspot", options={"base_url": self.url, "id_property": "shop_key"})

    @property
    def environment(self):
        return {"HUBSPOT_TOKEN": checks.SECRET}

    def arrived(self):
        return {
            key: {
                name: Decimal(value) if name == "amount" else value
                for name in FIELDS
                for value in [record.properties.get(name)]
                if value is not None or name == "note"
            }
            for key, record in self.twin.by("contacts", "shop_key").items()
        }

    def effects(self):
        return self.twin.writes

    def calls(self):
        return self.twin.calls

    def stage(self, fault, key=""):
        match fault:
            case "later":
                self.twin.faults.add(["busy"])
            case "lost_answer":
                self.twin.faults.add(["write_then_hang_up"])
            case "echo":
                self.twin.echo = True
            case _:
                self.twin.refuse[key] = "Property values were not valid"

    def close(self):
        self.serving.__exit__(None, None, None)


def without_waiting(settings):
    return settings.model_copy(update={"max_wait_seconds": 0.01})


@pytest.mark.parametrize("check", checks.of(HubSpotBench), ids=lambda check: check.__name__)
def test_the_kit_passes(check, tmp_path):
    check(HubSpotBench(tmp_path))


@pytest.fixture
def twin():
    made = HubSpot()
    made.properties["contacts"] |= {
        "mql_score": "number",
        "seen_at": "datetime",
        "born_on": "date",
        "is_new": "bool",
        "code": "string",
    }
    return made


@pytest.fixture
def hubspot(twin):
    opened = []

    def make_one(**options):
        settings = DestinationSettings(type="hubspot", options={"base_url": address, **options})
        one = make("crm", settings, folder=None, environment={"HUBSPOT_TOKEN": twin.token})
        one.open()
        opened.append(one)
        return one

    with serve(twin) as address:
        yield make_one
        for one in opened:
            one.close()


def row(number, verb="update", key=None, **fields):
    return Operation(f"op-{number}", "contacts", key or f"ada{number}@example.org", 1, verb, fields)


def batch(*rows, types=None):
    return Batch("b1", "contacts", rows, (), types or {})


def test_values_are_sent_as_hubspot_takes_them(twin, hubspot):
    types = {"seen_at": "TIMESTAMP", "born_on": "DATE", "code": "VARCHAR"}
    sent = row(
        1,
        key="Ada@Example.org",
        mql_score=Decimal("20.50"),
        seen_at="2026-03-01T12:00:00Z",
        born_on="1990-12-10",
        is_new=True,
        code="2026-03-01",
    )
    (result,) = hubspot().deliver(batch(sent, types=types))
    assert result.status == "done"
    assert twin.by("contacts", "email")["ada@example.org"].properties == {
        "email": "ada@example.org",
        "mql_score": "20.50",
        "seen_at": "1772366400000",
        "born_on": "660787200000",
        "is_new": "true",
        "code": "2026-03-01",
    }


def test_one_bad_row_of_a_call_fails_alone_with_hubspots_words(twin, hubspot):
    results = hubspot().deliver(batch(row(1, mql_score=7), row(2, mql_score="many"), row(3, nonsense="x")))
    assert [result.status for result in results] == ["done", "failed", "failed"]
    assert results[1].code == "VALIDATION_ERROR"
    assert results[1].message == "Property values were not valid: many was not a valid number."
    assert results[2].message == 'Property values were not valid: Property "nonsense" does not exist'
    assert set(twin.by("contacts", "email")) == {"ada1@example.org"}


def test_a_stage_that_hubspot_does_not_take_is_not_done(hubspot):
    one = hubspot()
    one.deliver(batch(row(1, lifecyclestage="customer")))
    (result,) = one.deliver(batch(row(1, lifecyclestage="lead")))
    assert (result.status, result.code) == ("failed", "NOT_TAKEN")
    assert result.message == "lifecyclestage stayed 'customer'; HubSpot does not go back to 'lead'"


def test_a_null_clears_and_a_removal_archives(twin, hubspot):
    one = hubspot()
    one.deliver(batch(row(1, firstname="Ada", city="London"), row(2, firstname="Bob")))
    one.deliver(batch(row(1, city=None), row(2, verb="delete"), row(3, verb="delete")))
    assert {key: record.properties for key, record in twin.by("contacts", "email").items()} == {
        "ada1@example.org": {"email": "ada1@example.org", "firstname": "Ada"}
    }


def test_a_removal_of_which_nothing_is_said_is_not_done(twin, hubspot):
    one = hubspot()
    one.deliver(batch(row(1), row(2)))
    twin.faults.add(["mute"])
    results = one.deliver(batch(row(1, verb="delete"), row(2, verb="delete")))
    assert [(result.status, result.code, result.in_doubt) for result in results] == [
        ("failed", "NOT_MENTIONED", True)
    ] * 2
    assert len(twin.by("contacts", "email")) == 2


def test_a_removal_by_another_of_the_contacts_addresses_is_done(twin, hubspot, monkeypatch):
    """HubSpot finds a contact by each of its addresses and names the first of them."""
    one = hubspot()
    one.deliver(batch(row(1), row(2)))
    contact, of_first = twin.by("contacts", "email")["ada1@example.org"], twin.by
    contact.properties["email"] = "first@example.org"
    monkeypatch.setattr(twin, "by", lambda kind, name: of_first(kind, name) | {"ada1@example.org": contact})
    results = one.deliver(batch(row(1, verb="delete"), row(2, verb="delete"), row(3, verb="delete")))
    assert [result.status for result in results] == ["done"] * 3
    assert all(record.archived for record in twin.records["contacts"].values())


def test_the_daily_limit_stops_the_sync_and_the_short_one_waits(twin, hubspot):
    one = hubspot()
    twin.faults.add(["busy"])
    with pytest.raises(Later) as waits:
        one.deliver(batch(row(1)))
    assert (waits.value.code, waits.value.retry_after) == ("TEN_SECONDLY_ROLLING", 10.0)
    twin.daily = 0
    with pytest.raises(Unusable) as stops:
        one.deliver(batch(row(1)))
    assert stops.value.code == "DAILY"


@pytest.mark.parametrize(
    ("fault", "kind", "in_doubt"),
    [
        ("expired", Unusable, None),
        ("broken", Later, True),
        ("write_then_broken", Later, True),
        ("hang_up", Later, True),
        ("garbage", Later, True),
    ],
)
def test_what_broken_answers_mean(twin, hubspot, fault, kind, in_doubt):
    one = hubspot()
    twin.faults.add([fault])
    with pytest.raises(kind) as caught:
        one.deliver(batch(row(1, firstname="Ada")))
    assert getattr(caught.value, "in_doubt", None) is in_doubt


def test_an_answer_without_a_word_about_a_row_is_no_success(hubspot, twin):
    twin.faults.add(["mute"])
    (result,) = hubspot().deliver(batch(row(1)))
    assert (result.status, result.code, result.in_doubt) == ("failed", "NOT_MENTIONED", True)
    assert "ada1@example.org" in twin.by("contacts", "email"), (
        "it may have been written, so a mirror has to look after it"
    )


def test_a_batch_that_hubspot_refuses_as_a_whole_is_rejected(hubspot):
    with pytest.raises(Rejected) as caught:
        hubspot().deliver(batch(row(1, key="a@b.org"), row(2, key="a@b.org")))
    assert caught.value.message == "Duplicate IDs found in batch input"


def test_the_dated_path_and_other_objects_are_settings(twin, hubspot):
    twin.properties["tickets"] = {"subject": "string", "shop_key": "string"}
    twin.unique["tickets"] = "shop_key"
    one = hubspot(object="tickets", id_property="shop_key", path="/crm/objects/2026-03/{object}")
    one.deliver(batch(row(1, key="t1", subject="Call Ada")))
    assert twin.by("tickets", "shop_key")["t1"].properties["subject"] == "Call Ada"


def test_two_calls_of_a_removal_are_two_calls_of_the_limit(twin, hubspot):
    one = hubspot()
    one.deliver(batch(row(1)))
    waited = itertools.count()
    one.wait = lambda: next(waited)
    one.deliver(batch(row(1, verb="delete")))
    assert (twin.calls, next(waited)) == (3, 1)


def test_every_call_of_a_batch_of_both_kinds_counts_for_the_limit(twin, hubspot):
    one = hubspot()
    one.deliver(batch(row(1)))
    before, waited = twin.calls, []
    one.wait = lambda: waited.append(twin.calls)
    one.deliver(batch(row(2), row(1, verb="delete")))
    assert waited == [before + 1, before + 2], "each call but the first, which the sender waits for"


@pytest.mark.parametrize(("fault", "in_doubt"), [("busy", False), ("broken", True), ("expired", False)])
def test_what_was_written_is_known_though_the_removals_of_the_batch_fail(twin, hubspot, fault, in_doubt):
    one = hubspot()
    one.deliver(batch(row(1)))
    twin.faults.add(["ok", fault])
    written, removed = one.deliver(batch(row(2), row(1, verb="delete")))
    assert written.status == "done"
    assert (removed.status, removed.in_doubt) == ("retry", in_doubt)


# ------------------------------------------------------------------ the twin, asked as the reference says, without our client


@pytest.fixture
def ask(twin):
    with serve(twin) as address, httpx2.Client(base_url=address) as client:

        def post(path, body, token=twin.token):
            answer = client.post(
                path, content=json.dumps(body), headers={"Authorization": f"Bearer {token}"} if token else {}
            )
            return answer.status_code, answer.json() if answer.content else None

        yield post


UPSERT = "/crm/v3/objects/contacts/batch/upsert"


def given(number, **properties):
    return {"idProperty": "email", "id": f"ada{number}@example.org", "properties": properties}


@pytest.mark.parametrize(
    ("inputs", "status", "message"),
    [
        ([given(n) for n in range(101)], 400, "The maximum number of inputs supported in a batch request is 100"),
        ([given(1), given(1)], 400, "Duplicate IDs found in batch input"),
        ([{"properties": {}}], 400, "Some required fields were not set: [id]"),
        ([given(1), given(2, mql_score="x")], 400, "Property values were not valid: x was not a valid number."),
        ([given(1, mql_score=3)], 400, "Invalid input JSON: property mql_score must be text"),
        ([given(1, born_on="1000")], 400, "Property values were not valid: 1000 is not midnight UTC, in milliseconds"),
        ("not a list", 400, "Invalid input JSON: `inputs` must be a list of objects"),
    ],
)
def test_the_twin_refuses_what_hubspot_refuses(twin, ask, inputs, status, message):
    code, answer = ask(UPSERT, {"inputs": inputs})
    assert (code, answer["message"]) == (status, message)
    assert twin.by("contacts", "email") == {}


def test_the_twin_wants_a_token(ask):
    code, answer = ask(UPSERT, {"inputs": [given(1)]}, token=None)
    assert (code, answer["category"]) == (401, "INVALID_AUTHENTICATION")


def test_the_twin_answers_per_row_only_with_trace_ids(ask):
    traced = [given(n, mql_score=score) | {"objectWriteTraceId": f"t{n}"} for n, score in ((1, "5"), (2, "x"))]
    code, answer = ask(UPSERT, {"inputs": traced})
    assert (code, answer["status"], answer["numErrors"]) == (207, "COMPLETE", 1)
    assert answer["errors"][0]["context"] == {"objectWriteTraceId": ["t2"]}
    (result,) = answer["results"]
    assert (result["objectWriteTraceId"], result["new"], result["properties"]["mql_score"]) == ("t1", True, "5")


def test_the_twin_counts_calls_in_a_rolling_window(twin):
    now = [0.0]
    limit = Rolling(3, 10.0, now=lambda: now[0])
    assert [limit.admit() for _ in range(4)] == [True, True, True, False]
    now[0] = 9.9
    assert not limit.admit()
    now[0] = 10.0
    assert limit.admit()


@pytest.mark.parametrize("seed", range(3))
def test_faults_in_random_order_leave_the_twin_equal_to_the_model(tmp_path, seed):
    """Each run may fail in part; after enough runs the twin holds every row as the model has it, and nothing twice."""
    random_ = random.Random(seed)
    bench = HubSpotBench(tmp_path)
    bench.twin.faults.add(
        random_.choices(["ok", "busy", "broken", "write_then_broken", "hang_up", "write_then_hang_up", "garbage"], k=60)
    )
    with checks.shop(bench, 700) as shop:
        for _ in range(40):
            if shop.run(dry_run=False).status == "nothing":
                break
        else:
            pytest.fail("the sync never came to rest")
        assert bench.arrived() == shop.expected()
        assert len(bench.twin.records["contacts"]) == 700
        assert bench.effects() == 700
