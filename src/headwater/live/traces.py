"""Where a person stands in the warehouse: all ids that are him, and the rows that are his, in whatever table.

Tables are recognised by the names of their columns, so a model of the user's own is covered like ours:

    customer_id, user_id          the person's user ids (customerid and userid mean the same, as databases write them)
    person_id                     these, or `anon:` and an anonymous id
    anonymous_id                  only in rows that name no customer: a visitor id may be shared
    email                         only in tables or rows that name nobody otherwise
    order_id                      in tables without any of the above: the person's orders (orderid too)
    key (outbox, sync_rows, delivered.*)   what stood for the person at a destination
    left_id, right_id; old, new; raw       identity links, recorded changes, rejected bodies
"""

import json
import re
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from headwater.identity import keys
from headwater.live import suppression
from headwater.warehouse.connection import Warehouse

_OURS = ("suppressed_ids", "deletion_receipts", "file_loads", "stage_runs", "test_results", "clock")
USERS = ("customer_id", "user_id", "customerid", "userid")
"""Columns that hold a user id."""
_ORDERS = ("order_id", "orderid")
_DISTINCT = re.compile(r"(?=.*[^0-9])(.{5,})|(.{9,})", re.S)


@dataclass(frozen=True)
class Person:
    """Everything that is one person. `visitors` are anonymous ids that no other customer used; `shared` those that one did.

    `orders` are the order ids. `told` holds (sync, key) of whatever a destination was told of him.
    """

    users: tuple[str, ...] = ()
    visitors: tuple[str, ...] = ()
    shared: tuple[str, ...] = ()
    devices: tuple[str, ...] = ()
    emails: tuple[str, ...] = ()
    phones: tuple[str, ...] = ()
    orders: tuple[str, ...] = ()
    told: tuple[tuple[str, str], ...] = field(default=())

    @property
    def person_ids(self) -> tuple[str, ...]:
        """What models may have as his person_id."""
        return (*self.users, *(f"anon:{visitor}" for visitor in self.visitors))

    @property
    def ids(self) -> tuple[tuple[str, str], ...]:
        """(kind, id) of all that must not come back."""
        pairs = {"user": self.users, "anonymous": self.visitors, "device": self.devices, "email": self.emails}
        return tuple((kind, name) for kind, names in pairs.items() for name in names)

    @property
    def words(self) -> tuple[str, ...]:
        """Every text that names him and nobody else."""
        return tuple(dict.fromkeys((*self.users, *self.visitors, *self.devices, *self.emails, *self.phones)))

    @property
    def pattern(self) -> Callable[[str], bool]:
        """Whether a text holds one of the words, as a word of its own.

        A short number (`12`) is looked for only as the value of a field that is an id, since it may count something else.
        """
        loose = {*self.emails, *self.phones}  # an address is the same in capitals, an id is not
        parts = [
            rf"(?<!\w)(?i:{re.escape(word)})(?!\w)" if word in loose else rf"(?<!\w){re.escape(word)}(?!\w)"
            for word in self.words
            if _DISTINCT.fullmatch(word)
        ]
        short = [re.escape(word) for word in self.words if not _DISTINCT.fullmatch(word)]
        if short:
            names = "customer_?id|user_?id|person_?id|anonymous_?id|previous_?id|key"
            parts.append(rf'"(?i:{names})"\s*:\s*"?(?:{"|".join(short)})"?(?!\w)')
        if not parts:
            return lambda _text: False
        found = re.compile("|".join(parts))
        return lambda text: found.search(text) is not None


def find(warehouse: Warehouse, kind: str | None, name: str) -> Person:
    """All that is known of the person behind one id. `kind` None: whatever kind the id is of.

    An id that nobody has is the only thing known of its person, as a user id and as an anonymous one.
    """
    users: set[str] = set()
    visitors: set[str] = set()
    devices: set[str] = set()
    emails: set[str] = set()
    _one(kind, name, users, visitors, devices, emails)
    shop = [table for table in ("main.dim_customer", "main.stg_customers") if _has(warehouse, table, "customer_id")]
    if kind in (None, "email"):
        for table in shop:
            users |= _set(
                warehouse,
                f"select customer_id from {table} where {keys.email_sql('email')} = $e",
                {"e": keys.email(name)},
            )
        rows = _set(
            warehouse,
            f"select customer_id from collected.identifies where {keys.email_sql('email')} = $e",
            {"e": keys.email(name)},
        )
        users |= {
            user
            for user in rows
            if not _set(
                warehouse,
                "select person_id from headwater.identities where id_kind = 'user' and id = $id",
                {"id": user},
            )
        }
    asked = (
        [("user", user) for user in users]
        + [("anonymous", v) for v in visitors]
        + [("email", e) for e in emails]
        + [("device", d) for d in devices]
    )
    people = {
        person
        for id_kind, one in asked
        for person in _set(
            warehouse,
            "select person_id from headwater.identities where id_kind = $kind and id = $id",
            {"kind": id_kind, "id": one},
        )
    }
    known = warehouse.execute(
        "select id_kind, id from headwater.identities where list_contains($people, person_id)",
        {"people": sorted(people)},
    ).fetchall()
    for id_kind, one in known:
        {"user": users, "anonymous": visitors, "email": emails, "device": devices}[id_kind].add(one)
    if warehouse.exists("main.int_person_ids"):
        visitors |= _set(
            warehouse,
            "select anonymous_id from main.int_person_ids where list_contains($users, customer_id)",
            {"users": sorted(users)},
        )
        if kind in (None, "anonymous"):
            users |= _set(
                warehouse, "select customer_id from main.int_person_ids where anonymous_id = $id", {"id": name}
            )
    who = {"users": sorted(users), "visitors": sorted(visitors)}
    phones: set[str] = set()
    for table in (*shop, "collected.identifies"):
        of = "list_contains($users, customer_id)"
        if table == "collected.identifies":
            of += " or (customer_id is null and list_contains($visitors, anonymous_id))"
        for email, phone in warehouse.execute(
            f"select distinct email, phone from {table} where {of}",
            who if "$visitors" in of else {"users": who["users"]},
        ).fetchall():
            emails |= {spelt for spelt in (email, keys.email(email)) if spelt}
            phones |= {phone} if phone and (keys.phone(phone) or "") else set()
    for table, user, _, email in _landed(warehouse):
        if email is not None:
            sql = f"select distinct {email} from {table} where list_contains($users, {user}::varchar)"
            emails |= {spelt for spelt in map(keys.email, _set(warehouse, sql, {"users": who["users"]})) if spelt}
    for table in shop:
        taken = _set(
            warehouse,
            f"select email from {table} where not list_contains($users, customer_id) and list_contains($emails, {keys.email_sql('email')})",
            {"users": who["users"], "emails": sorted(filter(None, map(keys.email, emails)))},
        )
        emails -= {email for email in emails if keys.email(email) in set(map(keys.email, taken))}
        phones -= _set(
            warehouse,
            f"select phone from {table} where not list_contains($users, customer_id) and list_contains($phones, phone)",
            {"users": who["users"], "phones": sorted(phones)},
        )
    shared = _set(
        warehouse,
        "select anonymous_id from collected.events where list_contains($visitors, anonymous_id) and not list_contains($users, customer_id)",
        who,
    )
    orders: set[str] = set()
    for table, user, order, _ in _landed(warehouse):
        if order is not None:
            sql = f"select distinct {order}::varchar from {table} where list_contains($users, {user}::varchar)"
            orders |= _set(warehouse, sql, {"users": who["users"]})
    if _has(warehouse, "main.stg_orders", "customer_id"):
        orders |= _set(
            warehouse,
            "select order_id from main.stg_orders where list_contains($users, customer_id)",
            {"users": who["users"]},
        )
    person = Person(
        tuple(sorted(users)), tuple(sorted(visitors - shared)), tuple(sorted(shared)), tuple(sorted(devices)),
        tuple(sorted(emails)), tuple(sorted(phones)), tuple(sorted(orders)),
    )  # fmt: skip
    return replace(person, told=tuple(sorted(_told(warehouse, person))))


def _told(warehouse: Warehouse, person: Person) -> set[tuple[str, str]]:
    """(sync, key) of everything that a destination holds of the person, or is about to get: rows of his that were delivered,
    whatever their key is, and operations of the outbox."""
    lists = _lists(person)
    lists["keys"] = sorted({*lists["people"], *person.emails})
    where = "list_contains($users, customer_id) or list_contains($keys, key)"
    told = set(
        warehouse.execute(
            f"select distinct sync, key from headwater.outbox where {where}", _used(lists, where)
        ).fetchall()
    )
    for schema, table, columns in _tables(warehouse):
        if schema != "delivered" or table.endswith("__next"):
            continue
        own = _own(columns)
        where = "list_contains($keys, _headwater_key)" + (f" or {own}" if own else "")
        sql = f'select _headwater_key from delivered."{table}" where {where}'
        told |= {(table, key) for key in _set(warehouse, sql, _used(lists, where))}
    return told


def _lists(person: Person) -> dict[str, list[Any]]:
    """What the conditions of `_own` and `_special` compare with, by the names of their parameters."""
    visitors = [*person.visitors, *person.shared]
    return {
        "users": list(person.users),
        "visitors": visitors,
        "alone": list(person.visitors),
        "people": [*person.users, *(f"anon:{visitor}" for visitor in visitors)],
        "emails": sorted({email for email in map(keys.email, person.emails) if email}),
        "orders": list(person.orders),
        "keys": [key for _, key in person.told],
        "syncs": [sync for sync, _ in person.told],
        "words": list(person.words),
    }


def _used(lists: dict[str, list[Any]], where: str) -> dict[str, list[Any]]:
    """The lists that a condition names; DuckDB refuses parameters that it does not."""
    return {name: value for name, value in lists.items() if re.search(rf"\${name}\b", where)}


def delete(warehouse: Warehouse, person: Person) -> dict[str, int]:
    """Remove every row of the person, in the caller's transaction; place (`schema.table`) to how many rows went, noughts left out."""
    counts: dict[str, int] = {}

    def gone(place: str, rows: int) -> None:
        if rows:
            counts[place] = counts.get(place, 0) + rows

    for place, rows in suppression.remove_file_rows(
        warehouse, person.users, (*person.visitors, *person.shared)
    ).items():
        gone(place, rows)
    lists = _lists(person)
    for schema, table, columns in _tables(warehouse):
        place = f"{schema}.{table}"
        where = _special(schema, table, columns, person) or _own(columns)
        if where is None:
            continue
        used = _used(lists, where)
        gone(place, int(warehouse.value(f'delete from {schema}."{table}" as held where {where}', used)))
    gone("headwater.rejected_events", _rejected(warehouse, person))
    return counts


def _own(columns: set[str]) -> str | None:
    """The condition by the names of the columns; None for a table that names nobody."""
    parts: list[str] = []
    named = [column for column in USERS if column in columns]
    nobody = " and ".join(f"{column} is null" for column in named) or "true"
    parts += [f"list_contains($users, {column}::varchar)" for column in named]
    if "person_id" in columns:
        parts.append("list_contains($people, person_id::varchar)")
    elif "anonymous_id" in columns:
        parts.append(f"({nobody} and list_contains($visitors, anonymous_id::varchar))")
    if "email" in columns and "person_id" not in columns:
        without = nobody + (" and anonymous_id is null" if "anonymous_id" in columns else "")
        parts.append(f"({without} and list_contains($emails, {keys.email_sql('email::varchar')}))")
    if not parts:
        parts += [f"list_contains($orders, {column}::varchar)" for column in _ORDERS if column in columns]
    return " or ".join(f"coalesce({part}, false)" for part in parts) or None


def _special(schema: str, table: str, columns: set[str], person: Person) -> str | None:
    """The condition of tables whose columns do not say it."""
    sent = "list_contains(list_transform(list_zip($syncs, $keys), x -> x[1] || chr(31) || x[2]), {} || chr(31) || {})"
    if schema == "delivered":
        own = _own(columns)
        key = sent.format(f"'{table.removesuffix('__next')}'", "_headwater_key")
        if table.endswith("__next"):
            key = f"_headwater_operation_id in (select operation_id from headwater.outbox where {sent.format('sync', 'key')})"
        return f"coalesce({key}, false)" + (f" or {own}" if own else "")
    if schema == "headwater":
        if table in ("outbox", "sync_rows"):
            own = _own(columns)
            return sent.format("sync", "key") + (f" or {own}" if own else "")
        if table == "identity_links":
            return " or ".join(
                f"({side}_kind = '{kind}' and list_contains(${name}, {side}_id))"
                for side in ("left", "right")
                for kind, name in (("user", "users"), ("anonymous", "alone"), ("email", "emails"))
            )
        if table == "identities":
            return "list_contains($people, person_id) or list_contains($users, customer_id)"
        if table == "model_changes":
            images = " or ".join(
                f"coalesce(list_contains(${name}, {image}->>'$.{column}'), false)"
                for image in ("old", "new")
                for column, name in (
                    *((column, "users") for column in USERS),
                    ("person_id", "people"),
                    *((column, "orders") for column in _ORDERS),
                    ("email", "emails"),
                )
            )
            return f"list_contains($people, key) or {images}"
        if table == "landed_deletes":
            listed = ", ".join(f"'{column}'" for column in USERS)
            keyed = f"select relation from headwater.landed_columns where is_key and lower(column_name) in ({listed})"
            return f"list_contains($users, key) and relation in ({keyed})"
        if table in ("due_keys", "stale_keys"):
            return "coalesce(list_contains($people, key), false)"
        if table == "file_rejects":
            return "coalesce(list_contains($words, value), false)"
    if schema == "main" and {"_key", "_outcome"} <= columns:
        return "coalesce(list_contains($words, _key::varchar), false)"
    if schema == "main" and table == "quarantined_rows":
        return "coalesce(list_contains($words, value::varchar), false)"
    return None


def _tables(warehouse: Warehouse) -> list[tuple[str, str, set[str]]]:
    rows = warehouse.execute(
        "select c.table_schema, c.table_name, list(lower(c.column_name)) from information_schema.columns as c "
        "join information_schema.tables as t on t.table_schema = c.table_schema and t.table_name = c.table_name "
        "and t.table_catalog = c.table_catalog where t.table_type = 'BASE TABLE' and c.table_catalog = current_database() "
        "group by c.table_schema, c.table_name"
    ).fetchall()
    rows.sort(
        key=lambda row: (row[0] != "delivered", row[1] == "outbox", row[:2])
    )  # the outbox says whose a delivery is
    return [(row[0], row[1], set(row[2])) for row in rows if not (row[0] == "headwater" and row[1] in _OURS)]


def _rejected(warehouse: Warehouse, person: Person) -> int:
    holds = person.pattern
    gone = [
        row[0]
        for row in warehouse.execute("select rejected_id, raw from headwater.rejected_events").fetchall()
        if holds(unescaped(bytes(row[1] or b"")))
    ]
    warehouse.execute("delete from headwater.rejected_events where list_contains($gone, rejected_id)", {"gone": gone})
    return len(gone)


def unescaped(raw: bytes) -> str:
    """The text of a body, with what JSON escapes written out, so that a name is found however it was sent."""
    text = raw.decode("utf-8", "replace")
    if "\\" in text:
        text += "\n" + re.sub(r"\\u([0-9a-fA-F]{4})", lambda found: chr(int(found[1], 16)), text).replace("\\/", "/")
    return text


def said_by(person: Person) -> Callable[[bytes], bool]:
    """Whether the payload of an accepted record (JSON) is the person's.

    By its user id; without one by its anonymous id or the address it states; an alias by either of its ids.
    """
    users, visitors = set(person.users), {*person.visitors, *person.shared}
    emails = {email for email in map(keys.email, person.emails) if email}

    def check(payload: bytes) -> bool:
        try:
            said = json.loads(payload)
        except ValueError:
            return person.pattern(unescaped(payload))
        if not isinstance(said, dict):
            return False
        user, visitor, previous = (said.get(name) for name in ("userId", "anonymousId", "previousId"))
        if user in users or previous in users or (previous in visitors and previous is not None):
            return True
        if isinstance(user, str) and not keys.blocked(user):
            return False
        traits = said.get("traits") or {}
        address = traits.get("email") if isinstance(traits, dict) else None
        return visitor in visitors or (isinstance(address, str) and keys.email(address) in emails)

    return check


def _landed(warehouse: Warehouse) -> list[tuple[str, str, str | None, str | None]]:
    """Landed tables that name a user: (table, the user's column, the order's column, the address's column)."""
    found = []
    for schema, table, columns in _tables(warehouse):
        user = next((column for column in USERS if column in columns), None)
        if schema == "landed" and user is not None:
            order = next((column for column in _ORDERS if column in columns), None)
            found.append((f'{schema}."{table}"', user, order, "email" if "email" in columns else None))
    return found


def _has(warehouse: Warehouse, relation: str, column: str) -> bool:
    """Whether there is such a table or view, and it has the column."""
    schema, _, name = relation.partition(".")
    sql = (
        "select count(*) from information_schema.columns where table_schema = ? and table_name = ? and column_name = ?"
    )
    return bool(warehouse.value(sql, [schema, name, column]))


def _one(kind: str | None, name: str, users: set[str], visitors: set[str], devices: set[str], emails: set[str]) -> None:
    if kind in (None, "user"):
        users.add(name)
    if kind in (None, "anonymous"):
        visitors.add(name)
    if kind == "device":
        devices.add(name)
    address = keys.email(name) if kind in (None, "email") else None
    if address and (kind == "email" or "@" in name):
        emails |= {name.strip(), address}
        users.discard(name)
        visitors.discard(name)


def _set(warehouse: Warehouse, sql: str, parameters: dict[str, Any]) -> set[str]:
    return {row[0] for row in warehouse.execute(sql, parameters).fetchall() if row[0] is not None}


def as_json(person: Person) -> dict[str, Any]:
    """For the note that a deletion in progress keeps."""
    return asdict(person)


def from_json(stored: dict[str, Any]) -> Person:
    """`as_json`, read back."""
    told = tuple((sync, key) for sync, key in stored.pop("told"))
    return Person(told=told, **{name: tuple(values) for name, values in stored.items()})
