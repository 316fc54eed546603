"""A plan for the eye: a few lines, a Markdown page, a table for the terminal."""

from typing import TYPE_CHECKING, Any

from headwater.activation import exact
from headwater.activation.destinations import Operation
from headwater.activation.plan import Held, Plan, changes
from headwater.records.counted import counted

if TYPE_CHECKING:
    from rich.table import Table


def summary(plan: Plan) -> str:
    """What would happen, in a few lines."""
    counts = plan.counts
    lines = [
        f"{plan.sync} → {plan.destination}: {counts.creates:,} to create, {counts.updates:,} to update, {counts.deletes:,} to remove "
        f"({counted(plan.calls, 'call')}); {counted(counts.model_rows, 'row')} in {plan.model}, {counts.delivered_rows:,} delivered before"
    ]
    lines += [f"  quota: {plan.quota}"] if plan.quota else []
    lines += [f"  held back by {rule}: {number:,}" for rule, number in plan.held_by_rule.items()]
    lines += [f"  stops: {stop.sentence}" for stop in plan.stops]
    lines += [f"  note: {warning}" for warning in plan.warnings]
    return "\n".join(lines)


def markdown(plan: Plan, limit: int) -> str:
    """Figures first, then the first rows, then who is held back."""
    counts = plan.counts
    lines = [
        f"# Plan {plan.plan_id}",
        "",
        f"`{plan.sync}` sends `{plan.model}` to `{plan.destination}` (mode `{plan.mode}`"
        + (f", segment `{plan.segment}`)." if plan.segment else ")."),
        "",
        "| create | update | remove | held back | quarantined | calls |",
        "| ---: | ---: | ---: | ---: | ---: | ---: |",
        f"| {counts.creates} | {counts.updates} | {counts.deletes} | {counts.held} | {counts.quarantined} | {plan.calls} |",
        "",
    ]
    lines += [f"Quota: {plan.quota}\n"] if plan.quota else []
    lines += [f"**Stops:** {stop.sentence}\n" for stop in plan.stops]
    lines += [f"Note: {warning}\n" for warning in plan.warnings]
    operations = list(plan.operations(limit))
    if operations:
        lines += ["| | key | field | old | new |", "| --- | --- | --- | --- | --- |"]
        lines += [
            f"| {' | '.join(_escape(cell) for cell in row)} |" for operation in operations for row in _rows(operation)
        ]
        lines += _more(counts.planned - len(operations))
    held = list(plan.held(limit))
    if held:
        lines += ["", "## Held back", "", "| key | rule | why |", "| --- | --- | --- |"]
        lines += [f"| {_escape(one.key or '–')} | {one.rule} | {_escape(one.sentence)} |" for one in held]
        lines += _more(counts.held + counts.quarantined - sum(one.row_count for one in held))
    return "\n".join(lines) + "\n"


def table(plan: Plan, limit: int) -> "Table":
    """The first rows, old → new, for the terminal."""
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    shown = Table(title=f"{plan.sync} → {plan.destination}")
    for name in ("", "key", "field", "old", "new"):
        shown.add_column(name)
    for operation in plan.operations(limit):
        for row in _rows(operation):
            shown.add_row(*(Text(cell) for cell in row))
    for one in plan.held(limit):
        shown.add_row(*(Text(cell) for cell in _held_row(one)))
    return shown


def _rows(operation: Operation) -> list[tuple[str, str, str, str, str]]:
    changed = changes(operation)
    if not changed:
        again = "sent again: nobody answered the last time" if operation.in_doubt else ""
        return [(operation.operation, operation.key, again, "", "")]
    return [
        (
            operation.operation if number == 0 else "",
            operation.key if number == 0 else "",
            name,
            _cell(change["old"]),
            _cell(change["new"]),
        )
        for number, (name, change) in enumerate(changed.items())
    ]


def _held_row(one: Held) -> tuple[str, str, str, str, str]:
    return ("held", one.key or "–", one.rule, "", one.sentence)


def _cell(value: Any) -> str:
    if value is None:
        return "–"
    return value if isinstance(value, str) else exact.dumps(value)


def _escape(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def _more(number: int) -> list[str]:
    return ["", f"… and {number} more in the plan file."] if number > 0 else []
