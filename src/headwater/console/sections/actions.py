"""What was decided and why not, and what was delivered."""

from typing import Any

from headwater.console import activation_queries, queries
from headwater.console.charts import Bar, Part, Stack, bars, stacked
from headwater.console.formats import NOTHING, count, day, moment, percent
from headwater.console.page import Badge, Empty, Figure, Section
from headwater.console.reader import TONES, Reader, legend, table
from headwater.decisions.guardrails import sentences

NOTHING_TO_OFFER = "nothing to offer"


def decisions(reader: Reader) -> Section:
    """Actions, and why there was none."""
    title, lead = "Decisions", "What to do for each customer, and which rule stood in the way."
    total = reader.read(queries.decision_summary)
    if total is None:
        return Section(
            "decisions", title, lead, empty=reader.why("Nothing was decided yet.", "headwater decide", stage="decide")
        )
    actions = reader.read(queries.decisions_by_action)
    tones = iter(TONES * (len(actions) // len(TONES) + 1))
    acted = [
        Bar(
            row["template"] or row["action"],
            row["customers"],
            f"{count(row['customers'])} · {row['channel'] or 'no channel'}",
            next(tones),
            f"{row['action']} by {row['channel'] or 'no channel'}: {count(row['customers'])} customers, discount {percent(row['mean_discount_pct'] / 100, 1) if row['mean_discount_pct'] is not None else NOTHING} on average",
        )
        for row in actions
        if row["action"] != "none"
    ]
    behind = table(
        ("Action", "Channel", "Template", "Customers", "Share", "Mean discount"),
        (
            (r["action"], r["channel"], r["template"], count(r["customers"]), percent(r["customer_share"], 1),
             percent(r["mean_discount_pct"] / 100, 1) if r["mean_discount_pct"] is not None else NOTHING)
            for r in actions
        ),
        (3, 4, 5),
    )  # fmt: skip
    by_action = (
        Figure("By action", bars(acted, name="Customers by action"), table=behind)
        if acted
        else Figure("By action", table=behind, empty=Empty("No customer was given an action; see “Why no action”."))
    )
    lead = f"{count(total['acted'])} of {count(total['customers'])} customers get an action."
    blocks = [row for row in reader.read(queries.decisions_by_block) if row["blocked_by"]]
    if blocks:
        lead += f" Where there is none, it is most often for the rule “{blocks[0]['blocked_by']}” ({count(blocks[0]['customers'])})."
    if total["holdout"]:
        first = next((row["customers"] for row in blocks if row["blocked_by"] == "holdout"), 0)
        others = total["holdout"] - first
        lead += f" {count(total['holdout'])} are held out and never contacted, so that the effect can be measured"
        lead += f"; for {count(others)} of them another rule had said no before." if others else "."
    alerts = (
        (f"{count(total['rejects'])} inputs were refused; they are in headwater.decision_rejects.",)
        if total["rejects"]
        else ()
    )
    return Section(
        "decisions",
        title,
        lead,
        (by_action, *_blocks(reader)),
        (Badge(f"last decided {moment(total['last_at'])}"),),
        alerts=alerts,
    )


def _blocks(reader: Reader) -> tuple[Figure, ...]:
    rows = reader.read(queries.decisions_by_block)
    title = "Why no action"
    if not rows:
        return (Figure(title, empty=Empty("Every customer was given an action.")),)
    meaning = sentences() | {
        NOTHING_TO_OFFER: "No rule stood in the way: there is no action for the customer's segment and goal."
    }
    shown = []
    for row in rows:
        label, tone = (row["blocked_by"], "warn") if row["blocked_by"] else (NOTHING_TO_OFFER, "mute")
        shown.append(Bar(label, row["customers"], count(row["customers"]), tone))
    behind = table(("Reason", "Customers"), ((bar.label, bar.text) for bar in shown), (1,))
    explained = table(
        ("Reason", "What it means"),
        ((bar.label, meaning.get(bar.label, "a rule of your own")) for bar in shown),
    )
    return (
        Figure(title, bars(shown, name="Customers without an action by reason"), table=behind),
        Figure("What the reasons mean", table=explained, open=True, wide=True),
    )


def activation(reader: Reader) -> Section:
    """What was sent and what the destinations said."""
    title, lead = "Activation", "What was planned, sent and confirmed, by sync."
    runs, waiting = reader.read(activation_queries.syncs), reader.read(activation_queries.outbox)
    if not runs and not waiting:
        return Section(
            "activation",
            title,
            lead,
            empty=reader.why(
                "No sync has run yet and the outbox is empty.", "headwater activate --no-dry-run", stage="plan"
            ),
        )
    figures, badges = [], []
    if runs:
        real = [row for row in runs if not row["dry_run"]]
        confirmed, failed = sum(r["confirmed"] or 0 for r in real), sum(r["failed"] or 0 for r in real)
        ever = sum(row["confirmed_ever"] for row in runs)
        lead = (
            f"Destinations have confirmed {count(ever)} rows so far. In the newest run of each sync that could send something, "
            f"{count(confirmed)} were confirmed and {count(failed)} failed."
        )
        badges = [Badge(f"{count(failed)} failed", "bad")] if failed else [Badge("no failures", "good")]
        figures.append(_sync_runs(runs))
    if waiting:
        figures.append(_outbox(waiting))
    figures.extend(_by_day(reader))
    failures = reader.read(activation_queries.delivery_failures)
    if failures:
        behind = table(
            ("Sync", "Rows", "Code", "The destination says", "What to do"),
            ((f["sync"], count(f["rows"]), f["code"], f["message"], f["advice"]) for f in failures),
            (1,),
            cards=True,
        )
        figures.append(Figure("Rows that failed", table=behind, open=True, wide=True))
    reasons = reader.read(activation_queries.held)
    if reasons:
        behind = table(
            ("Sync", "State", "Reason", "Operations"),
            ((h["sync"], h["state"], h["reason"], count(h["operations"])) for h in reasons),
            (3,),
            cards=True,
        )
        figures.append(Figure("Held back or failed, by reason", table=behind, open=True, wide=True))
    return Section("activation", title, lead, tuple(figures), tuple(badges))


def _sync_runs(rows: list[dict[str, Any]]) -> Figure:
    states = (("confirmed", "confirmed", "good"), ("held", "held back", "warn"), ("failed", "failed", "bad"))
    shown = []
    for row in rows:
        parts = [Part(text, row[name] or 0, count(row[name] or 0), tone) for name, text, tone in states]
        rest = max((row["planned"] or 0) - (row["confirmed"] or 0) - (row["failed"] or 0), 0)
        parts.append(Part("not sent", rest, count(rest), "mute"))
        dry = " (dry run)" if row["dry_run"] else ""
        total = sum(part.value for part in parts)
        shown.append(Stack(row["sync"] + dry, f"{count(row['confirmed'])} of {count(total)}", tuple(parts)))
    behind = table(
        ("Sync", "Status", "Planned", "Sent", "Confirmed", "Failed", "Held", "Started", "Says"),
        (
            (r["sync"], r["status"] + (" (dry run)" if r["dry_run"] else ""), *(count(r[c]) for c in ("planned", "sent", "confirmed", "failed", "held")), moment(r["started_at"]), r["message"])
            for r in rows
        ),
        range(2, 7), cards=True,
    )  # fmt: skip
    picture = stacked(shown, name="Planned rows by result and sync")
    return Figure("Newest run of each sync that could send something", picture, legend(shown), table=behind)


def _by_day(reader: Reader) -> tuple[Figure, ...]:
    """What became of rows day by day; nothing while there is one day only, which the newest runs show."""
    rows = reader.read(activation_queries.activation_by_day)
    if len(rows) < 2:
        return ()
    states = (("confirmed", "confirmed", "good"), ("held", "held back", "warn"), ("failed", "failed", "bad"))
    shown = [
        Stack(
            day(row["day"]),
            f"{count(row['confirmed'])} confirmed",
            tuple(Part(text, row[name], count(row[name]), tone) for name, text, tone in states),
        )
        for row in rows
    ]
    behind = table(
        ("Day", "Confirmed", "Held back", "Failed"),
        ((day(r["day"]), count(r["confirmed"]), count(r["held"]), count(r["failed"])) for r in rows),
        (1, 2, 3),
    )
    picture = stacked(shown, name="Delivered rows by result and day", to_scale=True)
    return (Figure("Delivered by day", picture, legend(shown), table=behind, wide=True),)


SUM_WIDTH = 28
"""Letters that the states of a bar may take above it; what is longer gives way to their sum."""


def _outbox(rows: list[dict[str, Any]]) -> Figure:
    tones = {"done": "good", "ready": "t0", "claimed": "t2", "held": "warn", "failed": "bad", "superseded": "mute"}
    names = sorted({row["sync"] for row in rows})
    shown = []
    for name in names:
        mine = {row["state"]: row["operations"] for row in rows if row["sync"] == name}
        parts = tuple(Part(state, mine.get(state, 0), count(mine.get(state, 0)), tone) for state, tone in tones.items())
        states = " · ".join(f"{part.text} {part.label}" for part in parts if part.value)
        text = states if len(states) <= SUM_WIDTH else f"{count(sum(mine.values()))} operations"
        shown.append(Stack(name, text, parts))
    behind = table(
        ("Sync", "State", "Operations"), ((r["sync"], r["state"], count(r["operations"])) for r in rows), (2,)
    )
    return Figure(
        "The outbox now",
        stacked(shown, name="Operations in the outbox by state and sync"),
        legend(shown),
        table=behind,
    )
