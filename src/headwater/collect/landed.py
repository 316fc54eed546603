"""What the collector accepted, as rows of staging models: `stg_events` and `stg_customers` hold it beside the shop's files.

For these two entities the mapping's rows stand in `stg_<entity>__files` (empty when the shop has no such file), and
`stg_<entity>` joins to them what was landed in `collected.events` and `collected.identifies`. The counts of rows are of the
files: what was landed is accounted for by the engine.

`event_id` is unique over files and collector alike only if no event comes both ways; dbt's test on `stg_events` says so.
"""

from headwater.collect.checks import ref, source_of
from headwater.records.entities import Entity

LANDED = ("events", "customers")
_TOLD = (
    "email",
    "phone",
    "first_name",
    "last_name",
    "company",
    "gender",
    "city",
    "state",
    "country",
    "postal_code",
    "time_zone",
    "nps_score",
    "email_opt_in",
    "sms_opt_in",
    "created_at",
)
"""Columns of a customer that an identify call may fill; the newest that is not null holds."""

_VIEW = "{{ config(materialized='view') }}\n\n"


def file_model(entity: str) -> str:
    """The model that holds an entity's rows of the files."""
    return f"stg_{entity}__files" if entity in LANDED else f"stg_{entity}"


def staged(entity: Entity) -> str:
    """`stg_events` or `stg_customers`: the files' rows and the landed ones."""
    return _events(entity) if entity.name == "events" else _customers(entity)


def _events(entity: Entity) -> str:
    columns = ",\n".join(f"    {column}" for column in entity.columns)
    return (
        f"{_VIEW}select\n{columns}\nfrom {ref(file_model(entity.name))}\nunion all\n"
        f"select\n{columns}\nfrom {source_of('collected', 'events')}\n"
    )


def _customers(entity: Entity) -> str:
    newest = ",\n".join(
        f"        arg_max({column}, row(occurred_at, event_id)) filter (where {column} is not null) as {column}"
        for column in _TOLD
    )
    shown = []
    for field in entity.fields:
        if field.name == entity.key:
            shown.append(f"    known.{field.name}")
        elif field.name in _TOLD:
            shown.append(f"    coalesce(files.{field.name}, told.{field.name}) as {field.name}")
        elif field.name == "updated_at":
            shown.append("    greatest(files.updated_at, told.updated_at) as updated_at")
        else:
            shown.append(f"    files.{field.name}")
    columns = ",\n".join(shown)
    return f"""{_VIEW}with told as (
    select
        customer_id,
{newest},
        max(occurred_at) as updated_at
    from {source_of("collected", "identifies")}
    where customer_id is not null
    group by customer_id
),

known as (
    select customer_id from {ref(file_model(entity.name))}
    union
    select customer_id from told
)

select
{columns}
from known
left join {ref(file_model(entity.name))} as files
    on known.customer_id = files.customer_id
left join told
    on known.customer_id = told.customer_id
"""


def newest_moment() -> str:
    """SQL of one moment: the newest thing that the collector landed; null when it landed nothing."""
    landed = " union all ".join(
        f"select max(received_at) as moment from collected.{table}" for table in ("events", "identifies")
    )
    return f"(select max(moment) from ({landed}) as landed)"
