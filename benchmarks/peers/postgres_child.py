"""Plain Postgres, three ways: `python -m benchmarks.peers.postgres_child INPUT OUTPUT upsert|expiring|view`.

Each batch is one transaction: `COPY` into a table with an index on (customer_id, ts), then the results.

    upsert    the totals of the batch's customers are computed anew and upserted, as most would write it
    expiring  also those of the customers of whom an event has left the window since the batch before (an index on ts finds
              them): what somebody writes by hand who has seen the first way go wrong
    view      `refresh materialized view` after each batch, which cannot be smaller than a hundredth of the input

The server is tuned as for a machine of this size, and commits durably, as Headwater does.
"""

import sys
from datetime import datetime
from pathlib import Path

import psycopg

from benchmarks.peers.pace import Pace, begun, ended, leave, newest, run
from headwater.testing.postgres import server

SETTINGS = {
    "fsync": "on", "wal_level": "minimal", "max_wal_senders": "0", "max_replication_slots": "0", "track_commit_timestamp": "off",
    "shared_buffers": "1GB", "work_mem": "128MB", "maintenance_work_mem": "512MB", "max_wal_size": "8GB", "checkpoint_timeout": "15min",
    "max_slot_wal_keep_size": "-1", "jit": "off",
}  # fmt: skip
TABLES = """
create table events (number bigint, customer_id text not null, amount_cents bigint not null, ts timestamp not null);
create index on events (customer_id, ts) include (amount_cents);
create table clock (was timestamp, as_of timestamp);
insert into clock values ('2000-01-01', '2000-01-01');
create table totals (customer_id text primary key, amount_cents bigint not null, events bigint not null);
create materialized view totals_view as
    select customer_id, sum(amount_cents)::bigint as amount_cents, count(*) as events from events, clock
    where ts > as_of - interval '30 days' group by customer_id;
"""
BY_TIME = "create index on events (ts) include (customer_id)"
BATCH = (
    "create temp table batch (number bigint, customer_id text, amount_cents bigint, ts timestamp) on commit delete rows"
)
TOUCHED = "select customer_id from batch"
LEFT = " union select customer_id from events, clock where ts > was - interval '30 days' and ts <= as_of - interval '30 days'"
UPSERT = """
with touched as (select distinct customer_id from ({touched}) as t),
fresh as (
    select touched.customer_id, total.amount_cents, total.events
    from touched, clock, lateral (
        select sum(e.amount_cents)::bigint as amount_cents, count(*) as events from events as e
        where e.customer_id = touched.customer_id and e.ts > clock.as_of - interval '30 days'
    ) as total
),
gone as (delete from totals using fresh where totals.customer_id = fresh.customer_id and fresh.events = 0)
insert into totals select customer_id, amount_cents, events from fresh where events > 0
on conflict (customer_id) do update set amount_cents = excluded.amount_cents, events = excluded.events
"""


def main() -> None:
    given, output, way = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
    with (
        server(output / "postgres", settings=SETTINGS) as running,
        psycopg.connect(running.url, autocommit=True) as connection,
    ):
        connection.execute(TABLES)
        connection.execute(BATCH)
        if way == "expiring":
            connection.execute(BY_TIME)
        touched = UPSERT.format(touched=TOUCHED + (LEFT if way == "expiring" else ""))
        as_of = ""

        def emit(part: list[bytes]) -> None:
            nonlocal as_of
            as_of = newest(part, as_of)
            with connection.transaction(), connection.cursor() as cursor:
                table = "events" if way == "view" else "batch"
                with cursor.copy(f"copy {table} from stdin (format csv)".encode()) as copy:
                    copy.write(b"".join(part))
                cursor.execute("update clock set was = as_of, as_of = %s", (datetime.fromisoformat(as_of),))
                if way == "view":
                    cursor.execute("refresh materialized view totals_view")
                else:
                    cursor.execute("insert into events select * from batch")
                    cursor.execute(touched.encode())

        def rows() -> list[tuple[str, int, int]]:
            seen = "totals_view" if way == "view" else "totals"
            return connection.execute(f"select customer_id, amount_cents, events from {seen}".encode()).fetchall()

        with (given / "events.csv").open("rb") as file:
            lines = sum(1 for _ in file)
        pace = Pace(least=lines // 100) if way == "view" else Pace()
        begun()
        ended(run(given / "events.csv", pace, emit), pace)
        leave(output / "end.csv", rows())
        run(given / "silent.csv", Pace(least=1, size=1), emit)
        leave(output / "silent.csv", rows())


if __name__ == "__main__":
    main()
