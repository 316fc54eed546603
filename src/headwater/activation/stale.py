"""Whether a reviewed plan still says what would be done now."""

from dataclasses import replace

from headwater.activation import delivered, exact
from headwater.activation.destinations import Operation
from headwater.activation.plan import Plan, Relation
from headwater.errors import Refused
from headwater.records.counted import counted
from headwater.warehouse import Warehouse

_SHOWN = 5


def agree(warehouse: Warehouse, reviewed: Plan, now: Plan) -> Plan:
    """What is left of the reviewed plan, under its own id. Raises Refused, with what changed, when it is not what was reviewed.

    Operations of the reviewed plan that are confirmed already (an earlier run of this plan was interrupted) are agreed.
    Who was held back at review stays held back, whoever is allowed by now; who may no longer be contacted is found out at
    send and refuses nothing.
    """
    if reviewed.sync != now.sync:
        raise Refused(f"the plan {reviewed.plan_id} is for the sync {reviewed.sync!r}, not for {now.sync!r}")
    if reviewed.digest == now.digest:
        return _held_as_reviewed(reviewed, now)
    if reviewed.settings_digest != now.settings_digest:
        raise Refused(
            f"the plan {reviewed.plan_id} is stale: the settings of {now.sync!r} or of its destination changed since it was made. Run `headwater plan {now.sync}` again"
        )
    before, after = _all(reviewed), _all(now)
    missing = [operation for operation_id, operation in before.items() if operation_id not in after]
    confirmed = _confirmed(warehouse, now.sync, missing)
    gone = {row.key: row for row in missing if row.operation_id not in confirmed}
    come = {row.key: row for operation_id, row in after.items() if operation_id not in before}
    if not gone and not come:
        return _held_as_reviewed(reviewed, replace(now, plan_id=reviewed.plan_id, digest=reviewed.digest))
    lines = [_difference(key, gone.get(key), come.get(key)) for key in sorted({*gone, *come})]
    more = [f"  … and {len(lines) - _SHOWN} more"] if len(lines) > _SHOWN else []
    raise Refused(
        "\n".join(
            [
                f"the plan {reviewed.plan_id} is stale; {counted(len(lines), 'row is', 'rows are')} not what was reviewed; nothing was sent:",
                *lines[:_SHOWN],
                *more,
                f"Run `headwater plan {now.sync}` again and review it",
            ]
        )
    )


def _held_as_reviewed(reviewed: Plan, now: Plan) -> Plan:
    if not isinstance(now.rows, Relation):
        return now
    held = now.rows.hold_as_reviewed(reviewed.held())
    counts = replace(
        now.counts,
        creates=now.counts.creates - held.get("create", 0),
        updates=now.counts.updates - held.get("update", 0),
        deletes=now.counts.deletes - held.get("delete", 0),
        held=now.counts.held + sum(held.values()),
    )
    return replace(now, counts=counts)


def _all(plan: Plan) -> dict[str, Operation]:
    rows = [*plan.operations(), *(held.operation for held in plan.held() if held.operation is not None)]
    return {row.operation_id: row for row in rows}


def _confirmed(warehouse: Warehouse, sync: str, rows: list[Operation]) -> set[str]:
    """Ids of the operations that the destination has confirmed: the key's confirmed version is theirs, or a removal is done."""
    removed = warehouse.execute(
        "select operation_id from headwater.outbox where sync = ? and state = 'done' and operation_id in (select unnest(?))",
        [sync, [row.operation_id for row in rows]],
    ).fetchall()
    ids = {row[0] for row in removed}
    if delivered.exists(warehouse, sync):
        versions = warehouse.execute(
            f"select _headwater_key, _headwater_version from {delivered.table(sync)} where _headwater_key in (select unnest(?))",
            [[row.key for row in rows]],
        ).fetchall()
        held = dict(versions)
        ids |= {row.operation_id for row in rows if row.operation != "delete" and held.get(row.key) == row.version}
    return ids


def _difference(key: str, before: Operation | None, after: Operation | None) -> str:
    if before is None and after is not None:
        return f"  {key}: {after.operation}, which the plan does not have"
    if after is None and before is not None:
        return f"  {key}: {before.operation} is no longer needed"
    assert before is not None and after is not None
    if before.operation != after.operation:
        return f"  {key}: {before.operation} is now {after.operation}"
    fields = [name for name in {**before.fields, **after.fields} if before.fields.get(name) != after.fields.get(name)]
    changed = ", ".join(
        f"{name} {exact.dumps(before.fields.get(name))} → {exact.dumps(after.fields.get(name))}" for name in fields
    )
    return f"  {key}: {changed or 'an operation of the key was sent in between'}"
