"""What the syncs do, for Prometheus: a file that `/metrics` of the collector shows too, and that node_exporter can read.

The file is written whole and renamed, after runs and every minute of `headwater up` in which something changed: an idle
minute writes nothing. Counts are those of the warehouse, so they survive restarts.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector as Family

from headwater.activation.settings import SyncSettings
from headwater.warehouse import Warehouse

FILE = "warehouse/deliveries.prom"
"""Where the file is, relative to the project."""


def write(warehouse: Warehouse, syncs: Sequence[SyncSettings], path: Path) -> None:
    """Write the metrics of the syncs as they stand, if the file does not say that already."""
    registry = CollectorRegistry()
    registry.register(_Deliveries(warehouse, [sync.name for sync in syncs]))
    said = generate_latest(registry)
    if path.exists() and path.read_bytes() == said:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.part")
    aside.write_bytes(said)
    aside.replace(path)


class _Deliveries(Family):
    def __init__(self, warehouse: Warehouse, syncs: Sequence[str]) -> None:
        self._warehouse = warehouse
        self._syncs = list(syncs)

    def describe(self) -> list[Metric]:
        return []

    def collect(self) -> Iterator[Metric]:
        runs = CounterMetricFamily(
            "headwater_sync_runs", "Runs of a sync, by how they ended", labels=["sync", "status"]
        )
        rows = CounterMetricFamily(
            "headwater_sync_rows", "Rows of a sync, by what became of them", labels=["sync", "result"]
        )
        good = GaugeMetricFamily(
            "headwater_sync_last_good_run_timestamp_seconds", "When a run last ended well", labels=["sync"]
        )
        took = GaugeMetricFamily("headwater_sync_last_run_seconds", "How long the last run took", labels=["sync"])
        for sync, status, number in self._rows(
            "select sync, status, count(*) from headwater.sync_runs where not dry_run and sync in (select unnest(?)) "
            "group by all order by all"
        ):
            runs.add_metric([sync, status], number)
        for sync, sent, confirmed, failed, ended, seconds in self._rows(
            "select sync, sum(sent), sum(confirmed), sum(failed), epoch(max(ended_at) filter (status in ('ok', 'nothing'))), "
            "arg_max(epoch(ended_at) - epoch(started_at), started_at) filter (ended_at is not null) "
            "from headwater.sync_runs where not dry_run and sync in (select unnest(?)) group by all order by all"
        ):
            for result, value in (("sent", sent), ("confirmed", confirmed), ("failed", failed)):
                rows.add_metric([sync, result], value)
            for family, value in ((good, ended), (took, seconds)):
                if value is not None:
                    family.add_metric([sync], value)
        yield from (runs, rows, good, took)
        waiting = GaugeMetricFamily(
            "headwater_sync_open_rows", "Rows in the outbox, by state", labels=["sync", "state"]
        )
        for sync, state, number in self._rows(
            "select sync, state, count(*) from headwater.outbox where state in ('ready', 'claimed', 'held', 'failed') "
            "and sync in (select unnest(?)) group by all order by all"
        ):
            waiting.add_metric([sync, state], number)
        alerts = GaugeMetricFamily("headwater_alert_open", "1 for an alert that is open", labels=["sync", "kind"])
        for sync, kind in self._rows(
            "select distinct sync, kind from headwater.alerts where resolved_at is null and sync in (select unnest(?)) order by all"
        ):
            alerts.add_metric([sync, kind], 1)
        yield from (waiting, alerts)

    def _rows(self, sql: str) -> list[tuple]:
        return self._warehouse.execute(sql, [self._syncs]).fetchall()
