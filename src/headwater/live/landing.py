"""Log records become rows of the schema `collected`, inside the caller's transaction.

    events      track, page, screen              -> collected.events
    identifies  identify, group                  -> collected.identifies
    aliases     alias                            -> collected.aliases
    deletes     delete                           -> headwater.deletion_requests, until the person is forgotten
    repeats     a (source, messageId) seen within 24 hours, or earlier in the batch: dropped, counted
    poison      a payload that cannot be read    -> headwater.rejected_events, and the rest goes on
    rejected    topic `rejected`                 -> headwater.rejected_events
    changes     topic `changes`                  -> the schema `landed` (changes.py)
    suppressed  of somebody who was forgotten    -> taken out again before anybody reads it (suppression.py)

Every record ends in exactly one of these; `Landed` counts them, and `read` is their sum. JSON is taken apart here, once,
and never again in staging. A record that cannot be read is found before any statement could fail on it: an exception in
here means that the whole batch is rolled back.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from datetime import datetime, timedelta

from headwater.identity.keys import blocked_sql
from headwater.live import rejected, told
from headwater.live.texts import END, Texts
from headwater.records.logged import Record
from headwater.warehouse import Warehouse

REPEATS_KEPT = timedelta(hours=24)
"""A repeat is dropped when its first was received at most this long before it."""

EVENT_KINDS = ("track", "page", "screen")
TRAIT_KINDS = ("identify", "group")
CALL_KINDS = ("alias", "delete")


@dataclass(frozen=True)
class Landed:
    """What became of the records of one batch, in rows. `read` is the sum of the others."""

    read: int = 0
    events: int = 0
    identifies: int = 0
    aliases: int = 0
    deletes: int = 0
    changes: int = 0
    repeats: int = 0
    poison: int = 0
    rejected: int = 0
    suppressed: int = 0

    def __add__(self, other: "Landed") -> "Landed":
        return Landed(**{f.name: getattr(self, f.name) + getattr(other, f.name) for f in fields(self)})

    @property
    def conserved(self) -> bool:
        """Whether every record is accounted for."""
        return self.read == sum(getattr(self, f.name) for f in fields(self) if f.name != "read")


_PATHS: dict[str, tuple[str, ...]] = {
    "kind": ("$.type",),
    "message_id": ("$.messageId",),
    "customer_id": ("$.userId",),
    "anonymous_id": ("$.anonymousId",),
    "previous_id": ("$.previousId",),
    "raw_name": ("$.event",),
    "page_name": ("$.name",),
    "said_at": ("$.timestamp",),
    "session_id": ("$.context.sessionId", "$.properties.session_id", "$.properties.sessionId"),
    "product_id": ("$.properties.product_id", "$.properties.productId"),
    "page_url": ("$.context.page.url", "$.properties.url"),
    "channel": ("$.context.campaign.source", "$.properties.channel"),
    "campaign_id": ("$.context.campaign.name", "$.context.campaign.id", "$.properties.campaign_id"),
    "is_future": ("$.future",),
    "properties": ("$.properties",),
    "context": ("$.context",),
}

_TRAITS: dict[str, tuple[str, tuple[str, ...]]] = {
    "email": ("varchar", ("email",)),
    "phone": ("varchar", ("phone",)),
    "first_name": ("varchar", ("firstName", "first_name")),
    "last_name": ("varchar", ("lastName", "last_name")),
    "company": ("varchar", ("company.name", "company")),
    "gender": ("varchar", ("gender",)),
    "city": ("varchar", ("address.city", "city")),
    "state": ("varchar", ("address.state", "state")),
    "country": ("varchar", ("address.country", "country")),
    "postal_code": ("varchar", ("address.postalCode", "address.postal_code", "postalCode", "postal_code")),
    "time_zone": ("varchar", ("timezone", "time_zone", "timeZone")),
    "nps_score": ("bigint", ("nps_score", "npsScore", "nps")),
    "email_opt_in": ("boolean", ("email_opt_in", "emailOptIn")),
    "sms_opt_in": ("boolean", ("sms_opt_in", "smsOptIn")),
    "created_at": ("timestamp", ("createdAt", "created_at")),
}

EVENT_COLUMNS = (
    "event_id, source, kind, event_name, raw_name, customer_id, anonymous_id, occurred_at, received_at, session_id,"
    " product_id, page_url, channel, campaign_id, is_future, properties, context, position"
)


def snake_case_sql(column: str) -> str:
    """`Demo Requested` and `demoRequested` are `demo_requested`; a name without a letter or digit stays as it is."""
    words = rf"regexp_replace({column}, '([\p{{Ll}}0-9])(\p{{Lu}})', '\1_\2', 'g')"
    return rf"coalesce(nullif(trim(regexp_replace(lower({words}), '[^\p{{L}}\p{{N}}]+', '_', 'g'), '_'), ''), {column})"


def _picked(paths: dict[str, tuple[str, ...]], listed: str) -> tuple[str, dict[str, str]]:
    """The list of all paths as SQL, and for each name the expression that takes its first non-null one from `listed`."""
    flat = [path for several in paths.values() for path in several]
    expressions = {}
    for name, several in paths.items():
        places = [f"{listed}[{flat.index(path) + 1}]" for path in several]
        expressions[name] = f"coalesce({', '.join(places)})" if len(places) > 1 else places[0]
    return "[" + ", ".join(f"'{path}'" for path in flat) + "]", expressions


def _text(name: str) -> str:
    """`nullif(trim(…), '')`, which for most texts is the text itself."""
    return f"case when starts_with({name}, ' ') or ends_with({name}, ' ') or {name} = '' then nullif(trim({name}), '') else {name} end"


class Landing:
    """Lands batches in one warehouse: `land` and `land_rejected` as often as a batch needs.

    The caller holds the transaction; nothing is committed here. `blocked`: values of ids that mean nobody in this shop,
    beside those that mean nobody anywhere.
    """

    def __init__(self, warehouse: Warehouse, *, keep: timedelta = REPEATS_KEPT, blocked: Sequence[str] = ()) -> None:
        self.warehouse = warehouse
        self._keep = keep
        self._blocked = tuple(blocked)
        self._listed, self._said = _picked(_PATHS, "said")
        self._trait_list, self._trait = _picked(
            {name: tuple(f"$.traits.{path}" for path in paths) for name, (_, paths) in _TRAITS.items()}
            | {"context_zone": ("$.context.timezone",), "group_name": ("$.traits.name",), "traits": ("$.traits",)},
            "said",
        )

    def land(self, records: Sequence[Record] | Texts, now: datetime) -> Landed:
        """Land records of topic events, in the order of their offsets. `now` by the engine's clock, naive UTC."""
        texts = records if isinstance(records, Texts) else Texts(records)
        if not texts.count:
            return Landed()
        self._read(texts)
        poison = self._poison() + self._broken(texts.broken)
        told.recognise(self.warehouse)
        repeats = self._drop_repeats()
        kept = "landing_read where poison is null"
        if repeats:
            kept += " and position not in (select position from landing_repeats)"
        kinds = dict(self.warehouse.execute(f"select kind, count(*) from {kept} group by kind").fetchall())
        events = self._events(kept) if kinds.keys() & set(EVENT_KINDS) else 0
        identifies = self._identifies(kept) if kinds.keys() & set(TRAIT_KINDS) else 0
        if "alias" in kinds:
            self.warehouse.execute(
                "insert into collected.aliases (event_id, source, previous_id, customer_id, occurred_at, received_at, position)"
                " select event_id, source, previous_id, customer_id, occurred_at, received_at, position"
                f" from {kept} and kind = 'alias' order by position"
            )
        if "delete" in kinds:
            self.warehouse.execute(
                "insert into headwater.deletion_requests (event_id, source, customer_id, anonymous_id, received_at, position)"
                " select event_id, source, customer_id, anonymous_id, received_at, position"
                f" from {kept} and kind = 'delete' order by position"
            )
        self.warehouse.execute(
            "insert into collected.message_ids (source, message_id, received_at, landed_at)"
            " select source, event_id, received_at, ? from landing_read where poison is null",
            [now],
        )
        aliases, deletes = kinds.get("alias", 0), kinds.get("delete", 0)
        return Landed(texts.count, events, identifies, aliases, deletes, repeats=repeats, poison=poison)

    def land_rejected(self, records: Sequence[Record]) -> Landed:
        """Land records of topic rejected."""
        if not records:
            return Landed()
        texts = Texts(records)
        base64 = "regexp_full_match(raw, '[A-Za-z0-9+/]*={0,2}') and len(raw) % 4 = 0"
        self._split(texts)
        count = self._count(
            f"""insert into headwater.rejected_events
                (rejected_id, source, received_at, message_id, reason, reasons, raw, position, arrival)
            select
                'rejected-' || position, source, received_at, coalesce(said[1], nullif(message_id, '')),
                coalesce(said[2], 'unreadable_rejection'), try_cast(said[3] as json),
                case when said[4] is not null and {base64.replace("raw", "said[4]")} then from_base64(said[4]) else encode(payload) end,
                position, try_cast(said[5] as json)
            from (
                select *, json_extract_string(
                    case when json_valid(payload) then payload end, ['$.messageId', '$.reasons[0].code', '$.reasons', '$.raw', '$.arrival']
                ) as said
                from landing_texts
            )
            where 'rejected-' || position not in (select rejected_id from headwater.rejected_events)"""
        )
        again = len(records) - len(texts.broken) - count
        self._broken(texts.broken)
        return Landed(read=len(records), rejected=count + len(texts.broken), repeats=again)

    def forget_old_ids(self, now: datetime) -> None:
        """Remove message ids that were landed so long ago that they need not be kept."""
        self.warehouse.execute("delete from collected.message_ids where landed_at < ?", [now - self._keep * 2])

    # ------------------------------------------------------------------ steps

    def _split(self, texts: Texts) -> None:
        self.warehouse.execute(
            f"""create or replace temp table landing_texts as
            select
                unnest(string_split(payloads, '{END}')) as payload,
                unnest(string_split(message_ids, '{END}')) as message_id,
                unnest(string_split(sources, '{END}')) as source,
                cast(unnest(string_split(offsets, '{END}')) as bigint) as position,
                make_timestamp(cast(unnest(string_split(received, '{END}')) as bigint)) as received_at
            from (
                select
                    unnest(?) as payloads, unnest(?) as message_ids, unnest(?) as sources, unnest(?) as offsets,
                    unnest(?) as received
            )
            where payloads <> ''""",
            list(texts.columns),
        )

    def _read(self, texts: Texts) -> None:
        """`landing_read`: every record that was text, taken apart, with the reason why it cannot be used."""
        self._split(texts)
        said = self._said
        known = ", ".join(f"'{kind}'" for kind in (*EVENT_KINDS, *TRAIT_KINDS, *CALL_KINDS))
        ids = ("customer_id", "anonymous_id", "previous_id")
        words = (*ids, "raw_name", "page_name", "session_id", "product_id", "page_url", "channel", "campaign_id")
        self.warehouse.execute(
            f"""create or replace temp table landing_read as
            select
                position, source, received_at, event_id, kind,
                {", ".join(f"case when not {blocked_sql(name, self._blocked)} then {name} end as {name}" for name in ids)},
                {", ".join(words[len(ids) :])},
                coalesce(occurred_at, case when said_at is null then received_at end) as occurred_at,
                coalesce(try_cast(is_future as boolean), false) as is_future,
                try_cast(properties as json) as properties,
                try_cast(context as json) as context,
                case
                    when not is_json then 'bad_json'
                    when kind is null or not list_contains([{known}], kind) then 'unknown_type'
                    when said_at is not null and occurred_at is null then 'bad_time'
                    when not isfinite(occurred_at) then 'bad_time'
                    when event_id is null then 'no_message_id'
                end as poison,
                case when kind in ('identify', 'group') then payload end as traits_payload
            from (
                select
                    position, source, received_at, payload, is_json,
                    coalesce(nullif(message_id, ''), {said["message_id"]}) as event_id,
                    {", ".join(f"{said[name]} as {name}" for name in ("kind", "said_at", "is_future", "properties", "context"))},
                    {", ".join(f"{_text(said[name])} as {name}" for name in words)},
                    try_cast({said["said_at"]} as timestamp) as occurred_at
                from (
                    select *, json_extract_string(case when is_json then payload end, {self._listed}) as said
                    from (select *, json_valid(payload) as is_json from landing_texts)
                )
            )"""
        )

    def _poison(self) -> int:
        count = int(self.warehouse.value("select count(*) from landing_read where poison is not null"))
        if not count:
            return 0
        self.warehouse.execute(
            """insert into headwater.rejected_events
                (rejected_id, source, received_at, message_id, reason, reasons, raw, position)
            select
                'events-' || broken.position, broken.source, broken.received_at, broken.event_id, broken.poison,
                json_array(json_object('code', broken.poison, 'message', 'the engine could not read the logged record', 'path', '$')),
                encode(texts.payload), broken.position
            from landing_read as broken
            inner join landing_texts as texts on broken.position = texts.position
            where broken.poison is not null
                and 'events-' || broken.position not in (select rejected_id from headwater.rejected_events)"""
        )
        return count

    def _broken(self, broken: Sequence[Record]) -> int:
        """Records whose bytes are no text at all."""
        for record in broken:
            rejected.put(self.warehouse, record, "not_utf8", "the logged record is not text")
        return len(broken)

    def _drop_repeats(self) -> int:
        """`landing_repeats`: positions of records with an earlier one of the same (source, messageId) received in the last day.

        Earlier ones count whether they were kept or not, so that it does not matter where one batch ends.
        """
        since = self.warehouse.value("select min(received_at) from landing_read where poison is null")
        if since is None:
            return 0
        day = f"interval '{int(self._keep.total_seconds())} seconds'"
        return self._count(
            f"""create or replace temp table landing_repeats as
            with several as (
                select source, event_id from landing_read where poison is null group by source, event_id having count(*) > 1
            ),
            followed as (
                select position, received_at, max(received_at) over (
                    partition by source, event_id order by position rows between unbounded preceding and 1 preceding
                ) as seen_at
                from landing_read
                inner join several using (source, event_id)
                where poison is null
            )
            select position from followed where seen_at >= received_at - {day}
            union
            select good.position
            from collected.message_ids as seen
            inner join landing_read as good on seen.message_id = good.event_id and seen.source = good.source
            where good.poison is null and seen.received_at >= good.received_at - {day}
                and seen.received_at >= timestamp '{since}' - {day}"""
        )

    def _events(self, kept: str) -> int:
        """Rows stand in the order of their offsets, as the records came: sorting them by it would cost as much as writing them."""
        return self._count(
            f"""insert into collected.events ({EVENT_COLUMNS})
            with names as (
                select raw_name, {snake_case_sql("raw_name")} as event_name
                from (select distinct raw_name from landing_read where raw_name is not null)
            )
            select
                event_id, source, kind,
                case kind when 'page' then 'page_viewed' when 'screen' then 'screen_viewed' else event_name end,
                coalesce(raw_name, page_name), customer_id, anonymous_id, occurred_at, received_at, session_id, product_id,
                page_url, channel, campaign_id, is_future, properties, context, position
            from (from {kept} and kind in ('track', 'page', 'screen'))
            left join names using (raw_name)"""
        )

    def _identifies(self, kept: str) -> int:
        own = []
        for name, (kind, _) in _TRAITS.items():
            value = _text(self._trait[name])
            if name == "time_zone":
                value = f"coalesce({value}, {_text(self._trait['context_zone'])})"
            if name == "company":
                value = f"case when kind = 'group' then coalesce({_text(self._trait['group_name'])}, {value}) when {value} not like '{{%' then {value} end"
            elif kind == "varchar":
                value = f"case when kind = 'identify' then {value} end"
            else:
                value = f"case when kind = 'identify' then try_cast({value} as {kind}) end"
            own.append(f"{value} as {name}")
        return self._count(
            f"""insert into collected.identifies
            select
                event_id, source, kind, customer_id, anonymous_id, occurred_at, received_at,
                {", ".join(own)},
                try_cast({self._trait["traits"]} as json) as traits, position
            from (
                select *, json_extract_string(traits_payload, {self._trait_list}) as said
                from {kept} and kind in ('identify', 'group')
            )
            order by position"""
        )

    def _count(self, sql: str) -> int:
        row = self.warehouse.execute(sql).fetchone()
        return int(row[0]) if row else 0
