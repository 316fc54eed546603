"""Why something was not accepted: every reason code with its sentence. The codes are part of the contract with users."""

from dataclasses import dataclass

REASONS: dict[str, str] = {
    "bad_json": "the bytes are not JSON",
    "bad_encoding": "the body's compression cannot be undone",
    "invalid_utf8": "the text is not valid UTF-8",
    "invalid_unicode": "a \\u escape stands for half a character",
    "nul_character": "a text holds the character NUL, which no warehouse stores",
    "bad_number": "a number is beyond what a double can hold",
    "too_deep": "objects and lists are nested too deeply",
    "too_large": "the event or the request is larger than the limit",
    "too_many": "the batch holds more events than the limit",
    "not_an_object": "an event is a JSON object",
    "no_batch": "a batch needs `batch`, a list of events",
    "no_type": "an event of a batch needs its `type`",
    "unknown_type": "the type is none of those that exist",
    "no_user": "an event needs a `userId` or an `anonymousId`",
    "no_event": "a track call needs the name of its `event`",
    "no_group": "a group call needs a `groupId`",
    "no_previous_id": "an alias call needs a `previousId`",
    "bad_type": "a field holds a value of the wrong kind",
    "bad_timestamp": "a moment is not an ISO 8601 date and time",
    "message_id_too_long": "a `messageId` has at most 100 characters",
    "unplanned_event": "the tracking plan has no such event",
    "plan_violation": "the event breaks its tracking plan",
    "delete_not_allowed": "deletions come by signed webhook, or from a source whose settings say `deletes: true`",
    "missing_write_key": "the request says no write key: send it with Basic auth or as `writeKey` in the body",
    "unknown_write_key": "no source has this write key",
    "bad_signature": "X-Signature is not the HMAC-SHA1 of the body with the source's secret",
    "bad_hubspot_signature": "X-HubSpot-Signature-v3 is not that of this request with the app's client secret",
    "stale_signature": "the request was signed longer ago than a request takes, so it may be a replay",
    "bad_salesforce_sender": "an outbound message has the source's token in its address and comes of the source's organisation",
    "bad_xml": "the bytes are not XML that is read here",
    "bad_notification": "the body is not what the tool publishes of its calls",
    "told_again": "the tool that called repeats a call that was refused; it cannot be sent through again from here",
    "bad_change": "a change of a database row has a form that cannot be held",
    "not_kept": "they were larger than the limit and only their beginning was kept: whoever sent them has to send them again",
    "digest_kept": "they could not be read, so not be masked, and of a masked source only digest and length are kept then: "
    "whoever sent them has to send them again",
    "row_not_kept": "they are rows of a database: mend what was wrong there or under `tables`, then `headwater cdc resnapshot` "
    "reads the rows again, or whoever writes the topics does (of a masked table only digest and length were kept)",
    "no_webhook_secret": "the source has no webhook secret, so nobody can show that they are who they say",
}

BEYOND_CURE = frozenset({"told_again", "not_kept", "digest_kept", "row_not_kept"})
"""What no mended setting lets pass: it has to come once more from where it came."""

TOLD_BY_OTHERS = frozenset({"bad_json", "bad_xml", "bad_encoding", "plan_violation"})
"""Here what was found is a sentence of a parser or of the schema."""


@dataclass(frozen=True, slots=True)
class Reason:
    """One thing that is wrong. `code` is a key of REASONS; `path` is the field, empty for the whole."""

    code: str
    found: str = ""
    path: str = ""

    @property
    def message(self) -> str:
        """The sentence: what is expected, then what was found."""
        if not self.found:
            return REASONS[self.code]
        return f"{REASONS[self.code]}{': ' if self.code in TOLD_BY_OTHERS else '; found '}{self.found}"

    def as_json(self) -> dict[str, str]:
        """As it stands in the log and in `headwater.rejected_events`."""
        return {"code": self.code, "message": self.message, "path": self.path, "found": self.found}
