"""The ledgers with a memory: what every decision asks (contacts, consent, known keys) is kept beside the tables.

Nothing is trusted longer than a group of requests: each begins by asking whether the tables have grown or shrunk (a number
that DuckDB keeps, whatever their size), and reads what is new. So a contact that activation makes, a word on consent and a kill
switch count for the next group.

What is kept are 64-bit hashes and small numbers in sorted arrays, some 20 bytes a row: two ids with one hash (one chance in
37 million for a million of them) would share their contacts, which can only silence somebody, and share a word on consent, of
which the no is taken.

`begin` … `save`, any number of them … `flush`: one transaction for all. Until then what was saved counts for those who follow
in the group. When `flush` fails nothing was written and the memory is dropped; the next `begin` reads it anew.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from hashlib import md5

import numpy as np

from headwater.decisions import log
from headwater.decisions.channels import CHANNELS
from headwater.decisions.guardrails.base import History, Switches
from headwater.decisions.ledgers import Entries, WarehouseLedgers, newest_words, return_superseded
from headwater.records.decisions import Decision
from headwater.warehouse import Warehouse

REMEMBERED = 50_000
"""Decisions that are kept whole; older ones are looked up in the log."""
_NAMES = ("", *CHANNELS, "all")


def number(text: str) -> int:
    """The 64-bit hash that DuckDB's `md5_number_lower` gives."""
    return int.from_bytes(md5(text.encode(), usedforsecurity=False).digest()[8:], "little")


class RememberedLedgers(WarehouseLedgers):
    """Ledgers of one thread over a connection of its own. Only it may write decisions while it is open."""

    def __init__(self, warehouse: Warehouse) -> None:
        super().__init__(warehouse)
        named = f"coalesce(list_position({list(CHANNELS)!r}, channel), 0)"
        self._contacts = _Rows(
            "headwater.contact_ledger",
            "customer_id",
            f"{named} as kind, contacted_at as at, true as said",
        )
        self._released = _Rows("headwater.contact_ledger", "decision_id", "0 as kind, contacted_at as at, true as said")
        self._words = _Rows(
            "headwater.consent_state",
            "customer_id",
            f"case channel when 'all' then {len(_NAMES) - 1} else {named} end as kind,"
            " coalesce(recorded_at, timestamp '9999-12-31') as at, coalesce(consented, false) as said",
        )
        self._keys = _Rows("headwater.decision_log", "idempotency_key", "0 as kind, decided_at as at, true as said")
        self._decisions: dict[str, Decision] = {}
        self._written = 0
        self._last: datetime | None = None
        self._traces: set[str] = set()
        self._switches = Switches()
        self._pending = Entries()
        self._new: set[str] = set()
        self._run_id = ""
        self._returned = False
        self._fresh = False

    def begin(self) -> None:
        """Look whether others have written; must come before the first question of a group."""
        self._new = set()
        if not self._fresh:
            for rows in (self._contacts, self._released, self._words, self._keys):
                rows.forget()
            self._decisions.clear()
            self._traces.clear()
            self._pending = Entries()
            self._keys.refresh(self._warehouse, self._keys.now(self._warehouse))
            self._last = super().last_decided_at()
            self._written = 0
            self._fresh = True
        contacts = self._contacts.now(self._warehouse)
        self._contacts.refresh(self._warehouse, contacts)
        self._released.refresh(self._warehouse, contacts)
        said = int(self._warehouse.value("select count(*) from headwater.consent_state"))
        if said != self._words.count:  # words are only ever added while somebody has the ledgers open
            self._words.refresh(self._warehouse, self._words.now(self._warehouse))
        self._switches = super().switches()
        if self._written >= REMEMBERED // 2:
            self._keys.refresh(self._warehouse, self._keys.now(self._warehouse))
            self._written = 0

    def switches(self) -> Switches:
        return self._switches

    def histories(self, customers: Sequence[str], since: datetime) -> Mapping[str, History]:
        found: dict[str, History] = {}
        for customer in set(customers):
            hashed = number(customer)
            contacts = [(_NAMES[kind], at) for kind, at, _, _ in self._contacts.of(hashed) if at > since]
            contacts += [(c.channel, c.contacted_at) for c in self._pending.contacts if c.customer_id == customer]
            words = [(customer, _NAMES[kind], said, at) for kind, at, said, _ in self._words.of(hashed)]
            if contacts or words:
                found[customer] = History(tuple(contacts), newest_words(words).get(customer, {}))
        return found

    def known(self, keys: Sequence[str]) -> Mapping[str, Decision]:
        found: dict[str, Decision] = {}
        for key in keys:
            decision = self._decisions.get(key)
            if decision is None and key:
                decision = self._logged(key)
            if decision is not None:
                found[key] = decision
        return found

    def _logged(self, key: str) -> Decision | None:
        for _, _, _, row in self._keys.of(number(key)):
            for decision in log.read(self._warehouse, "l.rowid = ? and l.idempotency_key = ?", [row, key]):
                self._remember(decision)
                return decision
        return None

    def _remember(self, decision: Decision) -> None:
        if len(self._decisions) >= REMEMBERED:
            for key in list(self._decisions)[: REMEMBERED // 4]:
                del self._decisions[key]
        self._decisions[decision.idempotency_key] = decision

    def used(self, budget: str, period_start: datetime) -> Decimal:
        reserved = (
            row.amount for row in self._pending.reservations if (row.budget, row.period_start) == (budget, period_start)
        )
        return super().used(budget, period_start) + sum(reserved, Decimal(0))

    def last_decided_at(self) -> datetime | None:
        return self._last

    @property
    def new(self) -> set[str]:
        """Ids of the decisions that were saved since `begin` and not told yet: whoever tells one takes it out."""
        return self._new

    def released(self, decision_id: str) -> bool:
        """Whether this decision was released: written as a contact."""
        return any(contact.decision_id == decision_id for contact in self._pending.contacts) or bool(
            self._released.of(number(decision_id))
        )

    def save(self, entries: Entries, run_id: str, moment: datetime) -> None:
        self._run_id = run_id
        for decision in entries.decisions:
            self._remember(decision)
            self._new.add(decision.decision_id)
            self._last = decision.decided_at
        self._pending.decisions += entries.decisions
        self._pending.reservations += entries.reservations
        self._pending.contacts += entries.contacts
        self._pending.rejects += entries.rejects

    def flush(self, moment: datetime) -> None:
        """Write all that was saved, durably, or nothing."""
        pending, self._pending = self._pending, Entries()
        if not (pending.decisions or pending.rejects):
            return
        self._fresh = False
        self._save(pending, self._run_id, moment, give_back=False, written=self._traces)
        self._traces.update(decision.trace.trace_id for decision in pending.decisions)
        self._written += len(pending.decisions)
        self._returned = self._returned and not pending.decisions
        self._fresh = True

    def give_back(self, moment: datetime) -> None:
        """Return to the budgets what superseded decisions had reserved; now and then, because it reads the whole log."""
        if not self._returned:
            with self._warehouse.transaction():
                return_superseded(self._warehouse, moment)
            self._returned = True


class _Rows:
    """What matters of a table's rows, by the hash of one column: (kind, at, said, row id)."""

    def __init__(self, table: str, column: str, facts: str) -> None:
        self._table = table
        self._sql = f"select md5_number_lower(coalesce({column}, '')) as hashed, {facts}, rowid as row from {table}"
        self.forget()

    def forget(self) -> None:
        """Know nothing; the next `refresh` reads everything."""
        self._seen: tuple[int, int] | None = None
        self._columns: dict[str, np.ndarray] = {}
        self._new: dict[int, list[tuple[int, datetime, bool, int]]] = {}

    @property
    def count(self) -> int:
        """Rows that were read; -1 before the first `refresh`."""
        return -1 if self._seen is None else self._seen[0]

    def now(self, warehouse: Warehouse) -> tuple[int, int]:
        """How many rows there are, and the newest row id; -1 without any."""
        row = warehouse.execute(f"select count(*), coalesce(max(rowid), -1) from {self._table}").fetchone()
        assert row is not None
        return int(row[0]), int(row[1])

    def refresh(self, warehouse: Warehouse, now: tuple[int, int]) -> None:
        """Read what was added since; everything, when rows have gone. `now`: rows and newest row id."""
        count, last = now
        if self._seen == (count, last):
            return
        if self._seen is not None and count > self._seen[0] and count - self._seen[0] <= _FEW:
            fresh = warehouse.execute(f"{self._sql} where rowid > ?", [self._seen[1]]).fetchall()
            if len(fresh) == count - self._seen[0]:
                for hashed, *facts in fresh:
                    self._new.setdefault(int(hashed), []).append(tuple(facts))  # pyrefly: ignore
                self._seen = (count, last)
                return
        found = warehouse.execute(f"{self._sql} order by hashed").fetchnumpy()
        self._columns, self._new, self._seen = found, {}, (count, last)

    def of(self, hashed: int) -> list[tuple[int, datetime, bool, int]]:
        """The rows of one hash."""
        found = list(self._new.get(hashed, ()))
        columns = self._columns
        if columns:
            wanted = np.uint64(hashed)
            position = int(columns["hashed"].searchsorted(wanted))
            while position < len(columns["hashed"]) and columns["hashed"][position] == wanted:
                at = columns["at"][position].astype("datetime64[us]").item()
                found.append(
                    (int(columns["kind"][position]), at, bool(columns["said"][position]), int(columns["row"][position]))
                )
                position += 1
        return found


_FEW = 100_000
"""Rows that are kept beside the sorted arrays; beyond, everything is read and sorted again."""
