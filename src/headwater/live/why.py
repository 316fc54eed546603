"""Why somebody is where he is: events → identity links → model rows → segments → decisions → deliveries.

Reads only tables, and only those that are there: a project that has never decided has no decisions to tell of. Every step
is a sentence with a time, in the order of its stage, and the facts behind it for `--json`.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

from headwater.identity import keys
from headwater.identity.resolve import REFUSALS
from headwater.live.memberships import MODEL as SEGMENT_SCORES
from headwater.warehouse.connection import Warehouse

Stage = Literal["events", "identity", "models", "segments", "decisions", "deliveries"]
STAGES: tuple[Stage, ...] = ("events", "identity", "models", "segments", "decisions", "deliveries")

_REASONS = {
    "event": "an event carried both ids",
    "identify": "an identify call carried both ids",
    "email": "an identify call stated the address",
    "device": "an event came from the device",
    "alias": "an alias call said so",
}
_KIND = {"user": "customer", "anonymous": "visitor", "email": "address", "device": "device"}
_MOST_ROWS = 20


@dataclass(frozen=True)
class Step:
    """One link of the chain. `when` is naive UTC, None where a thing has no moment; `details` are the facts, JSON-ready but for
    datetimes and decimals."""

    stage: Stage
    when: datetime | None
    sentence: str
    details: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Chain:
    """What is known of one person. `ids` holds (kind, id) of all of his; empty `steps` means that nobody has this id."""

    asked: str
    person_id: str | None
    customer_ids: tuple[str, ...]
    ids: tuple[tuple[str, str], ...]
    steps: tuple[Step, ...]

    def of(self, stage: Stage) -> list[Step]:
        """The steps of one stage."""
        return [step for step in self.steps if step.stage == stage]


def why(warehouse: Warehouse, person: str, *, events: int = 10, decisions: int = 3) -> Chain:
    """The chain of the person behind an id of any kind (customer, visitor, e-mail address, person_id).

    `events` and `decisions`: how many of the newest are told one by one; all are counted.
    """
    subject = _subject(warehouse, person)
    steps = [
        *_events(warehouse, subject, events),
        *_identity(warehouse, subject),
        *_models(warehouse, subject),
        *_segments(warehouse, subject),
        *_decisions(warehouse, subject, decisions),
        *_deliveries(warehouse, subject),
    ]
    return Chain(person, subject.person_id if steps else None, subject.customers, subject.ids, tuple(steps))


@dataclass(frozen=True)
class _Subject:
    person_id: str
    customers: tuple[str, ...]
    ids: tuple[tuple[str, str], ...]

    @property
    def keys(self) -> list[str]:
        return [*dict.fromkeys((self.person_id, *self.customers))]

    @property
    def visitors(self) -> list[str]:
        return [name for kind, name in self.ids if kind == "anonymous"]


def _subject(warehouse: Warehouse, asked: str) -> _Subject:
    wanted = {"id": asked, "email": keys.email(asked) if "@" in asked else None}
    row = warehouse.execute(
        "select person_id, customer_id from headwater.identities where id = $id or person_id = $id or (id_kind = 'email' and id = $email) "
        "order by id_kind <> 'user' limit 1",
        wanted,
    ).fetchone()
    if row is None and warehouse.exists("main.int_person_ids"):
        row = warehouse.execute(
            "select person_id, customer_id from main.int_person_ids where anonymous_id = ? limit 1", [asked]
        ).fetchone()
    if row is None and wanted["email"] and warehouse.exists("main.dim_customer"):
        row = warehouse.execute(
            f"select customer_id, customer_id from main.dim_customer where {keys.email_sql('email')} = ? order by customer_id limit 1",
            [wanted["email"]],
        ).fetchone()
    if row is None:
        plain = asked.removeprefix("anon:")
        known = warehouse.exists("main.fct_events") and warehouse.value(
            "select person_id from main.fct_events where anonymous_id = ? and customer_id is null limit 1", [plain]
        )
        row = (known, None) if known else (asked, None if asked.startswith("anon:") else asked)
    person, customer = row
    ids = warehouse.execute(
        "select id_kind, id from headwater.identities where person_id = ? order by linked_at, id_kind, id", [person]
    ).fetchall()
    if warehouse.exists("main.int_person_ids"):
        more = warehouse.execute(
            "select 'anonymous', anonymous_id from main.int_person_ids where person_id = ? order by linked_at, anonymous_id",
            [person],
        ).fetchall()
        ids += [pair for pair in more if pair not in ids]
    customers = [name for kind, name in ids if kind == "user"]
    if customer and customer not in customers:
        customers.insert(0, customer)
    return _Subject(person, tuple(customers), tuple(ids))


def _events(warehouse: Warehouse, subject: _Subject, newest: int) -> Iterator[Step]:
    if not warehouse.exists("main.fct_events"):
        return
    where = "from main.fct_events where person_id = ? or list_contains(?, customer_id)"
    whose = [subject.person_id, list(subject.customers)]
    for name, number, first, last in warehouse.execute(
        f"select event_name, count(*), min(occurred_at), max(occurred_at) {where} group by event_name order by 2 desc, 1",
        whose,
    ).fetchall():
        times = "once" if number == 1 else f"{number} times"
        yield Step(
            "events", last, f"{name} {times}", {"event_name": name, "count": number, "first_at": first, "last_at": last}
        )
    columns = "event_id, event_name, occurred_at, customer_id, anonymous_id, page_url, product_id, channel"
    for row in warehouse.rows(
        f"select {columns} {where} order by occurred_at desc, event_id desc limit {int(newest)}", whose
    ):
        by = f"visitor {row['anonymous_id']}" if row["anonymous_id"] else f"customer {row['customer_id']}"
        about = next((f" ({row[name]})" for name in ("product_id", "page_url", "channel") if row[name]), "")
        yield Step("events", row["occurred_at"], f"{row['event_name']}{about} by {by}", row)


def _identity(warehouse: Warehouse, subject: _Subject) -> Iterator[Step]:
    names = [f"{kind}:{name}" for kind, name in subject.ids]
    rows = warehouse.rows(
        "select link_id, left_kind, left_id, right_kind, right_id, reason, linked_at, event_id, undone_at, undone_because, refused_because "
        "from headwater.identity_links where list_contains($names, left_kind || ':' || left_id) or list_contains($names, right_kind || ':' || right_id) "
        "order by linked_at, event_id, link_id",
        {"names": names},
    )
    told = set()
    for row in rows:
        told |= {row["left_id"], row["right_id"]}
        left, right = (f"{_KIND[row[f'{side}_kind']]} {row[f'{side}_id']}" for side in ("left", "right"))
        reason = _REASONS.get(row["reason"], row["reason"])
        if row["undone_at"] is not None:
            sentence = (
                f"{left} is not {right}: undone on {_day(row['undone_at'])} because {row['undone_because']} ({reason})"
            )
        elif row["refused_because"]:
            sentence = f"{left} is not {right}, although {reason}: {REFUSALS.get(row['refused_because'], row['refused_because'])}"
        else:
            sentence = f"{left} is {right}, because {reason}"
        yield Step("identity", row["linked_at"], sentence, row)
    if warehouse.exists("main.int_person_ids"):
        for row in warehouse.rows(
            "select anonymous_id, person_id, linked_at from main.int_person_ids where person_id = ? order by linked_at, anonymous_id limit 50",
            [subject.person_id],
        ):
            if row["anonymous_id"] not in told and not row["person_id"].startswith("anon:"):
                sentence = f"visitor {row['anonymous_id']} is customer {row['person_id']}, because an event of the shop's files carried both ids"
                yield Step("identity", row["linked_at"], sentence, row)


def _models(warehouse: Warehouse, subject: _Subject) -> Iterator[Step]:
    described = warehouse.execute(
        "select table_name, list(column_name order by ordinal_position) from information_schema.columns "
        "where table_schema = 'main' and table_catalog = current_database() group by table_name"
    ).fetchall()
    columns = dict(described)
    live = {
        row[0]: row[1] for row in warehouse.execute("select model, refreshed_at from headwater.live_models").fetchall()
    }
    first = ("dim_customer", "int_customer_360", "user_mql_events", "user_mql_score", "user_alerts")
    others = sorted(name for name in columns if name in live and name not in first)
    for model in [*(name for name in first if name in columns), *others]:
        key = next((name for name in ("person_id", "customer_id") if name in columns[model]), None)
        if key is None or model in ("fct_events", "int_event_persons", "int_person_ids", SEGMENT_SCORES):
            continue
        whose = f"from main.{model} where list_contains(?, {key}::varchar)"
        number = int(warehouse.value(f"select count(*) {whose}", [subject.keys]))
        rows = warehouse.rows(f"select * {whose} limit {_MOST_ROWS}", [subject.keys])
        if model == "user_mql_events":
            yield from (_scored(row) for row in sorted(rows, key=lambda row: (-row["mql_score"], row["event_name"])))
        elif rows:
            yield Step(
                "models",
                rows[0].get("updated_at") or live.get(model),
                _SAYS.get(model, _row_count)(model, number, rows[0]),
                {"model": model, "row_count": number, "rows": rows},
            )


def _scored(row: Mapping[str, Any]) -> Step:
    times = "once" if row["event_count"] == 1 else f"{row['event_count']} times, counted once"
    return Step(
        "models",
        row["last_event_at"],
        f"user_mql_events: {row['mql_score']} points for {row['event_name']} ({times})",
        {"model": "user_mql_events", **row},
    )


def _row_count(model: str, number: int, _row: Mapping[str, Any]) -> str:
    return f"{model}: {number} row{'' if number == 1 else 's'}"


def _score(model: str, _number: int, row: Mapping[str, Any]) -> str:
    return f"{model}: {row['mql_score']} points from {row['scored_event_names']} different events"


def _alert(model: str, _number: int, row: Mapping[str, Any]) -> str:
    return f"{model}: a qualified lead with {row['mql_score']} points"


def _customer_360(model: str, _number: int, row: Mapping[str, Any]) -> str:
    return (
        f"{model}: {row.get('order_count') or 0} orders, revenue {_money(row.get('lifetime_revenue'))} in all and {_money(row.get('revenue_90d'))} "
        f"in 90 days, {row.get('events_30d') or 0} events in 30 days"
    )


_SAYS: Mapping[str, Callable[[str, int, Mapping[str, Any]], str]] = {
    "user_mql_score": _score,
    "user_alerts": _alert,
    "int_customer_360": _customer_360,
}


def _segments(warehouse: Warehouse, subject: _Subject) -> Iterator[Step]:
    for row in warehouse.rows(
        "select customer_id, segment, entered_at, left_at from headwater.segment_memberships where list_contains(?, customer_id) order by entered_at",
        [list(subject.customers)],
    ):
        ended = f", left on {_day(row['left_at'])}" if row["left_at"] else ""
        yield Step("segments", row["entered_at"], f"entered {row['segment']}{ended}", row)
    if warehouse.exists(f"main.{SEGMENT_SCORES}") and warehouse.exists("main.int_customer_360"):
        as_of = warehouse.value("select max(as_of) from headwater.clock")
        for row in warehouse.rows(
            f"select scores.*, facts.nps_score, facts.revenue_90d, facts.events_30d, coalesce(facts.last_event_at, facts.last_order_at) as last_seen_at "
            f"from main.{SEGMENT_SCORES} as scores join main.int_customer_360 as facts using (customer_id) where list_contains(?, scores.customer_id)",
            [list(subject.customers)],
        ):
            yield Step("segments", row.get("updated_at"), _rule_sentence(row, as_of), row)
    for row in warehouse.rows(
        "select customer_id, segment_name, model, version, margin, stability, valid_from, valid_to from headwater.segment_assignments "
        "where list_contains(?, customer_id) order by valid_from",
        [list(subject.customers)],
    ):
        ended = f", until {_day(row['valid_to'])}" if row["valid_to"] else ""
        margin = f", {row['margin']:.2f} nearer than the next segment" if row["margin"] is not None else ""
        yield Step(
            "segments",
            row["valid_from"],
            f"{row['segment_name']} by {row['model']} version {row['version']} ({row['stability']}){margin}{ended}",
            row,
        )


def _rule_sentence(row: Mapping[str, Any], as_of: datetime | None) -> str:
    seen = row["last_seen_at"]
    days = f", {(as_of.date() - seen.date()).days} days ago" if seen and as_of else ""
    facts = (
        f"NPS {'unknown' if row['nps_score'] is None else row['nps_score']}, revenue of 90 days {_money(row['revenue_90d'])}, "
        f"{row['events_30d'] or 0} events in 30 days, last seen {_day(seen) if seen else 'never'}{days}"
    )
    also = [
        name.removeprefix("is_")
        for name, value in row.items()
        if name.startswith("is_") and value and name != f"is_{row['segment']}"
    ]
    more = f"; {', '.join(also)} fits too" if also else ""
    return f"in no rule segment: {facts}" if row["segment"] is None else f"in {row['segment']}: {facts}{more}"


def _decisions(warehouse: Warehouse, subject: _Subject, newest: int) -> Iterator[Step]:
    whose = [list(subject.customers)]
    total = int(
        warehouse.value("select count(*) from headwater.decision_log where list_contains(?, customer_id)", whose)
    )
    rows = warehouse.rows(
        "select d.decision_id, d.decided_at, d.action, d.channel, d.template, d.discount_pct, d.segment, d.goal, d.policy, d.policy_version, "
        "d.experiment_group, d.propensity, d.blocked_by, d.as_of, t.trace from headwater.decision_log as d "
        "left join headwater.decision_traces as t using (trace_id) where list_contains(?, d.customer_id) "
        f"order by d.decided_at desc, d.decision_id limit {int(newest)}",
        whose,
    )
    for row in reversed(rows):
        trace = json.loads(row.pop("trace") or "[]")
        what = f"{row['action']} by {row['channel']}" if row["action"] != "none" else "nothing"
        discount = (
            f" with {row['discount_pct'].normalize():f}% off" if row["action"] != "none" and row["discount_pct"] else ""
        )
        because = f", because {row['blocked_by']} stood in the way" if row["blocked_by"] else ""
        took = [f"{step['rule']} took {_named(_taken(step))}" for step in trace if _taken(step)]
        details = {**row, "trace": trace, "decisions": total}
        yield Step(
            "decisions",
            row["decided_at"],
            f"{what}{discount}{because}" + (f" ({'; '.join(took)})" if took else ""),
            details,
        )


def _named(ways: Sequence[str]) -> str:
    """One or two by name, more by their number."""
    return ", ".join(ways) if len(ways) <= 2 else f"{len(ways)} ways to act"


def _taken(step: Mapping[str, Any]) -> list[str]:
    after = set(step.get("after") or ())
    return [option for option in step.get("before") or () if option not in after]


def _deliveries(warehouse: Warehouse, subject: _Subject) -> Iterator[Step]:
    rows = warehouse.rows(
        "select operation_id, sync, key, operation, version, state, code, reason, decision_id, attempts, created_at, updated_at "
        "from headwater.outbox where list_contains($customers, customer_id) or list_contains($keys, key) order by updated_at, operation_id",
        {"customers": list(subject.customers), "keys": subject.keys},
    )
    said = {
        "done": "confirmed",
        "ready": "waiting to be sent",
        "claimed": "being sent",
        "failed": "refused",
        "held": "held back",
    }
    for row in rows:
        reason = f": {row['reason']}" if row["reason"] else ""
        yield Step(
            "deliveries",
            row["updated_at"],
            f"{row['sync']}: {row['operation']} of {row['key']} {said.get(row['state'], row['state'])}{reason}",
            row,
        )


def _day(moment: datetime) -> str:
    return moment.date().isoformat()


def _money(amount: Any) -> str:
    return f"{amount or 0:,.2f}"
