"""What the collector counts, for Prometheus. Counting is a dictionary's work; the families are made when somebody asks."""

from collections import Counter
from collections.abc import Iterator

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector as Family

from headwater.collect.taken import Taken
from headwater.errors import LogUnavailable
from headwater.log.base import Log


class Metrics(Family):
    """The counters of one collector since its start, and the log's facts at the moment of asking."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self._registry = CollectorRegistry()
        self._registry.register(self)
        self.answers: Counter[tuple[str, int]] = Counter()
        self.accepted: Counter[str] = Counter()
        self.rejected: Counter[tuple[str, str]] = Counter()
        self.received_bytes = 0
        self.working = 0

    def count(self, endpoint: str, taken: Taken, size: int) -> None:
        """One request that was answered."""
        self.answers[endpoint, taken.status] += 1
        self.received_bytes += size
        if taken.accepted:
            self.accepted[taken.source] += taken.accepted
        for reason in taken.reasons:
            self.rejected[taken.source, reason] += 1

    def text(self) -> bytes:
        """The page /metrics."""
        return generate_latest(self._registry)

    def describe(self) -> list[Metric]:
        return []

    def collect(self) -> Iterator[Metric]:
        answers = CounterMetricFamily(
            "headwater_collector_answers",
            "Requests answered, by endpoint and HTTP status",
            labels=["endpoint", "status"],
        )
        for (endpoint, status), number in list(self.answers.items()):
            answers.add_metric([endpoint, str(status)], number)
        accepted = CounterMetricFamily("headwater_collector_accepted", "Events accepted and durable", labels=["source"])
        for source, number in list(self.accepted.items()):
            accepted.add_metric([source], number)
        rejected = CounterMetricFamily(
            "headwater_collector_rejected", "Events rejected and durable, by first reason", labels=["source", "reason"]
        )
        for (source, reason), number in list(self.rejected.items()):
            rejected.add_metric([source, reason], number)
        size = CounterMetricFamily("headwater_collector_received_bytes", "Bytes of bodies that were answered")
        size.add_metric([], self.received_bytes)
        working = GaugeMetricFamily("headwater_collector_requests", "Requests worked on now")
        working.add_metric([], self.working)
        yield from (answers, accepted, rejected, size, working)
        yield from self._of_the_log()

    def _of_the_log(self) -> Iterator[Metric]:
        readable = GaugeMetricFamily("headwater_log_readable", "1 when the log could be looked at, else 0")
        try:
            facts = self._log.facts()
        except LogUnavailable:
            readable.add_metric([], 0)
            yield readable
            return
        readable.add_metric([], 1)
        yield readable
        if facts.size_bytes is not None:
            size = GaugeMetricFamily("headwater_log_bytes", "Bytes that the log takes")
            size.add_metric([], facts.size_bytes)
            yield size
        if facts.free_bytes is not None:
            free = GaugeMetricFamily("headwater_log_free_bytes", "Bytes that the log's disk has left")
            free.add_metric([], facts.free_bytes)
            yield free
        if facts.last_commit_seconds is not None:
            commit = GaugeMetricFamily("headwater_log_commit_seconds", "How long the newest commit took")
            commit.add_metric([], facts.last_commit_seconds)
            yield commit
        ends = GaugeMetricFamily("headwater_log_end", "Offset of the newest record", labels=["topic"])
        for topic, told in facts.topics.items():
            ends.add_metric([topic], told.end)
        unread = GaugeMetricFamily("headwater_log_unread", "Records a reader has not had", labels=["reader", "topic"])
        for reader, topics in facts.unread.items():
            for topic, number in topics.items():
                unread.add_metric([reader, topic], number)
        yield from (ends, unread)
