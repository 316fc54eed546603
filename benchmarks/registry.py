"""Every row of the table and every input that rows share, in plain sight: name to `module:function`, or `module:function:size`."""

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import Any


@dataclass(frozen=True)
class Bench:
    """One row. `bar` is what it must reach, in words; `inputs` are made before it, each once; `large` rows run with FULL=1."""

    target: str
    bar: str
    inputs: tuple[str, ...] = ()
    large: bool = False


PEERS = "less wall time than {}, 0 wrong rows, results ≤ 250 ms after their input (p99)"

TO_SINK = (
    "200 transactions/s, from the commit in Postgres: product_sales and snapshot p50 < 300 ms, p99 < 1 s; the snapshot back in"
    " Postgres p50 < 1 s; 0 wrong rows"
)

BUILD = "≤ 1.15 × plain CREATE TABLE AS + 4 s, < 6 GB"

INPUTS: dict[str, str] = {
    "shop_100k": "benchmarks.shop:files_100k",
    "shop_1m": "benchmarks.shop:files_1m",
    "seeded_100k": "benchmarks.build:seeded_100k",
    "seeded_1m": "benchmarks.build:seeded_1m",
    "built_100k": "benchmarks.build:built_100k",
    "orders_1m": "benchmarks.segments:orders_1m",
    "candidates_1m": "benchmarks.decisions:candidates_1m",
    "log_1m": "benchmarks.learning:log_1m",
    "warm_cache": "benchmarks.demo:warm_cache",
    "delivered_1m": "benchmarks.activation:delivered_1m",
    "delivered_10m": "benchmarks.activation:delivered_10m",
    "log_50m": "benchmarks.collector:log_50m",
    "live_shop": "benchmarks.live:shop",
    "live_log_5m": "benchmarks.live:live_log_5m",
    "retail": "benchmarks.products:project",
    "peers_events": "benchmarks.peers.events:small",
    "peers_events_5m": "benchmarks.peers.events:large",
    "peers_headwater": "benchmarks.peers.rows:headwater",
    "peers_headwater_5m": "benchmarks.peers.rows:headwater:_5m",
}

BENCHES: dict[str, Bench] = {
    "shop_100k_customers": Bench("benchmarks.shop:generate_100k", "≥ 1,000,000 rows/s, written to Parquet"),
    "shop_1m_customers": Bench("benchmarks.shop:generate_1m", "≥ 1,000,000 rows/s, written to Parquet", large=True),
    "build_1m_lines": Bench("benchmarks.build:build_100k", BUILD, ("shop_100k", "seeded_100k")),
    "build_10m_lines": Bench("benchmarks.build:build_1m", BUILD, ("shop_1m", "seeded_1m"), large=True),
    "rebuild_one_mart": Bench(
        "benchmarks.build:rebuild_mart", "< 1 s, in process", ("shop_100k", "seeded_100k", "built_100k")
    ),
    "segments_fit": Bench(
        "benchmarks.segments:features_fit_names", "≤ 1.5 × feature SQL + bare k-means fit (n_init = 10)", ("orders_1m",)
    ),
    "segments_scoring": Bench("benchmarks.segments:scoring", "< 0.5 s, in SQL", ("orders_1m",)),
    "segments_stability": Bench("benchmarks.segments:stability", "< 30 s", ("orders_1m",)),
    "decide_one_by_one": Bench("benchmarks.decisions:one_by_one", "≥ 20,000/s with full trace, p99 < 1 ms"),
    "decide_batch": Bench("benchmarks.decisions:batch", "≥ 300,000/s, trace and log written", ("candidates_1m",)),
    "decide_http": Bench(
        "benchmarks.realtime:decide_http",
        "≥ 1,000/s, p99 < 25 ms, 32 connections, 1M customers, ledger written",
        ("candidates_1m",),
    ),
    "policy_evaluate": Bench(
        "benchmarks.learning:policy_evaluate", "< 30 s, from the tables to the verdict", ("log_1m",)
    ),
    "policy_refit": Bench(
        "benchmarks.learning:policy_refit", "< 20 s, softmax, from the tables to the kept model", ("log_1m",)
    ),
    "plan": Bench("benchmarks.activation:plan_1m", "< 1 s and ≤ 2 × a bare EXCEPT", ("delivered_1m",)),
    "plan_10m": Bench(
        "benchmarks.activation:plan_10m", "< 10 s, < 4 GB and ≤ 2 × a bare EXCEPT", ("delivered_10m",), large=True
    ),
    "activate_hubspot": Bench(
        "benchmarks.delivery:activate_hubspot", "≥ 95 % of 190 calls in 10 s (1,900 rows/s), never more in any window"
    ),
    "activate_postgres": Bench(
        "benchmarks.delivery:activate_postgres",
        "≥ 0.5 × COPY into a staging table + one INSERT … ON CONFLICT by hand",
        large=True,
    ),
    "live_sync_latency": Bench(
        "benchmarks.delivery:live_sync_latency",
        "change → request at 100 changes/s, a model of 1M rows: p99 < 2 s",
        large=True,
    ),
    "dead_destination": Bench(
        "benchmarks.delivery:dead_destination", "≥ 95 % of the rate beside a destination that never answers", large=True
    ),
    "log_append": Bench("benchmarks.log:append", "≥ 270,000 events/s, each call answered after the fsync"),
    "collector_singles": Bench(
        "benchmarks.collector:singles", "≥ 0.5 × the same server answering without doing anything, and ≥ 8,000/s"
    ),
    "collector_batches": Bench("benchmarks.collector:batches", "≥ 100,000 events/s"),
    "collector_planned": Bench("benchmarks.collector:planned", "≥ 40,000 events/s"),
    "collector_50m": Bench(
        "benchmarks.collector:large", "no slower than into an empty log (≤ 1.1 ×)", ("log_50m",), large=True
    ),
    "live_catch_up": Bench(
        "benchmarks.live:catch_up",
        "≥ 100,000 events/s through the leads pipeline, < 2 GB, 0 wrong rows",
        ("live_shop", "live_log_5m"),
        large=True,
    ),
    "live_click_to_row": Bench(
        "benchmarks.live:click_to_row",
        "2,000 events/s upon 10M: p50 < 150 ms, p99 < 500 ms, < 2 GB",
        ("live_shop",),
        large=True,
    ),
    "live_idle": Bench(
        "benchmarks.standing:idle",
        "`headwater up` for a minute: < 1 % of a core, no writes",
        ("live_shop",),
        large=True,
    ),
    "live_memory": Bench(
        "benchmarks.standing:memory",
        "`headwater up` through 10M events, all processes together: < 2 GB",
        ("live_shop",),
        large=True,
    ),
    "history_10m": Bench(
        "benchmarks.history:small",
        "100 keys, history 1M → 10M rows: delta ≤ 2 ×, keyed 30 days ≤ 6 ×, keyed all history ≤ 30 ×, none over 250 ms",
        large=True,
    ),
    "history_100m": Bench(
        "benchmarks.history:large",
        "100 keys, history 1M → 100M rows: delta ≤ 2 ×, keyed 30 days ≤ 6 ×, keyed all history ≤ 30 ×, none over 250 ms",
        large=True,
    ),
    "cdc_snapshot": Bench(
        "benchmarks.databases:snapshot", "≥ 40,000 rows/s, through Debezium into the log", large=True
    ),
    "cdc_stream": Bench(
        "benchmarks.databases:stream", "≥ 25,000 changes/s of a backlog, through Debezium into the log", large=True
    ),
    "cdc_snapshot_1m": Bench(
        "benchmarks.databases:snapshot_1m", "≥ 40,000 rows/s, through Debezium into the log", large=True
    ),
    "cdc_stream_1m": Bench(
        "benchmarks.databases:stream_1m", "≥ 25,000 changes/s of a backlog, through Debezium into the log", large=True
    ),
    "cdc_to_sink": Bench("benchmarks.commit_to_sink:small", TO_SINK, ("retail",), large=True),
    "cdc_to_sink_1m": Bench("benchmarks.commit_to_sink:large", TO_SINK, ("retail",), large=True),
    "products_pipeline": Bench(
        "benchmarks.products:small", "≤ 1.3 × hand-written SQL over the same landed tables, 0 wrong rows", ("retail",)
    ),
    "products_pipeline_4m": Bench(
        "benchmarks.products:large",
        "≤ 1.3 × hand-written SQL over the same landed tables, 0 wrong rows",
        ("retail",),
        large=True,
    ),
    "products_backlog": Bench(
        "benchmarks.products:backlog_small",
        "≥ 25,000 changes/s from the log to committed models, 0 wrong rows",
        ("retail",),
    ),
    "products_backlog_1m": Bench(
        "benchmarks.products:backlog",
        "≥ 25,000 changes/s from the log to committed models, 0 wrong rows",
        ("retail",),
        large=True,
    ),
    "kafka_log_in": Bench(
        "benchmarks.kafka:log_in",
        "≥ 100,000 events/s into a real Kafka, each call answered by all replicas",
        large=True,
    ),
    "kafka_log_through": Bench(
        "benchmarks.kafka:log_through",
        "≥ 100,000 events/s from Kafka to committed models, 0 wrong rows",
        ("live_shop",),
        large=True,
    ),
    "flink_pipeline": Bench(
        "benchmarks.kafka:flink_pipeline",
        "the same records by DuckDB on one machine: ≥ 12 × faster than by Flink, the same sums",
        ("retail",),
        large=True,
    ),
    "flink_pipeline_4m": Bench(
        "benchmarks.kafka:flink_pipeline_4m",
        "the same of 4.2 million records, with Flink given half an hour",
        ("retail",),
        large=True,
    ),
    "products_orders": Bench(
        "benchmarks.products:orders_small", "200 transactions/s: p50 < 300 ms, p99 < 1 s, 0 wrong rows", ("retail",)
    ),
    "products_orders_1m": Bench(
        "benchmarks.products:orders",
        "200 transactions/s upon 1M orders: p50 < 300 ms, p99 < 1 s, 0 wrong rows",
        ("retail",),
        large=True,
    ),
    **{
        f"peers_{peer}{size}": Bench(
            f"benchmarks.peers.rows:{peer}:{size}",
            PEERS.format(name),
            (f"peers_events{size}", f"peers_headwater{size}"),
            large=True,
        )
        for size in ("", "_5m")
        for peer, name in (
            ("flink", "PyFlink"),
            ("pathway", "Pathway"),
            ("postgres", "Postgres with an upsert"),
            ("expiring", "Postgres with upsert and expiry"),
            ("view", "Postgres with a materialized view"),
        )
    },
    "make_demo": Bench("benchmarks.demo:demo", "< 60 s, package cache warm", ("warm_cache",)),
    "core_install": Bench("benchmarks.install:core", "≤ 450 MB installed"),
}


def load(target: str) -> Callable[..., Any]:
    """The function that `module:function` names; of `module:function:size` that function with the size behind what it is given."""
    module, name, *size = target.split(":")
    function = getattr(import_module(module), name)
    return (lambda folder: function(folder, *size)) if size else function
