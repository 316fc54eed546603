"""What people answered, and what became of a message: the ledgers of consent and of contacts follow the events that say so.

Tools tell it to the collector (webhooks of HubSpot, outbound messages of Salesforce), or anybody's own sender does; the
events land like all others. `follow` takes them from `collected.events` by name, `<channel>_unsubscribed` and so on:

    unsubscribed    no consent for the channel from that moment on
    resubscribed    consent again
    bounced         the message did not arrive: the contact it was counted as is given back; `hard`: no consent either,
                    since nobody reads there
    sent            a contact made by the tool itself, counted like ours, unless it is one of ours that the tool sent

`headwater.replies` has one row per such event: `done`, or `waiting` while nobody knows whose it is. An event that comes
twice has no second effect, and one whose person becomes known later has its effect then.
"""

from dataclasses import dataclass

from headwater.clock import Clock, naive_utc
from headwater.decisions import send
from headwater.decisions.channels import CHANNELS
from headwater.decisions.hashing import digest_sql, text_sql
from headwater.warehouse import Warehouse

KINDS = ("unsubscribed", "resubscribed", "bounced", "sent")
BOUNCES_WITHIN = "interval 7 days"
"""A bounce belongs to the newest contact of its person and channel of so long before it."""
SENT_WITHIN = "interval 24 hours"
"""A message that a tool reports as sent is the one that we had it send, when that was so long before it at most."""
_CURSOR = "replies"
_TRIES = 5


@dataclass(frozen=True)
class Followed:
    """`done` events had their effect now; `waiting` are those of all times whose person nobody knows yet."""

    done: int
    waiting: int


def follow(warehouse: Warehouse, clock: Clock) -> Followed:
    """Let new events have their effect, in one transaction; cheap when there are none.

    Live syncs call it from several threads: whoever comes second waits for the first by trying again.
    """
    for number in range(_TRIES):
        try:
            with warehouse.transaction():
                return _follow(warehouse, clock)
        except Exception as error:
            if "onflict" not in str(error) or number == _TRIES - 1:
                raise
    raise AssertionError("the last try either returns or raises")


def _follow(warehouse: Warehouse, clock: Clock) -> Followed:
    taken = _take(warehouse, clock)
    waiting = (
        warehouse.value("select count(*) from headwater.replies where state = 'waiting'")
        if taken or _any(warehouse)
        else 0
    )
    if not waiting:
        return Followed(0, 0)
    warehouse.execute(
        """create or replace temp table replies_now as
            select r.* replace (coalesce(r.customer_id, i.customer_id) as customer_id) from headwater.replies r
            left join (select id, any_value(customer_id) as customer_id from headwater.identities
                where id_kind = 'anonymous' and customer_id is not null group by id) i on i.id = r.anonymous_id
            where r.state = 'waiting' and coalesce(r.customer_id, i.customer_id) is not null"""
    )
    done = int(warehouse.value("select count(*) from replies_now"))
    if done:
        _consent(warehouse)
        _bounce(warehouse, clock)
        _contact(warehouse)
        warehouse.execute(
            "update headwater.replies set state = 'done', customer_id = n.customer_id, followed_at = ? from replies_now n "
            "where n.event_id = replies.event_id and n.source = replies.source",
            [naive_utc(clock.now())],
        )
    return Followed(done, waiting - done)


def _any(warehouse: Warehouse) -> bool:
    return bool(
        warehouse.value("select count(*) from (select 1 from headwater.replies where state = 'waiting' limit 1)")
    )


def _take(warehouse: Warehouse, clock: Clock) -> int:
    """Put events that landed since the last time into `headwater.replies`; returns how many."""
    since = warehouse.value("select version from headwater.change_cursors where consumer = ?", [_CURSOR]) or 0
    newest = warehouse.value("select max(position) from collected.events where position > ?", [since])
    if newest is None:
        return 0
    names = ", ".join(text_sql(f"{channel}_{kind}") for channel in CHANNELS for kind in KINDS)
    row = warehouse.execute(
        f"""insert into headwater.replies
            select event_id, source, regexp_extract(event_name, '_([a-z]+)$', 1), regexp_extract(event_name, '^(.+)_[a-z]+$', 1),
                coalesce(properties->>'hard', 'false') = 'true', customer_id, anonymous_id, occurred_at, 'waiting', null
            from collected.events e
            where position > ? and event_name in ({names}) and not exists (
                select 1 from headwater.replies r where r.event_id = e.event_id and r.source = e.source)""",
        [since],
    ).fetchone()
    warehouse.execute("delete from headwater.change_cursors where consumer = ?", [_CURSOR])
    warehouse.execute(
        "insert into headwater.change_cursors values (?, ?, ?)", [_CURSOR, newest, naive_utc(clock.now())]
    )
    return int(row[0]) if row else 0


def _consent(warehouse: Warehouse) -> None:
    warehouse.execute(
        """insert into headwater.consent_state (customer_id, channel, consented, source, recorded_at)
            select customer_id, channel, kind = 'resubscribed', source || ': ' || channel || '_' || kind, occurred_at
            from replies_now where kind in ('unsubscribed', 'resubscribed') or (kind = 'bounced' and hard)"""
    )


def _bounce(warehouse: Warehouse, clock: Clock) -> None:
    """Give back the contact that did not arrive: our own with what it had reserved, the tool's own as it is."""
    warehouse.execute(
        f"""create or replace temp table replies_bounced as
            select distinct arg_max(k.contact_id, k.contacted_at) as contact_id, arg_max(k.decision_id, k.contacted_at) as decision_id
            from replies_now n join headwater.contact_ledger k on k.customer_id = n.customer_id and k.channel = n.channel
                and k.contacted_at <= n.occurred_at and k.contacted_at > n.occurred_at - {BOUNCES_WITHIN}
            where n.kind = 'bounced' group by n.event_id, n.source"""
    )
    send.give_back(warehouse, clock, "replies_bounced")
    warehouse.execute(
        "delete from headwater.contact_ledger where contact_id in (select contact_id from replies_bounced)"
    )


def _contact(warehouse: Warehouse) -> None:
    warehouse.execute(
        f"""insert into headwater.contact_ledger (contact_id, customer_id, channel, campaign, decision_id, contacted_at)
            select {digest_sql("'reply'", "n.source", "n.event_id")}, n.customer_id, n.channel, n.source, null, n.occurred_at
            from replies_now n where n.kind = 'sent' and not exists (
                select 1 from headwater.contact_ledger k where k.customer_id = n.customer_id and k.channel = n.channel
                and k.contacted_at between n.occurred_at - {SENT_WITHIN} and n.occurred_at + interval 1 hour)"""
    )
