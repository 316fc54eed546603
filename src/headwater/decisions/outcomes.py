"""What customers did: rows of a file taken in, and everything that the warehouse can see for itself, as one relation.

    from a file          `headwater outcomes import`: into `headwater.outcomes`; a row that cannot be used goes into
                         `headwater.outcome_rejects` with all its reasons, so read = new + known + rejected
    from the shop        orders (`fct_orders`), visits and tracked events (`fct_events`), campaign responses

Nothing here says which decision an outcome belongs to; attribution.py does. Taking the same file in twice adds nothing: a row
is known by its `outcome_id`, or where it has none by all that it says. An unsubscribe or a complaint is a word on consent as
well, from the moment at which it happened.
"""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import get_args

from headwater.clock import Clock, naive_utc
from headwater.decisions.channels import CHANNELS
from headwater.decisions.hashing import digest_sql, text_sql
from headwater.decisions.settings import DecisionSettings, OutcomeKind
from headwater.errors import DataError
from headwater.records.counted import counted
from headwater.warehouse import Warehouse, csv_lines

KINDS: tuple[str, ...] = get_args(OutcomeKind)
REFUSALS = ("unsubscribe", "complaint")
"""Outcomes by which a person says no: to the channel that is named, a complaint to all of them."""

COLUMNS = ("outcome_id", "customer_id", "decision_id", "kind", "value", "occurred_at", "campaign", "channel")
NEEDED = ("kind", "occurred_at")
_BATCH = 20_000
_UNNESTED = "select unnest(cast(? as json)::varchar[][]) as r"


@dataclass(frozen=True)
class Imported:
    """What became of a file: `read` = `new` + `known` + `rejected`. `consents`: words on consent that it brought."""

    file: str
    read: int
    new: int
    known: int
    rejected: int
    consents: int
    reasons: dict[str, int]
    warnings: tuple[str, ...] = ()

    @property
    def message(self) -> str:
        """One sentence for the screen."""
        said = f"{self.file}: {counted(self.read, 'row')} read, {self.new:,} new, {self.known:,} known, {self.rejected:,} rejected"
        return said + (f"; {counted(self.consents, 'person has', 'people have')} said no" if self.consents else "")


def take_in(warehouse: Warehouse, path: Path, settings: DecisionSettings, clock: Clock) -> Imported:
    """Take in a CSV or Parquet file of outcomes, all of it in one transaction.

    Columns: kind, occurred_at, and customer_id or decision_id; outcome_id, value, campaign, channel where there are any; others
    are left and named. A moment without a zone is UTC. Raises DataError when the file cannot be read or lacks a column.
    """
    moment = naive_utc(clock.now())
    import_id = _file_id(path)
    warnings = _stage(warehouse, path)
    _judge(warehouse, settings, moment)
    count = dict(warehouse.execute("select verdict, count(*) from outcome_judged group by 1").fetchall())
    stamp = f"timestamp '{moment.isoformat(sep=' ')}'"
    with warehouse.transaction():
        warehouse.execute(
            f"""insert into headwater.outcomes select outcome_id, customer_id, kind, value, occurred_at, decision_id,
                    campaign, channel, ?, {stamp} from outcome_judged where verdict = 'new'""",
            [import_id],
        )
        warehouse.execute(
            "delete from headwater.outcome_rejects where import_id = ?", [import_id]
        )  # the same file again has the same rejects
        warehouse.execute(
            f"""insert into headwater.outcome_rejects select ?, ?, line, customer_id, row_text, to_json(reasons), {stamp}
                from outcome_judged where verdict = 'rejected'""",
            [import_id, path.name],
        )
        consents = _refusals(warehouse, "(select * from outcome_judged where verdict = 'new')", moment)
        warehouse.execute(
            f"insert into headwater.outcome_imports select ?, ?, ?, ?, ?, ?, ?, {stamp}",
            [
                import_id,
                path.name,
                sum(count.values()),
                *(count.get(v, 0) for v in ("new", "known", "rejected")),
                consents,
            ],
        )
    reasons = dict(
        warehouse.execute(
            "select reason, count(*) from (select unnest(reasons) as reason from outcome_judged where verdict = 'rejected')"
            " group by 1 order by 2 desc, 1"
        ).fetchall()
    )
    if rejected := count.get("rejected", 0):
        warnings.append(f"{counted(rejected, 'row')} could not be used; see headwater.outcome_rejects")
        warnings += [f"{number:,} x {reason}" for reason, number in islice(reasons.items(), 5)]
    return Imported(
        path.name,
        sum(count.values()),
        count.get("new", 0),
        count.get("known", 0),
        rejected,
        consents,
        reasons,
        tuple(warnings),
    )


def observed(warehouse: Warehouse, settings: DecisionSettings) -> str:
    """A select of everything known: outcome_id, kind, customer_id, value, occurred_at, decision_id, campaign.

    An order that a file handed in under the shop's own order id is the shop's order and counts once.
    """
    parts = ["select outcome_id, kind, customer_id, value, occurred_at, decision_id, campaign from headwater.outcomes"]
    if warehouse.exists("main.fct_orders"):
        parts[0] += " where not (kind = 'order' and outcome_id in (select order_id::varchar from main.fct_orders))"
        parts.append(
            """select 'order:' || order_id, 'order', customer_id, revenue, ordered_at, null, null from main.fct_orders
               where customer_id is not null and (is_purchase or revenue < 0)"""
        )
    if warehouse.exists("main.fct_events"):
        parts.append(
            """select 'visit:' || session_id, 'visit', customer_id, 1, min(occurred_at), null, null from main.fct_events
               where customer_id is not null group by session_id, customer_id"""
        )
        parts.append(_events(settings))
    if warehouse.exists("main.stg_campaign_responses"):
        parts += [
            f"""select '{kind}:' || campaign_response_id, '{kind}', customer_id, 1, {column}, null, campaign_id::varchar
                from main.stg_campaign_responses where {column} is not null and customer_id is not null"""
            for kind, column in (("open", "opened_at"), ("click", "clicked_at"), ("unsubscribe", "unsubscribed_at"))
        ]
    return " union all ".join(parts)


def note_refusals(warehouse: Warehouse, settings: DecisionSettings, clock: Clock) -> int:
    """Write the unsubscribes and complaints among the tracked events into `consent_state`; how many were new."""
    if not warehouse.exists("main.fct_events"):
        return 0
    rows = f"(select *, null as channel from ({_events(settings)}) as e(outcome_id, kind, customer_id, value, occurred_at, decision_id, campaign))"
    return _refusals(warehouse, rows, naive_utc(clock.now()))


def _events(settings: DecisionSettings) -> str:
    names = " ".join(f"when {text_sql(name)} then {text_sql(kind)}" for name, kind in sorted(settings.events.items()))
    kind = f"case event_name {names} end" if names else "null"
    return f"""select 'event:' || event_id, {kind}, customer_id, 1, occurred_at, null, null from main.fct_events
        where customer_id is not null and {kind} is not null"""


def _refusals(warehouse: Warehouse, rows: str, moment: datetime) -> int:
    """Append to `consent_state` what the refusals among `rows` say; a word that stands there already is left. The channel is
    the one that is named, else that of the decision, else all."""
    channels = ", ".join(text_sql(name) for name in CHANNELS)
    said = f"""select distinct o.customer_id,
            case when o.kind = 'complaint' then 'all' when o.channel in ({channels}) then o.channel
                else coalesce(d.channel, 'all') end as channel,
            o.kind as source, o.occurred_at as recorded_at
        from {rows} o left join headwater.decision_log d on d.decision_id = o.decision_id
        where o.kind in ({", ".join(text_sql(kind) for kind in REFUSALS)})
            and o.occurred_at <= timestamp '{moment.isoformat(sep=" ")}'"""
    new = f"""select s.customer_id, s.channel, false, s.source, s.recorded_at from ({said}) s
        anti join headwater.consent_state c on c.customer_id = s.customer_id and c.channel = s.channel
            and not c.consented and c.recorded_at = s.recorded_at"""
    count = warehouse.value(f"select count(*) from ({new})")
    if count:
        warehouse.execute(
            f"insert into headwater.consent_state (customer_id, channel, consented, source, recorded_at) {new}"
        )
    return int(count)


def _file_id(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()[:16]
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}. Give a CSV or Parquet file of outcomes") from error


def _stage(warehouse: Warehouse, path: Path) -> list[str]:
    """Fill `outcome_staged`: line, the columns as text, the row as text, and what is wrong with the line itself."""
    columns = ", ".join(f"{name} varchar" for name in COLUMNS)
    warehouse.execute(
        f"create or replace temp table outcome_staged (line bigint, {columns}, row_text varchar, broken varchar)"
    )
    with path.open("rb") as file:
        is_parquet = file.read(4) == b"PAR1"
    if is_parquet:
        return _stage_parquet(warehouse, path)
    form = csv_lines.shape(path)
    _check_header(path, form.header)
    place = {name: form.header.index(name) for name in COLUMNS if name in form.header}
    for part in _parts(csv_lines.records(path, form)):
        given = [
            [str(one.line), *(one.values[place[name]] if name in place else None for name in COLUMNS),
             form.delimiter.join(value or "" for value in one.values), None]
            if isinstance(one, csv_lines.Row)
            else [str(one.line), *(None for _ in COLUMNS), one.value, f"{one.reason}; {one.advice}"]
            for one in part
        ]  # fmt: skip
        cells = ", ".join(f"r[{i}]" for i in range(2, len(COLUMNS) + 4))
        warehouse.execute(
            f"insert into outcome_staged select r[1]::bigint, {cells} from ({_UNNESTED})", [json.dumps(given)]
        )
    return [*form.warnings, *_left(form.header)]


def _stage_parquet(warehouse: Warehouse, path: Path) -> list[str]:
    try:
        scan = f"read_parquet({text_sql(str(path))}, file_row_number = true)"
        header = [row[0] for row in warehouse.execute(f"describe select * from {scan}").fetchall()]
    except Exception as error:
        raise DataError(f"{path.name} is no Parquet file that can be read: {str(error).splitlines()[0]}") from error
    header.remove("file_row_number")
    _check_header(path, header)
    picked = ", ".join(f'"{name}"::varchar' if name in header else "null" for name in COLUMNS)
    whole = ", ".join(f"coalesce(\"{name}\"::varchar, '')" for name in header)
    warehouse.execute(
        f"insert into outcome_staged select file_row_number + 1, {picked}, concat_ws(',', {whole}), null from {scan}"
    )
    return _left(header)


def _parts(rows: Iterator[csv_lines.Row | csv_lines.Reject]) -> Iterator[list[csv_lines.Row | csv_lines.Reject]]:
    while part := list(islice(rows, _BATCH)):
        yield part


def _check_header(path: Path, header: tuple[str, ...] | list[str]) -> None:
    missing = [name for name in NEEDED if name not in header]
    if "customer_id" not in header and "decision_id" not in header:
        missing.append("customer_id (or decision_id)")
    if missing:
        raise DataError(
            f"{path.name} lacks {', '.join(missing)}; it has {', '.join(header) or 'no columns'}. "
            f"A file of outcomes may have the columns {', '.join(COLUMNS)}"
        )


def _left(header: tuple[str, ...] | list[str]) -> list[str]:
    others = [name for name in header if name not in COLUMNS]
    return [f"columns that mean nothing here were left: {', '.join(others)}"] if others else []


def _judge(warehouse: Warehouse, settings: DecisionSettings, moment: datetime) -> None:
    """Fill `outcome_judged`: every staged row with its values typed, all reasons against it, and a verdict."""
    names = settings.events | {kind: kind for kind in KINDS}
    kinds = " ".join(f"when {text_sql(name)} then {text_sql(kind)}" for name, kind in names.items())
    now = f"timestamp '{moment.isoformat(sep=' ')}'"
    reasons = {
        "broken is not null": "broken",
        "broken is null and kind is null": f"'kind is none of {', '.join(KINDS)}, and no event that decisions.events names'",
        "broken is null and given_at is null": "'occurred_at is empty'",
        "given_at is not null and occurred_at is null": "'occurred_at is no moment like 2026-01-31T12:00:00Z'",
        f"occurred_at > {now}": "'occurred_at lies in the future'",
        "given_value is not null and value is null": "'value is no number, or has more digits than decimal(18,4) holds'",
        "broken is null and customer_id is null and decision_id is null": "'neither customer_id nor decision_id says who it was'",
        "decision_id is not null and owner is null": "'decision_id is in no row of headwater.decision_log'",
        "owner <> given_customer": "'customer_id is not the customer of decision_id'",
    }
    listed = ", ".join(f"case when {wrong} then {reason} end" for wrong, reason in reasons.items())
    ours = digest_sql(
        "'outcome'", "customer_id", "kind", "occurred_at::varchar", "coalesce(value::varchar, '')",
        "coalesce(decision_id, '')", "coalesce(campaign, '')", "coalesce(channel, '')",
    )  # fmt: skip
    warehouse.execute(
        f"""create or replace temp table outcome_judged as
        with typed as (
            select s.line, s.row_text, s.broken, nullif(trim(s.outcome_id), '') as given_id,
                nullif(trim(s.customer_id), '') as given_customer, nullif(trim(s.decision_id), '') as decision_id,
                case lower(trim(s.kind)) {kinds} end as kind, nullif(trim(s.value), '') as given_value,
                try_cast(nullif(trim(s.value), '') as decimal(18,4)) as value, nullif(trim(s.occurred_at), '') as given_at,
                try_cast(nullif(trim(s.occurred_at), '') as timestamptz)::timestamp as occurred_at,
                nullif(trim(s.campaign), '') as campaign, nullif(lower(trim(s.channel)), '') as channel
            from outcome_staged s
        ),
        owned as (
            select t.*, d.customer_id as owner, coalesce(t.given_customer, d.customer_id) as customer_id
            from typed t left join headwater.decision_log d on d.decision_id = t.decision_id
        ),
        judged as (
            select *, list_filter([{listed}], x -> x is not null) as reasons,
                case when kind = 'order' then coalesce(value, 0) else coalesce(value, 1) end as worth,
                coalesce(given_id, {ours}) as id
            from owned
        ),
        twice as (
            select *, row_number() over (partition by id order by line) as nth,
                first_value((customer_id, kind, occurred_at, worth)) over (partition by id order by line) as first_said
            from judged where len(reasons) = 0
        )
        select line, row_text, id as outcome_id, customer_id, kind, worth as value, occurred_at, decision_id, campaign, channel,
            case when contradicts then ['outcome_id stands for another outcome already'] else reasons end as reasons,
            case when contradicts then 'rejected' when known or nth > 1 then 'known' else 'new' end as verdict
        from (
            select t.*, h.outcome_id is not null as known,
                coalesce((t.customer_id, t.kind, t.occurred_at, t.worth) <> coalesce(h.said, t.first_said), false) as contradicts
            from twice t
            left join (
                select outcome_id, (customer_id, kind, occurred_at, value) as said from headwater.outcomes
            ) h on h.outcome_id = t.id
        )
        union all
        select line, row_text, id, customer_id, kind, worth, occurred_at, decision_id, campaign, channel, reasons, 'rejected'
        from judged where len(reasons) > 0"""
    )
