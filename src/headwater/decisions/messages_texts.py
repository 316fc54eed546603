"""Texts on record: proposed, checked, approved; and which text each decision gets.

A slot is what a text is for: a template, a segment with its buckets, with or without an offer. A slot may have many versions of a
text; the newest that may be used counts:

    refused    by the checks; never used, never shown for approval
    proposed   waits for somebody: all of them under `review: approve`, a share of them under `review: sample`
    passed     under `review: sample`, not drawn for review
    approved, rejected   by somebody, whose name is kept

`assign` gives every decision that is still to be sent its text, with placeholders: the slot's, or the template's with the reason.
Running it again changes only what a review, a setting or a template has changed meanwhile.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from headwater.clock import Clock, naive_utc
from headwater.decisions import log
from headwater.decisions.hashing import digest, text_sql, unit
from headwater.decisions.llm.settings import LlmSettings
from headwater.decisions.messages import NEUTRAL, OFFER, Template, Text, is_name_sql, percent
from headwater.decisions.messages_check import Problem, problems
from headwater.errors import InvalidValue
from headwater.warehouse import Warehouse

USABLE = ("approved", "passed")
CHANNELS = ("email", "cs_ticket")
"""Channels that carry a subject and a body."""
PEOPLE = "main.dim_customer"
_NOBODY = "(select null::varchar as customer_id, null::varchar as first_name, null::varchar as last_name where false)"
NOT_APPROVED = "a text waits for approval"
NO_TEXT = "no text for this segment and bucket"


@dataclass(frozen=True)
class Slot:
    """What a text is for. `features`: the buckets that the model is told, in the settings' order."""

    template: str
    segment: str
    features: tuple[tuple[str, str | None], ...]
    offers: bool
    language: str

    @property
    def slot_id(self) -> str:
        features = json.dumps(sorted(self.features))
        return digest("slot", self.template, self.segment, features, str(self.offers), self.language)

    @property
    def about(self) -> str:
        """For whoever reads the rows."""
        buckets = ", ".join(f"{name}={value}" for name, value in self.features)
        return f"{self.template} for {self.segment} ({buckets}), {'with' if self.offers else 'without'} an offer"


@dataclass(frozen=True)
class Kept:
    """A text on record."""

    text_id: str
    slot: Slot
    version: int
    text: Text
    state: str
    problems: tuple[Problem, ...]
    made_at: datetime
    model: str | None = None
    call_id: str | None = None
    decided_by: str | None = None


def keep(
    warehouse: Warehouse, settings: LlmSettings, slot: Slot, text: Text, call_id: str | None, clock: Clock
) -> Kept:
    """Check a text and put it on record as the slot's next version. The same text again is the same version."""
    text_id = digest("text", slot.slot_id, text.subject, text.body)
    known = texts(warehouse, "t.text_id = ?", [text_id])
    if known:
        return known[0]
    found = tuple(problems(text, settings, offers=slot.offers))
    waits = settings.review == "approve" or unit("review", text_id) < settings.sample_share
    state = "refused" if found else "proposed" if waits else "passed"
    version = 1 + warehouse.value(
        "select coalesce(max(version), 0) from headwater.message_texts where slot_id = ?", [slot.slot_id]
    )
    made_at = naive_utc(clock.now())
    log.insert_rows(
        warehouse,
        "headwater.message_texts",
        {
            "text_id": [text_id],
            "slot_id": [slot.slot_id],
            "version": [version],
            "made_at": [made_at],
            "template": [slot.template],
            "segment": [slot.segment],
            "features": [json.dumps(dict(slot.features))],
            "offers": [slot.offers],
            "language": [slot.language],
            "subject": [text.subject],
            "body": [text.body],
            "state": [state],
            "problems": [json.dumps([[one.rule, one.sentence] for one in found])],
            "model": [settings.model],
            "call_id": [call_id],
        },
    )
    return Kept(text_id, slot, version, text, state, found, made_at, settings.model, call_id)


def texts(warehouse: Warehouse, where: str = "true", parameters: Sequence[Any] = ()) -> list[Kept]:
    """Texts on record (`t`) that fulfil the condition, newest first."""
    rows = warehouse.rows(
        f"select t.* from headwater.message_texts t where {where} order by made_at desc, slot_id, version desc",
        parameters,
    )
    return [
        Kept(
            row["text_id"],
            Slot(
                row["template"],
                row["segment"],
                tuple(json.loads(row["features"]).items()),
                row["offers"],
                row["language"],
            ),
            row["version"],
            Text(row["subject"], row["body"]),
            row["state"],
            tuple(Problem(rule, sentence) for rule, sentence in json.loads(row["problems"] or "[]")),
            row["made_at"],
            row["model"],
            row["call_id"],
            row["decided_by"],
        )
        for row in rows
    ]


def review(
    warehouse: Warehouse,
    verdict: str,
    who: str,
    clock: Clock,
    *,
    text_ids: Sequence[str] = (),
    campaign: str | None = None,
) -> list[Kept]:
    """Approve or reject texts: those named (by the beginning of their id), or all of a campaign's template that wait.

    Raises InvalidValue naming what there is, when a name fits none or several, or a text was refused by the checks.
    """
    chosen: list[Kept] = []
    if campaign is not None:
        chosen = texts(warehouse, "t.template = ? and t.state = 'proposed'", [campaign])
        if not chosen:
            waiting = warehouse.value(
                "select string_agg(distinct template, ', ') from headwater.message_texts where state = 'proposed'"
            )
            raise InvalidValue(f"campaign: found {campaign!r}; texts wait for: {waiting or 'none'}")
    for name in text_ids:
        found = texts(warehouse, "starts_with(t.text_id, ?)", [name])
        if len(found) != 1:
            raise InvalidValue(f"text: {name!r} fits {len(found)} texts; `headwater messages list` shows their ids")
        if found[0].state == "refused":
            why = "; ".join(one.sentence for one in found[0].problems)
            raise InvalidValue(f"text: {name!r} was refused by the checks and cannot be used: {why}")
        chosen += found
    for one in chosen:
        warehouse.execute(
            "update headwater.message_texts set state = ?, decided_by = ?, decided_at = ? where text_id = ?",
            [verdict, who, naive_utc(clock.now()), one.text_id],
        )
    return [text for one in chosen for text in texts(warehouse, "t.text_id = ?", [one.text_id])]


@dataclass(frozen=True)
class Assigned:
    """`decisions` got a text now: `by_model` one of a language model's, the others their template's, by reason."""

    decisions: int
    by_model: int
    by_template: Mapping[str, int]


def assign(warehouse: Warehouse, settings: LlmSettings, templates: Mapping[str, Template], clock: Clock) -> Assigned:
    """Give each decision that is still to be sent by a channel with a text the text that counts now, whenever it was made.

    A text that was approved meanwhile takes the template's place, one that was taken back gives way; what was sent keeps its own.
    """
    now = naive_utc(clock.now())
    _waiting(warehouse)
    rows = warehouse.execute(
        "select distinct template, segment, features, discount_pct from messages_waiting"
    ).fetchall()
    usable = _usable(warehouse)
    proposed = {one.slot.slot_id for one in texts(warehouse, "t.state = 'proposed'")}
    given: dict[str, list[Any]] = {
        name: []
        for name in ("template", "segment", "features", "discount", "text_id", "source", "reason", "subject", "body")
    }
    for template, segment, features, discount in rows:
        slot = _slot(settings, template, segment, features, discount)
        made = usable.get(slot.slot_id) if settings.enabled else None
        if made is not None:
            text, source, reason, text_id = made.text, "llm", None, made.text_id
        else:
            plain = templates.get(template)
            if plain is None:
                continue
            text, source, text_id = plain.text(offers=slot.offers), "template", None
            reason = "decisions.llm.enabled is false" if not settings.enabled else NO_TEXT
            if settings.enabled and slot.slot_id in proposed:
                reason = NOT_APPROVED
        offer = f"{{{OFFER}}}", percent(float(discount), settings.language)
        subject, body = text.subject.replace(*offer), text.body.replace(*offer)
        values = (template, segment, features, str(discount), text_id, source, reason, subject, body)
        for name, value in zip(given, values, strict=True):
            given[name].append(value)
    if not given["template"]:
        return Assigned(0, 0, {})
    chosen, parameters = log.given(given)
    people = PEOPLE if warehouse.exists(PEOPLE) else _NOBODY
    neutral = text_sql(NEUTRAL[settings.language])
    warehouse.execute(
        f"""create or replace temp table messages_chosen as
            select w.decision_id, w.customer_id, g.text_id, g.source, g.reason, g.subject, g.body,
                {is_name_sql("p.first_name")} as first_name_ok, {is_name_sql("p.last_name")} as last_name_ok
            from messages_waiting w
            join {chosen} g on g.template = w.template and g.segment is not distinct from w.segment
                and g.features is not distinct from w.features and g.discount::decimal(5,2) = w.discount_pct
            left join {people} p on p.customer_id = w.customer_id
            where not exists (
                select 1 from headwater.decision_messages m where m.decision_id = w.decision_id
                    and (m.text_id, m.source, m.reason, m.subject, m.body)
                        is not distinct from (g.text_id, g.source, g.reason, g.subject, g.body))""",
        parameters,
    )
    with warehouse.transaction():
        warehouse.execute(
            "delete from headwater.decision_messages where decision_id in (select decision_id from messages_chosen)"
        )
        warehouse.execute(
            f"""insert into headwater.decision_messages (decision_id, customer_id, text_id, source, reason, subject, body,
                    first_name_ok, last_name_ok, neutral, chosen_at)
                select *, {neutral}, timestamp '{now.isoformat(sep=" ")}' from messages_chosen"""
        )
    counts = warehouse.execute(
        "select source, coalesce(reason, ''), count(*) from messages_chosen group by all"
    ).fetchall()
    by_model = sum(count for source, _, count in counts if source == "llm")
    by_template = {reason: count for source, reason, count in counts if source == "template"}
    return Assigned(sum(count for *_, count in counts), by_model, by_template)


def waiting(warehouse: Warehouse, settings: LlmSettings) -> dict[str, int]:
    """How many decisions are still to be sent with a text, by slot."""
    _waiting(warehouse)
    found: dict[str, int] = {}
    for template, segment, features, discount, count in warehouse.execute(
        "select template, segment, features, discount_pct, count(*) from messages_waiting group by all"
    ).fetchall():
        slot_id = _slot(settings, template, segment, features, discount).slot_id
        found[slot_id] = found.get(slot_id, 0) + count
    return found


def _waiting(warehouse: Warehouse) -> None:
    """Fill `messages_waiting`: one row per customer whose newest decision is to go out by a channel with a text, and has not."""
    warehouse.execute(
        f"""create or replace temp table messages_waiting as
            with newest as (
                select decision_id, customer_id, action, channel, template, segment, features::varchar as features, discount_pct
                from headwater.decision_log where run_id <> '{log.ON_DEMAND}'
                qualify decided_at = max(decided_at) over (partition by customer_id)
            )
            select decision_id, customer_id, template, segment, features, discount_pct from newest
            where action <> 'none' and channel in {CHANNELS!r}
                and decision_id not in (select decision_id from headwater.contact_ledger where decision_id is not null)"""
    )


def _slot(settings: LlmSettings, template: str, segment: str | None, features: str | None, discount: Any) -> Slot:
    """The slot of a logged decision."""
    known = json.loads(features or "{}")
    told = tuple((name, known.get(name)) for name in settings.features)
    return Slot(template, segment or "", told, discount > 0, settings.language)


def _usable(warehouse: Warehouse) -> dict[str, Kept]:
    """The newest text that may be used, by slot."""
    found: dict[str, Kept] = {}
    for one in texts(warehouse, f"t.state in {USABLE!r}"):
        known = found.get(one.slot.slot_id)
        if known is None or one.version > known.version:
            found[one.slot.slot_id] = one
    return found


def largest(
    warehouse: Warehouse, settings: LlmSettings, segment: str, templates: Mapping[str, tuple[str, bool]], most: int
) -> list[tuple[Slot, int]]:
    """The slots of a segment with the most customers, and how many these are. `templates`: action → template and whether it
    comes with an offer."""
    names = list(settings.features)
    columns = ", ".join(names) or "1"
    rows = warehouse.execute(
        f"select count(*), {columns} from main.int_decision_candidates where segment = ? group by all order by 1 desc, {columns}",
        [segment],
    ).fetchall()
    kinds = sorted(set(templates.values()), key=lambda kind: (kind[0], not kind[1]))
    count = math.ceil(most / max(1, len(kinds)))
    return [
        (
            Slot(template, segment, tuple(zip(names, values, strict=True)) if names else (), offers, settings.language),
            number,
        )
        for number, *values in rows[:count]
        for template, offers in kinds
    ][:most]
