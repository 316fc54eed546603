"""What decisions remember: who was contacted when, who said what about consent, what budgets have left, which switches are on.

Two ledgers with one interface: in memory (for tests, simulations, and computing without a warehouse) and in the warehouse.
`lock` is held from reading to writing, so that a budget is never reserved twice and a key never decided twice, whichever
thread comes first; processes are kept apart by the warehouse file itself.
"""

import threading
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, Protocol

from headwater.clock import Clock, naive_utc
from headwater.decisions import log
from headwater.decisions.budget import Reservation
from headwater.decisions.channels import CHANNELS
from headwater.decisions.guardrails.base import History, Switches
from headwater.decisions.hashing import digest, digest_sql
from headwater.errors import InvalidValue
from headwater.records.decisions import Decision
from headwater.warehouse import Warehouse


@dataclass(frozen=True, slots=True)
class Contact:
    """One row of `headwater.contact_ledger`: a message that was released to a person."""

    contact_id: str
    customer_id: str
    channel: str
    campaign: str
    decision_id: str
    contacted_at: datetime


@dataclass(frozen=True, slots=True)
class Reject:
    """One row of `headwater.decision_rejects`: one field of one customer that could not be used."""

    customer_id: str
    field: str
    value: str
    reason: str


@dataclass
class Entries:
    """What one grouped write adds."""

    decisions: list[Decision] = field(default_factory=list)
    reservations: list[Reservation] = field(default_factory=list)
    contacts: list[Contact] = field(default_factory=list)
    rejects: list[Reject] = field(default_factory=list)


class Ledgers(Protocol):
    """What a Decider needs. All moments are naive UTC."""

    lock: threading.RLock

    def switches(self) -> Switches:
        """The kill switches; whatever cannot be read or understood is on."""
        ...

    def histories(self, customers: Sequence[str], since: datetime) -> Mapping[str, History]:
        """Contacts after `since` and the newest word on consent; a customer without either may be left out."""
        ...

    def known(self, keys: Sequence[str]) -> Mapping[str, Decision]:
        """Decisions already made, by idempotency key."""
        ...

    def used(self, budget: str, period_start: datetime) -> Decimal:
        """What is reserved of a budget in a period."""
        ...

    def last_decided_at(self) -> datetime | None:
        """The moment of the newest decision."""
        ...

    def save(self, entries: Entries, run_id: str, moment: datetime) -> None:
        """Write all of it or nothing."""
        ...


class MemoryLedgers:
    """Ledgers that live as long as the object. Switches and consent are set by writing to the attributes."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.on = Switches()
        self.said: dict[str, dict[str, bool]] = {}
        self.entries = Entries()
        self._contacts: dict[str, list[tuple[str, datetime]]] = {}
        self._decisions: dict[str, Decision] = {}
        self._used: dict[tuple[str, datetime], Decimal] = {}
        self._last: datetime | None = None

    def contact(self, customer_id: str, channel: str, at: datetime) -> None:
        """Remember a contact that was made elsewhere."""
        self._contacts.setdefault(customer_id, []).append((channel, naive_utc(at)))

    def switches(self) -> Switches:
        return self.on

    def histories(self, customers: Sequence[str], since: datetime) -> Mapping[str, History]:
        found = {}
        for customer in customers:
            contacts = self._contacts.get(customer)
            said = self.said.get(customer)
            if contacts or said:
                found[customer] = History(tuple(c for c in contacts or () if c[1] > since), said or {})
        return found

    def known(self, keys: Sequence[str]) -> Mapping[str, Decision]:
        return {key: self._decisions[key] for key in keys if key in self._decisions}

    def used(self, budget: str, period_start: datetime) -> Decimal:
        return self._used.get((budget, period_start), Decimal(0))

    def last_decided_at(self) -> datetime | None:
        return self._last

    def save(self, entries: Entries, run_id: str, moment: datetime) -> None:
        for decision in entries.decisions:
            self._decisions[decision.idempotency_key] = decision
            self._last = decision.decided_at
        for row in entries.reservations:
            key = (row.budget, row.period_start)
            self._used[key] = self._used.get(key, Decimal(0)) + row.amount
        for row in entries.contacts:
            self.contact(row.customer_id, row.channel, row.contacted_at)
        self.entries.reservations += entries.reservations
        self.entries.contacts += entries.contacts
        self.entries.rejects += entries.rejects


_LOCKS: dict[Path, threading.RLock] = {}
_LOCKS_LOCK = threading.Lock()


class WarehouseLedgers:
    """Ledgers in the tables of the schema `headwater`. All objects over one file share one lock."""

    def __init__(self, warehouse: Warehouse) -> None:
        self._warehouse = warehouse
        with _LOCKS_LOCK:
            self.lock = _LOCKS.setdefault(warehouse.path.absolute(), threading.RLock())

    @property
    def warehouse(self) -> Warehouse:
        """Where the tables are, and what was promoted."""
        return self._warehouse

    def switches(self) -> Switches:
        return read_switches(self._warehouse)

    def histories(self, customers: Sequence[str], since: datetime) -> Mapping[str, History]:
        asked, parameters = log.given({"customer_id": customers})
        contacts = self._warehouse.execute(
            f"select customer_id, channel, contacted_at from headwater.contact_ledger"
            f" semi join {asked} using (customer_id) where contacted_at > ?",
            [*parameters, since],
        ).fetchall()
        words = self._warehouse.execute(
            f"""select customer_id, channel, coalesce(consented, false), coalesce(recorded_at, timestamp '9999-12-31')
                from headwater.consent_state semi join {asked} using (customer_id)""",
            parameters,
        ).fetchall()
        made: dict[str, list[tuple[str, datetime]]] = {}
        for customer, channel, at in contacts:
            made.setdefault(customer, []).append((channel, at))
        said = newest_words(words)
        return {c: History(tuple(made.get(c, ())), said.get(c, {})) for c in {*made, *said}}

    def known(self, keys: Sequence[str]) -> Mapping[str, Decision]:
        asked, parameters = log.given({"idempotency_key": keys})
        found = log.read(self._warehouse, f"l.idempotency_key in (from {asked})", parameters)
        return {decision.idempotency_key: decision for decision in found}

    def used(self, budget: str, period_start: datetime) -> Decimal:
        return self._warehouse.value(
            "select coalesce(sum(amount), 0)::decimal(18,4) from headwater.budget_ledger where budget = ? and period_start = ?",
            [budget, period_start],
        )

    def last_decided_at(self) -> datetime | None:
        return self._warehouse.value("select max(decided_at) from headwater.decision_log")

    def save(self, entries: Entries, run_id: str, moment: datetime) -> None:
        self._save(entries, run_id, moment)

    def _save(
        self,
        entries: Entries,
        run_id: str,
        moment: datetime,
        *,
        give_back: bool = True,
        written: Container[str] = (),
    ) -> None:
        """`give_back`: also return what superseded decisions had reserved, which reads the whole log. `written`: traces that
        are there already."""
        with self._warehouse.transaction():
            log.insert(self._warehouse, entries.decisions, written)
            insert_reservations(self._warehouse, entries.reservations, moment)
            _insert(self._warehouse, "headwater.contact_ledger", entries.contacts)
            if give_back:
                return_superseded(self._warehouse, moment)
            _insert(self._warehouse, "headwater.decision_rejects", entries.rejects, rejected_at=moment, run_id=run_id)


def insert_reservations(warehouse: Warehouse, rows: Sequence[Reservation], moment: datetime) -> None:
    """Append reservations."""
    _insert(warehouse, "headwater.budget_ledger", rows, reserved_at=moment)


def return_superseded(warehouse: Warehouse, moment: datetime) -> None:
    """Return what superseded decisions reserved and never sent, by a negative row each. Once: a balance of 0 is left alone."""
    if not warehouse.value("select count(*) from headwater.budget_ledger"):
        return
    warehouse.execute(
        f"""insert into headwater.budget_ledger (reservation_id, budget, period_start, decision_id, amount, reserved_at)
            select {digest_sql("'returned'", "any_value(b.budget)", "b.decision_id")}, b.budget, b.period_start, b.decision_id,
                -sum(b.amount), timestamp '{moment.isoformat(sep=" ")}'
            from headwater.budget_ledger b
            join headwater.decision_log l using (decision_id)
            join (
                select customer_id, run_id = '{log.ON_DEMAND}' as on_demand, max(decided_at) as newest
                from headwater.decision_log group by all
            ) n on n.customer_id = l.customer_id and n.on_demand = (l.run_id = '{log.ON_DEMAND}') and n.newest > l.decided_at
            anti join headwater.contact_ledger k on k.decision_id = b.decision_id
            group by b.budget, b.period_start, b.decision_id
            having sum(b.amount) > 0"""
    )


def _insert(warehouse: Warehouse, table: str, rows: Sequence[Any], **same: Any) -> None:
    if rows:
        columns = {name: [getattr(row, name) for row in rows] for name in type(rows[0]).__slots__}
        log.insert_rows(warehouse, table, columns | {name: [value] * len(rows) for name, value in same.items()})


def newest_words(words: Iterable[tuple[str, str, bool, datetime]]) -> dict[str, dict[str, bool]]:
    """Customer → channel → consent, from (customer, channel or `all`, consented, recorded at): the newest wins, of two at the
    same moment the no."""
    best: dict[tuple[str, str], tuple[datetime, bool]] = {}
    for customer, channel, consented, at in words:
        for name in CHANNELS if channel == "all" else (channel,):
            standing = (at, not consented)
            if standing > best.get((customer, name), (datetime.min, False)):  # noqa: DTZ901 (naive UTC)
                best[customer, name] = standing
    said: dict[str, dict[str, bool]] = {}
    for (customer, channel), (_, refused) in best.items():
        said.setdefault(customer, {})[channel] = not refused
    return said


def read_switches(warehouse: Warehouse) -> Switches:
    """The kill switches of `headwater.kill_switch`. What cannot be read, or says something unknown, stops everything."""
    try:
        rows = warehouse.execute("select scope, coalesce(is_on, true), reason from headwater.kill_switch").fetchall()
    except Exception as error:
        return Switches(everything=True, reasons=(f"the kill switch cannot be read ({error}), so it counts as on",))
    return switches_of([(scope, reason) for scope, is_on, reason in rows if is_on])


def switches_of(on: Iterable[tuple[str | None, str | None]]) -> Switches:
    """From (scope, reason) of the switches that are on."""
    everything, channels, campaigns, reasons = False, set(), set(), []
    for scope, reason in on:
        kind, _, name = (scope or "").partition(":")
        if kind == "channel" and name in CHANNELS:
            channels.add(name)
        elif kind == "campaign" and name:
            campaigns.add(name)
        else:
            everything = True
            if scope != "global":
                reasons.append(f"the scope {scope!r} of a kill switch is not understood, so it counts as global")
        reasons.append(f"{scope}: {reason or 'no reason given'}")
    return Switches(everything, frozenset(channels), frozenset(campaigns), tuple(reasons))


def set_switch(warehouse: Warehouse, scope: str, *, on: bool, reason: str, set_by: str, clock: Clock) -> None:
    """Turn a switch on or off; `scope` is `global`, `channel:<name>` or `campaign:<name>`. Its row is replaced.

    Raises InvalidValue for a scope that is none of these. One that stands in the table already (it counts as global, see
    `switches_of`) can be turned off.
    """
    if on or not warehouse.value("select count(*) from headwater.kill_switch where scope = ?", [scope]):
        _known_scope(scope)
    with warehouse.transaction():
        warehouse.execute("delete from headwater.kill_switch where scope = ?", [scope])
        warehouse.execute(
            "insert into headwater.kill_switch values (?, ?, ?, ?, ?)",
            [scope, on, reason, set_by, naive_utc(clock.now())],
        )


def _known_scope(scope: str) -> None:
    kind, _, name = scope.partition(":")
    if scope == "global" or (kind == "channel" and name in CHANNELS) or (kind == "campaign" and name.strip()):
        return
    channels = ", ".join(f"channel:{channel}" for channel in CHANNELS)
    raise InvalidValue(f"scope: found {scope!r}; allowed: global, {channels}, campaign:<name>")


def switches_sentence(warehouse: Warehouse) -> str:
    """Which switches are on, since when, by whom and why."""
    rows = warehouse.execute(
        "select scope, set_at, set_by, reason from headwater.kill_switch where coalesce(is_on, true) order by scope"
    ).fetchall()
    said = [
        f"{scope or 'one without a scope'}{f' since {at:%Y-%m-%d %H:%M}' if at else ''}"
        f"{f' by {who}' if who else ''} ({reason or 'no reason given'})"
        for scope, at, who, reason in rows
    ]
    return f"switches on: {'; '.join(said)}" if said else "none is on"


def record_consent(
    warehouse: Warehouse, customer_id: str, channel: str, *, consented: bool, source: str, clock: Clock
) -> None:
    """Append what a customer said about a channel (or `all`); the newest word wins over the source."""
    warehouse.execute(
        "insert into headwater.consent_state values (?, ?, ?, ?, ?)",
        [customer_id, channel, consented, source, naive_utc(clock.now())],
    )


def contact_of(decision: Decision, campaign: str, moment: datetime) -> Contact:
    """The contact that releasing a decision makes; one decision is one contact, however often it is released."""
    return Contact(
        digest("contact", decision.decision_id),
        decision.customer_id,
        decision.channel or "",
        campaign,
        decision.decision_id,
        moment,
    )
