"""A project folder with two people in every place that Headwater writes: log, warehouse, exports, outbox, rejected bodies."""

import json
import sys
from base64 import b64encode
from datetime import UTC, datetime, timedelta
from pathlib import Path

from landed_ids import Said, land

from headwater.clock import FixedClock
from headwater.identity.settings import IdentitySettings
from headwater.live import forget, persons
from headwater.live.forget import Asked, Told
from headwater.log.sqlite import SqliteLog
from headwater.records.logged import Entry
from headwater.warehouse import Warehouse

NOW = FixedClock(datetime(2026, 3, 2, tzinfo=UTC))
ANN = ("C-ann-001", "visitor-ann-1", "visitor-ann-2", "ann.smith@example.org", "+44 7700 900123", "C-ann-OLD")
BOB = ("C-bob-002", "visitor-bob-1", "bob.jones@example.org", "+44 7700 900456")
KIOSK = "visitor-kiosk"
CALLS = (
    Said("track", 0, "m00", anonymous="visitor-ann-1", name="demo_requested"),
    Said("track", 1, "m01", anonymous="visitor-ann-1", user="C-ann-001"),
    Said("identify", 2, "m02", anonymous="visitor-ann-2", email="Ann.Smith@example.org"),
    Said("identify", 3, "m03", user="C-ann-001", anonymous="visitor-ann-1", email="ann.smith@example.org"),
    Said("alias", 4, "m04", previous="C-ann-OLD", user="C-ann-001"),
    Said("track", 5, "m05", anonymous=KIOSK, user="C-ann-001"),
    Said("track", 6, "m06", anonymous=KIOSK, user="C-bob-002"),
    Said("track", 7, "m07", anonymous="visitor-bob-1", user="C-bob-002", name="demo_requested"),
    Said("identify", 8, "m08", user="C-bob-002", email="bob.jones@example.org"),
)


def payload(call: Said) -> bytes:
    said = {"type": call.kind, "messageId": call.message_id, "userId": call.user, "anonymousId": call.anonymous}
    if call.previous:
        said["previousId"] = call.previous
    if call.email:
        said["traits"] = {"email": call.email}
    return json.dumps(said | {"event": call.name}).encode()


def entries() -> list[Entry]:
    received = int(NOW.now().timestamp() * 1_000_000)
    accepted = [Entry("events", "web", c.user or c.anonymous or "", c.message_id, received, payload(c)) for c in CALLS]
    bodies = [
        b'{"type":"track","userId":"C-ann-001"}',
        b'{"type":"track","userId":"C-bob-002"}',
        b'{"email":"ann.smith\\u0040example.org"',
    ]
    rejected = [
        Entry(
            "rejected",
            "web",
            "",
            f"r{n}",
            received,
            json.dumps({"raw": b64encode(body).decode(), "reasons": [{"code": "no_event"}]}).encode(),
        )
        for n, body in enumerate(bodies)
    ]
    return accepted + rejected


def make(folder: Path) -> None:
    """Everything, as collector, engine, build, decisions and delivery leave it."""
    (folder / "warehouse").mkdir(parents=True)
    log = SqliteLog(folder / "warehouse" / "log.sqlite")
    log.append(entries())
    log.close()
    with Warehouse(folder / "warehouse" / "shop.duckdb") as w:
        persons.prepare(w)
        with w.transaction():
            land(w, CALLS, 0)
            persons.follow(w, 0, IdentitySettings())
        for n, body in enumerate([b'{"type":"track","userId":"C-ann-001"}', b'{"type":"track","userId":"C-bob-002"}']):
            w.execute(
                "insert into headwater.rejected_events (rejected_id, reason, raw, position) values (?, 'no_event', ?, ?)",
                [f"rejected-{n}", body, n],
            )
        _files(w)
        _marts(w)
        _deliveries(w)
        w.execute("checkpoint")
        for name in ("dim_customer", "fct_orders"):
            (folder / "bi").mkdir(exist_ok=True)
            w.execute(f"copy main.{name} to '{folder}/bi/{name}.parquet'")
            w.execute(f"copy main.{name} to '{folder}/bi/{name}.csv'")
    (folder / "bi" / "report.html").write_text("<p>C-ann-001 is the best customer</p>", encoding="utf-8")
    (folder / "outbox" / "leads").mkdir(parents=True)
    (folder / "outbox" / "leads" / "leads-1.csv").write_text(
        "operation,key,customer_id,email\ncreate,C-ann-001,C-ann-001,ann.smith@example.org\ncreate,C-bob-002,C-bob-002,bob.jones@example.org\n",
        encoding="utf-8",
    )
    (folder / "outbox" / "leads" / "leads-2.json").write_text(
        '[\n{"key": "ann.smith@example.org", "fields": {}},\n{"key": "bob.jones@example.org", "fields": {}}\n]\n',
        encoding="utf-8",
    )
    (folder / "seeds").mkdir()
    (folder / "seeds" / "customer_segments.csv").write_text(
        "customer_id,segment_id,segment_name\nC-ann-001,3,Champions\nC-bob-002,4,Loyal\n", encoding="utf-8"
    )


def _files(w: Warehouse) -> None:
    w.execute(
        "create table raw.customers as select * from (values ('C-ann-001', 'Ann.Smith@example.org', '+44 7700 900123', 'A1', 'A1', 'customers.csv', 2), "
        "('C-bob-002', 'bob.jones@example.org', '+44 7700 900456', 'A2', 'A9', 'customers.csv', 3)) "
        "as t (customer_id, email, phone, shipping_address_id, billing_address_id, _file, _line)"
    )
    w.execute(
        "create table raw.orders as select * from (values ('O-1', 'C-ann-001', 'orders.csv', 2), ('O-2', 'C-bob-002', 'orders.csv', 3)) as t (order_id, customer_id, _file, _line)"
    )
    w.execute(
        "create table raw.order_lines as select * from (values ('L-1', 'O-1', 'lines.csv', 2), ('L-2', 'O-2', 'lines.csv', 3)) as t (order_line_id, order_id, _file, _line)"
    )
    w.execute(
        "create table raw.addresses as select * from (values ('A1', 'Ann Street 1', 'a.csv', 2), ('A2', 'Bob Street 2', 'a.csv', 3)) as t (address_id, street, _file, _line)"
    )
    for entity in ("customers", "orders", "order_lines", "addresses"):
        w.execute(f"create view main.stg_{entity}__checked as select '{entity}' as _table, * from raw.{entity}")
        w.execute(f"create view main.stg_{entity} as select * exclude (_file, _line) from raw.{entity}")


def _marts(w: Warehouse) -> None:
    w.execute(
        "create table main.dim_customer as select customer_id, customer_id as person_id, email, phone from main.stg_customers"
    )
    w.execute("create table main.fct_orders as select * from main.stg_orders")
    w.execute("create table main.int_order_totals as select order_id, 1 as line_count from main.stg_orders")
    w.execute(
        "create table main.int_person_ids as select id as anonymous_id, person_id, customer_id from headwater.identities where id_kind = 'anonymous'"
    )
    w.execute(
        "create table main.user_alerts as select person_id, customer_id, email, 30 as mql_score from main.dim_customer"
    )
    w.execute("create table main.of_my_own as select email as \"email\", 'bought twice' as note from main.dim_customer")
    w.execute(
        "insert into headwater.model_changes select 'user_alerts', person_id, 'insert', null, to_json(t), 1, timestamp '2026-03-01' from main.user_alerts as t"
    )
    w.execute(
        "insert into headwater.segment_memberships select customer_id, 'lapse', timestamp '2026-03-01', null, 1, null from main.dim_customer"
    )


def _deliveries(w: Warehouse) -> None:
    w.execute(
        "insert into headwater.decision_log (decision_id, customer_id, action) select 'd-' || customer_id, customer_id, 'call' from main.dim_customer"
    )
    w.execute(
        "create table delivered.leads as select lower(email) as _headwater_key, 'Smith' as last_name from main.dim_customer"
    )
    w.execute(
        "insert into headwater.outbox (operation_id, sync, key, operation, payload, state, customer_id) "
        "select 'op-' || customer_id, 'leads', lower(email), 'create', to_json({'Email': email}), 'done', customer_id from main.dim_customer"
    )
    w.execute(
        "insert into headwater.sync_rows (sync, operation_id, key, request) select sync, operation_id, key, payload from headwater.outbox"
    )


def told(asked: list[Told]):
    """A destination that confirms everything, and writes down what it was asked."""

    def ask(several):
        asked.extend(several)
        return [Asked(one, "done") for one in several]

    return ask


def forget_ann(
    folder: Path, person: str = "C-ann-001", asked: list[Told] | None = None, *, unseen: bool = False
) -> forget.Receipt:
    log = SqliteLog(folder / "warehouse" / "log.sqlite")
    try:
        with Warehouse(folder / "warehouse" / "shop.duckdb") as warehouse:
            ask = told(asked if asked is not None else [])
            return forget.forget(folder, warehouse, log, person, NOW, ask=ask, unseen=unseen)
    finally:
        log.close()


def later(days: int) -> FixedClock:
    return FixedClock(NOW.now() + timedelta(days=days))


if __name__ == "__main__":  # a process of its own, for tests that kill it
    forget_ann(Path(sys.argv[1]))
