"""What there is to see of a live project: freshness of sources and models, checks, explanations. Nothing here changes a model."""

import json
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from headwater.clock import naive_utc
from headwater.live import project as live_project
from headwater.live import verify
from headwater.live.engine import READER
from headwater.log.base import LogFacts
from headwater.log.opening import begun
from headwater.segments import replay
from headwater.stack.project import Project
from headwater.warehouse.query import query


@dataclass(frozen=True)
class SourceStatus:
    """One source that sends events. `accepted`: landed calls; `rejected`: refused and not yet cured; seconds since the newest
    was received and since the newest happened, None without any. A source without settings is one that was removed."""

    source: str
    accepted: int
    rejected: int
    seconds_since_received: float | None
    seconds_since_happened: float | None
    has_settings: bool


@dataclass(frozen=True)
class ModelStatus:
    """One live model, as it was last refreshed. `fresh_seconds`: now minus the newest moment that its rows know of.

    `late_keys` wait for their turn, `stale_keys` keep their last good rows because their SQL failed. `owed_whole`: why all of its
    rows wait to be computed, None when they do not.
    """

    model: str
    mode: str
    state: str
    refreshed_at: datetime | None
    as_of: datetime | None
    fresh_seconds: float | None
    touched_keys: int | None
    seconds: float | None
    late_keys: int
    next_due_at: datetime | None
    stale_keys: int
    message: str | None
    verified_at: datetime | None
    verified_rows: int | None
    wrong_rows: int | None
    owed_whole: str | None


@dataclass(frozen=True)
class FollowerStatus:
    """Memberships that follow a live model. `waiting` changes are recorded and not followed yet, the oldest for so many seconds;
    `followed_at`: when the cursor was last moved, None before the first time."""

    follower: str
    model: str
    members: int
    followed_at: datetime | None
    waiting: int
    late_seconds: float | None


@dataclass(frozen=True)
class Explanation:
    """One live model. `reads`: rows of each table behind it, as DuckDB estimates them; `paths`: for each source, the way from
    a changed row to the keys; `windows`: what ends with time alone. `sql` is what a batch runs: for the touched keys, or whole.
    `why_not_delta`: why a model in mode keyed is not kept by adding and taking away."""

    model: str
    relation: str
    key: str
    mode: str
    keys: int
    why_full: tuple[str, ...]
    reads: dict[str, int]
    read_whole: tuple[str, ...]
    paths: tuple[tuple[str, str], ...]
    windows: tuple[str, ...]
    max_every: float | None
    changes: bool
    status: ModelStatus | None
    sql: str
    why_not_delta: str = ""


MEMBERSHIPS = "segment_assignments"
"""The name by which `headwater verify` knows the memberships of ML segments."""


class Watching(Project):
    """Looks at the project."""

    models: live_project.Project | None = None
    """The live models, where somebody has read them already."""

    def sources(self) -> list[SourceStatus]:
        """One entry per source of the settings, and per source that ever sent."""
        now = naive_utc(self.clock.now())
        with self.locked("headwater status"):
            rows = {
                row["source"]: row
                for row in self.warehouse.rows(
                    """
                    select source, sum(accepted) as accepted, sum(rejected) as rejected, max(received) as received, max(happened) as happened
                    from (
                        select source, count(*) as accepted, 0 as rejected, max(received_at) as received, max(occurred_at) as happened
                        from collected.events group by source
                        union all
                        select source, count(*), 0, max(received_at), max(occurred_at) from collected.identifies group by source
                        union all
                        select source, 0, count(*), max(received_at), null from headwater.rejected_events
                        where redriven_at is null group by source
                    )
                    group by source
                    """
                )
            }
        declared = [source.name for source in self.config.collect.sources]
        found = []
        for name in [*declared, *sorted(set(rows) - set(declared))]:
            row = rows.get(name, {"accepted": 0, "rejected": 0, "received": None, "happened": None})
            since = {
                what: (now - row[what]).total_seconds() if row[what] else None for what in ("received", "happened")
            }
            found.append(
                SourceStatus(
                    name,
                    int(row["accepted"]),
                    int(row["rejected"]),
                    since["received"],
                    since["happened"],
                    name in declared,
                )
            )
        return found

    def live_models(self) -> list[ModelStatus]:
        """One entry per live model; none in a project in which no engine ever ran."""
        now = naive_utc(self.clock.now())
        with self.locked("headwater status"):
            rows = self.warehouse.rows(
                """
                select
                    live_models.*,
                    (select count(*) from headwater.stale_keys as held where held.model = live_models.model) as stale,
                    (select count(key) from headwater.due_keys as due where due.model = live_models.model) as late,
                    (select any_value(because) from headwater.due_keys as due where due.model = live_models.model and key is null) as owed_whole
                from headwater.live_models as live_models
                order by model
                """
            )
        return [
            ModelStatus(
                model=row["model"],
                mode=row["mode"],
                state=row["state"],
                refreshed_at=row["refreshed_at"],
                as_of=row["as_of"],
                fresh_seconds=(now - row["source_time"]).total_seconds() if row["source_time"] else None,
                touched_keys=row["touched_keys"],
                seconds=row["seconds"],
                late_keys=int(row["late"]),
                next_due_at=row["next_due_at"],
                stale_keys=int(row["stale"]),
                message=row["message"],
                verified_at=row["verified_at"],
                verified_rows=row["verified_rows"],
                wrong_rows=row["wrong_rows"],
                owed_whole=row["owed_whole"],
            )
            for row in rows
        ]

    def followers(self) -> list[FollowerStatus]:
        """Who is in which segment, and how far that is behind the live models; none in a project in which no engine ever ran."""
        now = naive_utc(self.clock.now())
        with self.locked("headwater status"):
            rows = self.warehouse.rows(
                """
                with following (follower, consumer, model, members) as (
                    select 'rule segments', 'segment_memberships', 'mart_marketing__segment_scores',
                        (select count(*) from headwater.segment_memberships where left_at is null)
                    union all
                    select 'ML segments', 'segment_assignments', 'int_segment_scores',
                        (select count(*) from headwater.segment_assignments where valid_to is null)
                ),
                behind as (
                    select following.follower, count(*) as waiting, min(changes.as_of) as oldest
                    from following inner join headwater.model_changes as changes on changes.model = following.model
                    left join headwater.change_cursors as cursors on cursors.consumer = following.consumer
                    where changes.version > coalesce(cursors.version, 0)
                    group by following.follower
                )
                select follower, model, members, moved_at, coalesce(waiting, 0) as waiting, oldest
                from following left join behind using (follower)
                left join headwater.change_cursors as cursors using (consumer)
                where model in (select model from headwater.live_models)
                order by follower desc
                """
            )
        return [
            FollowerStatus(
                row["follower"],
                row["model"],
                int(row["members"]),
                row["moved_at"],
                int(row["waiting"]),
                (now - row["oldest"]).total_seconds() if row["oldest"] else None,
            )
            for row in rows
        ]

    def log_facts(self) -> LogFacts | None:
        """What is true of the log; None when there is none."""
        if not begun(self.config.log, self.folder):
            return None
        log = self.open_log()
        try:
            return log.facts()
        finally:
            log.close()

    def as_of(self) -> datetime | None:
        """The moment that the models see."""
        with self.locked("headwater status"):
            return self.warehouse.value("select max(as_of) from headwater.clock")

    def waiting(self) -> int:
        """Records of the log that no engine has read yet."""
        facts = self.log_facts()
        if facts is None:
            return 0
        with self.locked("headwater status"):
            stored = json.loads(self.warehouse.value("select max(position) from headwater.clock") or "{}")
        known = facts.unread.get(READER)
        if known is not None:
            return sum(known.values())
        return sum(one.end - int(stored.get(topic, 0)) for topic, one in facts.topics.items())

    def verify(self, models: list[str], *, every: bool) -> list[verify.Verified]:
        """Live rows against the same SQL in full at the clock: the models named, all of them, or random keys of all.

        Memberships of ML segments are replayed beside them (`segment_assignments` among the names), with all or by name.
        """
        with self.locked("headwater verify"):
            named = [model for model in models if model != MEMBERSHIPS]
            done: list[verify.Verified] = []
            if named or not models:
                keys = None if every or models else self.config.live.verify_keys
                done = verify.check(self.warehouse, self._models(), models=named or None, keys=keys, clock=self.clock)
            if MEMBERSHIPS in models or (every and not models and self.has_customers):
                done.append(_replayed(replay.check(self.warehouse)))
            return done

    def explain(self, model: str) -> Explanation:
        """How a live model is kept: its key, the ways to it, its windows, what it cost so far."""
        with self.locked("headwater explain"):
            known = self._models().model(model)
            found = known.analysis
            rows = {
                source: int(
                    self.warehouse.value(
                        "select coalesce(max(estimated_size), 0) from duckdb_tables() where schema_name || '.' || table_name = ?",
                        [source],
                    )
                )
                for source in sorted(found.reads)
            }
            status = next((one for one in self.live_models() if one.model == model), None)
            keys = int(self.warehouse.value(f'select count(distinct "{found.key}") from {found.relation}'))
        return Explanation(
            model=model,
            relation=found.relation,
            key=found.key,
            mode=found.mode,
            keys=keys,
            why_full=found.why_full,
            why_not_delta=found.why_not_additive,
            reads=rows,
            read_whole=tuple(sorted(found.read_whole)),
            paths=tuple((path.source, path.text) for path in found.paths),
            windows=tuple(window.text for window in found.windows),
            max_every=known.max_every,
            changes=known.changes,
            status=status,
            sql=found.whole if found.mode == "full" else found.scoped,
        )

    def query(self, sql: str, limit: int, seconds: float) -> tuple[list[dict[str, Any]], bool]:
        """The first rows of a SELECT, and whether there are more."""
        with self.locked("headwater query"):
            return query(self.warehouse, sql, limit, seconds)

    def _models(self) -> live_project.Project:
        """The live models; compiled now where nobody has."""
        if self.models is None:
            self._need_models()
            self.models = live_project.load(self.warehouse, self.dbt)
        return self.models


def _replayed(found: replay.Replayed) -> verify.Verified:
    differences = tuple(
        verify.Difference(
            MEMBERSHIPS, customer, side, {name: value for name, value in row.items() if value is not None}
        )
        for customer, side, row in found.differences
    )
    return verify.Verified(MEMBERSHIPS, found.rows, found.wrong, found.late, 0, differences, found.skipped)
