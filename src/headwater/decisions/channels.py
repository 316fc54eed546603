"""The ways to reach a person: which consent each needs, and what makes a person reachable by it.

Columns are those of `int_decision_candidates`. A channel without a column for it (push, until the shop has one) is
consented only by a row in `consent_state` and reaches nobody.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Channel:
    """`consent`: any of these columns being true is a yes. `reach`: any of these being true is an address."""

    name: str
    consent: tuple[str, ...]
    reach: tuple[str, ...]
    text: str


CHANNELS: dict[str, Channel] = {
    channel.name: channel
    for channel in (
        Channel("email", ("email_consent",), ("has_email",), "an e-mail"),
        Channel("sms", ("sms_consent",), ("has_phone",), "a text message"),
        Channel("push", (), (), "a push message"),
        Channel(
            "cs_ticket",
            ("email_consent", "sms_consent"),
            ("has_email", "has_phone"),
            "a ticket that asks a colleague to reach the person; it offers something, so it needs a yes to one of the two",
        ),
    )
}
