"""A sender of events who never gives up: what it was answered for, and nothing else, must be in the warehouse at the end."""

import random
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx2

NAMES = ("demo_requested", "whitepaper_downloaded", "newsletter_subscribed", "Product Viewed", "Cart Viewed")
_AGAIN = 0.05


@dataclass
class Answered:
    """Message ids by what the collector answered of them, and how often it refused."""

    accepted: set[str] = field(default_factory=set)
    rejected: set[str] = field(default_factory=set)
    sent: int = 0
    repeated: int = 0
    full: int = 0
    busy: int = 0


class Sender(threading.Thread):
    """One thread that sends batches until `stop` is set; each is sent again until it is answered with 200.

    `address` tells where the collector listens, None while it does not. `customers` are ids that the shop knows. Now and
    then a batch is sent although it was answered, as an SDK does that lost the answer; one event in twenty is invalid.
    """

    def __init__(self, seed: int, lane: int, address: Callable[[], str | None], key: str, customers: list[str]) -> None:
        super().__init__(name=f"sender{lane}", daemon=True)
        self._draw = random.Random(f"{seed}-{lane}")  # noqa: S311 (repeatable on purpose)
        self._prefix = f"t{seed}-{lane}"
        self._address = address
        self._key = key
        self._customers = customers
        self._number = 0
        self._stopping = threading.Event()
        self.answered = Answered()
        self.broken = ""

    def run(self) -> None:
        try:
            self._run()
        except Exception as error:
            self.broken = f"a sender broke: {type(error).__name__}: {error}"

    def _run(self) -> None:
        with httpx2.Client(timeout=10.0) as client:
            while not self._stopping.is_set():
                batch = self._batch()
                self._send(client, batch)
                if self._draw.random() < 0.05:
                    self.answered.repeated += len(batch)
                    self._send(client, batch)
                self._stopping.wait(self._draw.uniform(0.0, 0.1))

    def stop(self) -> None:
        """Send what is begun to its end, then end."""
        self._stopping.set()

    def _send(self, client: httpx2.Client, batch: list[dict[str, Any]]) -> None:
        """Until the batch is answered with 200. After `stop` it is left unanswered when the collector is gone."""
        body = {"batch": batch, "writeKey": self._key, "sentAt": _moment(datetime.now(UTC))}
        tries = 0
        while True:
            address = self._address()
            try:
                answer = client.post(f"{address}/v1/batch", json=body) if address else None
            except httpx2.TransportError:
                answer = None
            if answer is not None and answer.status_code == 200:
                refused = {one["index"] for one in answer.json()["rejected"]}
                for index, event in enumerate(batch):
                    place = self.answered.rejected if index in refused else self.answered.accepted
                    place.add(event["messageId"])
                self.answered.sent += len(batch)
                return
            if answer is not None:
                self.answered.full += answer.status_code == 503
                self.answered.busy += answer.status_code == 429
                if answer.status_code not in (429, 503):
                    raise AssertionError(
                        f"the collector answered {answer.status_code} to a batch: {answer.text[:500]}; expected 200, 429 or 503"
                    )
            tries += 1
            if self._stopping.is_set() and tries > 200:
                return
            threading.Event().wait(_AGAIN)

    def _batch(self) -> list[dict[str, Any]]:
        return [self._event() for _ in range(self._draw.choice((1, 1, 3, 10, 40)))]

    def _event(self) -> dict[str, Any]:
        draw = self._draw
        self._number += 1
        visitor = f"{self._prefix}-visitor{draw.randrange(60)}"
        customer = draw.choice(self._customers)
        moment = datetime.now(UTC) - timedelta(seconds=draw.choice((0, 0, 0, 1, 60, 86_400, 35 * 86_400)))
        event: dict[str, Any] = {
            "messageId": f"{self._prefix}-{self._number}",
            "timestamp": _moment(moment),
            "type": "track",
            "event": draw.choice(NAMES),
            "properties": {"price": draw.randrange(10_000) / 100, "product_id": f"p{draw.randrange(20)}"},
        }
        kind = draw.random()
        if kind < 0.05:
            return event  # invalid: nobody did it
        if kind < 0.15:
            event |= {"type": "identify", "anonymousId": visitor, "userId": customer}
            event["traits"] = {"email": f"{customer.lower()}@example.com", "city": draw.choice(("Oslo", "Lima"))}
            return event
        if kind < 0.25:
            event |= {"type": "page", "name": "Home"}
        event |= {"userId": customer} if draw.random() < 0.5 else {"anonymousId": visitor}
        return event


def _moment(at: datetime) -> str:
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")
