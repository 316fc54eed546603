"""Alerts on their way to whoever listens: chat, e-mail, pager or any HTTP address, through Apprise.

    teller = shared("shop", "mailto://… json://…")
    teller.tell(messages)       # returns at once
    for ids, error in teller.outcomes(): …

A thread of its own does the telling, so a deaf listener delays nobody. Nothing is tried twice here: `alerts` hands in again
what was not told. Needs `pip install 'headwater[alerts]'`.
"""

import logging
import queue
import threading
from collections.abc import Iterator, Sequence

from headwater.activation.alerts import Message

MOST_WAITING = 1_000


class Teller:
    """Tells messages to all addresses (Apprise's, separated by blanks) in a thread; `name` is the project's."""

    def __init__(self, name: str, addresses: str) -> None:
        self._name = name
        self._addresses = addresses
        self._waiting: queue.Queue[Sequence[Message]] = queue.Queue(MOST_WAITING)
        self._done: queue.SimpleQueue[tuple[list[str], str | None]] = queue.SimpleQueue()
        self._under_way: set[str] = set()
        self._lock = threading.Condition()
        self._thread: threading.Thread | None = None

    def tell(self, messages: Sequence[Message]) -> None:
        """Take these messages; one that is under way already is not taken twice."""
        with self._lock:
            fresh = [message for message in messages if message.alert_id not in self._under_way]
            if not fresh:
                return
            self._under_way |= {message.alert_id for message in fresh}
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="alerts", daemon=True)
                self._thread.start()
        self._waiting.put(fresh)

    def outcomes(self, wait_seconds: float = 0) -> Iterator[tuple[list[str], str | None]]:
        """What was told since the last time: ids of alerts, and why it failed, None when it did not.

        Waits for what is under way, but not longer than `wait_seconds`.
        """
        with self._lock:
            self._lock.wait_for(lambda: not self._under_way, wait_seconds)
        while True:
            try:
                yield self._done.get_nowait()
            except queue.Empty:
                return

    def _work(self) -> None:
        while True:
            messages = self._waiting.get()
            for message in messages:
                error = self._send(message)
                with self._lock:
                    self._done.put(([message.alert_id], error))
                    self._under_way.discard(message.alert_id)
                    self._lock.notify_all()

    def _send(self, message: Message) -> str | None:
        """Why it could not be told; None when it was. Never says an address, which may hold a secret."""
        try:
            import apprise  # noqa: PLC0415 (an extra)
        except ImportError:
            return "the package apprise is not installed: pip install 'headwater[alerts]'"
        logging.getLogger("apprise").setLevel(logging.CRITICAL)  # it writes addresses
        kind = apprise.NotifyType.SUCCESS if message.over else apprise.NotifyType.WARNING
        failed = []
        for number, address in enumerate(self._addresses.split(), 1):
            one = apprise.Apprise()
            try:
                sent = one.add(address) and one.notify(
                    title=f"{self._name}: {message.title}", body=message.text, notify_type=kind
                )
            except Exception as error:
                failed.append(f"address {number}: {type(error).__name__}")
                continue
            if not sent:
                failed.append(f"address {number} ({address.partition(':')[0]}) is none, or did not take it")
        return "; ".join(failed) or None


_shared: dict[tuple[str, str], Teller] = {}
_sharing = threading.Lock()


def shared(name: str, addresses: str) -> Teller:
    """The teller of this process for these addresses."""
    with _sharing:
        return _shared.setdefault((name, addresses), Teller(name, addresses))
