"""Salesforce's outbound messages pointed at us: who may send, what becomes of a record, the acknowledgement it waits for."""

from collections.abc import Iterator
from xml.sax.saxutils import escape

import pytest
from collecting import Running, collecting

from headwater.collect.settings import CollectSettings, SourceSettings

TOKEN = "t0ken-of-the-address"
ORGANIZATION = "00D24000000abcdEAA"
PATH = f"/v1/salesforce/crm?token={TOKEN}"


def notification(number: int, kind: str, **fields: str) -> str:
    inside = "".join(f"<sf:{name}>{escape(value)}</sf:{name}>" for name, value in fields.items())
    return (
        f'<Notification><Id>04l0800002nrC{number:02d}AAU</Id><sObject xsi:type="sf:{kind}" '
        f'xmlns:sf="urn:sobject.enterprise.soap.sforce.com">{inside}</sObject></Notification>'
    )


def message(*notifications: str, organization: str = ORGANIZATION) -> bytes:
    """An outbound message of the shape of Salesforce's WSDL."""
    return (
        '<?xml version="1.0" encoding="UTF-8"?>'
        '<soapenv:Envelope xmlns:soapenv="http://schemas.xmlsoap.org/soap/envelope/" '
        'xmlns:xsd="http://www.w3.org/2001/XMLSchema" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"><soapenv:Body>'
        '<notifications xmlns="http://soap.sforce.com/2005/09/outbound">'
        f'<OrganizationId>{organization}</OrganizationId><ActionId>04k08000000abcdAAA</ActionId><SessionId xsi:nil="true"/>'
        "<EnterpriseUrl>https://example.my.salesforce.com/services/Soap/c/64.0/00D</EnterpriseUrl>"
        "<PartnerUrl>https://example.my.salesforce.com/services/Soap/u/64.0/00D</PartnerUrl>"
        f"{''.join(notifications)}</notifications></soapenv:Body></soapenv:Envelope>"
    ).encode()


@pytest.fixture
def running(monkeypatch: pytest.MonkeyPatch) -> Iterator[Running]:
    monkeypatch.setenv("SALESFORCE_HOOK_TOKEN", TOKEN)
    hook = {"organization_id": ORGANIZATION, "person_field": "Person_Id__c"}
    with collecting(CollectSettings(sources=[SourceSettings(name="crm", write_key="crm", salesforce=hook)])) as one:
        yield one


def call(running: Running, body: bytes, path: str = PATH) -> tuple[int, str]:
    answer = running.client.post(
        path, content=body, headers={"content-type": "text/xml; charset=utf-8", "SOAPAction": '""'}
    )
    assert answer.headers["content-type"].startswith("text/xml")
    return answer.status_code, answer.text


def told(running: Running) -> list[tuple[str, str | None, str | None]]:
    return [(one["event"], one["userId"], one["anonymousId"]) for one in running.events()]


def test_a_lead_that_opts_out_is_an_event_of_the_person(running: Running) -> None:
    lead = notification(
        1,
        "Lead",
        Id="00Q5g00000ABCDEFG",
        Person_Id__c="C7",
        HasOptedOutOfEmail="true",
        LastModifiedDate="2026-03-01T11:00:00.000Z",
    )
    status, answer = call(running, message(lead))
    assert status == 200
    assert "<Ack>true</Ack>" in answer
    assert told(running) == [("email_unsubscribed", "C7", None), ("lead_changed", "C7", None)]
    assert {one["timestamp"] for one in running.events()} == {"2026-03-01T11:00:00Z"}


@pytest.mark.parametrize(
    ("kind", "fields", "events"),
    [
        ("Contact", {"EmailBouncedDate": "2026-03-01T10:00:00Z"}, ["email_bounced", "contact_changed"]),
        (
            "Opportunity",
            {"IsWon": "true", "IsClosed": "true", "Amount": "1200.50"},
            ["deal_won", "opportunity_changed"],
        ),
        ("Opportunity", {"IsWon": "false", "IsClosed": "true"}, ["deal_lost", "opportunity_changed"]),
        ("Lead", {"IsConverted": "true"}, ["lead_converted", "lead_changed"]),
        ("OrderItem__c", {}, ["order_item__c_changed"]),
    ],
)
def test_what_a_record_becomes(running: Running, kind: str, fields: dict, events: list[str]) -> None:
    call(running, message(notification(1, kind, Id="0061", **fields)))
    assert told(running) == [(event, None, "tool:salesforce:0061") for event in events]
    assert fields.items() <= running.events()[0]["properties"].items()


def test_somebody_without_a_name_is_known_by_the_visitor_id(running: Running) -> None:
    call(running, message(notification(1, "Lead", Id="00Q1", Person_Id__c="anon:v-77")))
    assert told(running) == [("lead_changed", None, "v-77")]


def test_a_repetition_has_the_same_ids(running: Running) -> None:
    both = message(notification(1, "Lead", Id="00Q1"), notification(2, "Lead", Id="00Q2"))
    call(running, both)
    call(running, both)
    ids = [one["messageId"] for one in running.events()]
    assert ids[:2] == ids[2:]
    assert len(set(ids)) == 2


@pytest.mark.parametrize(
    ("path", "organization"),
    [
        ("/v1/salesforce/crm", ORGANIZATION),
        ("/v1/salesforce/crm?token=guess", ORGANIZATION),
        (PATH, "00D24000000zzzzEAA"),
    ],
)
def test_who_is_not_the_organisation_is_refused(running: Running, path: str, organization: str) -> None:
    status, answer = call(running, message(notification(1, "Lead", Id="00Q1"), organization=organization), path)
    assert status == 401
    assert "<Ack>false</Ack>" in answer
    assert running.events() == []
    (kept,) = running.rejected()
    assert kept["reasons"][0]["code"] == "bad_salesforce_sender"


def test_the_short_form_of_the_organisations_id_is_the_same_organisation(running: Running) -> None:
    assert call(running, message(organization=ORGANIZATION[:15]))[0] == 200


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"", "bad_xml"),
        (b"<broken", "bad_xml"),
        (b'{"json": true}', "bad_xml"),
        (b"<a/>", "bad_notification"),
        (message("<Notification><Id>1</Id></Notification>"), "bad_notification"),
        (b'<!DOCTYPE a [<!ENTITY b "bbbb">]><a>&b;</a>', "bad_xml"),
    ],
)
def test_a_body_that_is_no_outbound_message_is_answered(running: Running, body: bytes, code: str) -> None:
    status, answer = call(running, body)
    assert status == 400
    assert "<Ack>false</Ack>" in answer
    assert [one["reasons"][0]["code"] for one in running.rejected()] == [code]
