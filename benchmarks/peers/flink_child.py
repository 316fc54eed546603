"""PyFlink, in its own environment (`make flink`): `python -m benchmarks.peers.flink_child INPUT OUTPUT`.

The query as its users write it: an OVER window by event time, with a watermark for the known disorder, in streaming mode on a
local mini cluster. A row comes out for every row that goes in, when the watermark passes it; a reader sees the newest row of
each customer. In this replay two hours of disorder pass within milliseconds; followed live, the watermark would hold every
result back for two hours. Watermarks every 50 ms and a buffer timeout of 10 ms keep the emission within the limit; there
are no checkpoints, and the results go to local files by the operator that makes them (the print connector), which is the least
that can be called emitted.
"""

import os
import sys
import time
from pathlib import Path

# pyrefly: ignore [missing-import]  (an environment of its own)
from pyflink.table import EnvironmentSettings, TableEnvironment

from benchmarks.peers.pace import begun, ended

SETTINGS = {
    "parallelism.default": "2",
    "pipeline.auto-watermark-interval": "50 ms",
    "execution.buffer-timeout.interval": "10 ms",
    "taskmanager.numberOfTaskSlots": "4",
    "table.exec.source.idle-timeout": "0 ms",
}
SOURCE = """
create table events (
    `number` bigint, customer_id string, amount_cents bigint, ts timestamp(3),
    watermark for ts as ts - interval '2' hour
) with ('connector' = 'filesystem', 'path' = '{path}', 'format' = 'csv', 'csv.ignore-parse-errors' = 'true')
"""
SINK = "create table totals (customer_id string, amount_cents bigint, events bigint, ts timestamp(3)) with ('connector' = 'print')"
QUERY = """
insert into totals
select customer_id, sum(amount_cents) over w, count(*) over w, ts
from events
window w as (partition by customer_id order by ts range between interval '30' day preceding and current row)
"""


def main() -> None:
    given, output = Path(sys.argv[1]), Path(sys.argv[2])
    with (output / "input.csv").open("wb") as file:  # one stream: the events, and the heartbeat at its end
        for name in ("events.csv", "silent.csv"):
            file.write((given / name).read_bytes().split(b"\n", 1)[1])
    begun()
    printed = (output / "printed").open("wb")
    ours = os.dup(1)
    os.dup2(printed.fileno(), 1)  # the cluster, which this process starts, prints to where it prints
    table = TableEnvironment.create(EnvironmentSettings.in_streaming_mode())
    for name, value in SETTINGS.items():
        table.get_config().set(name, value)
    table.execute_sql(SOURCE.format(path=(output / "input.csv").resolve().as_uri()))
    table.execute_sql(SINK)
    since = time.perf_counter()
    table.execute_sql(QUERY).wait()
    took = time.perf_counter() - since
    os.dup2(ours, 1)
    ended(took)


if __name__ == "__main__":
    main()
