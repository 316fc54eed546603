"""The plan: what a sync would do now, row by row, for a person to read and for `activate` to hold itself to.

`plan` computes and changes nothing. `Plan.write` makes the reviewable file; `Plan.read` takes it back, refusing one that
was edited. The same model, confirmations, outbox and settings give the same plan, id and digest on every machine.
"""

import hashlib
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime
from math import ceil
from pathlib import Path
from typing import Any, Protocol

from headwater.activation import difference, exact, mapping, places
from headwater.activation.destinations import BaseDestination, Destination, Operation, make
from headwater.activation.handing import put
from headwater.activation.limits import calls_in
from headwater.activation.settings import DestinationSettings, SyncSettings
from headwater.activation.since import Since, narrowed, touched
from headwater.clock import Clock, naive_utc
from headwater.errors import DataError, Refused, UsageError
from headwater.records.counted import counted
from headwater.warehouse import Warehouse

FORMAT = 1
_AS_THEY_ARE = (
    "sync",
    "plan_id",
    "digest",
    "mode",
    "model",
    "destination",
    "segment",
    "calls",
    "quota",
    "settings_digest",
)
"""Fields of a plan that its file holds under the same name and in the same form."""

Recheck = Callable[[str], Sequence[tuple[str, str, str]]]
"""Given a relation (operation_id, key, operation, decision_id, customer_id): (operation_id, rule, sentence) per row that must not go out now."""

_CANDIDATES = "activation_candidates"
_HOLDS = "activation_holds"
_HOLD_COLUMNS = {"operation_id": "varchar", "rule": "varchar", "sentence": "varchar"}
_PAGE = 20_000
_COLUMNS = (
    "_headwater_operation_id, _headwater_key, _headwater_version, _headwater_operation, _headwater_payload, "
    "_headwater_previous, _headwater_decision_id, _headwater_attempts, _headwater_in_doubt, _headwater_rule, _headwater_sentence"
)


@dataclass(frozen=True)
class Counts:
    """`creates + updates + deletes` will be sent; `held` are kept back by a rule; `quarantined` model rows cannot become
    an operation; `collapsed` repeat another row exactly; `outside` operations belong to other segments."""

    creates: int = 0
    updates: int = 0
    deletes: int = 0
    held: int = 0
    quarantined: int = 0
    collapsed: int = 0
    outside: int = 0
    forgotten: int = 0
    model_rows: int = 0
    delivered_rows: int = 0

    @property
    def planned(self) -> int:
        """Operations that will be sent."""
        return self.creates + self.updates + self.deletes


@dataclass(frozen=True)
class Held:
    """One row that stays here: its rule, the sentence, and what would have been sent (None: it has no operation)."""

    key: str | None
    rule: str
    sentence: str
    row_count: int = 1
    operation: Operation | None = None


@dataclass(frozen=True)
class Stop:
    """A circuit breaker that is open: `deliver` refuses until its rule is named in `allow`."""

    rule: str
    sentence: str


class Rows(Protocol):
    """Where a plan keeps its rows."""

    def operations(self, limit: int | None) -> Iterator[Operation]: ...

    def held(self, limit: int | None) -> Iterator[Held]: ...


@dataclass(frozen=True)
class Plan:
    """What one sync would do. `digest` covers every operation and the settings; `plan_id` is its beginning.

    `made_at` is told to the reader and counts for nothing.
    """

    sync: str
    plan_id: str
    digest: str
    made_at: datetime
    mode: str
    model: str
    destination: str
    segment: str | None
    columns: tuple[str, ...]
    counts: Counts
    calls: int
    quota: str
    held_by_rule: Mapping[str, int]
    stops: tuple[Stop, ...]
    warnings: tuple[str, ...]
    settings_digest: str
    rows: Rows = field(repr=False, compare=False)

    def operations(self, limit: int | None = None) -> Iterator[Operation]:
        """What will be sent, by key; removals last."""
        return self.rows.operations(limit)

    def held(self, limit: int | None = None) -> Iterator[Held]:
        """What stays here, by key."""
        return self.rows.held(limit)

    def as_json(self) -> dict[str, Any]:
        """Everything but the rows, as JSON takes it."""
        return {
            "headwater_plan": FORMAT,
            **{name: getattr(self, name) for name in _AS_THEY_ARE},
            "made_at": self.made_at,
            "columns": list(self.columns),
            "counts": {**asdict(self.counts), "planned": self.counts.planned},
            "held_by_rule": dict(self.held_by_rule),
            "stops": [asdict(stop) for stop in self.stops],
            "warnings": list(self.warnings),
        }

    def write(self, path: Path) -> Path:
        """Write the reviewable JSON file, one row a line, atomically; returns the path."""
        path.parent.mkdir(parents=True, exist_ok=True)
        aside = path.with_name(f".{path.name}.part")
        content = hashlib.sha256()
        with aside.open("w", encoding="utf-8") as out:

            def put(text: str) -> None:
                content.update(text.encode())
                out.write(text)

            header = exact.dumps(self.as_json())
            put(header[:-1] + ',\n"operations": [')
            for number, operation in enumerate(self.operations()):
                put((",\n" if number else "\n") + exact.dumps(shown(operation)))
            put('\n],\n"held": [')
            for number, held in enumerate(self.held()):
                put((",\n" if number else "\n") + exact.dumps(_held_as_json(held)))
            out.write('\n],\n"content": ' + exact.dumps(content.hexdigest()) + "}\n")
        aside.replace(path)
        return path

    @classmethod
    def read(cls, path: Path) -> "Plan":
        """The plan of a file. Raises DataError when it is not one, Refused when it was edited since it was written."""
        try:
            text = path.read_text(encoding="utf-8")
            document = exact.loads(text)
            if document["headwater_plan"] != FORMAT:
                raise DataError(
                    f"{path} is a plan of format {document['headwater_plan']}, this version reads {FORMAT}; run `headwater plan` again"
                )
            content = text[: text.rindex('\n],\n"content": ')]
        except FileNotFoundError as error:
            raise UsageError(f"{path} does not exist; `headwater plan` writes one") from error
        except (ValueError, KeyError, TypeError) as error:
            raise DataError(f"{path} is not a plan that `headwater plan` wrote: {error}") from error
        if hashlib.sha256(content.encode()).hexdigest() != document["content"]:
            raise Refused(
                f"{path} was changed after it was written; a plan is sent as reviewed or not at all. Run `headwater plan {document['sync']}` again"
            )
        document.setdefault("quota", "")  # plans of before have none
        counts = {name: number for name, number in document["counts"].items() if name != "planned"}
        return cls(
            **{name: document[name] for name in _AS_THEY_ARE},
            made_at=datetime.fromisoformat(document["made_at"]),
            columns=tuple(document["columns"]),
            counts=Counts(**counts),
            held_by_rule=document["held_by_rule"],
            stops=tuple(Stop(**stop) for stop in document["stops"]),
            warnings=tuple(document["warnings"]),
            rows=_Listed(
                [_operation_of(document["sync"], row) for row in document["operations"]],
                [_held_of(document["sync"], row) for row in document["held"]],
            ),
        )

    def summary(self) -> str:
        """A few lines for the screen."""
        from headwater.activation import view  # noqa: PLC0415 (view imports this module)

        return view.summary(self)

    def markdown(self, limit: int = 20) -> str:
        """The plan as Markdown: figures, then the first `limit` rows of each kind with old → new."""
        from headwater.activation import view  # noqa: PLC0415

        return view.markdown(self, limit)

    def table(self, limit: int = 20) -> Any:
        """The first `limit` rows as a rich table."""
        from headwater.activation import view  # noqa: PLC0415

        return view.table(self, limit)


def plan(
    warehouse: Warehouse,
    sync: SyncSettings,
    destination: DestinationSettings,
    clock: Clock,
    *,
    folder: Path = Path(),
    relation: str | None = None,
    segment: str | None = None,
    masked: Collection[str] = (),
    recheck: Recheck | None = None,
    since: Since | None = None,
    environment: Mapping[str, str] | None = None,
) -> Plan:
    """Compare the sync's model with what its destination confirmed, and say what would be done.

    `folder` is the project's folder, `relation` what a `tag:` stands for, `segment` keeps only operations of that value of
    the model's column `segment` (`all` and None: every one), `masked` are columns that may not leave the house, `recheck`
    says who is held back now, `since` looks only at what changed since (and at what is open), `environment` is where a destination finds its address (the process's own). Changes no table of the warehouse; the rows stay in temporary tables until the
    warehouse is closed.
    Raises ConfigError when mapping or destination are wrong.
    """
    target = make(sync.destination, destination, folder=folder, environment=environment)
    fields = mapping.resolve(warehouse, sync, relation=relation, masked=masked)
    only = touched(warehouse, sync, fields, since) if since is not None else None
    looked_at = fields if only is None else narrowed(warehouse, sync, fields, only)
    found = difference.compute(warehouse, sync, looked_at, segment, naive_utc(clock.now()), only=only)
    rows = Relation(warehouse, sync.name, found.table, found.changed, found.quarantined)
    if recheck is not None:
        rows.hold_back(recheck)
    settings_digest = _digest_of_settings(sync, destination, segment)
    counts = rows.counts(found)
    target.expect(counts.planned)
    calls = _calls(target, counts)
    digest = hashlib.sha256(exact.dumps([settings_digest, *rows.fingerprint()]).encode()).hexdigest()
    return Plan(
        sync=sync.name,
        plan_id=f"{sync.name}-{digest[:12]}",
        digest=digest,
        made_at=clock.now(),
        mode=sync.mode,
        model=sync.model if relation is None else relation,
        destination=sync.destination,
        segment=segment,
        columns=tuple(field.name for field in fields.fields),
        counts=counts,
        calls=calls,
        quota=_quota(target, destination, calls),
        held_by_rule=rows.held_by_rule(),
        stops=_stops(sync, counts, places.moved(warehouse, sync, places.of(target, destination))),
        warnings=_warnings(sync, counts),
        settings_digest=settings_digest,
        rows=rows,
    )


def shown(operation: Operation) -> dict[str, Any]:
    """One operation as a plan file shows it: what changes, old and new, and all that is sent."""
    row: dict[str, Any] = {
        "operation": operation.operation,
        "key": operation.key,
        "changes": changes(operation),
        "send": dict(operation.fields),
        "version": operation.version,
        "operation_id": operation.operation_id,
    }
    if operation.decision_id is not None:
        row["decision_id"] = operation.decision_id
    if operation.in_doubt:
        row["in_doubt"] = True
    return row


def changes(operation: Operation) -> dict[str, dict[str, Any]]:
    """Per field that changes, the value the destination confirmed and the one it gets."""
    old = operation.previous
    if operation.operation == "delete":
        return {name: {"old": value, "new": None} for name, value in old.items()}
    return {
        name: {"old": old.get(name), "new": value}
        for name, value in operation.fields.items()
        if name not in old or old[name] != value
    }


@dataclass(frozen=True)
class Relation:
    """The rows of a plan in the temporary tables of the connection that made it."""

    warehouse: Warehouse
    sync: str
    table: str
    changed: str
    quarantined: str

    def drop(self) -> None:
        """Remove the tables; the plan has no rows any more."""
        difference.drop(self.warehouse, self.table, self.changed, self.quarantined)

    def operations(self, limit: int | None) -> Iterator[Operation]:
        """Rows that will be sent, by key, removals last."""
        for row in self._stream("_headwater_rule is null", limit):
            yield _operation(self.sync, row)

    def held(self, limit: int | None) -> Iterator[Held]:
        """Rows that stay, by key; then those that cannot become an operation."""
        count = 0
        for row in self._stream("_headwater_rule is not null", limit):
            count += 1
            yield Held(row[1], row[9], row[10], 1, _operation(self.sync, row))
        rest = None if limit is None else limit - count
        listed = f"select key, rule, sentence, row_count from {self.quarantined} order by key nulls first"
        for key, rule, sentence, row_count in self.warehouse.execute(listed + _limit(rest)).fetchall():
            yield Held(key, rule, sentence, int(row_count))

    def _stream(self, condition: str, limit: int | None) -> Iterator[tuple[Any, ...]]:
        """Page by page along (removal, key), so that the connection is free between pages."""
        removal, key = False, ""
        left = limit
        while left is None or left > 0:
            page = self.warehouse.execute(
                f"select {_COLUMNS} from {self.table} where _headwater_in_scope and {condition} "
                f"and (_headwater_operation = 'delete', _headwater_key) > (?, ?) "
                f"order by _headwater_operation = 'delete', _headwater_key limit {min(_PAGE, left or _PAGE)}",
                [removal, key],
            ).fetchall()
            if not page:
                return
            yield from page
            removal, key = page[-1][3] == "delete", page[-1][1]
            left = None if left is None else left - len(page)

    def hold_back(self, recheck: Recheck) -> None:
        """Ask the caller's rules about every row that contacts or changes somebody; removals are not asked about."""
        self.warehouse.execute(
            f"create or replace temp table {_CANDIDATES} as select _headwater_operation_id as operation_id, _headwater_key as key, "
            f"_headwater_operation as operation, _headwater_decision_id as decision_id, _headwater_customer_id as customer_id "
            f"from {self.table} where _headwater_rule is null and _headwater_in_scope and _headwater_operation <> 'delete'"
        )
        holds = list(recheck(_CANDIDATES))
        put(self.warehouse, _HOLDS, _HOLD_COLUMNS, holds)
        self._mark()
        self.warehouse.execute(f"drop table {_CANDIDATES}")

    def hold_as_reviewed(self, reviewed: Iterable[Held]) -> dict[str, int]:
        """Hold back what was held back when a plan was reviewed; returns how many by verb are held only because of that."""
        sentences = [
            (
                held.operation.operation_id,
                held.rule,
                f"{held.sentence} (so it was when the plan was reviewed; plan again to send the row)",
            )
            for held in reviewed
            if held.operation is not None
        ]
        put(self.warehouse, _HOLDS, _HOLD_COLUMNS, sentences)
        concerned = f"_headwater_rule is null and _headwater_operation_id in (select operation_id from {_HOLDS})"
        by_verb = dict(
            self.warehouse.execute(
                f"select _headwater_operation, count(*) from {self.table} where _headwater_in_scope and {concerned} group by 1"
            ).fetchall()
        )
        self._mark()
        return by_verb

    def _mark(self) -> None:
        self.warehouse.execute(
            f"update {self.table} set _headwater_rule = h.rule, _headwater_sentence = h.sentence "
            f"from {_HOLDS} h where h.operation_id = _headwater_operation_id and _headwater_rule is null"
        )

    def counts(self, found: difference.Difference) -> Counts:
        """Add up the table."""
        kinds: dict[str, int] = {}
        outside = held = 0
        for operation, in_scope, is_held, number in self.warehouse.execute(
            f"select _headwater_operation, _headwater_in_scope, _headwater_rule is not null, count(*) from {self.table} group by all"
        ).fetchall():
            if not in_scope:
                outside += number
            elif is_held:
                held += number
            else:
                kinds[operation] = kinds.get(operation, 0) + number
        return Counts(
            creates=kinds.get("create", 0),
            updates=kinds.get("update", 0),
            deletes=kinds.get("delete", 0),
            held=held,
            quarantined=found.unusable,
            collapsed=found.collapsed,
            outside=outside,
            forgotten=found.forgotten,
            model_rows=found.model_rows,
            delivered_rows=found.delivered_rows,
        )

    def held_by_rule(self) -> dict[str, int]:
        """Rule to number of rows, in alphabetical order."""
        return dict(
            self.warehouse.execute(
                f"select rule, sum(n)::bigint from (select _headwater_rule as rule, count(*) as n from {self.table} "
                f"where _headwater_rule is not null and _headwater_in_scope group by 1 "
                f"union all select rule, sum(row_count) from {self.quarantined} group by 1) group by 1 order by 1"
            ).fetchall()
        )

    def fingerprint(self) -> list[str | int]:
        """Few values that change when any operation of the difference does, whoever is held back at the moment."""
        number, mixed = self.warehouse.execute(
            f"select count(*), cast(coalesce(bit_xor(md5_number(_headwater_operation_id)), 0) as varchar) "
            f"from {self.table} where _headwater_in_scope"
        ).fetchall()[0]
        return [number, mixed]


@dataclass(frozen=True)
class _Listed:
    """The rows of a plan that was read from a file."""

    planned: list[Operation]
    kept: list[Held]

    def operations(self, limit: int | None) -> Iterator[Operation]:
        return iter(self.planned[:limit])

    def held(self, limit: int | None) -> Iterator[Held]:
        return iter(self.kept[:limit])


def _limit(limit: int | None) -> str:
    return "" if limit is None else f" limit {max(limit, 0)}"


def _operation(sync: str, row: tuple[Any, ...]) -> Operation:
    return Operation(
        operation_id=row[0],
        sync=sync,
        key=row[1],
        version=row[2],
        operation=row[3],
        fields=exact.loads(row[4]),
        previous=exact.loads(row[5] or "{}"),
        decision_id=row[6],
        attempts=row[7],
        in_doubt=row[8],
    )


def _operation_of(sync: str, row: Mapping[str, Any]) -> Operation:
    old = {name: change["old"] for name, change in row["changes"].items() if change["old"] is not None}
    return Operation(
        operation_id=row["operation_id"],
        sync=sync,
        key=row["key"],
        version=row["version"],
        operation=row["operation"],
        fields=row["send"],
        previous=old,
        decision_id=row.get("decision_id"),
        in_doubt=row.get("in_doubt", False),
    )


def _held_as_json(held: Held) -> dict[str, Any]:
    why: dict[str, Any] = {"key": held.key, "rule": held.rule, "sentence": held.sentence, "rows": held.row_count}
    return why if held.operation is None else {**why, **shown(held.operation)}


def _held_of(sync: str, row: Mapping[str, Any]) -> Held:
    operation = _operation_of(sync, row) if "operation_id" in row else None
    return Held(row["key"], row["rule"], row["sentence"], row["rows"], operation)


def _calls(target: Destination, counts: Counts) -> int:
    if isinstance(target, BaseDestination):
        return target.calls(counts.creates + counts.updates, counts.deletes)
    return ceil(counts.planned / target.limits.max_rows)


def _quota(target: Destination, settings: DestinationSettings, calls: int) -> str:
    """What the calls use of the destination's limits, and how long they take at least."""
    if not calls:
        return ""
    parts = [target.quota()] if isinstance(target, BaseDestination) else []
    if settings.rate_per_second:
        at_once = calls_in(settings.rate_per_second, target.limits.window_seconds)
        least = (calls - 1) // at_once * at_once / settings.rate_per_second
        if least >= 1:
            parts.append(f"at {settings.rate_per_second:g} a second they take at least {least:.0f} s")
    return "; ".join(part for part in parts if part)


def _digest_of_settings(sync: SyncSettings, destination: DestinationSettings, segment: str | None) -> str:
    everything = [sync.model_dump(mode="json"), destination.model_dump(mode="json"), segment]
    return hashlib.sha256(exact.dumps(everything).encode()).hexdigest()[:16]


def _stops(sync: SyncSettings, counts: Counts, moved: str | None) -> tuple[Stop, ...]:
    stops = [] if moved is None else [Stop("moved", moved)]
    if sync.mode == "mirror" and counts.delivered_rows:
        there = max(
            counts.delivered_rows, counts.deletes
        )  # more are removed than are confirmed: of those, nobody answered
        share = counts.deletes / there
        if share > sync.max_removal_share:
            known = there == counts.delivered_rows
            what = counted(there, "delivered row") if known else f"{there:,} rows that were or may have been delivered"
            stops.append(
                Stop(
                    "removals",
                    f"{counts.deletes:,} of {what} ({share:.1%}) would be removed; `max_removal_share` of {sync.name!r} allows {sync.max_removal_share:.1%}",
                )
            )
    if sync.max_rows is not None and counts.planned > sync.max_rows:
        stops.append(
            Stop(
                "rows",
                f"{counted(counts.planned, 'row')} would be sent; `max_rows` of {sync.name!r} allows {sync.max_rows:,}",
            )
        )
    return tuple(stops)


def _warnings(sync: SyncSettings, counts: Counts) -> tuple[str, ...]:
    warnings = []
    if counts.quarantined:
        warnings.append(
            f"{counted(counts.quarantined, 'row')} of the model {sync.model} cannot be sent, for want of a key of their own; the plan says which"
        )
    if counts.collapsed:
        warnings.append(
            f"{counted(counts.collapsed, 'row')} of the model {sync.model} with the key of another row collapsed into that"
        )
    return tuple(warnings)
