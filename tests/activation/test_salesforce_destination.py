"""The Salesforce destination against the twin over real HTTP: the kit both ways of sending, the guides' answers, faults in any order."""

import random
from decimal import Decimal

import httpx2
import pytest

from headwater.activation.destinations import Batch, Later, Operation, Unusable, make
from headwater.activation.destinations import salesforce as module
from headwater.activation.settings import DestinationSettings
from headwater.testing import checks
from headwater.testing.twins.salesforce import FieldOf, Salesforce
from headwater.testing.twins.serving import serve

FIELDS = {"name": FieldOf(), "amount": FieldOf("number"), "note": FieldOf()}


class CollectionsBench(checks.Bench):
    """An object with the kit's fields."""

    faults = frozenset({"later", "lost_answer", "refuse", "poison", "echo"})
    options = {}

    def __init__(self, folder):
        super().__init__(folder)
        self.twin = Salesforce(client_secret=checks.SECRET)
        self.twin.objects["Thing__c"] = {"Key__c": FieldOf(external_id=True), **FIELDS}
        self.serving = serve(self.twin)
        self.url = self.serving.__enter__()

    @property
    def settings(self):
        options = {
            "login_url": self.url,
            "object": "Thing__c",
            "external_id": "Key__c",
            "poll_seconds": 0.01,
            **self.options,
        }
        return DestinationSettings(type="salesforce", options=options)

    @property
    def environment(self):
        return {"SALESFORCE_CLIENT_ID": self.twin.client_id, "SALESFORCE_CLIENT_SECRET": checks.SECRET}

    def arrived(self):
        return {
            key: {
                "name": record.get("name"),
                "amount": None if record.get("amount") is None else Decimal(str(record["amount"])),
                "note": record.get("note"),
            }
            for key, record in self.twin.by("Thing__c", "Key__c").items()
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
                self.twin.duplicates.add(key)

    def close(self):
        self.serving.__exit__(None, None, None)


@pytest.mark.parametrize("check", checks.of(CollectionsBench), ids=lambda check: check.__name__)
def test_the_kit_passes(check, tmp_path):
    check(CollectionsBench(tmp_path))


@pytest.fixture
def twin():
    return Salesforce()


@pytest.fixture
def salesforce(twin):
    opened = []

    def make_one(**options):
        settings = DestinationSettings(
            type="salesforce",
            options={
                "login_url": address,
                "object": "Lead",
                "external_id": "Person_Id__c",
                "poll_seconds": 0.01,
                **options,
            },
        )
        secrets = {"SALESFORCE_CLIENT_ID": twin.client_id, "SALESFORCE_CLIENT_SECRET": twin.client_secret}
        one = make("crm", settings, folder=None, environment=secrets)
        one.open()
        opened.append(one)
        return one

    with serve(twin) as address:
        yield make_one
        for one in opened:
            one.close()


def lead(number, verb="update", **fields):
    named = {"LastName": f"Name {number}", "Company": "Unknown"} if verb != "delete" else {}
    return Operation(f"op-{number}", "leads", f"p{number}", 1, verb, named | fields)


def batch(*rows):
    return Batch("b1", "leads", rows)


def leads(twin):
    return twin.by("Lead", "Person_Id__c")


@pytest.mark.parametrize("rows", [5, 2_500], ids=["collections", "bulk"])
def test_leads_arrive_with_their_fields(twin, salesforce, rows):
    one = salesforce()
    one.expect(rows)
    sent = [lead(n, MQL_Score__c=Decimal("20.50"), Last_Event_At__c="2026-03-01T12:00:00Z") for n in range(rows)]
    size = one.limits.max_rows
    results = [result for start in range(0, rows, size) for result in one.deliver(batch(*sent[start : start + size]))]
    assert [result.operation_id for result in results] == [row.operation_id for row in sent]
    assert {result.status for result in results} == {"done"}
    assert len(leads(twin)) == rows
    assert str(leads(twin)["p3"]["MQL_Score__c"]) == "20.5" or leads(twin)["p3"]["MQL_Score__c"] == "20.50"


@pytest.mark.parametrize("rows", [5, 2_500], ids=["collections", "bulk"])
def test_a_null_clears_and_an_absent_field_is_not_touched(twin, salesforce, rows):
    one = salesforce()
    one.expect(rows)
    one.deliver(batch(lead(1, Country="UK", Phone="1"), lead(2, Country="UK", Phone="2")))
    one.deliver(batch(lead(1, Country=None), lead(2, Phone=None)))
    assert {key: (record.get("Country"), record.get("Phone")) for key, record in leads(twin).items()} == {
        "p1": (None, "1"),
        "p2": ("UK", None),
    }


@pytest.mark.parametrize("rows", [5, 2_500], ids=["collections", "bulk"])
def test_each_row_has_salesforces_own_code_and_what_to_do(twin, salesforce, rows):
    one = salesforce()
    one.expect(rows)
    twin.locked["p4"] = 1
    results = one.deliver(
        batch(
            lead(1),
            lead(2, LastName=None),
            lead(3, FirstName="x" * 41),
            lead(4),
            lead(5, Shoe_Size__c="44") if rows == 5 else lead(5, Email="nobody"),
        )
    )
    last = "INVALID_FIELD" if rows == 5 else "INVALID_EMAIL_ADDRESS"
    assert [(result.status, result.code) for result in results] == [
        ("done", ""),
        ("failed", "REQUIRED_FIELD_MISSING"),
        ("failed", "STRING_TOO_LONG"),
        ("retry", "UNABLE_TO_LOCK_ROW"),
        ("failed", last),
    ]
    assert results[1].advice == "give the field in the mapping, with a default like {company|Unknown}"


def test_a_lead_that_stops_qualifying_is_lapsed_and_stays(twin, salesforce):
    one = salesforce(removal={"MQL_Status__c": "Lapsed"})
    one.deliver(batch(lead(1, MQL_Status__c="Qualified")))
    (result,) = one.deliver(batch(lead(1, verb="delete")))
    assert result.status == "done"
    assert leads(twin)["p1"]["MQL_Status__c"] == "Lapsed"


def test_a_removal_deletes_and_one_that_is_gone_already_is_done(twin, salesforce):
    one = salesforce()
    one.deliver(batch(lead(1), lead(2)))
    results = one.deliver(batch(lead(1, verb="delete"), lead(3, verb="delete")))
    assert [result.status for result in results] == ["done", "done"]
    assert set(leads(twin)) == {"p2"}


def test_a_removal_of_which_nothing_is_said_is_not_done(twin, salesforce):
    one = salesforce(removal="delete")
    one.deliver(batch(lead(1)))
    twin.faults.add(["mute"])
    with pytest.raises(Later) as caught:
        one.deliver(batch(lead(1, "delete")))
    assert (caught.value.code, caught.value.in_doubt) == ("NOT_ANSWERED", False)
    assert "p1" in leads(twin)


def test_a_converted_lead_is_not_touched(twin, salesforce):
    one = salesforce()
    one.deliver(batch(lead(1)))
    leads(twin)["p1"]["IsConverted"] = True
    (result,) = one.deliver(batch(lead(1, Country="UK")))
    assert (result.status, result.code) == ("failed", "CANNOT_UPDATE_CONVERTED_LEAD")


def test_rows_that_a_job_did_not_come_to_are_tried_again(twin, salesforce):
    one = salesforce()
    one.expect(2_500)
    twin.unprocessed = 2
    results = one.deliver(batch(*[lead(n) for n in range(5)]))
    assert [result.status for result in results] == ["done"] * 3 + ["retry"] * 2
    assert results[4].code == "UNPROCESSED"


@pytest.mark.parametrize(("answers", "in_doubt"), [(["mute"], False), (["ok", "ok", "ok", "mute"], True)])
def test_a_job_of_which_nothing_is_said_is_asked_for_again_as_a_whole(twin, salesforce, answers, in_doubt):
    """And is not halved, row by row, as one that some row spoils."""
    one = salesforce()
    one.expect(2_500)
    twin.faults.add(answers)
    with pytest.raises(Later) as caught:
        one.deliver(batch(lead(1)))
    assert (caught.value.code, caught.value.in_doubt) == ("NOT_ANSWERED", in_doubt)


def test_results_of_a_job_come_in_pages(twin, salesforce):
    twin.page_lines = 2
    one = salesforce()
    one.expect(2_500)
    assert {result.status for result in one.deliver(batch(*[lead(n) for n in range(5)]))} == {"done"}


def test_every_call_of_a_job_counts_for_the_limit(twin, salesforce):
    one = salesforce()
    one.expect(2_500)
    one.deliver(batch(lead(1)))
    before, waited = twin.calls, []
    one.wait = lambda: waited.append(twin.calls)
    one.deliver(batch(lead(2)))
    assert waited == list(range(before + 1, twin.calls)), "each call but the first, which the sender waits for"


def test_a_session_that_ended_is_renewed_once(twin, salesforce):
    one = salesforce()
    twin.expire()
    (result,) = one.deliver(batch(lead(1)))
    assert result.status == "done"
    twin.faults.add(["expired", "expired"])
    with pytest.raises(Unusable) as caught:
        one.deliver(batch(lead(2)))
    assert caught.value.code == "INVALID_SESSION_ID"


def test_every_call_of_removals_and_of_a_renewed_session_counts_for_the_limit(twin, salesforce, monkeypatch):
    monkeypatch.setattr(module, "COLLECTION_ROWS", 2)
    one = salesforce()
    one.deliver(batch(lead(1), lead(2), lead(3)))
    before, waited = twin.calls, []
    one.wait = lambda: waited.append(twin.calls)
    one.deliver(batch(lead(4), *(lead(n, "delete") for n in (1, 2, 3))))
    assert waited == list(range(before + 1, twin.calls)), "each call but the first, which the sender waits for"
    assert twin.calls == before + 5
    twin.expire()
    waited.clear()
    one.deliver(batch(lead(5)))
    assert waited == [before + 6] * 2, "the sign-in, and the call with the new session"


@pytest.mark.parametrize(("fault", "in_doubt"), [("busy", False), ("broken", True)])
def test_removals_that_are_done_are_known_though_those_after_them_fail(twin, salesforce, monkeypatch, fault, in_doubt):
    monkeypatch.setattr(module, "COLLECTION_ROWS", 2)
    one = salesforce()
    one.deliver(batch(*(lead(n) for n in range(6))))
    twin.faults.add(["ok", "ok", fault])
    results = one.deliver(batch(*(lead(n, "delete") for n in range(6))))
    assert [(result.status, result.in_doubt) for result in results] == [
        *[("done", False)] * 2,
        *[("retry", in_doubt)] * 2,
        *[("retry", False)] * 2,
    ]
    assert set(leads(twin)) == {"p2", "p3", "p4", "p5"}


def test_others_may_call_while_a_job_is_waited_for(twin, salesforce, monkeypatch):
    one = salesforce()
    one.expect(2_500)
    passed = []
    one.wait, one.answered = lambda: passed.append("call"), lambda: passed.append("answered")
    monkeypatch.setattr(module.time, "sleep", lambda seconds: passed.append("pause"))
    one.deliver(batch(lead(1)))
    pause = passed.index("pause")
    assert passed[pause - 1 : pause + 2] == ["answered", "pause", "call"]


def test_the_quota_leaves_the_rest_to_others(twin, salesforce):
    twin.quota = 10
    one = salesforce()
    sent = 0
    with pytest.raises(Unusable) as caught:
        for number in range(10):
            one.deliver(batch(lead(number)))
            sent += 1
    assert (sent, caught.value.code) == (8, "QUOTA")
    assert caught.value.message == (
        "80% of the organisation's daily calls is used; `quota_share` of 'crm' leaves the rest to others"
    )


def test_a_quota_that_is_used_up_stops_the_sync(twin, salesforce):
    twin.quota = 1
    one = salesforce(quota_share=1)
    twin.used = 1
    with pytest.raises(Unusable) as caught:
        one.deliver(batch(lead(1)))
    assert caught.value.code == "REQUEST_LIMIT_EXCEEDED"


def test_duplicate_rules_are_passed_only_by_choice(twin, salesforce):
    twin.duplicates.add("p1")
    (stopped,) = salesforce().deliver(batch(lead(1)))
    assert (stopped.status, stopped.code) == ("failed", "DUPLICATES_DETECTED")
    (saved,) = salesforce(allow_duplicates=True).deliver(batch(lead(1)))
    assert saved.status == "done"


def test_wrong_credentials_stop_before_anything_is_sent(twin):
    with serve(twin) as address:
        settings = DestinationSettings(
            type="salesforce", options={"login_url": address, "object": "Lead", "external_id": "Person_Id__c"}
        )
        one = make(
            "crm",
            settings,
            folder=None,
            environment={"SALESFORCE_CLIENT_ID": "x", "SALESFORCE_CLIENT_SECRET": "y"},
        )
        with pytest.raises(Unusable) as caught:
            one.open()
        one.close()
    assert caught.value.code == "invalid_client"


def test_an_answer_that_is_too_short_is_in_doubt(twin, salesforce):
    one = salesforce()
    twin.faults.add(["mute"])
    with pytest.raises(Later) as caught:
        one.deliver(batch(lead(1)))
    assert caught.value.in_doubt


# ------------------------------------------------------------------ the twin, asked as the guides say, without our client


@pytest.fixture
def client(twin):
    with serve(twin) as address, httpx2.Client(base_url=address) as made:
        form = {"grant_type": "client_credentials", "client_id": twin.client_id, "client_secret": twin.client_secret}
        token = made.post("/services/oauth2/token", data=form).json()["access_token"]
        made.headers["Authorization"] = f"Bearer {token}"
        yield made


COLLECTION = "/services/data/v64.0/composite/sobjects/Lead/Person_Id__c"


def record(number, **fields):
    named = {"LastName": "N", "Company": "C"}
    return {"attributes": {"type": "Lead"}, "Person_Id__c": f"p{number}", **named, **fields}


def test_the_twin_refuses_more_than_200_records(client):
    answer = client.patch(COLLECTION, json={"records": [record(n) for n in range(201)]})
    assert (answer.status_code, answer.json()[0]["errorCode"]) == (400, "EXCEEDED_MAX_SIZE_REQUEST")


def test_the_twin_refuses_two_rows_of_one_external_id(client, twin):
    answer = client.patch(COLLECTION, json={"records": [record(1), record(1), record(2)]})
    assert [one["success"] for one in answer.json()] == [False, False, True]
    assert set(leads(twin)) == {"p2"}


def test_the_twin_answers_200_in_order_even_when_rows_fail(client):
    answer = client.patch(COLLECTION, json={"allOrNone": False, "records": [record(1), record(2, Company=None)]})
    good, bad = answer.json()
    assert answer.status_code == 200
    assert (good["success"], good["created"], good["errors"]) == (True, True, [])
    assert (bad["success"], bad["errors"][0]["statusCode"]) == (False, "REQUIRED_FIELD_MISSING")
    assert answer.headers["Sforce-Limit-Info"] == "api-usage=1/100000"


def test_the_twin_takes_all_or_none(client, twin):
    answer = client.patch(COLLECTION, json={"allOrNone": True, "records": [record(1), record(2, Company=None)]})
    assert [one["success"] for one in answer.json()] == [False, False]
    assert leads(twin) == {}


def test_the_twin_answers_300_when_several_match(client, twin):
    client.patch(COLLECTION, json={"records": [record(1)]})
    twin.records["Lead"]["00Qcopy"] = {**leads(twin)["p1"], "Id": "00Qcopy"}
    one = client.patch("/services/data/v64.0/sobjects/Lead/Person_Id__c/p1", json={"Country": "UK"})
    assert one.status_code == 300
    assert not any("Country" in lead for lead in twin.records["Lead"].values())


def test_the_twin_wants_a_session(client, twin):
    twin.expire()
    answer = client.patch(COLLECTION, json={"records": [record(1)]})
    assert (answer.status_code, answer.json()[0]["errorCode"]) == (401, "INVALID_SESSION_ID")


def test_the_twins_page_shows_what_arrived(client):
    client.patch(COLLECTION, json={"records": [record(1, FirstName="<Ada>")]})
    text = client.get("/").text
    assert "&lt;Ada&gt;" in text
    assert "Lead <small>1 record</small>" in text


@pytest.mark.parametrize("bulk_above", [2_000, 100], ids=["collections", "bulk"])
@pytest.mark.parametrize("seed", range(2))
def test_faults_in_random_order_leave_the_twin_equal_to_the_model(tmp_path, seed, bulk_above):
    """Each run may fail in part; after enough runs the twin holds every row as the model has it, and nothing twice."""
    random_ = random.Random(seed)
    bench = CollectionsBench(tmp_path)
    bench.options = {"bulk_above": bulk_above}
    bench.twin.locked = {f"key{number}": 2 for number in range(0, 900, 7)}
    bench.twin.unprocessed = 30
    kinds = [
        "ok",
        "ok",
        "ok",
        "busy",
        "broken",
        "write_then_broken",
        "hang_up",
        "write_then_hang_up",
        "garbage",
        "expired",
    ]
    bench.twin.faults.add(random_.choices(kinds, k=60))
    with checks.shop(bench, 900) as shop:
        for _ in range(60):
            if shop.run(dry_run=False).status == "nothing":
                break
        else:
            pytest.fail("the sync never came to rest")
        assert bench.arrived() == shop.expected()
        assert len(bench.twin.records["Thing__c"]) == 900
        assert bench.effects() == 900
