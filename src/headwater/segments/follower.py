"""Memberships by model while the engine runs: what is followed, when, and where it is published.

    settle   at a start and after every command that had the warehouse: everybody, once no score is still to be recomputed
    follow   after a batch that moved scores
    forget   now and then: changes that are older than `segments.ml.replay_days`

Whoever owns the engine's connection calls these between two batches; each is one transaction of its own, and may be killed
and called again. What is published moves in the same transaction. In a project without ML segments (`segments.ml.enabled:
false`, or no customers) nothing is followed, and changes do not wait for anybody.
"""

from dataclasses import replace
from datetime import datetime, timedelta

from headwater.clock import Clock, naive_utc
from headwater.segments import hysteresis, memberships, publish
from headwater.segments.hysteresis import RELATION, Followed
from headwater.segments.settings import MlSegmentSettings
from headwater.warehouse.connection import Warehouse

BY_HAND = (
    "customer_segments holds segments that Headwater did not make, so memberships are kept but not published; "
    "`headwater segment assign`, then `headwater build`, publishes them in its place"
)

_UNFOLLOWED = timedelta(hours=1)
"""So long are changes kept that memberships do not follow: a live sync of the scores has looked at them by then."""


class Follower:
    """Keeps memberships up with the scores of one warehouse. Knows nothing that is not in it but where it publishes."""

    def __init__(self, warehouse: Warehouse, settings: MlSegmentSettings, clock: Clock) -> None:
        self._warehouse = warehouse
        self._settings = settings
        self._clock = clock
        self._place: str | None = None
        self._settled = False

    @property
    def on(self) -> bool:
        """Whether there is anything to follow."""
        return self._settings.enabled and self._warehouse.exists(hysteresis.RELATION)

    @property
    def settled(self) -> bool:
        """Whether everybody was settled since the start or the last command; until then `settle` is due."""
        return self._settled

    @property
    def by_hand(self) -> bool:
        """Whether what is published was made by somebody else, so that it is left alone; known once settled."""
        return self._settled and self._place is None and self._warehouse.exists(publish.SEED_TABLE)

    def unsettle(self) -> None:
        """The warehouse was somebody else's: everybody is looked at again."""
        self._settled = False

    def settle(self) -> Followed | None:
        """Everybody by his score, and published whole; None while scores are still to be recomputed, or nothing is followed."""
        w = self._warehouse
        if not self.on or not hysteresis.ready(w) or hysteresis.owed(w):
            return None
        as_of = w.value("select max(as_of) from headwater.clock") or self._now()
        with w.transaction():
            done = hysteresis.settle(w, RELATION, as_of, self._settings.hysteresis, self._now())
            self._place = publish.place(w, self._settings.seed_limit)
            if self._place is not None and publish.keep_step(w, self._place):
                done = replace(done, changed=True)
        self._settled = True
        return done

    def follow(self) -> Followed:
        """The changes since the cursor; nothing before everybody was settled for the first time."""
        if not self.on or hysteresis.cursor(self._warehouse) is None:
            return Followed()
        return hysteresis.follow(
            self._warehouse, self._settings.hysteresis, self._now(), publish=self._publish if self._settled else None
        )

    def forget(self) -> int:
        """Drop what is followed and old, or all but what is new when nothing is followed here; how many changes."""
        on = self.on
        keep = timedelta(days=self._settings.replay_days) if on else _UNFOLLOWED
        return hysteresis.forget_changes(self._warehouse, keep, self._now(), followed=on)

    def _publish(self) -> None:
        if self._place is not None:
            publish.keep_step(self._warehouse, self._place, memberships.DIFFERING)

    def _now(self) -> datetime:
        return naive_utc(self._clock.now())
