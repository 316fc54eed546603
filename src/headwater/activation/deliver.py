"""Deliver a plan: claim, send, record, until nothing is ready.

Per claim: one transaction that re-checks and claims, calls to the destination (several at a time where it allows), one
transaction that records. A crash between the two leaves rows claimed: the next run sends them again under the same ids.
"""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from itertools import count
from pathlib import Path

from headwater.activation import limits, mapping, outbox, places, runs
from headwater.activation.destinations import Batch, Destination, Operation, Unusable, make
from headwater.activation.plan import Plan, Recheck, Relation
from headwater.activation.plan import plan as make_plan
from headwater.activation.send import Outcome, Sender
from headwater.activation.sets import Claimed, Part, Sets
from headwater.activation.settings import DestinationSettings, SyncSettings
from headwater.activation.since import Since
from headwater.activation.stale import agree
from headwater.clock import Clock
from headwater.errors import Refused, UsageError
from headwater.failpoint import failpoint
from headwater.records.counted import counted
from headwater.warehouse import Warehouse

CLAIM_ROWS = 1_000
"""Rows claimed at once for destinations that take small batches; a crash leaves at most so many to be sent again."""
BREAKER_ROWS = 20
"""The share of failures stops a run only after so many rows were tried."""


@dataclass(frozen=True)
class Delivery:
    """What a run did. planned = confirmed + failed + held + left.

    status: ok (all confirmed or held) | partial (some failed or are left) | stopped (a breaker, or the destination cannot
    be used) | nothing (there was nothing to send) | dry_run. `sent` counts rows that went out, each once; `held` includes
    rows that a rule kept back at the last moment; `left` are still ready. `preview` is the file of a dry run.
    """

    sync: str
    sync_run_id: str
    plan_id: str
    status: str
    planned: int
    sent: int
    confirmed: int
    failed: int
    held: int
    left: int
    message: str
    warnings: tuple[str, ...] = ()
    preview: Path | None = None


def deliver(
    warehouse: Warehouse,
    plan: Plan | None,
    sync: SyncSettings,
    destination: DestinationSettings,
    clock: Clock,
    dry_run: bool = True,
    recheck: Recheck | None = None,
    release: outbox.Release | None = None,
    *,
    give_back: outbox.Release | None = None,
    folder: Path = Path(),
    run_id: str | None = None,
    relation: str | None = None,
    segment: str | None = None,
    masked: Collection[str] = (),
    allow: Collection[str] = (),
    environment: Mapping[str, str] | None = None,
    on_progress: Callable[[int, int], None] | None = None,
    cancelled: Callable[[], bool] = lambda: False,
    most_claimed: int | None = None,
    since: Since | None = None,
) -> Delivery:
    """Send what the plan says, or what a plan made now would say.

    A given plan is sent exactly as it is, or refused because the difference is not what it was (what was delivered of this
    very plan before a crash counts as agreed). `recheck` is asked before each claim, `release` is told in the claim's
    transaction, `give_back` (same kind of relation) of rows that certainly reached nobody; such a row may be released again.
    `allow` names circuit breakers that a person waved through (`removals`, `rows`, `moved`). A dry run calls no
    destination, writes `outbox/<sync>.preview.json` and changes no row. `environment` is where destinations find their
    secrets (the process's own). `on_progress(done, planned)` is called per claim. `cancelled` is asked before each claim of
    `most_claimed` rows (CLAIM_ROWS when left out; or one call's, if that is more): what is not claimed then stays ready.
    `since` looks only at rows that changed since (live syncs).
    Raises Refused (stale plan, open breaker), ConfigError, UsageError.
    """
    if sync.decisions and not dry_run and (recheck is None or release is None):
        raise UsageError(
            f"sync {sync.name!r} sends decisions, which are only sent with their re-check and release; call it through `headwater activate`"
        )
    segment = plan.segment if plan is not None else segment
    now = make_plan(
        warehouse,
        sync,
        destination,
        clock,
        folder=folder,
        relation=relation,
        segment=segment,
        masked=masked,
        recheck=recheck,
        since=since,
        environment=environment,
    )
    try:
        if plan is not None:
            now = agree(warehouse, plan, now)
        if dry_run:
            return _rehearse(warehouse, now, clock, folder, run_id)
        _stop(warehouse, now, allow, clock, run_id)
        target = make(sync.destination, destination, folder=folder, environment=environment)
        if any(stop.rule == "moved" for stop in now.stops):  # and a person has said that it is the same tool
            places.remember(warehouse, sync.name, places.of(target, destination), clock)
        run = _Run(warehouse, now, sync, destination, target, clock, recheck, release, give_back, on_progress)
        run.limit = limits.shared(folder, sync.destination, destination.rate_per_second, target.limits.window_seconds)
        run.cancelled, run.most_claimed = cancelled, most_claimed or CLAIM_ROWS
        return run.go(mapping.resolve(warehouse, sync, relation=relation, masked=masked), run_id)
    finally:
        if isinstance(now.rows, Relation):
            with suppress(
                Exception
            ):  # after an error inside a transaction nothing runs, and the tables are gone anyway
                now.rows.drop()


def _stop(warehouse: Warehouse, plan: Plan, allow: Collection[str], clock: Clock, run_id: str | None) -> None:
    """Raise Refused, after writing the run down, when a circuit breaker is open that nobody allowed."""
    stops = [stop for stop in plan.stops if stop.rule not in allow]
    if stops:
        sync_run_id = runs.start(warehouse, plan, clock, run_id=run_id, dry_run=False)
        said = "; ".join(f"{stop.rule}: {stop.sentence}" for stop in stops)
        runs.finish(warehouse, sync_run_id, "refused", f"nothing was sent: {said}", clock)
        raise Refused(
            "\n".join(
                [
                    f"{plan.sync} is stopped by {counted(len(stops), 'circuit breaker')}; nothing was sent:",
                    *(f"  {stop.rule}: {stop.sentence}" for stop in stops),
                    f"Look at the plan; to send it all the same, allow it by name ({', '.join(stop.rule for stop in stops)})",
                ]
            )
        )


def _rehearse(warehouse: Warehouse, plan: Plan, clock: Clock, folder: Path, run_id: str | None) -> Delivery:
    preview = plan.write(folder / "outbox" / f"{plan.sync}.preview.json")
    sync_run_id = runs.start(warehouse, plan, clock, run_id=run_id, dry_run=True)
    held = f", {plan.counts.held:,} held back ({_rules(plan.held_by_rule)})" if plan.counts.held else ""
    message = (
        f"dry run: {counted(plan.counts.planned, 'row')} would be sent in {counted(plan.calls, 'call')}{held}; "
        f"see outbox/{preview.name}"
    )
    runs.add(warehouse, sync_run_id, sent=0, confirmed=0, failed=0, held=plan.counts.held)
    runs.finish(warehouse, sync_run_id, "dry_run", message, clock)
    return Delivery(
        plan.sync,
        sync_run_id,
        plan.plan_id,
        "dry_run",
        plan.counts.planned + plan.counts.held,
        0,
        0,
        0,
        plan.counts.held,
        plan.counts.planned,
        message,
        (*plan.warnings, *(stop.sentence for stop in plan.stops)),
        preview,
    )


def _rules(held: Mapping[str, int]) -> str:
    """How many rows each rule held back."""
    return ", ".join(f"{rule} {number:,}" for rule, number in held.items())


class _Run:
    """One run of one sync."""

    def __init__(
        self,
        warehouse: Warehouse,
        plan: Plan,
        sync: SyncSettings,
        settings: DestinationSettings,
        destination: Destination,
        clock: Clock,
        recheck: Recheck | None,
        release: outbox.Release | None,
        give_back: outbox.Release | None,
        on_progress: Callable[[int, int], None] | None,
    ) -> None:
        self.warehouse = warehouse
        self.plan = plan
        self.sync = sync
        self.settings = settings
        self.destination = destination
        self.clock = clock
        self.recheck = recheck
        self.release = release
        self.give_back = give_back
        self.on_progress = on_progress
        self.sent = self.confirmed = self.failed = self.held = 0
        self.stop: str | None = None
        self.batch_ids: Iterator[str] = iter(())
        self.fields: tuple[mapping.Field, ...] = ()
        self.types: dict[str, str] = {}
        self.limit: limits.RateLimit | None = None
        self.sets: Sets | None = None
        self.cancelled: Callable[[], bool] = lambda: False
        self.most_claimed = CLAIM_ROWS

    def go(self, fields: mapping.FieldMap, run_id: str | None) -> Delivery:
        """Enqueue, deliver, close the books."""
        self.destination.expect(self.plan.counts.planned)
        large = self._sets(self.plan.counts.planned) is not None
        with self.warehouse.bulk() if large else nullcontext():
            return self._go(fields, run_id)

    def _go(self, fields: mapping.FieldMap, run_id: str | None) -> Delivery:
        self.fields = fields.fields
        self.types = {field.name: field.type for field in fields.fields}
        outbox.prepare(self.warehouse, self.sync.name, fields)
        queued = outbox.enqueue(self.warehouse, self.plan, self.clock)
        self.held = queued.held
        sync_run_id = runs.start(self.warehouse, self.plan, self.clock, run_id=run_id, dry_run=False)
        runs.add(self.warehouse, sync_run_id, sent=0, confirmed=0, failed=0, held=queued.held)
        self.batch_ids = (f"{sync_run_id}-{number:04d}" for number in count(1))
        failpoint("activate.planned")
        try:
            if queued.ready:
                self.destination.expect(queued.ready)
                self.sets = self._sets(queued.ready)
                self._deliver(sync_run_id)
        except Exception as error:
            text = " ".join(f"{type(error).__name__}: {error}".split())
            runs.finish(self.warehouse, sync_run_id, "failed", f"the run broke: {text}", self.clock)
            raise
        failpoint("activate.finished")
        return self._close(sync_run_id, queued)

    def _deliver(self, sync_run_id: str) -> None:
        try:
            self.destination.open()
        except Unusable as error:
            self.stop = self._unusable(error)
            return
        places.remember(self.warehouse, self.sync.name, places.of(self.destination, self.settings), self.clock)
        sender = Sender(
            self.destination,
            self.settings,
            self.limit,
            answered=lambda: failpoint("activate.answered"),
        )
        try:
            while self.sets is not None and self._goes_on():
                self._deliver_sets(self.sets, sender, sync_run_id)
                if not (self._goes_on() and self.sets.left_over() and self._one_claim(sender, sync_run_id)):
                    break
            while self._goes_on() and self._one_claim(sender, sync_run_id):
                pass
        finally:
            self.destination.close()

    def _goes_on(self) -> bool:
        return self.stop is None and not self.cancelled()

    def _one_claim(self, sender: Sender, sync_run_id: str) -> bool:
        """Claim, send, record once; False when nothing is ready any more."""
        allowed = self.destination.limits
        claim_rows = max(allowed.max_rows, self.most_claimed) if allowed.idempotent else allowed.max_rows
        claim = outbox.claim(
            self.warehouse,
            self.plan,
            self.clock,
            rows=claim_rows,
            batch_rows=allowed.max_rows,
            batch_ids=self.batch_ids,
            recheck=self.recheck,
            release=self.release,
        )
        if claim is None:
            return False
        failpoint("activate.claimed")
        outcomes = list(self._send(sender, claim.batches, allowed.concurrency))
        failpoint("activate.sent")
        self._record(sync_run_id, claim.held, outcomes)
        failpoint("activate.recorded")
        self._break()
        return True

    def _sets(self, ready: int) -> Sets | None:
        """How sets are taken, where the destination takes them and more rows are ready than go in a batch."""
        allowed = self.destination.limits
        if not allowed.set_rows or not allowed.idempotent or ready <= allowed.max_rows:
            return None
        nulls = self.sync.write_nulls
        return Sets(self.warehouse, self.plan, self.clock, allowed.set_rows, allowed.max_rows, nulls, self.fields)

    def _deliver_sets(self, sets: Sets, sender: Sender, sync_run_id: str) -> None:
        """Claim, send and record set by set, until what is next goes in batches.

        While the destination takes one, the one before it is recorded and the next one claimed, so that neither side waits. Not
        where rules are asked at the claim: between their answer and the sending there must be no other set.
        """
        ahead = self.recheck is None and self.release is None
        with ThreadPoolExecutor(1) as pool:
            confirmed: Claimed | None = None
            following = self._claim_set(sets)
            while following is not None:
                claimed, following = following, None
                answer = pool.submit(sets.send, claimed, sender)
                if confirmed is not None:
                    self._record_set(sets, sync_run_id, confirmed, [confirmed.whole])
                    confirmed = None
                if ahead and not self.cancelled():
                    following = self._claim_set(sets)
                error = answer.result()
                if error is None and ahead:
                    confirmed = claimed
                else:
                    done, rest = sets.divide(claimed, error, sender)
                    batches = sets.batches(claimed, rest)
                    outcomes = list(self._send(sender, batches, self.destination.limits.concurrency))
                    self._record_set(sets, sync_run_id, claimed, done, outcomes)
                    self._break()
                if self.stop is not None or self.cancelled():
                    if following is not None:
                        sets.give_back(following)
                    following = None
                elif not ahead:
                    following = self._claim_set(sets)
            if confirmed is not None:
                self._record_set(sets, sync_run_id, confirmed, [confirmed.whole])

    def _claim_set(self, sets: Sets) -> Claimed | None:
        claimed = sets.claim(self.batch_ids, self.recheck, self.release)
        if claimed is not None:
            failpoint("activate.claimed")
        return claimed

    def _record_set(
        self, sets: Sets, sync_run_id: str, claimed: Claimed, done: list[Part], outcomes: Sequence[Outcome] = ()
    ) -> None:
        failpoint("activate.sent")
        self._record(sync_run_id, claimed.held, list(outcomes), lambda: sets.record(sync_run_id, claimed, done))
        failpoint("activate.recorded")

    def _send(
        self, sender: Sender, claimed: Mapping[str, tuple[Operation, ...]], concurrency: int
    ) -> Iterator[Outcome]:
        batches = [
            Batch(batch_id, self.sync.name, operations, self.plan.columns, self.types)
            for batch_id, operations in claimed.items()
        ]
        if concurrency == 1 or len(batches) == 1:
            yield from map(sender.send, batches)
            return
        with ThreadPoolExecutor(concurrency) as pool:
            yield from pool.map(sender.send, batches)

    def _record(
        self, sync_run_id: str, held: int, outcomes: list[Outcome], record_set: Callable[[], int] = lambda: 0
    ) -> None:
        """Write down what became of the claimed rows; `record_set` does so for those that went as a set, and counts them."""
        answers = [answer for outcome in outcomes for answer in outcome.answers]
        confirmed = sum(answer.result.status == "done" for answer in answers)
        failed = sum(answer.result.status != "done" and not answer.left_ready for answer in answers)
        sent = sum(answer.attempts > 0 for answer in answers)
        with self.warehouse.transaction():
            together = record_set()
            sent, confirmed = sent + together, confirmed + together
            outbox.record(self.warehouse, self.sync.name, answers, self.clock)
            unreached = [
                answer.operation.operation_id
                for answer in answers
                if answer.result.status != "done" and not answer.result.in_doubt
            ]
            if self.give_back is not None and unreached:
                self.give_back(outbox.unreached(self.warehouse, unreached))
            tries = [one for outcome in outcomes for one in outcome.tries]
            runs.log(self.warehouse, sync_run_id, self.sync.name, tries, self.clock)
            runs.add(self.warehouse, sync_run_id, sent=sent, confirmed=confirmed, failed=failed, held=held)
        self.sent += sent
        self.confirmed += confirmed
        self.failed += failed
        self.held += held
        for outcome in outcomes:
            if outcome.unusable is not None:
                self.stop = self._unusable(outcome.unusable)
        if self.on_progress is not None:
            self.on_progress(self.confirmed + self.failed, self.plan.counts.planned)

    def _unusable(self, error: Unusable) -> str:
        """Why nothing more can be sent, and what to do."""
        advice = f". {error.advice[0].upper()}{error.advice[1:]}" if error.advice else ""
        return f"{self.sync.destination} cannot be used: {error.message} ({error.code}){advice}"

    def _break(self) -> None:
        tried = self.confirmed + self.failed
        if self.stop is None and tried >= BREAKER_ROWS and self.failed / tried > self.sync.max_failed_share:
            self.stop = (
                f"{self.failed:,} of {counted(tried, 'row')} failed ({self.failed / tried:.1%}); `max_failed_share` of {self.sync.name!r} "
                f"allows {self.sync.max_failed_share:.1%}"
            )

    def _close(self, sync_run_id: str, queued: outbox.Enqueued) -> Delivery:
        total = queued.ready + queued.held
        left = total - self.confirmed - self.failed - self.held
        status, message = self._verdict(total, left)
        if self.confirmed:
            runs.forget_bodies(self.warehouse, self.sync.name)
        runs.finish(self.warehouse, sync_run_id, status, message, self.clock)
        return Delivery(
            sync=self.sync.name,
            sync_run_id=sync_run_id,
            plan_id=self.plan.plan_id,
            status=status,
            planned=total,
            sent=self.sent,
            confirmed=self.confirmed,
            failed=self.failed,
            held=self.held,
            left=left,
            message=message,
            warnings=tuple(self._warnings(queued, left)),
        )

    def _verdict(self, total: int, left: int) -> tuple[str, str]:
        if self.stop is not None:
            return "stopped", f"stopped after {self.confirmed:,} of {counted(total, 'row')}: {self.stop}"
        if total == 0:
            return "nothing", "nothing to send: the model and the last delivery agree"
        done = f"{self.confirmed:,} of {counted(total, 'row')} confirmed"
        held = f"held back ({self._held_by()})" if self.held else ""
        parts = [
            f"{number:,} {word}"
            for number, word in ((self.failed, "failed"), (self.held, held), (left, "left for later"))
            if number
        ]
        return ("partial" if self.failed or left else "ok"), ", ".join([done, *parts])

    def _held_by(self) -> str:
        """The rules that held rows of this plan back, and where these are."""
        found = self.warehouse.execute(
            "select code, count(*) from headwater.outbox where sync = ? and plan_id = ? and state = 'held' group by 1 order by 2 desc, 1",
            [self.sync.name, self.plan.plan_id],
        ).fetchall()
        return f"{_rules(dict(found))}; headwater.outbox says who"

    def _warnings(self, queued: outbox.Enqueued, left: int) -> Iterator[str]:
        yield from self.plan.warnings
        again = f"`headwater activate --sync {self.sync.name} --no-dry-run`"
        if self.failed:
            yield (
                f"{counted(self.failed, 'row')} failed; `headwater.sync_rows` has the destination's code, its words and what to do. "
                f"{again} tries {'it' if self.failed == 1 else 'them'} again"
            )
        if left and self.stop is None:
            waits, them = ("waits", "it") if left == 1 else ("wait", "them")
            yield f"{counted(left, 'row')} {waits} because {self.sync.destination} asked for a longer pause; {again} sends {them} later"
        if queued.parked:
            yield (
                f"{counted(queued.parked, 'row')} may have arrived, and the model no longer has "
                f"{'it; it is' if queued.parked == 1 else 'them; they are'} not sent again"
            )
