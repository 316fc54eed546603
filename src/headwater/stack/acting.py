"""Decisions, and their way out of the house."""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from headwater.activation import alerts, apprise, metrics, outbox, places, runs
from headwater.activation import plan as plans
from headwater.activation.deliver import deliver
from headwater.activation.parents import in_order
from headwater.activation.runs import SyncStatus
from headwater.activation.settings import DestinationSettings, SyncSettings
from headwater.activation.since import Since
from headwater.decisions import replies, send
from headwater.decisions import table as tables
from headwater.decisions.batch import decide_batch
from headwater.decisions.explain import Explanation, explain
from headwater.decisions.ledgers import read_switches, set_switch, switches_sentence
from headwater.decisions.settings import DecisionSettings
from headwater.errors import ConfigError, HeadwaterError, StageFailed
from headwater.records.counted import counted
from headwater.records.stage import StageResult
from headwater.stack.speaking import Speaking
from headwater.warehouse.dbt import tagged

ALERT_SECONDS = 10
"""How long a command waits at its end for whoever is told of an alert."""
LIVE_ROWS = 100
"""Rows that a live sync claims at a time, so that it can be stopped soon."""


class Acting(Speaking):
    """The stages decide, plan and activate."""

    def decide(
        self,
        segment: str = "all",
        *,
        goal: str | None = None,
        discount_cap: float | None = None,
        suppress_hours: float | None = None,
    ) -> StageResult:
        """Choose the next best action for every customer of a segment, inside the guardrails, and log it as a proposal."""
        settings = self.config.decisions.changed(goal=goal, discount_cap=discount_cap, suppress_hours=suppress_hours)
        return self._stage("decide", lambda: self._decided(settings, segment))

    def explain_decision(
        self,
        customer: str,
        *,
        goal: str | None = None,
        discount_cap: float | None = None,
        suppress_hours: float | None = None,
    ) -> Explanation:
        """What would be decided for one customer, and why; nothing is written."""
        settings = self.config.decisions.changed(goal=goal, discount_cap=discount_cap, suppress_hours=suppress_hours)
        with self.locked("headwater decide --explain"):
            as_of = self.warehouse.value("select max(as_of) from headwater.clock")
            table = tables.load(self.folder)
            return explain(self.warehouse, settings, self.clock, customer, table=table, as_of=as_of)

    def _decided(self, settings: DecisionSettings, segment: str) -> StageResult:
        replies.follow(self.warehouse, self.clock)
        asked = self._asked(settings, segment)
        batch = decide_batch(
            self.warehouse, settings, self.clock, self.run_id, segment=segment, table=tables.load(self.folder)
        )
        said = (*batch.warnings, *asked, *self._told())
        return StageResult("decide", "ok", batch.decided, batch.message, asdict(batch), said)

    # ------------------------------------------------------------------ activation

    def _syncs(self, names: Sequence[str] | None, segment: str = "all") -> list[SyncSettings]:
        """The syncs to work on: those named, or all; for one segment, those that carry decisions."""
        if names:
            return in_order([self.config.sync(name) for name in names])
        return in_order([sync for sync in self.config.syncs if segment == "all" or sync.decisions])

    def _relation(self, sync: SyncSettings) -> str:
        """The relation of a sync's model. Raises ConfigError unless the model, or exactly one with the tag, is built."""
        if not sync.model.startswith("tag:"):
            return f"main.{sync.model}"
        tag = sync.model.removeprefix("tag:")
        found = tagged(self.folder, tag)
        if len(found) != 1:
            have = ", ".join(found) or "none"
            raise ConfigError(
                f"syncs.{sync.name}.model: found {sync.model!r}; one model must carry that tag, and these do: {have}"
            )
        return f"main.{found[0]}"

    def _sync_arguments(self, sync: SyncSettings, settings: DecisionSettings) -> dict[str, Any]:
        return {
            "folder": self.folder,
            "relation": self._relation(sync),
            "masked": self.masked(),
            "recheck": partial(send.recheck, self.warehouse, settings, self.clock, table=tables.load(self.folder))
            if sync.decisions
            else None,
        }

    def plan(self, sync: str | None = None) -> Iterator[StageResult]:
        """Write what each sync would send to `outbox/plans/<sync>.json`; nothing else changes.

        One of several that cannot be planned has failed, and the next has its turn; one that was asked for by name raises.
        """
        for one in self._syncs([sync] if sync else None):
            stage = f"plan {one.name}"
            try:
                made = self._stage(stage, lambda one=one: self._planned(one))
            except HeadwaterError as error:
                if sync is not None:
                    raise
                made = StageResult(stage, "failed", 0, str(error))
            yield made

    def _planned(self, sync: SyncSettings) -> StageResult:
        destination = self.config.destinations[sync.destination]
        made = plans.plan(
            self.warehouse, sync, destination, self.clock, **self._sync_arguments(sync, self.config.decisions)
        )
        path = made.write(self.folder / "outbox" / "plans" / f"{sync.name}.json")
        rows = made.counts
        text = (
            f"{rows.creates:,} new, {rows.updates:,} changed, {rows.deletes:,} to remove, {rows.held:,} held back"
            f" in {counted(made.calls, 'call')}{f' ({made.quota})' if made.quota else ''}; read {path.relative_to(self.folder)}"
        )
        warnings = (*made.warnings, *(f"{stop.rule}: {stop.sentence}" for stop in made.stops))
        return StageResult(
            f"plan {sync.name}", "ok", rows.creates + rows.updates + rows.deletes, text, made.as_json(), warnings
        )

    def activate(
        self,
        segment: str = "all",
        *,
        plan_file: Path | None = None,
        syncs: Sequence[str] | None = None,
        dry_run: bool = True,
        allow: Sequence[str] = (),
        goal: str | None = None,
        discount_cap: float | None = None,
        suppress_hours: float | None = None,
    ) -> Iterator[StageResult]:
        """Decide for a segment, plan, deliver. A plan from a file is sent exactly as it is, or refused.

        A dry run does all of it in a transaction that is undone, calls no destination, and leaves a preview in `outbox/`.
        `allow`: circuit breakers (`removals`, `rows`, `moved`) that are opened for this once.
        """
        settings = self.config.decisions.changed(goal=goal, discount_cap=discount_cap, suppress_hours=suppress_hours)
        if plan_file is not None:
            given = plans.Plan.read(plan_file)
            with self.locked("headwater activate"):
                try:
                    yield self._stage(
                        f"activate {given.sync}",
                        lambda: self._delivered(self.config.sync(given.sync), given, "all", settings, dry_run, allow),
                    )
                finally:
                    if not dry_run:
                        self.watch(wait_seconds=ALERT_SECONDS)
            return
        chosen = self._syncs(syncs, segment)
        with self.locked("headwater activate"), self.warehouse.rehearsal() if dry_run else nullcontext():
            if any(sync.decisions for sync in chosen):
                yield self.decide(segment, goal=goal, discount_cap=discount_cap, suppress_hours=suppress_hours)
            yield from self.deliver(chosen, segment, settings, dry_run=dry_run, allow=allow)

    def deliver(
        self,
        chosen: Sequence[SyncSettings] | None = None,
        segment: str = "all",
        settings: DecisionSettings | None = None,
        *,
        dry_run: bool = False,
        allow: Sequence[str] = (),
    ) -> Iterator[StageResult]:
        """Plan and send each sync as things stand, parents first; one that fails or is refused does not keep the next from being sent.

        Raises what was raised first, with all that was said, when every sync has had its turn.
        """
        failures: list[HeadwaterError] = []
        try:
            for sync in in_order(chosen) if chosen is not None else self._syncs(None):
                rules = settings or self.config.decisions
                try:
                    done = self._stage(
                        f"activate {sync.name}",
                        lambda sync=sync, rules=rules: self._delivered(sync, None, segment, rules, dry_run, allow),
                    )
                except HeadwaterError as error:
                    failures.append(error)
                else:
                    yield done
        finally:
            if not dry_run:
                self.watch(wait_seconds=ALERT_SECONDS)
        if len(failures) == 1:
            raise failures[0]
        if failures:
            raise type(failures[0])("\n".join(str(failure) for failure in failures))

    def _delivered(
        self,
        sync: SyncSettings,
        given: plans.Plan | None,
        segment: str,
        settings: DecisionSettings,
        dry_run: bool,
        allow: Sequence[str],
        *,
        destination: DestinationSettings | None = None,
        **how: Any,
    ) -> StageResult:
        switches = read_switches(self.warehouse)
        if switches.everything and not sync.decisions and not dry_run:
            why = "; ".join(switches.reasons)
            said = f"nothing was sent: the global kill switch is on ({why}); `headwater kill-switch off` lets it go on"
            return StageResult(f"activate {sync.name}", "skipped", 0, said)
        rules: dict[str, Any] = {}
        if sync.decisions:
            replies.follow(self.warehouse, self.clock)
            release = partial(send.release, self.warehouse, self.clock, table=tables.load(self.folder))
            rules = {"release": release, "give_back": partial(send.give_back, self.warehouse, self.clock)}
        try:
            done = deliver(
                self.warehouse,
                given,
                sync,
                destination or self.config.destinations[sync.destination],
                self.clock,
                dry_run,
                run_id=self.run_id,
                allow=allow,
                segment=segment if sync.decisions else None,
                on_progress=lambda count, of: self.on_progress("activate", sync.name, count, of),
                **self._sync_arguments(sync, settings),
                **rules,
                **how,
            )
        finally:
            if not dry_run:
                self.watch([sync])
        bad = done.status in ("failed", "stopped", "partial")
        return StageResult(
            f"activate {sync.name}",
            "failed" if bad else "ok",
            done.confirmed,
            done.message,
            asdict(done),
            done.warnings,
        )

    def watch(self, syncs: Sequence[SyncSettings] | None = None, *, wait_seconds: float = 0) -> str | None:
        """Judge the syncs (all when left out), tell what is new, and write the metrics down.

        Nothing of it holds up or fails a delivery: what went wrong is returned as a sentence. Waits at most
        `wait_seconds` for whoever is being told.
        """
        wanted = self.config.alerts
        judged = self.config.syncs if syncs is None else syncs
        try:
            found = alerts.judge(self.warehouse, wanted, judged, self.clock)
            messages = alerts.keep(self.warehouse, wanted, judged, found, self.clock)
            addresses = os.environ.get(wanted.url_env or "", "")
            if addresses:
                teller = apprise.shared(self.config.name, addresses)
                teller.tell(messages)
                for ids, error in teller.outcomes(wait_seconds):
                    alerts.told(self.warehouse, ids, error, self.clock)
            if syncs is None:
                metrics.write(self.warehouse, self.config.syncs, self.folder / metrics.FILE)
        except Exception as error:
            return f"alerts could not be looked after: {' '.join(f'{type(error).__name__}: {error}'.split())}"
        return None

    def alerts(self, *, check: bool) -> list[dict[str, Any]]:
        """Open alerts and the newest that are over; `check` judges all syncs first, and tells what is new."""
        with self.locked("headwater alerts"):
            if check and (wrong := self.watch(wait_seconds=ALERT_SECONDS)):
                raise StageFailed(wrong)
            return alerts.listed(self.warehouse)

    def deliver_live(
        self, sync: SyncSettings, cancelled: Callable[[], bool], since: Since | None = None
    ) -> StageResult:
        """Send what a live sync has to send now, a little at a time, so that it ends soon once `cancelled` says so.

        `since`: only what changed since is looked at; the whole model is compared without it.

        One try a row; what is left stays ready for the next call. Not written down as a stage: `sync_runs` has it.
        """
        own = self.config.destinations[sync.destination].model_copy(update={"attempts": 1})
        return self._delivered(
            sync,
            None,
            "all",
            self.config.decisions,
            False,
            (),
            destination=own,
            cancelled=cancelled,
            most_claimed=LIVE_ROWS,
            since=since,
        )

    def retry(self, sync: str, where: str | None, *, confirmed: bool = False) -> StageResult:
        """Let failed and held rows of a sync wait again; they go out with its next run. `confirmed`: as if nothing ever had."""
        self.config.sync(sync)

        def work() -> StageResult:
            with self.warehouse.transaction():
                count = outbox.retry(self.warehouse, sync, where, self.clock)
                anew = places.start_anew(self.warehouse, sync, self.clock) if confirmed else 0
            text = f"{sync}: {counted(count, 'row waits', 'rows wait')} again"
            if confirmed:
                text += f", and {counted(anew, 'row is', 'rows are')} no longer taken for confirmed"
            return StageResult(
                "retry",
                "ok",
                count + anew,
                f"{text}; `headwater activate --sync {sync} --no-dry-run` sends {'it' if count + anew == 1 else 'them'}",
            )

        return self._stage("retry", work)

    def syncs(self) -> list[SyncStatus]:
        """One entry per sync of the project: its last run, rows by state, freshness."""
        with self.locked("headwater syncs"):
            return runs.syncs(self.warehouse, self.config.syncs, self.clock)

    def kill_switch(self, state: str | None, scope: str, reason: str) -> StageResult:
        """Turn a switch on or off (None: leave all as they are), and say which are on."""
        with self.locked("headwater kill-switch"):
            if state is not None:
                who = os.environ.get("USER", "unknown")
                set_switch(self.warehouse, scope, on=state == "on", reason=reason, set_by=who, clock=self.clock)
            on = self.warehouse.rows(
                "select scope, reason, set_by, set_at from headwater.kill_switch where is_on order by scope"
            )
            said = switches_sentence(self.warehouse)
        return StageResult("kill_switch", "ok", len(on), said, {"on": on})
