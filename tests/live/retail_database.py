"""An operational database of the online retailer as its source would log it: every change is remembered as truth and as an entry.

Keeps what must come out: rows as they are (`rows`), and every version (`versions`), by plain Python.
"""

import json
from copy import deepcopy
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from headwater.records.logged import Entry

SOURCE = "retail"
BEGIN = datetime(2026, 3, 1, 12)  # noqa: DTZ001  (naive UTC, as the warehouse stores it)

TABLES: dict[str, dict[str, str]] = {
    "customers": {
        "customerid": "integer", "customername": "character varying(255)", "email": "character varying(255)",
        "segment": "character varying(50)", "shipping_address_id": "character varying(255)",
        "billing_address_id": "character varying(255)",
    },
    "addresses": {
        "addressid": "character varying(255)", "street": "character varying(255)", "city": "character varying(255)",
        "state": "character varying(50)", "postalcode": "character varying(255)", "country": "character varying(255)",
    },
    "products": {
        "productid": "integer", "brand": "character varying(255)", "productname": "character varying(255)",
        "category": "character varying(100)", "description": "text", "color": "character varying(50)",
        "size": "character varying(50)", "price": "numeric(10,2)", "stock": "integer",
    },
    "orders": {"orderid": "integer", "customerid": "integer", "orderdate": "timestamp", "status": "character varying(50)"},
    "order_items": {"orderitemid": "integer", "orderid": "integer", "productid": "integer", "quantity": "integer"},
}  # fmt: skip
KEYS = {name: next(iter(columns)) for name, columns in TABLES.items()}
Row = dict[str, Any]


@dataclass
class Version:
    """One row as it was from a moment on; `row` is None where it was gone."""

    at: datetime
    seq: int
    op: str
    row: Row | None


@dataclass
class Database:
    """Each method makes the change, and returns the entry that says so; nothing is sent by itself."""

    at: datetime = BEGIN
    lsn: int = 100
    rows: dict[str, dict[Any, Row]] = field(default_factory=lambda: {name: {} for name in TABLES})
    versions: dict[tuple[str, Any], list[Version]] = field(default_factory=dict)

    def pass_time(self, **by: float) -> None:
        self.at += timedelta(**by)

    def put(self, table: str, row: Row, *, unavailable: tuple[str, ...] = ()) -> Entry:
        """Insert or update a row whole."""
        key = row[KEYS[table]]
        op = "u" if key in self.rows[table] else "c"
        self.rows[table][key] = dict(row)
        sent = {name: value for name, value in row.items() if name not in unavailable}
        return self._entry(table, op, key, sent, unavailable=list(unavailable) or None, kept=row)

    def change(self, table: str, key: Any, *, unavailable: tuple[str, ...] = (), **columns: Any) -> Entry:
        return self.put(table, {**self.rows[table][key], **columns}, unavailable=unavailable)

    def delete(self, table: str, key: Any) -> Entry:
        del self.rows[table][key]
        return self._entry(table, "d", key, None)

    def rekey(self, table: str, key: Any, to: Any) -> list[Entry]:
        row = self.rows[table][key]
        return [self.delete(table, key), self.put(table, {**row, KEYS[table]: to})]

    def truncate(self, table: str) -> Entry:
        self._tick()
        for key in self.rows[table]:
            self._version(table, key, "t", None)
        self.rows[table].clear()
        payload = {
            "kind": "change",
            "table": table,
            "op": "t",
            "key": None,
            "row": None,
            "lsn": self.lsn,
            "at": self._at,
        }
        return self.entry(table, payload, "truncate")

    def schema(self, table: str, columns: dict[str, str] | None = None) -> Entry:
        self._tick()
        told = [
            {"name": name, "type": kind, "nullable": name != KEYS[table], "key": name == KEYS[table]}
            for name, kind in (columns or TABLES[table]).items()
        ]
        payload = {"kind": "schema", "table": table, "columns": told, "lsn": self.lsn, "at": self._at}
        return self.entry(table, payload, "schema")

    def snapshot(self, name: str, *tables: str) -> list[Entry]:
        """All rows read at one position."""
        self._tick()
        listed = list(tables or TABLES)
        entries = [self._marker("started", name, listed)]
        for table in listed:
            for key, row in self.rows[table].items():
                entries.append(self._entry(table, "r", key, dict(row), snapshot=name, tick=False))
        self._tick()
        return [*entries, self._marker("finished", name, listed)]

    def forgotten(self, table: str, key: Any) -> None:
        """A row that goes without a word, as while the source was away; the next snapshot shows it."""
        del self.rows[table][key]

    # ------------------------------------------------------------------ entries

    def _marker(self, state: str, name: str, tables: list[str]) -> Entry:
        if state == "finished":
            for table in tables:
                for key in [k for t, k in self.versions if t == table and k not in self.rows[t]]:
                    if self.versions[table, key][-1].row is not None:
                        self._version(table, key, "d", None)
        payload = {"kind": "snapshot", "state": state, "id": name, "tables": tables, "lsn": self.lsn, "at": self._at}
        return self.entry("", payload, f"{name}-{state}")

    def _entry(
        self, table: str, op: str, key: Any, row: Row | None, *, tick: bool = True, kept: Row | None = None, **more: Any
    ) -> Entry:
        if tick:
            self._tick()
        before = self.versions.get((table, key), [])
        if not (op == "r" and before and before[-1].row == row):
            self._version(table, key, op, deepcopy(kept or row))
        payload = {
            "kind": "change", "table": table, "op": op, "key": {KEYS[table]: key}, "row": row, "lsn": self.lsn, "at": self._at,
            **{name: value for name, value in more.items() if value is not None},
        }  # fmt: skip
        return self.entry(table, payload, json.dumps(key))

    def entry(self, table: str, payload: Row, name: str) -> Entry:
        micros = int(self.at.replace(tzinfo=UTC).timestamp() * 1_000_000)
        body = json.dumps(payload).encode()
        return Entry("changes", SOURCE, f"{table}:{name}", f"{table}:{self.lsn}:{name}", micros, body)

    def _version(self, table: str, key: Any, op: str, row: Row | None) -> None:
        held = self.versions.setdefault((table, key), [])
        if held and held[-1].at == self.at:
            held.pop()
        held.append(Version(self.at, self.lsn, op, row))

    def _tick(self) -> None:
        self.lsn += 8

    @property
    def _at(self) -> str:
        return f"{self.at.isoformat()}Z"
