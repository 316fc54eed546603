"""What HubSpot says: webhooks of an app that is subscribed to changes of properties.

A call is a list of at most 100 events. It is believed when `X-HubSpot-Signature-v3` is the base64 HMAC-SHA256 of method,
address, body and `X-HubSpot-Request-Timestamp` with the app's client secret, and the timestamp is at most five minutes old.

HubSpot repeats a call that it got no 2xx for (up to ten times in a day), does not keep the order, and does not promise that
`eventId` is unique: the messageId is made from what happened to what and when.

    contact.propertyChange  hs_email_optout                     email_unsubscribed, or email_resubscribed when it is false
                            hs_email_hard_bounce_reason_enum    email_bounced, `hard`
                            hs_email_bounce                     email_bounced
                            hs_email_last_send_date             email_sent
                            hs_email_last_open_date             email_opened
                            hs_email_last_click_date            email_clicked
                            named in the settings               the event named there
    deal.propertyChange     dealstage closedwon, closedlost     deal_won, deal_lost
    <object>.creation, .deletion, .merge, .restore, .propertyChange otherwise: contact_created, deal_changed …
    contact.privacyDeletion                                     a request to forget the person

`object.*` with an `objectTypeId` is the same for the generic subscriptions.
"""

import base64
import hashlib
import hmac
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import msgspec

from headwater.collect.hooks import PERSON, Call, Unreadable
from headwater.collect.reasons import Reason

_SIGNATURE = "x-hubspot-signature-v3"
_TIMESTAMP = "x-hubspot-request-timestamp"
_DECODED = re.compile("%(3A|2F|3F|40|21|24|27|28|29|2A|2C|3B)", re.IGNORECASE)
"""What HubSpot writes plainly in the address before it signs it."""
_CONTACT = {
    "hs_email_bounce": "email_bounced",
    "hs_email_last_send_date": "email_sent",
    "hs_email_last_open_date": "email_opened",
    "hs_email_last_click_date": "email_clicked",
}
_VERBS = {
    "creation": "created",
    "deletion": "deleted",
    "merge": "merged",
    "restore": "restored",
    "propertyChange": "changed",
    "associationChange": "associated",
}
_TYPES = {"0-1": "contact", "0-2": "company", "0-3": "deal", "0-5": "ticket", "0-7": "product", "0-8": "line_item"}


class HubSpot:
    """One source of HubSpot webhooks. `url` as HubSpot has it, when a proxy in between changes it."""

    tool = "hubspot"
    content_type = b"application/json"

    def __init__(self, secret: bytes, url: str | None, max_age_seconds: float, events: Mapping[str, str]) -> None:
        self._secret = secret
        self._url = url
        self._max_age = max_age_seconds
        self._names = {**_CONTACT, **events}

    def check(self, call: Call) -> Reason | None:
        """Signature and age. Takes the same time wherever a wrong signature differs."""
        given, stamp = call.headers.get(_SIGNATURE, ""), call.headers.get(_TIMESTAMP, "")
        if not given or not re.fullmatch(r"\d{1,15}", stamp):
            return Reason("bad_hubspot_signature", "no signature and timestamp", "X-HubSpot-Signature-v3")
        age = call.received.timestamp() - int(stamp) / 1_000
        url = self._url or call.url
        plain = _DECODED.sub(lambda found: chr(int(found[1], 16)), url)
        told = [f"{call.method}{one}".encode() + call.body + stamp.encode() for one in (url, plain)]
        right = [base64.b64encode(hmac.digest(self._secret, one, "sha256")) for one in told]
        found = [hmac.compare_digest(one, given.encode("utf-8", "replace")) for one in right]
        if not any(found):
            return Reason("bad_hubspot_signature", "another", "X-HubSpot-Signature-v3")
        if abs(age) > self._max_age:
            return Reason("stale_signature", f"{age:.0f} s", "X-HubSpot-Request-Timestamp")
        return None

    def events(self, call: Call) -> list[dict[str, Any]]:
        """One track call per event of the list."""
        told = msgspec.json.decode(call.body)
        listed = told if isinstance(told, list) else [told]
        for number, one in enumerate(listed):
            if not isinstance(one, dict) or not isinstance(one.get("subscriptionType"), str) or "objectId" not in one:
                path = f"[{number}]"
                raise Unreadable(Reason("bad_notification", "an event without subscriptionType and objectId", path))
        return [self._event(one) for one in listed]

    def answer(self, taken: bool) -> bytes | None:
        """HubSpot looks at the status only."""
        return None

    def _event(self, one: dict[str, Any]) -> dict[str, Any]:
        kind, _, verb = one["subscriptionType"].partition(".")
        if kind == "object":
            kind = _TYPES.get(str(one.get("objectTypeId")), str(one.get("objectTypeId")))
        moment = one.get("occurredAt")
        at = datetime.fromtimestamp(moment / 1_000, UTC).isoformat() if isinstance(moment, int | float) else None
        person = f"{PERSON}hubspot:{kind}:{one['objectId']}"
        said: dict[str, Any] = {"messageId": _id(kind, one), "anonymousId": person}
        if at is not None:
            said["timestamp"] = at
        if kind == "contact" and verb == "privacyDeletion":
            return {**said, "type": "delete"}
        name, more = self._name(kind, verb, one.get("propertyName"), one.get("propertyValue"))
        kept = {
            name: one[name]
            for name in ("objectId", "portalId", "propertyName", "propertyValue", "changeSource")
            if name in one
        }
        return {**said, "type": "track", "event": name, "properties": {"tool": "hubspot", **kept, **more}}

    def _name(self, kind: str, verb: str, changed: Any, value: Any) -> tuple[str, dict[str, Any]]:
        """The event's name, and what it says beside what HubSpot said."""
        general = f"{kind}_{_VERBS.get(verb, verb)}"
        if verb != "propertyChange":
            return general, {}
        if kind == "deal" and changed == "dealstage" and value in ("closedwon", "closedlost"):
            return ("deal_won" if value == "closedwon" else "deal_lost"), {}
        if kind != "contact" or value in (None, ""):
            return general, {}
        if changed == "hs_email_optout":
            return ("email_unsubscribed" if str(value).lower() == "true" else "email_resubscribed"), {}
        if changed == "hs_email_hard_bounce_reason_enum":
            return "email_bounced", {"hard": True, "reason": value}
        return self._names.get(str(changed), general), {}


def _id(kind: str, one: Mapping[str, Any]) -> str:
    what = ("portalId", "subscriptionType", "objectId", "propertyName", "propertyValue", "occurredAt")
    digest = hashlib.sha256(msgspec.json.encode([one.get(name) for name in what])).hexdigest()
    return f"hubspot:{kind}:{digest[:32]}"
