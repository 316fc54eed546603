"""Bad rows to plant into a shop's files, for tests of what Headwater does with bad input.

A planted row is a copy of a good one with the fault's columns changed. Its key is `BAD-<fault>`, so that it can be found
again, but for faults of the key itself. Add one here and `Shop(dirty=[name])` plants it; `dirty=True` plants all but HEAVY.
"""

import csv
import io
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from headwater.errors import InvalidValue
from headwater.records.entities import ENTITIES


@dataclass(frozen=True)
class Fault:
    """One way in which a row is bad. `changes`: column to the text that stands in the file, None = empty.

    `keeps_key`: the copy has the key of the row that it was made from. `encoding`: that of the planted line; faults that are
    not UTF-8, and `padding` (bytes of text added to the last changed column), can be planted into CSV files only.
    """

    entity: str
    text: str
    changes: Mapping[str, str | None]
    keeps_key: bool = False
    encoding: Literal["utf-8", "latin-1"] = "utf-8"
    padding: int = 0

    @property
    def csv_only(self) -> bool:
        return self.encoding != "utf-8" or self.padding > 0


FAULTS: dict[str, Fault] = {
    "customer_without_key": Fault("customers", "a customer without id", {"customer_id": None}, keeps_key=True),
    "customer_twice": Fault("customers", "one id, two customers", {"city": "Elsewhere"}, keeps_key=True),
    "customer_exactly_twice": Fault("customers", "the same row two times", {}, keeps_key=True),
    "customer_in_the_wrong_zone": Fault("customers", "no such time zone", {"time_zone": "Mars/Olympus"}),
    "customer_with_odd_consent": Fault("customers", "consent that is neither yes nor no", {"email_opt_in": "maybe"}),
    "customer_with_odd_nps": Fault("customers", "an NPS score in words", {"nps_score": "eleven"}),
    "customer_in_latin_1": Fault("customers", "a line in another encoding", {"last_name": "Müller"}, encoding="latin-1"),
    "order_without_key": Fault("orders", "an order without id", {"order_id": None}, keeps_key=True),
    "order_twice": Fault("orders", "one id, two orders", {"channel": "television"}, keeps_key=True),
    "order_on_no_day": Fault("orders", "a date that is no date", {"ordered_at": "31/31/2025"}),
    "order_without_date": Fault("orders", "no date at all", {"ordered_at": None}),
    "order_in_the_future": Fault("orders", "a date that has not come yet", {"ordered_at": "2999-01-01 00:00:00"}),
    "order_in_odd_money": Fault("orders", "no such currency", {"currency": "XQX"}),
    "order_of_a_stranger": Fault("orders", "a customer that no file knows", {"customer_id": "C0"}),
    "line_of_no_order": Fault("order_lines", "an order that no file knows", {"order_id": "O0"}),
    "line_of_no_product": Fault("order_lines", "a product that no file knows", {"product_id": "P0"}),
    "line_given_back_unsold": Fault("order_lines", "more given back than was ever bought", {"quantity": "-99"}),
    "line_in_words": Fault("order_lines", "a quantity in words", {"quantity": "two"}),
    "line_without_price": Fault("order_lines", "no price", {"unit_price": None}),
    "line_below_nothing": Fault("order_lines", "a negative price", {"unit_price": "-5.00"}),
    "event_exactly_twice": Fault("events", "the same event sent two times", {}, keeps_key=True),
    "event_without_name": Fault("events", "an event without name", {"event_name": None}),
    "event_in_the_future": Fault("events", "a moment that has not come yet", {"occurred_at": "2999-01-01 00:00:00"}),
    "event_of_50_megabytes": Fault("events", "one line of 50 MB", {"page_url": "x"}, padding=50_000_000),
    "price_from_no_day": Fault("product_prices", "a date that is no date", {"valid_from": "soon"}),
    "spend_in_words": Fault("ad_spend", "an amount in words", {"amount": "lots"}),
}  # fmt: skip
HEAVY = {"event_of_50_megabytes"}
"""Planted only when named."""


def wanted(dirty: bool | Iterable[str]) -> dict[str, Fault]:
    """The faults that `dirty` asks for. Raises InvalidValue naming the faults there are."""
    if isinstance(dirty, bool):
        return {name: fault for name, fault in FAULTS.items() if dirty and name not in HEAVY}
    unknown = sorted(set(dirty) - set(FAULTS))
    if unknown:
        raise InvalidValue(f"dirty: found {', '.join(unknown)}; the faults are {', '.join(FAULTS)}")
    return {name: FAULTS[name] for name in FAULTS if name in set(dirty)}


def planted(select: str, entity: str, faults: Mapping[str, Fault], rows: int) -> str:
    """`select` (of `rows` rows) with one row more at its end per fault of this entity that a SELECT can hold.

    A column that holds a value which is not of its type becomes text as a whole, as it would in a real file.
    """
    mine = {name: fault for name, fault in faults.items() if fault.entity == entity and not fault.csv_only}
    if not mine:
        return select
    columns = ENTITIES[entity].columns
    changed = {column for fault in mine.values() for column in fault.changes}
    as_text = ", ".join(f"{c}::varchar as {c}" if c in changed else c for c in columns)
    parts = [f"(select {as_text} from good)"]
    for nth, (name, fault) in enumerate(mine.items()):
        values = _values(name, fault)
        new = ", ".join(f"{_literal(values[c])} as {c}" if c in values else c for c in columns)
        parts.append(f"(select {new} from (select {as_text} from good limit 1 offset {(nth * 7 + 3) % rows}))")
    return f"with good as materialized ({select}) {' union all '.join(parts)}"


def append(path: Path, entity: str, faults: Mapping[str, Fault]) -> int:
    """Add the lines that only a CSV file can hold to `path`; how many."""
    mine = {name: fault for name, fault in faults.items() if fault.entity == entity and fault.csv_only}
    if not mine:
        return 0
    with path.open(newline="", encoding="utf-8") as file:
        rows = csv.DictReader(file)
        good = next(rows)
    with path.open("ab") as out:
        for name, fault in mine.items():
            values = {column: value or "" for column, value in _values(name, fault).items()}
            if fault.padding:
                last = list(fault.changes)[-1]
                values[last] = values[last].ljust(fault.padding, "x")
            line = io.StringIO()
            csv.DictWriter(line, list(good), lineterminator="\n").writerow({**good, **values})
            out.write(line.getvalue().encode(fault.encoding))
    return len(mine)


def _values(name: str, fault: Fault) -> dict[str, str | None]:
    key = {} if fault.keeps_key else {ENTITIES[fault.entity].key: f"BAD-{name}"}
    return {**key, **fault.changes}


def _literal(value: str | None) -> str:
    return "null" if value is None else "'" + value.replace("'", "''") + "'"
