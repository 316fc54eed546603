"""What Salesforce says: outbound messages of a flow or a workflow rule, SOAP with up to 100 notifications.

A message carries no signature. It is believed when its address has the source's token (`?token=…`) and its
`OrganizationId` is the one of the settings; let nobody but Salesforce reach the address (its client certificate, or its
addresses, at the proxy). Salesforce sends a message until it is answered with `<Ack>true</Ack>`, for at most 24 hours, in no
order, sometimes twice: the messageId is the notification's Id.

Which fields a message has is chosen where it is made. What they become:

    HasOptedOutOfEmail true                   email_unsubscribed
    EmailBouncedDate or EmailBouncedReason    email_bounced, `hard`
    IsWon true; IsClosed true otherwise       deal_won, deal_lost
    IsConverted true                          lead_converted
    always                                    lead_changed, opportunity_changed … with all its fields

A notification with several of these becomes several events. The moment is that of SystemModstamp or LastModifiedDate when
the message has one, else of its arrival.
"""

import hmac
import re
from collections.abc import Mapping
from typing import Any
from xml.etree import ElementTree

from headwater.collect.hooks import PERSON, Call, Unreadable
from headwater.collect.reasons import Reason

_OUTBOUND = "{http://soap.sforce.com/2005/09/outbound}"
_TYPE = "{http://www.w3.org/2001/XMLSchema-instance}type"
_SHORT_ID = 15
"""An id of 18 characters is one of 15 and a checksum."""
_ANSWER = (
    '<?xml version="1.0" encoding="UTF-8"?>'
    '<soapenv:Envelope xmlns:soapenv="http://schemas.xmlsoap.org/soap/envelope/"><soapenv:Body>'
    '<notificationsResponse xmlns="http://soap.sforce.com/2005/09/outbound"><Ack>{ack}</Ack></notificationsResponse>'
    "</soapenv:Body></soapenv:Envelope>"
)


class Salesforce:
    """One source of outbound messages. `person_field` holds our id of the person, where the message has it."""

    tool = "salesforce"
    content_type = b"text/xml; charset=utf-8"

    def __init__(self, organization_id: str, token: bytes, person_field: str | None) -> None:
        self._organization = organization_id[:_SHORT_ID]
        self._token = token
        self._person_field = person_field

    def check(self, call: Call) -> Reason | None:
        """Token and organisation. Takes the same time wherever a wrong token differs."""
        if not hmac.compare_digest(call.query.get("token", "").encode("utf-8", "replace"), self._token):
            return Reason("bad_salesforce_sender", "another token, or none", "token")
        try:
            message = _message(call.body)
        except Unreadable:
            return None  # `events` says what is wrong with it
        if (message.findtext(f"{_OUTBOUND}OrganizationId") or "")[:_SHORT_ID] != self._organization:
            return Reason("bad_salesforce_sender", "another organisation", "OrganizationId")
        return None

    def events(self, call: Call) -> list[dict[str, Any]]:
        """The track calls of every notification."""
        return [
            event
            for number, one in enumerate(_message(call.body).findall(f"{_OUTBOUND}Notification"))
            for event in self._of(number, one)
        ]

    def answer(self, taken: bool) -> bytes | None:
        """The acknowledgement."""
        return _ANSWER.format(ack="true" if taken else "false").encode()

    def _of(self, number: int, notification: ElementTree.Element) -> list[dict[str, Any]]:
        id_ = notification.findtext(f"{_OUTBOUND}Id")
        record = notification.find(f"{_OUTBOUND}sObject")
        if not id_ or record is None or _TYPE not in record.attrib:
            path = f"Notification[{number}]"
            raise Unreadable(Reason("bad_notification", "a notification without Id and typed sObject", path))
        kind = re.sub("(?<=[a-z0-9])(?=[A-Z])", "_", record.attrib[_TYPE].rpartition(":")[2]).lower()
        fields = {child.tag.rpartition("}")[2]: child.text or "" for child in record}
        common: dict[str, Any] = {"type": "track", **self._who(fields)}
        moment = fields.get("SystemModstamp") or fields.get("LastModifiedDate")
        if moment:
            common["timestamp"] = moment
        return [
            {
                **common,
                "messageId": f"salesforce:{id_}:{name}",
                "event": name,
                "properties": {"tool": "salesforce", **fields, **more},
            }
            for name, more in _names(kind, fields)
        ]

    def _who(self, fields: Mapping[str, str]) -> dict[str, str]:
        person = fields.get(self._person_field or "", "")
        if person.startswith("anon:"):
            return {"anonymousId": person.removeprefix("anon:")}
        if person:
            return {"userId": person}
        return {"anonymousId": f"{PERSON}salesforce:{fields.get('Id', '')}"}


def _names(kind: str, fields: Mapping[str, str]) -> list[tuple[str, dict[str, Any]]]:
    """The events of one record, each with what it says beside the record's fields."""

    def true(name: str) -> bool:
        return fields.get(name, "").lower() in ("true", "1")

    found: list[tuple[str, dict[str, Any]]] = []
    if true("HasOptedOutOfEmail"):
        found.append(("email_unsubscribed", {}))
    if fields.get("EmailBouncedDate") or fields.get("EmailBouncedReason"):
        found.append(("email_bounced", {"hard": True}))
    if true("IsWon"):
        found.append(("deal_won", {}))
    elif true("IsClosed"):
        found.append(("deal_lost", {}))
    if true("IsConverted"):
        found.append(("lead_converted", {}))
    return [*found, (f"{kind}_changed", {})]


def _message(body: bytes) -> ElementTree.Element:
    """The element `notifications`. Raises Unreadable; a document that brings definitions of its own is not looked at."""
    if b"<!DOCTYPE" in body or b"<!ENTITY" in body:
        raise Unreadable(Reason("bad_xml", "definitions of its own (DOCTYPE)"))
    try:
        root = ElementTree.fromstring(body)  # noqa: S314 (no definitions, so nothing that could grow; and at most 500 KB)
    except (ElementTree.ParseError, ValueError, LookupError) as error:
        raise Unreadable(Reason("bad_xml", str(error)[:200])) from error
    message = root.find(f".//{_OUTBOUND}notifications")
    if message is None:
        raise Unreadable(Reason("bad_notification", "no `notifications`"))
    return message
