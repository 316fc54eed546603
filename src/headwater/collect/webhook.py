"""The signature of Segment's webhook destination: X-Signature, the hexadecimal HMAC-SHA1 of the JSON with the shared secret.

Of an array only the first element is signed; whoever saw one signed event could therefore hang others behind it. Point
the destination at an address that only Segment and you know, and over TLS.
"""

import hmac
from contextlib import suppress

import msgspec

_items = msgspec.json.Decoder(list[msgspec.Raw])


def signed(body: bytes, signature: str | None, secret: bytes) -> bool:
    """Whether the signature belongs to the body: as it was sent, or written again in the most compact way.

    Takes the same time wherever a wrong signature differs.
    """
    if not signature:
        return False
    given = signature.strip().lower().encode("ascii", "replace")
    told = body.strip()
    if told.startswith(b"["):
        try:
            elements = _items.decode(told)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return False
        if not elements:
            return False
        told = bytes(elements[0]).strip()
    candidates = [told]
    if told is not body and not body.strip().startswith(b"["):
        candidates.append(body)
    with suppress(msgspec.MsgspecError, UnicodeError, RecursionError, ValueError):
        candidates.append(msgspec.json.encode(msgspec.json.decode(told)))
    found = [hmac.compare_digest(hmac.digest(secret, one, "sha1").hex().encode(), given) for one in candidates]
    return any(found)
