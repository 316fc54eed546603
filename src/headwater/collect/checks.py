"""The three models of a mapped entity: `__checked`, `__findings` and the staging model itself."""

from collections.abc import Sequence

from headwater.collect.parts import Check, PartSql, quote
from headwater.records.entities import Entity

ROWS_PER_PART = 1 << 40
_FINDING = "struct(column_name varchar, value varchar, reason varchar, advice varchar)[]"


def source(table: str) -> str:
    """A raw table as dbt names it."""
    return source_of("raw", table)


def source_of(name: str, table: str) -> str:
    """A table of one of dbt's sources."""
    return f"{{{{ source('{name}', '{table}') }}}}"


def ref(model: str) -> str:
    return f"{{{{ ref('{model}') }}}}"


def checked(entity: Entity, parts: Sequence[PartSql]) -> str:
    """Every row of the entity's files: converted, with reasons and repairs."""
    ctes: list[str] = []
    selects: list[str] = []
    for number, part in enumerate(parts, 1):
        ctes.append(f"read_{number} as (\n    select\n{_columns(part.read_columns, 8)}\n    {part.source(source)}\n)")
        ctes.append(
            f"converted_{number} as (\n    select\n{_columns(part.converted_columns, 8)}\n    from read_{number}\n)"
        )
        columns = [
            f"_line + {ROWS_PER_PART * (number - 1)} as _row" if number > 1 else "_line as _row",
            f"{quote(part.part.table)} as _table",
            "_file",
            "_line",
            *part.entity_columns,
            f"{part.amount} as _amount",
            *(["_by"] if part.by else ["cast(null as timestamp) as _by"] if any(p.by for p in parts) else []),
            *(
                ["_content"]
                if part.key_is_position
                else ["cast(null as ubigint) as _content"]
                if any(p.key_is_position for p in parts)
                else []
            ),
            f"{_reasons(part.checks)} as _reasons",
            f"{_repairs(part.repairs)} as _repairs",
        ]
        selects.append(f"select\n{_columns(columns, 4)}\nfrom converted_{number}")
    return f"{{{{ config(materialized='view') }}}}\n\nwith {', '.join(ctes)}\n\n" + "\nunion all\n".join(selects) + "\n"


def findings(entity: Entity, parts: Sequence[PartSql]) -> str:
    """Only the rows of which something is to be said; the only place where keys are compared."""
    key = entity.key
    found = f"""{{{{ config(materialized='table') }}}}

with found as (
    select _row, _table, _file, _line, {key}, _reasons, _repairs, _amount
    from {ref(f"stg_{entity.name}__checked")}
    where len(_reasons) > 0 or len(_repairs) > 0
)"""
    if parts[0].part.collapse is None and not all(part.key_is_position for part in parts):
        repeats = _repeats(entity)
    elif parts[0].part.collapse is not None and entity.name == "orders" and "customer_id" in parts[0].part.fields:
        repeats = _several_customers(parts)
    else:
        repeats = None
    rows = f"""
select
    _row,
    _table,
    _file,
    _line,
    {key} as _key,
    case when len(_reasons) > 0 then 'quarantined' else 'kept' end as _outcome,
    _reasons,
    _repairs,
    _amount
from found"""
    if repeats is None:
        return found + "\n" + rows + "\n"
    return f"""{found},

{repeats}
{rows}
where _row not in (select _row from repeats)
union all
select _row, _table, _file, _line, _key, _outcome, _reasons, _repairs, _amount
from repeats
"""


def _repeats(entity: Entity) -> str:
    """Rows whose key a good row before them has: an exact repeat is collapsed, another content is quarantined."""
    key = entity.key
    content = ", ".join(column for column in entity.columns if column != key)
    checked_model = ref(f"stg_{entity.name}__checked")
    sentence = f"{key} stands in more than one row, and this row says something else than the first"
    advice = f"make the key tell them apart in mapping.yml ({entity.name}.{key}), or write `collapse: last` there, or mend the file"
    return f"""repeated_keys as (
    select hash({key}) as key_hash
    from {checked_model}
    group by hash({key})
    having count(*) > 1
),

same_key as (
    select _row, _table, _file, _line, {key}, _repairs, _amount, hash({content}) as content
    from {checked_model}
    where hash({key}) in (select key_hash from repeated_keys) and len(_reasons) = 0
),

ranked as (
    select
        *,
        row_number() over same as nth,
        first_value(content) over same as first_content,
        first_value(_file || ' line ' || _line) over same as first_place
    from same_key
    window same as (partition by {key} order by _row)
),

repeats as (
    select
        _row,
        _table,
        _file,
        _line,
        {key} as _key,
        case when content = first_content then 'collapsed' else 'quarantined' end as _outcome,
        case
            when content = first_content then cast([] as {_FINDING})
            else [struct_pack(
                column_name := {quote(key)}, value := left({key}, 200),
                reason := {quote(sentence)},
                advice := {quote(advice + ". The first stands in ")} || first_place
            )]
        end as _reasons,
        _repairs,
        _amount
    from ranked
    where nth > 1
)"""


def _several_customers(parts: Sequence[PartSql]) -> str:
    """Rows of an order that name another customer than its first row."""
    checked_model = ref("stg_orders__checked")
    pick = "arg_min" if parts[0].part.collapse == "first" else "arg_max"
    sentence = "the order has several customers, and this row names another one than the order keeps"
    advice = (
        "make the customer part of the key in mapping.yml, like `order_id: a || '-' || b`, in orders and order_lines"
    )
    return f"""several_customers as (
    select order_id, {pick}(customer_id, {order_of(parts)}) as kept_customer_id
    from {checked_model}
    where len(_reasons) = 0
    group by order_id
    having min(customer_id) <> max(customer_id)
),

repeats as (
    select
        _row,
        _table,
        _file,
        _line,
        checked.order_id as _key,
        'quarantined' as _outcome,
        [struct_pack(
            column_name := 'customer_id', value := left(checked.customer_id, 200), reason := {quote(sentence)},
            advice := {quote(advice)}
        )] as _reasons,
        _repairs,
        _amount
    from {checked_model} as checked
    inner join several_customers on checked.order_id = several_customers.order_id
    where len(_reasons) = 0 and checked.customer_id <> kept_customer_id
)"""


def order_of(parts: Sequence[PartSql]) -> str:
    """The order of rows within a collapsed key: the moment `by` if there is one, then the place in the file."""
    keys = ["coalesce(_by, timestamp '1000-01-01')"] if any(part.by for part in parts) else []
    return f"row({', '.join([*keys, '_row'])})" if keys else "_row"


def staged(entity: Entity, parts: Sequence[PartSql]) -> str:
    """The staging model: good rows only; one row per key where the mapping collapses."""
    name, key = entity.name, entity.key
    good = f"""from {ref(f"stg_{name}__checked")}
where _row not in (
    select _row from {ref(f"stg_{name}__findings")} where _outcome <> 'kept'
)"""
    head = "{{ config(materialized='view') }}\n\n"
    if parts[0].part.collapse is None:
        return f"{head}select\n{_columns(entity.columns, 4)}\n{good}\n"
    pick = "arg_min" if parts[0].part.collapse == "first" else "arg_max"
    order = order_of(parts)
    mapped = {field.name for part in parts for field in part.fields}
    columns = [
        column if column == key or column not in mapped else f"{pick}({column}, {order}) as {column}"
        for column in entity.columns
    ]
    columns = [
        column if column.split(" ")[0] == key or " as " in column else f"any_value({column}) as {column}"
        for column in columns
    ]
    return f"{head}select\n{_columns(columns, 4)}\n{good}\ngroup by {key}\n"


def _reasons(checks: Sequence[Check]) -> str:
    if not checks:
        return f"cast([] as {_FINDING})"
    return _when_any(
        [check.condition for check in checks], [check.finding for check in checks], f"cast([] as {_FINDING})"
    )


def _repairs(repairs: Sequence[tuple[str, str]]) -> str:
    if not repairs:
        return "cast([] as varchar[])"
    return _when_any(
        [condition for condition, _ in repairs],
        [f"case when {condition} then {quote(text)} end" for condition, text in repairs],
        "cast([] as varchar[])",
    )


def _when_any(conditions: Sequence[str], values: Sequence[str], otherwise: str) -> str:
    """The list of the values that are there, built only for rows where one of the conditions holds."""
    anything = "\n            or ".join(f"({condition})" for condition in conditions)
    listed = ",\n            ".join(values)
    return (
        f"case\n        when {anything}\n        then list_filter([\n            {listed}\n        ], lambda x: x is not null)\n"
        f"        else {otherwise}\n    end"
    )


def _columns(columns: Sequence[str], indent: int) -> str:
    return ",\n".join(" " * indent + column for column in columns)
