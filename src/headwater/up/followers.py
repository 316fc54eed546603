"""Memberships of segments follow the engine: entries and exits, in transactions of their own after the batch's.

Two followers, each with its cursor on `headwater.model_changes`: rule segments (`headwater.live.memberships`) and ML
segments (`headwater.segments.follower`). What fails is said and tried again, later each time; the cursor stays where it was,
so nothing is left out, and `headwater status` shows how much waits. All of it happens in the engine's thread.
"""

import time
from collections.abc import Callable, Collection
from dataclasses import dataclass

from headwater.clock import naive_utc
from headwater.live import memberships
from headwater.segments import hysteresis, replay
from headwater.segments.follower import BY_HAND, Follower
from headwater.stack import Stack
from headwater.up.said import Said

_LOOK_SECONDS = 1.0
_RETRY_SECONDS = (1.0, 2.0, 5.0, 10.0, 30.0)
_FORGET_SECONDS = 600.0


@dataclass(frozen=True)
class Moved:
    """Who is where may have changed; `whole`: of anybody, with no change that names him."""

    whole: bool = False


class Followers:
    """`settle` at a start and whenever the warehouse comes back, `work` in every turn. `tell` hears when readers should look."""

    def __init__(self, project: Stack, say: Callable[[Said], None], tell: Callable[[Moved], None]) -> None:
        self._project = project
        self._say = say
        self._tell = tell
        self._scored = Follower(project.warehouse, project.config.segments.ml, project.clock)
        self._on = self._ruled = False
        self._rules_due = self._scores_due = False
        self._look_at = self._not_before = 0.0
        self._forget_at = time.monotonic() + _FORGET_SECONDS
        self._failures = 0
        self._by_hand = False

    def settle(self) -> None:
        """What was changed without the engine: rule segments at once, ML segments when no score is owed any more."""
        warehouse = self._project.warehouse
        self._on = self._scored.on
        self._scored.unsettle()
        self._ruled = warehouse.exists(f"main.{memberships.MODEL}")
        if self._ruled:
            memberships.reconcile(warehouse, naive_utc(self._project.clock.now()))
        self._rules_due, self._scores_due = False, True
        self._look_at = self._not_before = 0.0
        self._attempt(lambda: self._scores(quiet=True))

    def work(self, moved: Collection[str] = ()) -> None:
        """Follow what a batch has moved; and once a second what was recorded beside the batches (a model that was built aside,
        keys that were tried again), and what could not be followed before."""
        now = time.monotonic()
        look = now >= self._look_at
        self._rules_due |= memberships.MODEL in moved or (look and self._ruled)
        self._scores_due |= hysteresis.MODEL in moved or look
        if now < self._not_before:
            return
        if look:
            self._look_at = now + _LOOK_SECONDS
        if self._rules_due and not self._attempt(self._rules):
            return
        if self._on and self._scores_due and not self._attempt(self._scores):
            return
        if now >= self._forget_at:
            self._forget_at = now + _FORGET_SECONDS
            self._attempt(self._scored.forget)

    def check(self) -> None:
        """Replay memberships; what is wrong is said, and made right."""
        if not (self._on and self._scored.settled):
            return
        warehouse = self._project.warehouse
        found = replay.check(warehouse)
        if found.wrong:
            who = ", ".join(dict.fromkeys(customer for customer, _, _ in found.differences[:5]))
            text = f"{found.wrong:,} periods of ML segments were not what their scores give ({who}); they are derived again"
            self._say(Said("check of segments", "failed", text, {"wrong": found.wrong}))
            replay.mend(warehouse)
            self._scored.unsettle()
            self._scores_due = True
            self._attempt(self._scores)
        elif found.skipped is None:
            text = f"{found.rows:,} periods are what a replay of {found.changes:,} changes gives"
            self._say(Said("check of segments", "ok", text, {"rows": found.rows, "changes": found.changes}))

    def _rules(self) -> None:
        done = memberships.follow(self._project.warehouse, naive_utc(self._project.clock.now()))
        self._rules_due = False
        if done.entered or done.left:
            text = f"{done.entered:,} entered a segment, {done.left:,} left one"
            self._say(Said("segments", "ok", text, {"entered": done.entered, "left": done.left}, passing=True))

    def _scores(self, *, quiet: bool = False) -> None:
        """`quiet`: nobody is listening yet."""
        done = self._scored.follow()
        self._scores_due = False
        whole = None if self._scored.settled else self._scored.settle()
        if whole is not None and self._scored.by_hand != self._by_hand:
            self._by_hand = self._scored.by_hand
            if self._by_hand:
                self._say(Said("ML segments", "warn", BY_HAND))
        opened, left = done.opened, done.left
        if whole is not None:
            opened, left = opened + whole.opened, left + whole.left
        if opened or left:
            text = f"{opened:,} entered a segment or another one, {left:,} left for none"
            self._say(Said("ML segments", "ok", text, {"entered": opened, "left": left}, passing=True))
        everybody = whole is not None and whole.changed
        if not quiet and (done.changed or everybody):
            self._tell(Moved(everybody))

    def _attempt(self, work: Callable[[], object]) -> bool:
        try:
            work()
        except Exception as error:
            pause = _RETRY_SECONDS[min(self._failures, len(_RETRY_SECONDS) - 1)]
            self._failures += 1
            self._not_before = time.monotonic() + pause
            text = " ".join(f"{type(error).__name__}: {error}".split())
            self._say(Said("memberships", "failed", f"they are late, and tried again in {pause:g} s: {text}"))
            return False
        if self._failures:
            self._failures = 0
            self._say(Said("memberships", "ok", "follow again"))
        return True
