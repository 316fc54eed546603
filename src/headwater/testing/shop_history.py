"""An earlier campaign of the made-up shop, so that there is something to measure: decided at random among what was allowed, sent,
and answered by people whose answers are drawn from rates that are written here.

The decisions are made by the product itself, as of 45 days before the shop's last day, with a tenth held out. Orders are the
shop's own, and what the messages brought beside them; opens, clicks and these orders stand in `responses.csv`, which is taken in
as anybody's file would be. Doing it twice changes nothing.
"""

import csv
from collections.abc import Iterator
from datetime import UTC, timedelta
from pathlib import Path

from headwater.clock import FixedClock
from headwater.decisions import table as tables
from headwater.decisions.batch import decide_batch
from headwater.decisions.hashing import digest_sql, unit
from headwater.records.stage import StageResult
from headwater.stack import Stack

DAYS_AGO = 45
GOAL = "conversion"
FILE = "responses.csv"
OPENS, CLICKS = 0.42, 0.13
BUYS = {
    "winback_soft": 0.17,
    "winback_soft_no_offer": 0.06,
    "onboarding_tips": 0.08,
    "nps_followup_then_offer": 0.14,
    "nps_followup_no_offer": 0.10,
}
"""Action to the share of people who order within a fortnight because of it."""


def earlier_campaign(stack: Stack) -> Iterator[StageResult]:
    """Decide, send and answer, unless something was decided already. The models must be built."""
    warehouse = stack.warehouse
    if warehouse.value("select count(*) from headwater.decision_log"):
        return
    moment = warehouse.value("select max(as_of) from headwater.clock") - timedelta(days=DAYS_AGO)
    batch = decide_batch(
        warehouse,
        stack.config.decisions.changed(goal=GOAL, policy="epsilon_mixed", epsilon=0.6),
        FixedClock(moment.replace(tzinfo=UTC)),
        "earlier",
        relation=f"""(select c.* from main.int_decision_candidates c join main.dim_customer d using (customer_id)
            where coalesce(d.signup_at <= timestamp '{moment}', true))""",
        table=tables.load(stack.folder),
        as_of=moment,
    )
    warehouse.execute(
        f"""insert into headwater.contact_ledger
            select {digest_sql("'contact'", "decision_id")}, customer_id, channel, template, decision_id, decided_at
            from headwater.decision_log where run_id = 'earlier' and action <> 'none'"""
    )
    path = stack.folder / FILE
    answers = _answers(stack, path)
    text = f"an earlier campaign, made up: {batch.message}; {answers:,} answers in {FILE}"
    yield StageResult("campaign", "ok", batch.decided, text, {"file": str(path)}, batch.warnings)
    yield stack.outcomes_import(path)


def _answers(stack: Stack, path: Path) -> int:
    sent = stack.warehouse.execute(
        """select decision_id, action, decided_at from headwater.decision_log
           where run_id = 'earlier' and action <> 'none' order by decision_id"""
    ).fetchall()
    rows = []
    for decision, action, at in sent:

        def happens(kind: str, share: float, decision: str = decision) -> bool:
            return unit("answer", kind, decision) < share

        def row(kind: str, value: str = "", decision: str = decision, at=at) -> tuple[str, ...]:
            moment = at + timedelta(hours=1 + 300 * unit("moment", kind, decision))
            return (f"{kind}-{decision[:12]}", decision, kind, value, f"{moment:%Y-%m-%dT%H:%M:%SZ}")

        if happens("open", OPENS):
            rows.append(row("open"))
        if happens("click", CLICKS):
            rows.append(row("click"))
        if happens("order", BUYS.get(action, 0.05)):
            rows.append(row("order", f"{20 + 80 * unit('worth', decision):.2f}"))
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(("outcome_id", "decision_id", "kind", "value", "occurred_at"))
        writer.writerows(rows)
    return len(rows)
