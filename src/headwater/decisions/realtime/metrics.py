"""What `/metrics` tells of decisions on demand."""

from collections.abc import Callable, Iterator

from prometheus_client import CollectorRegistry, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from headwater.decisions.realtime.desk import Answer, Desk

_SECONDS = (0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0)


class Metrics:
    """Counts since the start of the process. `customers` gives how many are known and how old (seconds) what is known is."""

    def __init__(self, desk: Desk, customers: Callable[[], tuple[int, float]]) -> None:
        self._desk = desk
        self._customers = customers
        self._answers: dict[tuple[int, str], int] = {}
        self._registry = CollectorRegistry()
        self._seconds = Histogram(
            "headwater_decide_seconds",
            "From the request to its answer",
            registry=self._registry,
            buckets=_SECONDS,
        )
        self._registry.register(self)  # pyrefly: ignore

    def answered(self, answer: Answer, seconds: float) -> None:
        """Count an answer."""
        key = (answer.status, answer.code or "")
        self._answers[key] = self._answers.get(key, 0) + 1
        self._seconds.observe(seconds)

    def text(self) -> bytes:
        """In Prometheus's text format."""
        return generate_latest(self._registry)

    def collect(self) -> Iterator[Metric]:
        """Called by the registry."""
        counts = self._desk.counts
        answers = CounterMetricFamily("headwater_decide_answers", "Answers by status", labels=["status", "error"])
        for (status, error), number in self._answers.items():
            answers.add_metric([str(status), error], number)
        yield answers
        actions = CounterMetricFamily("headwater_decide_actions", "New decisions by action", labels=["action"])
        for action, number in dict(counts.actions).items():
            actions.add_metric([action], number)
        yield actions
        blocked = CounterMetricFamily("headwater_decide_blocked", "New decisions for nothing by rule", labels=["rule"])
        for rule, number in dict(counts.blocked).items():
            blocked.add_metric([rule], number)
        yield blocked
        yield CounterMetricFamily(
            "headwater_decide_repeated", "Answers with a decision made before", value=counts.repeated
        )
        yield CounterMetricFamily("headwater_decide_writes", "Transactions that wrote decisions", value=counts.groups)
        yield CounterMetricFamily(
            "headwater_decide_failed_writes", "Groups that could not be written", value=counts.failed_writes
        )
        yield GaugeMetricFamily(
            "headwater_decide_open", "Whether decisions are made now", value=float(self._desk.is_open)
        )
        number, age = self._customers()
        yield GaugeMetricFamily("headwater_decide_customers", "Customers in memory", value=number)
        yield GaugeMetricFamily("headwater_decide_customers_age_seconds", "Since all of them were read", value=age)
