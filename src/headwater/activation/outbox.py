"""The outbox: one row per planned operation, and one verb per transition.

    enqueue    (nothing) → ready, held; open rows that are no longer wanted → superseded, or parked when in doubt
    claim      ready → claimed (and → held, where a rule says no at this very moment)
    record     claimed → done | failed | ready
    retry      failed, held → ready
    prune      rows that nothing refers to any more are removed

An operation id is made from sync, key, version, verb and payload. A version is never used twice for a key, so that the
same id always means the same thing: a destination that has seen an id may ignore it.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from headwater.activation import delivered, exact
from headwater.activation.destinations import Operation, Result
from headwater.activation.difference import OPEN
from headwater.activation.handing import put
from headwater.activation.mapping import FieldMap, literal, quoted
from headwater.activation.plan import Plan, Recheck, Relation
from headwater.clock import Clock, naive_utc
from headwater.errors import UsageError
from headwater.warehouse import Warehouse

Release = Callable[[str], None]
"""Given a relation (operation_id, key, operation, decision_id, customer_id): write down that these people are contacted now."""

CLAIM = "activation_claim"
"""The temporary table with the rows that a claim takes."""
_ANSWERS = "activation_answers"
_CONFIRMED = "activation_confirmed"


@dataclass(frozen=True)
class Enqueued:
    """Rows of this plan that wait (`ready`) or are held; open rows of earlier plans that were given up (`superseded`), or
    kept aside because the destination may have them though the model no longer has (`parked`)."""

    ready: int
    held: int
    superseded: int
    parked: int


@dataclass(frozen=True)
class Claim:
    """What was taken in one go: batches by id, and how many rows a rule held back."""

    batches: dict[str, tuple[Operation, ...]]
    held: int

    @property
    def operations(self) -> list[Operation]:
        """All rows of all batches."""
        return [operation for rows in self.batches.values() for operation in rows]


def enqueue(warehouse: Warehouse, plan: Plan, clock: Clock) -> Enqueued:
    """Put the plan's rows into the outbox, in one transaction.

    Doing it twice changes nothing. Rows of other segments are left as they are. What takes the place of a row in doubt is in
    doubt itself: the destination may have what was sent before, until this one is confirmed.
    Raises UsageError for a plan that was read from a file: its rows are looked up again by `deliver`.
    """
    if not isinstance(plan.rows, Relation):
        raise UsageError(
            "a plan from a file cannot be put into the outbox as it is; `activate --plan` compares it first"
        )
    with warehouse.transaction():
        return _enqueue(warehouse, plan, plan.rows, clock)


def _enqueue(warehouse: Warehouse, plan: Plan, rows: Relation, clock: Clock) -> Enqueued:
    _prune(warehouse, plan)
    table = rows.table
    now, sync = naive_utc(clock.now()), literal(plan.sync)
    warehouse.execute(  # what was confirmed and is asked for all the same, since somebody emptied the confirmed rows
        f"delete from headwater.outbox where sync = {sync} and state = 'done' "
        f"and operation_id in (select _headwater_operation_id from {table})"
    )
    known = _any_open(warehouse, plan.sync)
    moved = _give_up(warehouse, plan, table, now) if known else (0, 0)
    warehouse.execute(
        f"insert into headwater.outbox (operation_id, sync, key, version, operation, payload, previous, state, reason, code, plan_id, "
        f"decision_id, customer_id, attempts, in_doubt, created_at, updated_at) "
        f"select _headwater_operation_id, {sync}, _headwater_key, _headwater_version, _headwater_operation, _headwater_payload, "
        f"_headwater_previous, case when _headwater_rule is null then 'ready' else 'held' end, "
        f"_headwater_rule || ': ' || _headwater_sentence, _headwater_rule, {literal(plan.plan_id)}, "
        f"_headwater_decision_id, _headwater_customer_id, 0, _headwater_in_doubt, timestamp '{now}', timestamp '{now}' from {table} p "
        f"where _headwater_in_scope"
        # only where there can be some: the look at the table it fills makes an insert write with one thread, at the commit
        + (
            f" and not exists (select 1 from headwater.outbox o where o.sync = {sync} and o.operation_id = p._headwater_operation_id)"
            if known
            else ""
        )
    )
    _keep_targets(warehouse, plan, rows)
    ready, held = warehouse.execute(
        f"select count(*) filter (state = 'ready'), count(*) filter (state = 'held') from headwater.outbox "
        f"where sync = {sync} and plan_id = {literal(plan.plan_id)}"
    ).fetchall()[0]
    return Enqueued(ready=ready, held=held, superseded=moved[0], parked=moved[1])


def _any_open(warehouse: Warehouse, sync: str) -> bool:
    return bool(
        warehouse.value(
            f"select exists (select 1 from headwater.outbox where sync = {literal(sync)} and state in {OPEN})"
        )
    )


def _give_up(warehouse: Warehouse, plan: Plan, table: str, now: Any) -> tuple[int, int]:
    """Open rows of earlier plans: those that are wanted wait again, the others are superseded, or parked when in doubt.

    Returns how many were superseded, and how many parked.
    """
    gone = f"sync = ? and state in {OPEN} and operation_id not in (select _headwater_operation_id from {table})"
    elsewhere = f"key in (select _headwater_key from {table} where not _headwater_in_scope)"
    replaced = f"key in (select _headwater_key from {table} where _headwater_in_scope)"
    doubt = "(coalesce(in_doubt, false) or state = 'claimed')"
    refused = "state = 'failed' and claimed_by is null"  # the last word on it, which says more than that an earlier one is missing
    parked = warehouse.value(
        f"select count(*) from headwater.outbox where {gone} and not {elsewhere} and not {replaced} and {doubt}",
        [plan.sync],
    )
    warehouse.execute(
        f"update headwater.outbox set state = 'failed', in_doubt = true, updated_at = ?, "
        f"code = case when {refused} then code else 'IN_DOUBT' end, reason = case when {refused} then reason else "
        f"'IN_DOUBT: sent and never answered; the model no longer has the row, so it is not sent again' end "
        f"where {gone} and not {elsewhere} and not {replaced} and {doubt}",
        [now, plan.sync],
    )
    superseded = warehouse.value(
        f"select count(*) from headwater.outbox where {gone} and not {elsewhere} and ({replaced} or not {doubt})",
        [plan.sync],
    )
    warehouse.execute(
        f"update headwater.outbox set state = 'superseded', updated_at = ?, reason = case when {replaced} "
        f"then 'a newer version of the row takes its place' else 'the model no longer asks for it' end "
        f"where {gone} and not {elsewhere} and ({replaced} or not {doubt})",
        [now, plan.sync],
    )
    warehouse.execute(
        f"update headwater.outbox set state = case when p._headwater_rule is null then 'ready' else 'held' end, "
        f"reason = p._headwater_rule || ': ' || p._headwater_sentence, code = p._headwater_rule, plan_id = ?, "
        f"in_doubt = coalesce(in_doubt, false) or state = 'claimed', updated_at = ? "
        f"from (select _headwater_operation_id, _headwater_rule, _headwater_sentence, _headwater_in_scope from {table}) p "
        f"where p._headwater_operation_id = operation_id and p._headwater_in_scope and state in {OPEN}",
        [plan.plan_id, now],
    )
    return superseded, parked


def _keep_targets(warehouse: Warehouse, plan: Plan, rows: Relation) -> None:
    """The typed rows that will be confirmed: of new operations added, of given-up ones dropped."""
    following = delivered.pending(plan.sync)
    names = "".join(f", {quoted(name)}" for name in plan.columns)
    removals = "" if plan.mode == "delete" else "and _headwater_operation <> 'delete'"
    known = warehouse.value(f"select exists (select 1 from {following})")
    if known:
        warehouse.execute(
            f"delete from {following} where _headwater_operation_id not in "
            f"(select operation_id from headwater.outbox where sync = {literal(plan.sync)} and state in {OPEN})"
        )
    warehouse.execute(
        f"insert into {following} (_headwater_operation_id, _headwater_plain{names}) "
        f"select _headwater_operation_id, _headwater_plain{names} from {rows.table} p where _headwater_in_scope {removals}"
        + (
            f" and not exists (select 1 from {following} n where n._headwater_operation_id = p._headwater_operation_id)"
            if known
            else ""
        )
    )
    if plan.mode == "delete":
        warehouse.execute(
            f"delete from {delivered.table(plan.sync)} where _headwater_key in "
            f"(select _headwater_key from {rows.changed} where _headwater_operation = 'forget')"
        )


def _prune(warehouse: Warehouse, plan: Plan) -> None:
    """Drop closed rows of earlier plans that a higher version or the confirmed row stands for; `sync_rows` keeps history."""
    sync = literal(plan.sync)
    warehouse.execute(
        f"delete from headwater.outbox where sync = {sync} and plan_id <> {literal(plan.plan_id)} and ("
        f"(state = 'done' and operation <> 'delete') or (state = 'superseded' and (key, version) in ("
        f"select (o.key, o.version) from headwater.outbox o join (select key, max(version) as top from headwater.outbox "
        f"where sync = {sync} and not (state = 'done' and operation <> 'delete') group by key) t on t.key = o.key "
        f"where o.sync = {sync} and o.version < t.top)))"
    )


def prepare(warehouse: Warehouse, sync: str, fields: FieldMap) -> None:
    """Make the sync's confirmed tables fit the mapping; call before `enqueue`."""
    with warehouse.transaction():
        delivered.prepare(warehouse, sync, fields)


def claim(
    warehouse: Warehouse,
    plan: Plan,
    clock: Clock,
    *,
    rows: int,
    batch_rows: int,
    batch_ids: Iterator[str],
    recheck: Recheck | None,
    release: Release | None,
) -> Claim | None:
    """Take up to `rows` ready rows of the plan, in batches of `batch_rows`, named by `batch_ids`; None when none is left.

    In one transaction: rows that `recheck` names go to held, `release` is called for the rest, which become claimed. Rows
    of a batch that a crash left without an answer are taken first, alone, under the same batch id.
    """
    now = naive_utc(clock.now())
    with warehouse.transaction():
        taken = _take(warehouse, plan, now, rows, one_call=rows <= batch_rows)
        if not taken:
            return None
        held = reserve(warehouse, recheck, release, now)
        found = _read(warehouse, f"select operation_id from {CLAIM}")
        batches = _batches(found, batch_rows, batch_ids)
        named = [(row.operation_id, batch_id) for batch_id, operations in batches.items() for row in operations]
        put(warehouse, f"{CLAIM}_named", {"operation_id": "varchar", "batch_id": "varchar"}, named)
        warehouse.execute(
            f"update headwater.outbox set state = 'claimed', claimed_by = n.batch_id, updated_at = timestamp '{now}' "
            f"from {CLAIM}_named n where n.operation_id = outbox.operation_id"
        )
    return Claim(batches, held)


def ready(plan: Plan, now: Any) -> str:
    """The condition on the outbox for rows of the plan that may be claimed at the moment `now` (naive UTC)."""
    return (
        f"sync = {literal(plan.sync)} and plan_id = {literal(plan.plan_id)} and state = 'ready' "
        f"and (available_at is null or available_at <= timestamp '{now}')"
    )


def left_over(warehouse: Warehouse, plan: Plan, now: Any) -> list[tuple[str, int]]:
    """Batches that a crash left without an answer: their ids, in order, and how many rows of each are ready."""
    return warehouse.execute(
        f"select claimed_by, count(*) from headwater.outbox where {ready(plan, now)} and in_doubt and claimed_by is not null "
        f"group by 1 order by 1"
    ).fetchall()


def _take(warehouse: Warehouse, plan: Plan, now: Any, rows: int, *, one_call: bool) -> int:
    """Put the next rows into the claim: batches that a crash left first, whole; then others, by key, as many as `one_call` takes."""
    again: list[str] = []
    total = 0
    for batch_id, number in left_over(warehouse, plan, now):
        if not again or total + number <= rows:
            again.append(batch_id)
            total += number
    which = (
        f"and in_doubt and claimed_by in ({', '.join(map(literal, again))})"
        if again
        else f"order by operation = 'delete', key limit {rows}"
    )
    warehouse.execute(
        f"create or replace temp table {CLAIM} as select operation_id, key, operation, decision_id, customer_id "
        f"from headwater.outbox where {ready(plan, now)} {which}"
    )
    if one_call and not again:
        warehouse.execute(
            f"delete from {CLAIM} where operation = 'delete' and exists (select 1 from {CLAIM} where operation <> 'delete')"
        )
    return warehouse.value(f"select count(*) from {CLAIM}")


def reserve(warehouse: Warehouse, recheck: Recheck | None, release: Release | None, now: Any) -> int:
    """Ask the rules about the rows of the claim and tell who is contacted; returns how many are held and left the claim."""
    held = _hold(warehouse, recheck, now)
    if release is not None and warehouse.value(f"select count(*) from {CLAIM} where operation <> 'delete'"):
        warehouse.execute(
            f"create or replace temp table {CLAIM}_contacts as select * from {CLAIM} where operation <> 'delete'"
        )
        release(f"{CLAIM}_contacts")
    return held


def _hold(warehouse: Warehouse, recheck: Recheck | None, now: Any) -> int:
    """Ask the rules again; what they name leaves the claim. Removals are not asked about."""
    if recheck is None:
        return 0
    warehouse.execute(
        f"create or replace temp table {CLAIM}_asked as select * from {CLAIM} where operation <> 'delete'"
    )
    holds = list(recheck(f"{CLAIM}_asked"))
    if not holds:
        return 0
    put(warehouse, f"{CLAIM}_held", {"operation_id": "varchar", "rule": "varchar", "sentence": "varchar"}, holds)
    warehouse.execute(
        f"update headwater.outbox set state = 'held', reason = h.rule || ': ' || h.sentence, code = h.rule, updated_at = ? "
        f"from {CLAIM}_held h where h.operation_id = outbox.operation_id and h.operation_id in (select operation_id from {CLAIM})",
        [now],
    )
    before = warehouse.value(f"select count(*) from {CLAIM}")
    warehouse.execute(f"delete from {CLAIM} where operation_id in (select operation_id from {CLAIM}_held)")
    return before - warehouse.value(f"select count(*) from {CLAIM}")


def operations(warehouse: Warehouse, ids: str) -> list[Operation]:
    """The rows of the outbox whose ids the query gives, by key, removals last."""
    return [_operation(row) for row in _read(warehouse, ids)]


def _read(warehouse: Warehouse, ids: str) -> list[tuple[Any, ...]]:
    return warehouse.execute(
        f"select o.operation_id, o.sync, o.key, o.version, o.operation, cast(o.payload as varchar), cast(o.previous as varchar), "
        f"o.decision_id, o.attempts, o.in_doubt, case when o.in_doubt then o.claimed_by end from headwater.outbox o "
        f"where o.operation_id in ({ids}) order by o.operation = 'delete', o.key"
    ).fetchall()


def _operation(row: tuple[Any, ...]) -> Operation:
    # of a new row, which is most of what there is to read, nothing was confirmed before
    previous = {} if row[6] in (None, "{}") else exact.loads(row[6])
    return Operation(
        row[0], row[1], row[2], row[3], row[4], exact.loads(row[5]), previous, row[7], row[8], bool(row[9])
    )


def _batches(
    found: list[tuple[Any, ...]], batch_rows: int, batch_ids: Iterator[str]
) -> dict[str, tuple[Operation, ...]]:
    operations = [_operation(row) for row in found]
    if operations and all(row[10] is not None for row in found):
        again: dict[str, tuple[Operation, ...]] = {}
        for batch_id, rows in groupby(
            sorted(zip(found, operations, strict=True), key=lambda pair: pair[0][10]), key=lambda pair: pair[0][10]
        ):
            again |= _parts(batch_id, [operation for _, operation in rows], batch_rows)
        return again
    return {next(batch_ids): part for part in _cut(operations, batch_rows)}


def _parts(batch_id: str, operations: Sequence[Operation], batch_rows: int) -> dict[str, tuple[Operation, ...]]:
    """One batch under its id; a set, which may have more rows than a batch takes, in parts of it."""
    parts = list(_cut(operations, batch_rows))
    if len(parts) == 1:
        return {batch_id: parts[0]}
    return {f"{batch_id}-{number:04d}": part for number, part in enumerate(parts, 1)}


def _cut(operations: Sequence[Operation], batch_rows: int) -> Iterator[tuple[Operation, ...]]:
    """In calls of at most so many rows. Writes and removals never share one: they are different calls at many destinations, and what
    happens to the second must not be said of the first."""
    for removal in (False, True):
        alike = [operation for operation in operations if (operation.operation == "delete") == removal]
        for start in range(0, len(alike), batch_rows):
            yield tuple(alike[start : start + batch_rows])


def unreached(warehouse: Warehouse, operation_ids: Sequence[str]) -> str:
    """A relation, as `release` gets it, of claimed rows that certainly did not reach anybody."""
    put(warehouse, _ANSWERS, {"operation_id": "varchar"}, [(one,) for one in operation_ids])
    warehouse.execute(
        f"create or replace temp table {CLAIM}_unreached as select operation_id, key, operation, decision_id, customer_id "
        f"from headwater.outbox where operation <> 'delete' and operation_id in (select operation_id from {_ANSWERS})"
    )
    return f"{CLAIM}_unreached"


@dataclass(frozen=True)
class Answer:
    """What became of one claimed row: the last result, and how often it was tried.

    `refused`: the destination's last word was that it does not have the row, whatever came of an earlier try.
    """

    operation: Operation
    result: Result
    attempts: int
    left_ready: bool = False
    wait_seconds: float = 0.0
    refused: bool = False


def record(warehouse: Warehouse, sync: str, answers: Sequence[Answer], clock: Clock) -> None:
    """Write what the destination said; call inside a transaction.

    done: the row is confirmed. failed, and retry when the tries are used up: failed, with the destination's code and
    words. `left_ready`: it was not sent, or the destination asked for a longer wait than a run has: ready again. A row that
    was refused is no longer its batch's (`claimed_by`): that has had its answer.
    """
    if not answers:
        return
    now = naive_utc(clock.now())
    rows = [
        (
            answer.operation.operation_id,
            "done" if answer.result.status == "done" else "ready" if answer.left_ready else "failed",
            answer.result.code,
            _reason(answer.result),
            answer.attempts,
            answer.result.in_doubt and answer.result.status != "done",
            answer.wait_seconds,
            answer.result.remote_id,
            answer.refused,
        )
        for answer in answers
    ]
    columns = {
        "operation_id": "varchar",
        "state": "varchar",
        "code": "varchar",
        "reason": "varchar",
        "tries": "bigint",
        "doubt": "boolean",
        "wait_seconds": "double",
        "remote_id": "varchar",
        "refused": "boolean",
    }
    put(warehouse, _ANSWERS, columns, rows)
    warehouse.execute(
        f"update headwater.outbox set state = a.state, code = nullif(a.code, ''), reason = nullif(a.reason, ''), "
        f"attempts = attempts + a.tries, in_doubt = a.doubt, updated_at = timestamp '{now}', "
        f"claimed_by = case when not a.refused then claimed_by end, "
        f"available_at = case when a.wait_seconds > 0 then timestamp '{now}' + to_milliseconds(cast(ceil(a.wait_seconds * 1000) as bigint)) end "
        f"from {_ANSWERS} a where a.operation_id = outbox.operation_id"
    )
    warehouse.execute(
        f"create or replace temp table {_CONFIRMED} as select operation_id, key, version, operation from headwater.outbox "
        f"where operation_id in (select operation_id from {_ANSWERS} where state = 'done')"
    )
    delivered.confirm(warehouse, sync, _CONFIRMED, clock)
    if any(answer.result.remote_id for answer in answers):
        _remember_ids(warehouse, sync, now)


def _remember_ids(warehouse: Warehouse, sync: str, now: Any) -> None:
    """Write down by what id the destination knows the rows that it has just confirmed, where that is new."""
    warehouse.execute(
        f"create or replace temp table {_ANSWERS}_ids as select a.remote_id, o.key, o.customer_id from {_ANSWERS} a "
        f"join headwater.outbox o using (operation_id) where a.remote_id <> '' and a.state = 'done' and not exists ("
        f"select 1 from headwater.remote_ids r where r.remote_id = a.remote_id and r.sync = ? and r.key = o.key "
        f"and r.customer_id is not distinct from o.customer_id)",
        [sync],
    )
    warehouse.execute(
        f"delete from headwater.remote_ids where sync = ? and remote_id in (select remote_id from {_ANSWERS}_ids)",
        [sync],
    )
    warehouse.execute(
        f"insert into headwater.remote_ids select remote_id, ?, key, customer_id, ? from {_ANSWERS}_ids", [sync, now]
    )


def _reason(result: Result) -> str:
    if result.status == "done":
        return ""
    return ": ".join(part for part in (result.code, result.message) if part) or "the destination gave no reason"


def retry(warehouse: Warehouse, sync: str, where: str | None, clock: Clock) -> int:
    """Failed and held rows that meet the SQL condition wait again; returns how many.

    The condition sees the outbox's columns (`code`, `reason`, `key`, `attempts` …). The rows go out with the sync's next
    run, if the model still asks for them.
    Raises UsageError when the condition is not SQL.
    """
    condition = f"sync = ? and state in ('failed', 'held') and ({where or 'true'})"
    try:
        number = warehouse.value(f"select count(*) from headwater.outbox where {condition}", [sync])
    except Exception as error:
        raise UsageError(
            f"--where {where!r} is not a condition on the outbox: {str(error).partition(chr(10))[0]}"
        ) from error
    warehouse.execute(
        f"update headwater.outbox set state = 'ready', available_at = null, updated_at = ? where {condition}",
        [naive_utc(clock.now()), sync],
    )
    return number
