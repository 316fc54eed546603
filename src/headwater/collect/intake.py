"""One request: whose it is, which events it holds, and what becomes of each. Pure but for the clock; no HTTP server, no log.

    bytes --unpack--> JSON --whose--> source --items--> events --accept.prepare--> entries of topic events
                                                                      `----------> entries of topic rejected, all reasons

A whole request is refused only when nothing of it can be read (400), when it is too large (400), or when nobody knows the
sender (401). Anything else is 200, and the answer says which events were rejected and why. The caller answers only when
the entries are durable.
"""

import base64
import binascii
import zlib
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec

from headwater.clock import Clock
from headwater.collect import hooks, split, webhook
from headwater.collect import sources as sources_of
from headwater.collect.accept import Arrival, prepare
from headwater.collect.endpoints import Endpoint
from headwater.collect.reasons import Reason
from headwater.collect.rejections import UNREADABLE, Rejections
from headwater.collect.settings import CollectSettings
from headwater.collect.sources import Source
from headwater.collect.taken import Taken
from headwater.records.logged import Entry

HEAD = 32 * 1024
"""Of a request that is too large so many bytes are kept."""


class _Batch(msgspec.Struct):
    """The top of a batch; the events and the shared objects stay bytes."""

    batch: list[msgspec.Raw]
    writeKey: Any = None  # noqa: N815
    sentAt: Any = None  # noqa: N815
    context: msgspec.Raw = msgspec.Raw()
    integrations: msgspec.Raw = msgspec.Raw()


_decode = msgspec.json.Decoder().decode
_encode = msgspec.json.Encoder().encode
_decode_batch = msgspec.json.Decoder(_Batch).decode
_decode_items = msgspec.json.Decoder(list[msgspec.Raw]).decode

ONE = b'{"success":true,"accepted":1,"rejected":[]}'


class Intake:
    """Takes requests apart. One per process; not for several threads."""

    def __init__(self, settings: CollectSettings, clock: Clock, folder: Path = Path()) -> None:
        self.settings = settings
        self.sources = sources_of.load(settings, folder)
        self._clock = clock
        self._future = timedelta(seconds=settings.future_seconds)
        self._known: dict[bytes, Source] = {}

    def take(
        self,
        endpoint: Endpoint,
        body: bytes,
        *,
        authorization: bytes | None = None,
        encoding: bytes = b"",
        ip: str | None = None,
        signature: str | None = None,
        webhook_source: str = "",
        id_seed: str | None = None,
    ) -> Taken:
        """Everything that a request comes to.

        `ip` is that of a client-side sender, else None. `id_seed`: what a missing messageId is derived from, with the
        event's bytes; None = drawn at random.
        """
        arrival = Arrival(self._clock.now(), ip=ip, future_after=self._future, id_seed=id_seed)
        told = Rejections(endpoint, arrival)
        if encoding or body[:2] == b"\x1f\x8b":
            unpacked = _unpack(body, encoding, self.settings.limits.batch_bytes)
            if isinstance(unpacked, Reason):
                told.came["encoding"] = encoding[:100].decode("latin-1")
                return self._refuse(told, body, unpacked, self._by_header(authorization))
            body = unpacked
        if len(body) > self.settings.limits.batch_bytes:
            return self.too_large(endpoint, body[:HEAD], len(body), authorization=authorization, arrival=arrival)
        if endpoint.shape == "single":
            return self._single(told, body, authorization)
        if endpoint.shape == "batch":
            return self._batch(told, body, authorization)
        return self._webhook(told, body, authorization, signature, webhook_source)

    def take_call(self, endpoint: Endpoint, call: hooks.Call, name: str) -> Taken:
        """Everything that the call of a tool comes to; `name` is that of the source in its address."""
        arrival = Arrival(self._clock.now(), corrected=False, future_after=self._future)
        told = Rejections(endpoint, arrival)
        told.came["webhook"] = name[:100]
        source = self.sources.by_name.get(name)
        hook = source.hooks.get(endpoint.name.rpartition("/")[2]) if source else None
        if source is None or hook is None:
            return self._refuse(
                told, call.body, Reason("unknown_write_key", "no source of that name that the tool may tell"), None
            )
        reason = hook.check(call)
        status = 400 if reason is None else 401
        events: list[dict[str, Any]] = []
        try:
            events = hook.events(call) if reason is None else []
        except hooks.Unreadable as error:
            reason = error.reason
        except UNREADABLE as error:
            reason = unreadable(error, call.body)
        if reason is not None:
            taken = self._refuse(told, call.body, reason, source, status=status)
        else:
            arrival.id_seed = _webhook_seed(source)
            taken = self._take_all(told, source, [_encode(event) for event in events])
        taken.content_type = hook.content_type
        taken.body = hook.answer(taken.status == 200) or taken.body
        return taken

    def too_large(
        self,
        endpoint: Endpoint,
        head: bytes,
        length: int,
        *,
        authorization: bytes | None = None,
        arrival: Arrival | None = None,
    ) -> Taken:
        """A request of which nobody read more than `head`."""
        told = Rejections(endpoint, arrival or Arrival(self._clock.now()))
        reason = Reason("too_large", f"{length:,} bytes; the limit is {self.settings.limits.batch_bytes:,}")
        return self._refuse(told, head[:HEAD], reason, self._by_header(authorization), length=length)

    def take_event(
        self, endpoint: Endpoint, raw: bytes, source: Source, came: Mapping[str, Any], *, id_seed: str
    ) -> Taken:
        """One event that was rejected, as it arrived: `came` is the `arrival` of its rejection."""
        shared = came.get("shared") or {}
        passed_on = endpoint.shape in ("webhook", "tool")
        context, integrations = shared.get("context"), shared.get("integrations")
        told = Rejections(
            endpoint,
            Arrival(
                self._clock.now(),
                ip=came.get("ip"),
                sent_at=shared.get("sentAt"),
                context=_encode(context) if context else None,
                integrations=_encode(integrations) if integrations else None,
                corrected=not passed_on,
                future_after=self._future,
                id_seed=_webhook_seed(source) if passed_on else id_seed,
            ),
        )
        taken = Taken(200, b"", source=source.name)
        self._take_raw(taken, told, source, raw, endpoint.kind)
        return taken

    # whose request it is

    def _by_header(self, authorization: bytes | None) -> Source | None:
        if authorization is None:
            return None
        known = self._known.get(authorization)
        if known is None:
            key = basic_key(authorization)
            known = self.sources.by_key.get(key) if key is not None else None
            if known is not None and len(self._known) < 10_000:
                self._known[authorization] = known
        return known

    def _whose(self, told: Rejections, authorization: bytes | None, in_body: Any) -> Source | Reason:
        key = None if authorization is None else basic_key(authorization)
        if key is not None:
            told.came["writeKey"] = key[:100]
            return self._by_header(authorization) or Reason("unknown_write_key", "one that nobody has")
        if in_body is None or in_body == "":
            return Reason("missing_write_key", path="writeKey")
        source = self.sources.by_key.get(in_body) if isinstance(in_body, str) else None
        return source or Reason("unknown_write_key", "one that nobody has", "writeKey")

    # the three shapes

    def _single(self, told: Rejections, body: bytes, authorization: bytes | None) -> Taken:
        try:
            item = _decode(body)
        except UNREADABLE as error:
            return self._refuse(told, body, unreadable(error, body), self._by_header(authorization))
        source = self._by_header(authorization)
        if source is None:
            whose = self._whose(told, authorization, item.get("writeKey") if isinstance(item, dict) else None)
            if isinstance(whose, Reason):
                return self._refuse(told, body, whose, None)
            source = whose
        limit = self.settings.limits.event_bytes
        if len(body) > limit:
            reason = Reason("too_large", f"{len(body):,} bytes; the limit is {limit:,}")
            return self._refuse(told, body, reason, source)
        taken = Taken(200, ONE, source=source.name)
        self._take_one(taken, told, source, body, item, told.endpoint.kind)
        if taken.rejected:
            taken.body = _answer(taken, told.rejected)
        return taken

    def _batch(self, told: Rejections, body: bytes, authorization: bytes | None) -> Taken:
        try:
            batch = _decode_batch(body)
        except UNREADABLE as error:
            found = self._hard_batch(body)
            if isinstance(found, _Batch):
                batch = found
            else:
                by_header = self._by_header(authorization)
                if found is not None:
                    key = found.get("writeKey") if isinstance(found, dict) else None
                    whose = self._whose(told, authorization, key)
                    if isinstance(whose, Reason):
                        return self._refuse(told, body, whose, None)
                    return self._reject_all(told, body, Reason("no_batch", path="batch"), whose)
                return self._refuse(told, body, unreadable(error, body), by_header)
        source = self._by_header(authorization)
        if source is None:
            whose = self._whose(told, authorization, batch.writeKey)
            if isinstance(whose, Reason):
                return self._refuse(told, body, whose, None)
            source = whose
        limits = self.settings.limits
        if len(batch.batch) > limits.batch_events:
            reason = Reason("too_many", f"{len(batch.batch):,} events; the limit is {limits.batch_events:,}")
            return self._refuse(told, body, reason, source)
        told.arrival.sent_at = batch.sentAt
        told.arrival.context = _object(batch.context)
        told.arrival.integrations = _object(batch.integrations)
        return self._take_all(told, source, [bytes(raw) for raw in batch.batch])

    def _webhook(
        self, told: Rejections, body: bytes, authorization: bytes | None, signature: str | None, name: str
    ) -> Taken:
        source = self.sources.by_name.get(name)
        told.came["webhook"] = name[:100]
        if source is None:
            return self._refuse(told, body, Reason("unknown_write_key", "no source of that name"), None)
        told.came["signature"] = (signature or "")[:100]
        if source.secret is None:
            return self._refuse(told, body, Reason("no_webhook_secret"), source, status=401)
        if not webhook.signed(body, signature, source.secret):
            return self._refuse(told, body, Reason("bad_signature", path="X-Signature"), source, status=401)
        del told.came["signature"]
        told.arrival.corrected = False
        told.arrival.ip = None
        told.arrival.id_seed = _webhook_seed(source)
        try:
            items = [bytes(raw) for raw in _decode_items(body)] if body.lstrip()[:1] == b"[" else [body]
        except UNREADABLE as error:
            return self._refuse(told, body, unreadable(error, body), source)
        if len(items) == 1 and items[0] is body:
            try:
                _decode(body)
            except UNREADABLE as error:
                return self._refuse(told, body, unreadable(error, body), source)
        return self._take_all(told, source, items)

    def _hard_batch(self, body: bytes) -> "_Batch | Any | None":
        """A batch that is no JSON as a whole, its events apart; JSON that is no batch; None when it is neither."""
        try:
            return _decode(body) or {}
        except UNREADABLE:
            pass
        found = split.split(body)
        if found is None:
            return None
        try:
            batch = _decode_batch(found[0])
        except UNREADABLE:
            return None
        batch.batch = [msgspec.Raw(piece) for piece in found[1]]
        return batch

    # events

    def _take_all(self, told: Rejections, source: Source, items: list[bytes]) -> Taken:
        taken = Taken(200, b"", source=source.name)
        for raw in items:
            self._take_raw(taken, told, source, raw, None)
        taken.body = _answer(taken, told.rejected)
        return taken

    def _take_raw(self, taken: Taken, told: Rejections, source: Source, raw: bytes, kind: str | None) -> None:
        limit = self.settings.limits.event_bytes
        if len(raw) > limit:
            told.reject(taken, source, raw, [Reason("too_large", f"{len(raw):,} bytes; the limit is {limit:,}")])
            return
        try:
            item = _decode(raw)
        except UNREADABLE as error:
            told.reject(taken, source, raw, [unreadable(error, raw)])
            return
        self._take_one(taken, told, source, raw, item, kind)

    def _take_one(
        self, taken: Taken, told: Rejections, source: Source, raw: bytes, item: Any, kind: str | None
    ) -> None:
        reasons = [] if isinstance(item, dict) else [Reason("not_an_object", _name(item))]
        if b"\\u0000" in raw and holds_nul(item):
            reasons.append(Reason("nul_character"))
        if raw.count(b"{") + raw.count(b"[") > self.settings.limits.depth:
            depth = depth_of(item)
            if depth > self.settings.limits.depth:
                reasons.append(Reason("too_deep", f"{depth} levels; the limit is {self.settings.limits.depth}"))
        if isinstance(item, dict):
            reasons += prepare(item, kind, source, told.arrival, raw)
        payload = b""
        if not reasons:
            try:
                payload = _encode(item)
            except ValueError:
                reasons.append(Reason("bad_number", "a number of thousands of digits"))
        if reasons:
            told.reject(taken, source, raw, reasons)
            return
        taken.entries.append(
            Entry(
                "events",
                source.name,
                item["userId"] or item["anonymousId"] or "",
                item["messageId"],
                told.arrival.received_us,
                payload,
            )
        )
        taken.accepted += 1

    # what is refused

    def _reject_all(self, told: Rejections, body: bytes, reason: Reason, source: Source) -> Taken:
        taken = Taken(200, b"", source=source.name)
        told.came["whole"] = True
        told.reject(taken, source, body, [reason], hidden=bool(source.mask))
        taken.body = _answer(taken, told.rejected)
        return taken

    def _refuse(
        self,
        told: Rejections,
        body: bytes,
        reason: Reason,
        source: Source | None,
        length: int | None = None,
        status: int | None = None,
    ) -> Taken:
        """The whole request, as one rejected entry."""
        status = status or (401 if reason.code.endswith("write_key") else 400)
        taken = Taken(status, b"", source=source.name if source else "")
        if source is None or told.endpoint.shape != "single" or "encoding" in told.came:
            told.came["whole"] = True
            hidden = bool(source.mask) if source else self.sources.any_masked
        else:
            hidden = False
        told.reject(taken, source, body, [reason], length=length, hidden=hidden)
        taken.body = _encode(
            {
                "success": False,
                "code": reason.code,
                "message": reason.message,
                "accepted": 0,
                "rejected": told.rejected,
            }
        )
        return taken


def _webhook_seed(source: Source) -> str:
    """A webhook that is replayed gives the same ids, so that it falls together with the first where it lands."""
    return f"webhook:{source.name}"


def basic_key(authorization: bytes) -> str | None:
    """The write key of a Basic header, with or without the colon behind it; None when the header is not Basic."""
    scheme, _, told = authorization.strip().partition(b" ")
    if scheme.lower() != b"basic":
        return None
    try:
        text = base64.b64decode(told.strip() + b"=" * (-len(told.strip()) % 4), validate=True).decode()
    except (binascii.Error, ValueError):
        return ""
    return text.partition(":")[0]


def unreadable(error: BaseException, raw: bytes) -> Reason:
    """Why bytes are no JSON that can be kept."""
    text = str(error)
    if isinstance(error, RecursionError):
        return Reason("too_deep", "more levels than can be read")
    if isinstance(error, UnicodeDecodeError):
        return Reason("invalid_utf8", f"byte {error.object[error.start] if error.object else 0:#04x}")
    if isinstance(error, msgspec.ValidationError) and "out of range" in text:
        return Reason("bad_number", "one like 1e999")
    if "surrogate" in text or ("truncated" in text and b"\\u" in raw and raw.rstrip()[-1:] in b"}]"):
        return Reason("invalid_unicode")
    text = text.removeprefix("JSON is malformed: ")
    return Reason("bad_json", text[:1].lower() + text[1:200])


def holds_nul(value: Any) -> bool:
    """Whether any text within, names included, holds the character NUL."""
    todo = [value]
    while todo:
        one = todo.pop()
        if isinstance(one, str):
            if "\0" in one:
                return True
        elif isinstance(one, dict):
            todo += one.keys()
            todo += one.values()
        elif isinstance(one, list):
            todo += one
    return False


def depth_of(value: Any) -> int:
    """Levels of objects and lists; 1 for one that holds none."""
    level, deepest = [value], 0
    while level := [one for one in level if isinstance(one, dict | list)]:
        deepest += 1
        level = [inner for one in level for inner in (one.values() if isinstance(one, dict) else one)]
    return deepest


def _unpack(body: bytes, encoding: bytes, limit: int) -> bytes | Reason:
    """The body without its compression; at most one byte more than the limit."""
    named = encoding.strip().lower()
    if body[:2] != b"\x1f\x8b":
        if named in (b"", b"identity", b"gzip"):
            return body
        if named != b"deflate":
            return Reason("bad_encoding", f"{named[:20].decode('ascii', 'replace')!r} is neither gzip nor deflate")
    try:
        return zlib.decompressobj(wbits=47).decompress(body, limit + 1)
    except zlib.error as error:
        return Reason("bad_encoding", str(error)[:100])


def _object(raw: msgspec.Raw) -> bytes | None:
    """The bytes of an object that is not empty; anything else at the top of a batch is as good as nothing."""
    data = bytes(raw)
    try:
        return data if data[:1] == b"{" and _decode(data) else None
    except UNREADABLE:
        return None


def _name(value: Any) -> str:
    names = {str: "a text", list: "a list", bool: "true or false", int: "a number", float: "a number"}
    return names.get(type(value), "nothing")


def _answer(taken: Taken, rejected: list[dict[str, Any]]) -> bytes:
    return _encode({"success": True, "accepted": taken.accepted, "rejected": rejected})
