"""What became of every row: `quarantined_rows`, `row_counts` and the test that nothing is lost."""

from collections.abc import Mapping as Dictionary
from collections.abc import Sequence
from typing import Any

from headwater.collect import landed, vocabulary
from headwater.collect.checks import ref, source
from headwater.collect.parts import LOADS, PartSql, quote

_NO_AMOUNT = "cast(null as decimal(18, 4))"
_LINE_VALUE = "quantity * unit_price - coalesce(discount_amount, 0)"
_MONEY = {
    "order_lines": ("quantity", "unit_price", "discount_amount"),
    "orders": ("amount",),
    "ad_spend": ("amount",),
}
"""Columns that make up the money of a row, of the entities that have any."""
_TABLE = "{{ config(materialized='table') }}\n\n"

PLACES = ("kept", "orphaned", "quarantined", "collapsed", "excluded", "unreadable")
"""Outcomes of which every row that was read has exactly one; what has another outcome is among the kept ones."""

Parts = Dictionary[str, Sequence[PartSql]]


def quarantined_rows(parts: Parts) -> str:
    """One row per bad row and reason."""
    if not parts:
        columns = ("entity varchar", "file varchar", "line bigint", "column_name varchar", "value varchar", "reason varchar", "advice varchar")  # fmt: skip
        nulls = ",\n".join(f"    cast(null as {kind}) as {column}" for column, kind in (c.split() for c in columns))
        return f"{_TABLE}select\n{nulls}\nwhere false\n"
    selects = [
        f"""select
    {quote(entity)} as entity,
    _file as file,
    _line as line,
    reason.column_name,
    reason.value,
    reason.reason,
    reason.advice
from (
    select _file, _line, unnest(_reasons) as reason
    from {ref(f"stg_{entity}__findings")}
    where _outcome = 'quarantined'
) as found"""
        for entity in parts
    ]
    return _TABLE + "\nunion all\n".join(selects) + "\n"


def row_counts(parts: Parts) -> str:
    """One row per entity, outcome and reason."""
    selects = [
        select for entity, entity_parts in parts.items() for select in _entity_counts(entity, entity_parts, parts)
    ]
    if not selects:
        selects = [_count("''", "''", "''", "0", _NO_AMOUNT, "")]
    counted = "\n    union all\n    ".join(selects)
    lines = f"{_lines_with_orders()},\n\n" if "order_lines" in parts else ""
    return f"""{_TABLE}with {lines}counted as (
    {counted}
)

select
    entity,
    outcome,
    reason,
    cast(sum(row_count) as bigint) as row_count,
    cast(sum(amount) as decimal(18, 4)) as amount
from counted
where row_count > 0 or outcome in ('read', 'kept')
group by entity, outcome, reason
"""


def sentences(rows: Sequence[Dictionary[str, Any]]) -> list[str]:
    """What the screen says of rows of `row_counts`: one sentence for all that was not simply read and kept (of lines that
    cannot be read the load itself has spoken)."""
    order = (
        "orphaned", "quarantined", "excluded", "ended", "collapsed", "netted", "unattributed", "duplicate", "repaired"
    )  # fmt: skip
    said = []
    for row in sorted(
        rows, key=lambda r: (order.index(r["outcome"]) if r["outcome"] in order else -1, r["entity"], r["reason"])
    ):
        if row["outcome"] in order:
            money = f" ({row['amount']:,.2f})" if row["amount"] is not None else ""
            said.append(f"{row['entity']}: {row['row_count']:,} {row['outcome']}{money}: {row['reason']}")
    return said


def conserved() -> str:
    """Fails for every entity of which rows or money were lost, or counted twice."""
    placed = ", ".join(quote(outcome) for outcome in PLACES)
    return f"""with totals as (
    select
        entity,
        coalesce(sum(row_count) filter (outcome = 'read'), 0) as read_rows,
        coalesce(sum(row_count) filter (outcome in ({placed})), 0) as placed_rows,
        coalesce(sum(amount) filter (outcome = 'read'), 0) as read_amount,
        coalesce(sum(amount) filter (outcome in ({placed})), 0) as placed_amount
    from {ref("row_counts")}
    group by entity
)

select entity, read_rows, placed_rows, read_amount, placed_amount
from totals
where read_rows <> placed_rows or read_amount <> placed_amount
"""


def _count(entity: str, outcome: str, reason: str, rows: str, amount: str, rest: str) -> str:
    return (
        f"select {entity} as entity, {outcome} as outcome, {reason} as reason, {rows} as row_count, "
        f"cast({amount} as decimal(18, 4)) as amount {rest}"
    ).rstrip()


def _entity_counts(entity: str, parts: Sequence[PartSql], everything: Parts) -> list[str]:
    quoted, key = quote(entity), parts[0].entity.key
    checked, found, staged = (
        ref(f"stg_{entity}__checked"),
        ref(f"stg_{entity}__findings"),
        ref(landed.file_model(entity)),
    )
    collapse = parts[0].part.collapse is not None
    is_line = entity == "order_lines"
    money = entity in ("order_lines", "orders", "ad_spend")
    said = []
    for part in parts:
        table = quote(part.part.table)
        said.append(_count(quoted, "'read'", "''", "count(*)", _NO_AMOUNT, f"from {source(part.part.table)} as r"))
        rejected = f"from {LOADS} where raw_table = {table} having sum(rejected_rows) > 0"
        unread = "'no row can be read from the line; headwater.file_rejects has it, with why'"
        said.append(_count(quoted, "'read'", "''", "sum(rejected_rows)", _NO_AMOUNT, rejected))
        said.append(_count(quoted, "'unreadable'", unread, "sum(rejected_rows)", _NO_AMOUNT, rejected))
    if money:
        said.append(_count(quoted, "'read'", "''", "0", "sum(_amount)", f"from {checked}"))
    if is_line:
        said.append(_count(quoted, "'kept'", "''", "count(*)", "sum(amount)", "from lines where has_order"))
        said.append(_orphaned(everything.get("orders", ())))
    else:
        said.append(
            _count(quoted, "'kept'", "''", "count(*)", "sum(amount)" if money else _NO_AMOUNT, f"from {staged}")
        )
    for part in (part for part in parts if part.part.where):
        left_out = f"from ({part.left_out(source, _MONEY.get(entity, ()))}) as left_out"
        reason = "'left out by `where` in the mapping'"
        said.append(_count(quoted, "'excluded'", reason, "count(*)", f"sum({part.amount})", left_out))
        if money:
            said.append(_count(quoted, "'read'", "''", "0", f"sum({part.amount})", left_out))
    said.append(
        _count(
            quoted,
            "'quarantined'",
            "reason",
            "count(*)",
            "sum(_amount)",
            f"from (select _amount, _reasons[1].reason as reason from {found} where _outcome = 'quarantined') as bad group by reason",
        )
    )
    if collapse:
        good = f"{checked} where _row not in (select _row from {found} where _outcome <> 'kept')"
        said.append(
            _count(
                quoted,
                "'collapsed'",
                "'one row made out of several of the file'",
                f"count(*) - count(distinct {key})",
                f"sum(_amount) - (select sum(amount) from {'lines' if is_line else staged})" if money else _NO_AMOUNT,
                f"from {good}",
            )
        )
    else:
        said.append(
            _count(
                quoted,
                "'collapsed'",
                "'exact repeat of a row with the same key'",
                "count(*)",
                "sum(_amount)",
                f"from {found} where _outcome = 'collapsed'",
            )
        )
    said.append(
        _count(
            quoted,
            "'repaired'",
            "repair",
            "count(*)",
            _NO_AMOUNT,
            f"from (select unnest(_repairs) as repair from {found} where _outcome <> 'quarantined') as mended group by repair",
        )
    )
    tables = ", ".join(quote(part.part.table) for part in parts)
    said.append(
        _count(
            quoted,
            "'repaired'",
            "'lines read as latin-1, for they are no UTF-8'",
            "sum(repaired_rows)",
            _NO_AMOUNT,
            f"from {LOADS} where raw_table in ({tables}) having sum(repaired_rows) > 0",
        )
    )
    if is_line:
        said.append(
            _count(
                quoted,
                "'netted'",
                "'given back or cancelled: the quantity is negative'",
                "count(*)",
                "sum(amount)",
                "from lines where has_order and quantity < 0",
            )
        )
        if any(part.key_is_position for part in parts):
            said.append(
                _count(
                    quoted,
                    "'duplicate'",
                    "'equal to an earlier line in every column; kept, for nothing tells a repeat from a second unit'",
                    "sum(copies)",
                    "sum(amount)",
                    f"from (select count(*) - 1 as copies, any_value(_amount) * (count(*) - 1) as amount from {checked} "
                    "where _content is not null and len(_reasons) = 0 and order_id in (select order_id from lines where has_order) "
                    "group by _table, _content having count(*) > 1) as same",
                )
            )
        said.append(
            _count(
                quoted,
                "'unattributed'",
                "'of an order without a customer; in the revenue, in no customer'",
                "count(*)",
                "sum(amount)",
                "from lines where has_order and customer_id is null",
            )
        )
    if entity == "orders":
        said.append(
            _count(
                quoted,
                "'unattributed'",
                "'without a customer; by the amounts of the orders, while revenue counts their lines'"
                if "order_lines" in everything
                else "'without a customer; in the revenue, in no customer'",
                "count(*)",
                "sum(amount)",
                f"from {staged} where customer_id is null",
            )
        )
        said.append(_ended(quoted, staged, "order_lines" in everything))
    return said


def _lines_with_orders() -> str:
    """The lines of the staging model with what is known of their order."""
    return f"""lines as materialized (
    select
        lines.order_id,
        lines.quantity,
        {_LINE_VALUE} as amount,
        orders.order_id is not null as has_order,
        orders.customer_id
    from {ref("stg_order_lines")} as lines
    left join {ref("stg_orders")} as orders
        on lines.order_id = orders.order_id
)"""


def _orphaned(orders: Sequence[PartSql]) -> str:
    """Lines whose order is not there: no order brings their money into the revenue. Where the mapping leaves the order out, it
    leaves out its lines."""
    left_out = [part.left_out(source, ("order_id",)) for part in orders if part.part.where]
    cases = []
    if orders:
        bad = f"select _key from {ref('stg_orders__findings')} where _outcome = 'quarantined'"
        cases.append(
            (
                f"order_id in ({bad})",
                "orphaned",
                "of an order that is quarantined, so not in the revenue; mend the order",
            )
        )
    if left_out:
        aside = " union all ".join(f"select order_id from ({query}) as left_out" for query in left_out)
        cases.append((f"order_id in ({aside})", "excluded", "of an order that is left out by `where` in the mapping"))
    rest = "of an order that stands in no row that can be read" if orders else "no file is mapped to orders"
    outcome, reason = (
        f"case {' '.join(f'when {case[0]} then {quote(case[place])}' for case in cases)} else {quote(otherwise)} end"
        if cases
        else quote(otherwise)
        for place, otherwise in ((1, "orphaned"), (2, f"{rest}, so not in the revenue"))
    )
    lines = f"from (select amount, {outcome} as outcome, {reason} as reason from lines where not has_order) as orphans"
    return _count("'order_lines'", "outcome", "reason", "count(*)", "sum(amount)", f"{lines} group by outcome, reason")


def _ended(entity: str, orders: str, has_lines: bool) -> str:
    """Orders that bring revenue though their status says that nothing came of them. What lines net to a rest of less than a
    hundredth (of a discount, of rounding) brings none."""
    ended = f"select order_id, status, amount, 0 as gross from {orders} where {vocabulary.ended_sql('status')}"
    if has_lines:
        ended = (
            f"select ended.status, sum({_LINE_VALUE}) as amount, sum(abs({_LINE_VALUE})) as gross from {ref('stg_order_lines')} as lines "
            f"inner join ({ended}) as ended on lines.order_id = ended.order_id group by ended.order_id, ended.status"
        )
    reason = (
        "'the status is ' || status || ', and the revenue counts all the same; `where` under orders in mapping.yml leaves such "
        "orders out'"
    )
    rest = f"from ({ended}) as ended where amount > gross / 100 group by status"
    return _count(entity, "'ended'", reason, "count(*)", "sum(amount)", rest)
