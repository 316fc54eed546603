"""What a language model is asked for, and the texts that go with decisions."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from headwater.clock import naive_utc
from headwater.decisions import messages, messages_texts
from headwater.decisions import table as tables
from headwater.decisions.inputs import segment as known_segment
from headwater.decisions.llm import choose, risk
from headwater.decisions.llm.ask import Ask, Spent
from headwater.decisions.llm.risk import Calibration
from headwater.decisions.llm.settings import LlmSettings
from headwater.decisions.llm.write import write
from headwater.decisions.messages import Template, Text
from headwater.decisions.messages_texts import Kept
from headwater.decisions.settings import DecisionSettings
from headwater.decisions.table import Table
from headwater.errors import InvalidValue, Refused
from headwater.records.counted import counted
from headwater.records.stage import StageResult
from headwater.stack.project import Project

CANDIDATES = "main.int_decision_candidates"


@dataclass(frozen=True)
class Preview:
    """A template beside the text of a language model. `shown_*`: filled for somebody made up. `text` is None when there is none,
    `reason` says why; `request` is what was, or would be, sent to the model."""

    about: str
    customers: int
    template: Text
    shown_template: Text
    text: Text | None
    shown_text: Text | None
    text_id: str | None
    state: str
    problems: tuple[str, ...]
    reason: str
    request: dict[str, Any]


@dataclass(frozen=True)
class Model:
    """The language model of a project, and what it came to today (UTC)."""

    settings: LlmSettings
    has_key: bool
    today: Spent
    statuses: dict[str, int]
    calibration: dict[str, Any] | None


SOMEBODY = {"first_name": "Ada", "last_name": "Lovelace"}
"""For whom previews are filled."""


class Speaking(Project):
    """Choices, risks and texts by a language model; each falls back to rules and templates."""

    @property
    def _llm(self) -> LlmSettings:
        return self.config.decisions.llm

    def _ask_model(self) -> Ask:
        return Ask(self.warehouse, self._llm, self.clock)

    def _asked(self, settings: DecisionSettings, segment: str) -> tuple[str, ...]:
        """Before a batch under the policy `llm`: have the model choose in the situations that are new. A dry run asks nothing."""
        if settings.policy != "llm":
            return ()
        table = tables.load(self.folder)
        made = choose.situations(self.warehouse, settings, table, self.clock, segment)
        if self.warehouse.rehearsing:
            return ("a dry run asks no language model; the table answers where nothing is on record",)
        with self._ask_model() as ask:
            done = choose.prepare(ask, self.warehouse, made, self.clock)
        return (done.sentence,) if done.fallbacks else ()

    def _told(self) -> tuple[str, ...]:
        """After a batch: each decision by a channel with a text gets its text."""
        done = messages_texts.assign(self.warehouse, self._llm, messages.load(self.folder), self.clock)
        if not self._llm.enabled or not done.by_template:
            return ()
        why = "; ".join(f"{reason}: {count:,}" for reason, count in sorted(done.by_template.items()))
        return (
            f"{done.by_model:,} of {counted(done.decisions, 'message')} by the language model, the others as templates ({why})",
        )

    # ------------------------------------------------------------------ texts

    def preview_messages(self, segment: str, most: int, offers: bool | None = None) -> list[Preview]:
        """Have texts written for the largest buckets of a segment, beside the template that goes out without them.

        They are put on record as proposed. What was written before is not asked for again.
        """
        table = tables.load(self.folder)
        known_segment(segment, table.segments)
        if segment == "all":
            one_of = ", ".join(name for name in table.segments if name != "all")
            raise InvalidValue(f"segment: found 'all'; texts are written for one segment at a time: {one_of}")
        templates = messages.load(self.folder)
        kinds = _kinds(table, templates, segment, offers)
        with self.locked("headwater messages preview"), self._ask_model() as ask:
            self._need(CANDIDATES)
            slots = messages_texts.largest(self.warehouse, self._llm, segment, kinds, most)
            return [self._preview(ask, slot, templates[slot.template], customers) for slot, customers in slots]

    def why_no_preview(self, segment: str, offers: bool | None = None) -> str:
        """Why `preview_messages` has found nothing, in a sentence."""
        if not _kinds(tables.load(self.folder), messages.load(self.folder), segment, offers):
            kind = {None: "", True: " with an offer", False: " without an offer"}[offers]
            return f"no action{kind} of this segment has a template with a text"
        return "nobody is in this segment now"

    def _preview(self, ask: Ask, slot: messages_texts.Slot, template: Template, customers: int) -> Preview:
        kept, reply = write(ask, self.warehouse, slot, template, self.clock)
        plain = template.text(offers=slot.offers)
        discount = 5.0 if slot.offers else None
        text = kept.text if kept else None
        return Preview(
            about=slot.about,
            customers=customers,
            template=plain,
            shown_template=messages.fill(plain, SOMEBODY, discount, self._llm.language),
            text=text,
            shown_text=messages.fill(text, SOMEBODY, discount, self._llm.language) if text else None,
            text_id=kept.text_id if kept else None,
            state=kept.state if kept else "none",
            problems=tuple(one.sentence for one in kept.problems) if kept else (),
            reason=reply.reason,
            request=reply.request,
        )

    def message_texts(self, state: str | None = None) -> list[Kept]:
        """Texts on record, newest first."""
        with self.locked("headwater messages list"):
            if state is None:
                return messages_texts.texts(self.warehouse)
            return messages_texts.texts(self.warehouse, "t.state = ?", [state])

    def review_messages(self, verdict: str, text_ids: Sequence[str], campaign: str | None) -> StageResult:
        """Approve or reject texts: those named, or all of a campaign that wait."""
        if bool(text_ids) == (campaign is not None):
            raise InvalidValue(
                "texts: name some of them by id, or a whole campaign with --campaign, not both and not neither"
            )
        who = os.environ.get("USER", "unknown")
        with self.locked(f"headwater messages {verdict}"):
            done = messages_texts.review(self.warehouse, verdict, who, self.clock, text_ids=text_ids, campaign=campaign)
            to_send = messages_texts.waiting(self.warehouse, self._llm)
        said = f"{counted(len(done), 'text is', 'texts are')} {verdict} by {who}"
        waiting = sum(to_send.get(slot_id, 0) for slot_id in {one.slot.slot_id for one in done})
        if verdict == "approved" and not self._llm.enabled:
            said += "; templates go out as long as decisions.llm.enabled is false"
        elif waiting:
            said += f"; the next `headwater decide` or `headwater activate` looks at the text of {counted(waiting, 'message')} not sent yet"
        else:
            said += "; no message that it concerns waits to be sent, so it counts for the next that are decided"
        return StageResult("messages", "ok", len(done), said, {"texts": [one.text_id for one in done]})

    # ------------------------------------------------------------------ risk

    def ask_risks(self) -> StageResult:
        """Ask for a churn risk per segment and bucket."""
        with self.locked("headwater risk ask"), self._ask_model() as ask:
            self._need(CANDIDATES)
            done = risk.ask_risks(ask, self.warehouse, self.clock)
        said = f"{done.answered:,} of {counted(done.buckets, 'bucket has', 'buckets have')} an estimate"
        why = tuple(f"{reason}: {counted(count, 'bucket')}" for reason, count in done.fallbacks.items())
        return StageResult("risk", "ok" if done.answered else "skipped", done.answered, said, asdict(done), why)

    def calibrate_risks(self) -> StageResult:
        """Hold the estimates against what happened. Raises Refused with the sentence when they may not be used."""
        with self.locked("headwater risk calibrate"):
            verdict: Calibration = risk.calibrate(self.warehouse, self._llm, self.clock)
        if not verdict.usable:
            raise Refused(f"the risks may not be used: {verdict.reason}")
        return StageResult("risk", "ok", verdict.customers, f"the risks may be used: {verdict.reason}", asdict(verdict))

    def risks(self) -> list[dict[str, Any]]:
        """The calibrated risk of every segment and bucket in which there are customers, highest first. Raises Refused."""
        names: list[str] = list(self._llm.features)
        columns = ", ".join(["segment", *names])
        with self.locked("headwater risk show"):
            self._need(CANDIDATES)
            rows = self.warehouse.rows(
                f"select {columns}, count(*) as customers from {CANDIDATES} where segment is not null group by all"
            )
            found = []
            refusal: Refused | None = None
            for row in rows:
                features = {name: row[name] for name in names}
                try:
                    found.append(
                        {**row, "churn_risk": round(risk.score(self.warehouse, self._llm, row["segment"], features), 3)}
                    )
                except Refused as error:
                    refusal = error
        if not found and refusal is not None:
            raise refusal
        return sorted(found, key=lambda row: -row["churn_risk"])

    # ------------------------------------------------------------------ the model

    def language_model(self) -> Model:
        """Which model, whether it may be asked, and what it came to today."""
        now = naive_utc(self.clock.now())
        with self.locked("headwater llm"):
            spent = self._ask_model().spent(now)
            statuses = dict(
                self.warehouse.execute(
                    "select status, count(*) from headwater.llm_calls where asked_at >= ? group by all order by all",
                    [now.replace(hour=0, minute=0, second=0, microsecond=0)],
                ).fetchall()
            )
            verdicts = self.warehouse.rows(
                "select * from headwater.llm_calibrations where model = ? order by calibrated_at desc limit 1",
                [self._llm.model],
            )
        has_key = bool(os.environ.get(self._llm.key_env))
        return Model(self._llm, has_key, spent, statuses, verdicts[0] if verdicts else None)


def _kinds(
    table: Table, templates: Mapping[str, Template], segment: str, offers: bool | None
) -> dict[str, tuple[str, bool]]:
    """The actions of a segment that have a text: action to its template, and whether it comes with an offer."""
    return {
        action.action_id: (action.template, action.offer > 0)
        for action in table.actions
        if segment in action.segments
        and action.template in templates
        and set(action.channels) & set(messages_texts.CHANNELS)
        and (offers is None or (action.offer > 0) == offers)
    }
