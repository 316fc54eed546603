"""A person deleted everywhere, with a receipt; from then on the ids are suppressed, replays included.

    noted      what is known of the person, in `warehouse/forgetting-<receipt>.json` (owner only), so that a killed deletion
               can go on when half of what names him is gone already
    asked      every destination that was told of him, by the callable that activation gives
    warehouse  one transaction: ids suppressed, rows of every table removed, identities of who is left resolved anew
    log        his records of both topics overwritten
    files      exports, outbox, published segments, snapshots (scrub.py)
    rewritten  the warehouse file copied, so that no freed block holds his bytes
    finished   the receipt is whole, the note is gone

Each step may run twice; `resume` goes on with every note that lies in the folder. A destination that could not be asked
keeps the note alive, with his key there and nothing else, and the receipt says so; the next `forget` or `resume` asks again.

An id that nobody has is refused unless the caller says `unseen`: a suppressed id is dropped for ever, and a typo is not a wish.

The shop's own files stay as they are. Their rows leave the raw tables now and again after each load (suppression.py); the
receipt names the files that still hold him.

Nothing else may have the warehouse open meanwhile: the engine parks.
"""

import json
import os
import secrets
from base64 import b64decode
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from headwater.clock import Clock, naive_utc
from headwater.errors import UsageError
from headwater.failpoint import failpoint
from headwater.identity import keys
from headwater.identity.settings import IdentitySettings
from headwater.live import persons, scrub, suppression, traces
from headwater.live.traces import Person
from headwater.log.base import TOPICS, Log
from headwater.records.counted import counted
from headwater.records.logged import Record
from headwater.warehouse.connection import Warehouse
from headwater.warehouse.rewrite import rewrite


@dataclass(frozen=True)
class Told:
    """What stood for the person at the destination of a sync."""

    sync: str
    key: str


@dataclass(frozen=True)
class Asked:
    """What became of asking for one deletion.

    done    the destination has confirmed it
    local   there is nobody to ask; `message` says what of it is cleaned here and what is left to do
    failed  it refused; asking again will not help
    later   it could not be asked now; it is asked again by the next `forget` or `resume`
    """

    told: Told
    status: Literal["done", "local", "failed", "later"]
    message: str = ""


_SAID = {
    "done": "deleted there{}",
    "local": "nobody is to be asked{}",
    "failed": "not deleted there{}. Delete the person there yourself",
    "later": "not asked yet{}. The next `headwater forget` asks again",
}

Ask = Callable[[Sequence[Told]], Sequence[Asked]]
"""Asks the destinations to delete; made by whoever knows them. Must answer each, and may be asked the same again."""


UNSEEN = "nobody has this id; it is suppressed from now on, and `headwater forget --lift` takes that back"
KNOWN = "nothing is here of this id, which was suppressed before"


@dataclass(frozen=True)
class Place:
    """One line of a receipt."""

    place: str
    removed_rows: int
    message: str = ""


@dataclass(frozen=True)
class Receipt:
    """`headwater.deletion_receipts` of one deletion. `complete` is False while a destination is still to be asked."""

    receipt_id: str
    places: tuple[Place, ...]
    complete: bool

    @property
    def removed_rows(self) -> int:
        """Over all places."""
        return sum(place.removed_rows for place in self.places)

    @property
    def unseen(self) -> bool:
        """Nothing was here of the person but the wish to be forgotten."""
        return any(place.message == UNSEEN for place in self.places)


def forget(
    folder: Path,
    warehouse: Warehouse,
    log: Log,
    person: str,
    clock: Clock,
    *,
    kind: str | None = None,
    settings: IdentitySettings | None = None,
    ask: Ask | None = None,
    unseen: bool = False,
) -> Receipt:
    """Delete the person behind one id. `kind` is user, anonymous, email or device; None takes the id for any of these.

    Every id that belongs to the same person goes along. `unseen`: somebody of whom nothing is found is suppressed all the
    same, and the receipt says so. Raises UsageError for an id that means nobody and, without `unseen`, for one that nobody
    has; LogUnavailable and DataError when a step could not be done (run it again: it goes on).
    """
    _check_kind(kind)
    if keys.blocked(person):
        raise UsageError(
            f"found {person!r}, which means nobody: name a customer id, an anonymous id or an e-mail address"
        )
    resume(folder, warehouse, log, clock, settings=settings, ask=ask)
    found = traces.find(warehouse, kind, person)
    if not unseen and not suppression.receipts_of(warehouse, found.ids) and not _stands(warehouse, found):
        raise UsageError(
            f"nobody has the id {person!r}{_unread(log)}. Look it up with `headwater why`, and mend it; `--unseen` suppresses it "
            "all the same: whatever arrives of it is dropped from then on"
        )
    receipt_id = f"forget-{naive_utc(clock.now()):%Y%m%dT%H%M%S}-{secrets.token_hex(3)}"
    note = _Note(folder, receipt_id, found, requested_at=naive_utc(clock.now()).isoformat())
    note.save()
    failpoint("forget.noted")
    return _go_on(folder, warehouse, log, clock, note, settings or IdentitySettings(), ask)


def lift(warehouse: Warehouse, person: str, clock: Clock, *, kind: str | None = None) -> tuple[int, tuple[str, ...]]:
    """Take a person off the list of suppressed ids, by any one id of his: how many ids were lifted, and of which receipts.

    What was deleted does not come back. Raises UsageError when the id is not on the list.
    """
    _check_kind(kind)
    spelt = {name for name in (person, person.strip(), keys.email(person)) if name}
    receipts = suppression.receipts_of(
        warehouse, [(one, name) for one in ((kind,) if kind else keys.KINDS) for name in spelt]
    )
    if not receipts:
        raise UsageError(
            f"the id {person!r} is not suppressed, so there is nothing to lift. What of it was refused is in headwater.rejected_events"
        )
    with warehouse.transaction():
        return suppression.lift(warehouse, receipts, naive_utc(clock.now())), tuple(receipts)


def resume(
    folder: Path,
    warehouse: Warehouse,
    log: Log,
    clock: Clock,
    *,
    settings: IdentitySettings | None = None,
    ask: Ask | None = None,
) -> list[Receipt]:
    """Go on with the deletions that were begun and not finished; nothing to do is the common case."""
    for left in (folder / "warehouse").glob("forgetting-*.new"):  # never took effect
        left.unlink()
    return [
        _go_on(folder, warehouse, log, clock, _Note.read(folder, path), settings or IdentitySettings(), ask)
        for path in sorted((folder / "warehouse").glob("forgetting-*.json"))
    ]


def receipt(warehouse: Warehouse, receipt_id: str) -> Receipt:
    """A receipt as it is stored. Raises UsageError when there is none of that id."""
    rows = warehouse.execute(
        "select place, removed_rows, coalesce(message, ''), ended_at from headwater.deletion_receipts where receipt_id = ? order by place",
        [receipt_id],
    ).fetchall()
    if not rows:
        raise UsageError(f"there is no receipt {receipt_id!r}; they are in headwater.deletion_receipts")
    return Receipt(receipt_id, tuple(Place(*row[:3]) for row in rows), all(row[3] is not None for row in rows))


@dataclass(frozen=True)
class _Note:
    """What a deletion in progress remembers: only as long as it must. `answers` by "sync/key"."""

    folder: Path
    receipt_id: str
    person: Person
    requested_at: str
    step: str = "noted"
    answers: tuple[tuple[str, str, str, str], ...] = ()

    @property
    def path(self) -> Path:
        return self.folder / "warehouse" / f"forgetting-{self.receipt_id}.json"

    @staticmethod
    def read(folder: Path, path: Path) -> "_Note":
        stored = json.loads(path.read_text(encoding="utf-8"))
        return _Note(
            folder,
            stored["receipt_id"],
            traces.from_json(stored["person"]),
            stored["requested_at"],
            stored["step"],
            tuple(tuple(answer) for answer in stored["answers"]),
        )

    def save(self) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        aside = self.path.with_suffix(".new")
        stored: dict[str, Any] = {
            "receipt_id": self.receipt_id,
            "person": traces.as_json(self.person),
            "requested_at": self.requested_at,
            "step": self.step,
            "answers": self.answers,
        }
        with os.fdopen(os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as out:
            json.dump(stored, out, ensure_ascii=False)
            out.flush()
            os.fsync(out.fileno())
        aside.replace(self.path)

    def at(self, step: str) -> "_Note":
        after = replace(self, step=step)
        after.save()
        return after

    def drop(self) -> None:
        self.path.write_bytes(b"\0" * self.path.stat().st_size)
        self.path.unlink()


def _check_kind(kind: str | None) -> None:
    if kind is not None and kind not in keys.KINDS:
        raise UsageError(f"found the kind {kind!r}; an id is one of {', '.join(keys.KINDS)}")


def _stands(warehouse: Warehouse, person: Person) -> bool:
    """Whether any row is the person's; what would be deleted says so, and is left where it is."""
    with warehouse.rehearsal():
        return bool(traces.delete(warehouse, person).keys() - _WISH)


def _unread(log: Log) -> str:
    """Why somebody may be on his way here; empty when the engine has had the whole log."""
    facts = log.facts()
    ends = sum(one.end for one in facts.topics.values())
    unread = max((sum(topics.values()) for topics in facts.unread.values()), default=ends)
    return f" ({counted(unread, 'record')} of the log may still name it: `headwater up` reads them)" if unread else ""


def _go_on(
    folder: Path, warehouse: Warehouse, log: Log, clock: Clock, note: _Note, settings: IdentitySettings, ask: Ask | None
) -> Receipt:
    person = note.person
    note = _ask(note, ask)
    failpoint("forget.asked")
    if note.step == "noted":
        with warehouse.transaction():
            if not warehouse.value(
                "select count(*) from headwater.deletion_receipts where receipt_id = ?", [note.receipt_id]
            ):
                known = bool(suppression.receipts_of(warehouse, person.ids))
                suppression.suppress(warehouse, person.ids, naive_utc(clock.now()), note.receipt_id)
                counts = traces.delete(warehouse, person)
                places = [
                    Place(place, rows, _OWN if place.startswith("raw.") else "") for place, rows in counts.items()
                ]
                if not counts.keys() - _WISH:
                    places.append(Place("suppression", 0, KNOWN if known else UNSEEN))
                _write(warehouse, note, places)
        failpoint("forget.warehouse")
        persons.prepare(warehouse)
        with warehouse.transaction():
            persons.refresh(warehouse, [("anonymous", visitor) for visitor in person.shared], settings)
        note = note.at("warehouse")
    if note.step == "warehouse":
        removed = {topic: log.remove(topic, _gone(topic, person), holding=_holding(topic, person)) for topic in TOPICS}
        failpoint("forget.log")
        left = log.remains()
        _write(
            warehouse, note, [Place(f"log ({topic})", rows, left if rows else "") for topic, rows in removed.items()]
        )
        note = note.at("log")
    keep = frozenset({warehouse.path, note.path, *(path for path in (folder / "warehouse").glob("log.sqlite*"))})
    if note.step == "log":
        cleaned = scrub.scrub(warehouse, folder, person, keep=keep)
        failpoint("forget.files")
        _write(
            warehouse,
            note,
            [
                Place(
                    one.file,
                    one.rows or 0,
                    "" if one.rows is not None else f"the file was removed as a whole; {scrub.made_again(one.file)}",
                )
                for one in cleaned
            ],
        )
        note = note.at("files")
    if note.step == "files":
        rewrite(warehouse)
        failpoint("forget.rewritten")
        found = scrub.mentions(folder, person, skip=frozenset({note.path}))
        _write(warehouse, note, [Place(file, 0, _LEFT) for file in found if file not in _pending(note)])
        note = note.at("rewritten")
    return _finish(warehouse, clock, note)


_WISH = {"headwater.deletion_requests"}
"""A delete message that came by the API: not a trace of the person, but the wish that there be none."""
_OWN = "the shop's own file still has these rows: take them out there; until then each load leaves them out"
_LEFT = (
    "this file is the shop's own and still names the person: take the row out there; until then each load leaves it out"
)


def _finish(warehouse: Warehouse, clock: Clock, note: _Note) -> Receipt:
    waiting = [answer for answer in note.answers if answer[2] == "later"]
    with warehouse.transaction():
        warehouse.execute(
            "delete from headwater.deletion_receipts where receipt_id = ? and place like 'destination of %'",
            [note.receipt_id],
        )
        syncs = {sync for sync, _, _, _ in note.answers}
        places = []
        for sync in sorted(syncs):
            answers = [answer for answer in note.answers if answer[0] == sync]
            message = "; ".join(
                sorted({_SAID[status].format(f": {text}" if text else "") for _, _, status, text in answers})
            )
            places.append(
                Place(f"destination of {sync}", sum(status == "done" for _, _, status, _ in answers), message)
            )
        _write(warehouse, note, places)
        warehouse.execute(
            "update headwater.deletion_receipts set ended_at = ? where receipt_id = ? and (ended_at is null or place like 'destination of %')",
            [None if waiting else naive_utc(clock.now()), note.receipt_id],
        )
    failpoint("forget.finished")
    if waiting:
        told = tuple((sync, key) for sync, key, _, _ in waiting)
        replace(note, person=Person(told=told)).save()
    else:
        note.drop()
    return receipt(warehouse, note.receipt_id)


def _ask(note: _Note, ask: Ask | None) -> _Note:
    answered = {(sync, key) for sync, key, status, _ in note.answers if status != "later"}
    told = [Told(sync, key) for sync, key in note.person.told if (sync, key) not in answered]
    if not told:
        return note
    said = ask(told) if ask else [Asked(one, "later", "nobody here can ask the destination") for one in told]
    kept = [answer for answer in note.answers if (answer[0], answer[1]) in answered]
    kept += [(one.told.sync, one.told.key, one.status, one.message) for one in said]
    after = replace(note, answers=tuple(kept))
    after.save()
    return after


def _pending(note: _Note) -> set[str]:
    return {str(note.path.relative_to(note.folder))}


def _write(warehouse: Warehouse, note: _Note, places: Sequence[Place]) -> None:
    for place in places:
        warehouse.execute(
            "insert into headwater.deletion_receipts (receipt_id, requested_at, place, removed_rows, message) "
            "select ?, ?, ?, ?, ? where not exists (select 1 from headwater.deletion_receipts where receipt_id = ? and place = ?)",
            [
                note.receipt_id,
                note.requested_at,
                place.place,
                place.removed_rows,
                place.message or None,
                note.receipt_id,
                place.place,
            ],
        )


def _gone(topic: str, person: Person) -> Callable[[Record], bool]:
    said = traces.said_by(person)
    holds = person.pattern

    def accepted(record: Record) -> bool:
        return said(record.payload)

    def rejected(record: Record) -> bool:
        try:
            raw = b64decode(json.loads(record.payload).get("raw") or "")
        except (ValueError, AttributeError):
            raw = b""
        return (
            holds(traces.unescaped(raw)) or holds(traces.unescaped(record.payload)) or holds(f'"key": "{record.key}"')
        )

    return accepted if topic == "events" else rejected


def _holding(topic: str, person: Person) -> list[bytes]:
    """Bytes of which each record to be removed has one; none for rejected records, whose bodies are in base64."""
    if topic != "events":
        return []
    words = (*person.users, *person.visitors, *person.shared, *person.emails)
    lower = {spelt for word in words for spelt in (word, word.lower())}
    return sorted({form for word in lower for form in (word.encode(), json.dumps(word)[1:-1].encode())})
