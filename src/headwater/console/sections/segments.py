"""Sizes of the segments, and who moved between them."""

from collections.abc import Sequence
from typing import Any

from headwater.console import queries
from headwater.console.charts import Bar, Link, Node, bars, flow
from headwater.console.formats import count, day, percent, ratio
from headwater.console.page import Empty, Figure, Section
from headwater.console.reader import Reader, table


def segments(reader: Reader) -> Section:
    """Sizes of ML and rule segments, with what they are worth."""
    title = "Segments"
    ml, rules = reader.read(queries.ml_segments), reader.read(queries.rule_segments)
    lead = "Who is in what: segments found by a model from buying behaviour, and segments by rule."
    if not ml and not rules:
        return Section(
            "segments", title, lead, empty=reader.why("There are no customers.", model="fct_customer_segments")
        )
    named = [row for row in ml if row["segment_id"] is not None]
    if named and named[0]["revenue_share"]:
        top = named[0]
        lead = f"{top['segment_name']} are {percent(top['customer_share'])} of the customers and bring {percent(top['revenue_share'])} of their revenue."
    return Section(
        "segments",
        title,
        lead,
        (_ml_sizes(reader, ml, has_names=bool(named)), _rule_sizes(reader, rules), *_stability(reader)),
        reader.model_badges if named else (),
        reader.doubt if named else "",
    )


def _ml_sizes(reader: Reader, rows: list[dict[str, Any]], *, has_names: bool) -> Figure:
    title = "Segments by model"
    if not has_names:
        return Figure(
            title,
            empty=reader.why(
                "No customer is in a segment of the model yet.", "headwater segment assign", stage="segment"
            ),
        )
    model = reader.read(queries.segment_model)
    jaccard = model["jaccard"] if model else {}
    shown = [
        Bar(
            row["segment_name"],
            float(row["customer_share"]),
            f"{count(row['customers'])} · {reader.short_money(row['revenue'])}",
            reader.tone_of_segment.get(row["segment_name"], "mute"),
            f"{row['segment_name']}: {count(row['customers'])} customers ({percent(row['customer_share'], 1)}), {reader.money(row['revenue'])} ({percent(row['revenue_share'], 1)} of revenue)",
            row["revenue_share"] or 0,
        )
        for row in rows
    ]
    behind = table(
        ("Segment", "Customers", "Share", "Revenue", "Share", "Average order", "Days quiet, median", "Stability"),
        (
            (row["segment_name"], count(row["customers"]), percent(row["customer_share"], 1), reader.money(row["revenue"]),
             percent(row["revenue_share"], 1), reader.money(row["avg_order_value"]), count(row["median_days_quiet"]),
             ratio(jaccard.get(row["segment_name"])))
            for row in rows
        ),
        range(1, 8),
    )  # fmt: skip
    return Figure(
        title,
        bars(shown, name="Customers and revenue by ML segment", whole=1),
        (("t0", "share of customers (colour of the segment)"), ("second", "share of revenue")),
        "Revenue of customers; orders without a customer are not in it. Stability: how surely a segment is found again, 0 to 1.",
        behind,
    )


def _rule_sizes(reader: Reader, rows: list[dict[str, Any]]) -> Figure:
    title = "Segments by rule"
    if not rows:
        return Figure(title, empty=reader.why("There are no customers.", model="mart_marketing__segment_scores"))
    shown = [
        Bar(
            _shown(row["segment"]),
            row["customer_share"],
            f"{count(row['customers'])} · {percent(row['customer_share'])}",
            reader.tone_of_rule.get(row["segment"], "mute"),
        )
        for row in rows
    ]
    behind = table(
        ("Segment", "Customers", "Share", "Lifetime revenue"),
        (
            (b.label, count(r["customers"]), percent(r["customer_share"], 1), reader.money(r["revenue"]))
            for b, r in zip(shown, rows, strict=True)
        ),
        (1, 2, 3),
    )
    return Figure(
        title,
        bars(shown, name="Customers by rule segment", whole=1),
        table=behind,
        note="A customer is in at most one, the first that fits.",
    )


MEASURES = {
    "psi": "change of a feature (PSI)",
    "share_drift": "change of the shares (PSI)",
    "inertia": "distance to the centres",
}
"""What the measures of `headwater.segment_monitor` are called on the page."""


def _stability(reader: Reader) -> tuple[Figure, ...]:
    """What the monitor measured beside shares and transitions: drift of the features, and anything above its threshold."""
    rows = [row for row in reader.read(queries.monitor) if row["threshold"] is not None or row["alert"]]
    if not rows:
        return ()
    behind = table(
        ("Measure", "Of", "Value", "Threshold", "Verdict"),
        (
            (
                MEASURES.get(r["measure"], r["measure"]),
                r["subject"],
                ratio(r["value"], 3),
                ratio(r["threshold"], 3),
                "above it" if r["alert"] else "fine",
            )
            for r in rows
        ),
        (2, 3),
        cards=True,
    )
    alerts = sum(row["alert"] for row in rows)
    note = (
        f"{count(alerts)} of {count(len(rows))} measures are above their threshold."
        if alerts
        else "Nothing drifts beyond chance."
    )
    return (Figure("Drift since the model was trained", table=behind, note=note, wide=True, open=True),)


def migration(reader: Reader) -> Section:
    """Who moved between segments."""
    title = "Segment migration"
    ml, rules = reader.read(queries.ml_transitions), reader.read(queries.rule_transitions)
    names = [row["segment_name"] for row in reader.read(queries.ml_segments)]
    figures = []
    if ml:
        moved = sum(row["customers"] for row in ml if row["source"] != row["target"])
        total = sum(row["customers"] for row in ml)
        lead = f"At the last assignment that changed anything ({day(ml[0]['moved_at'])}) {count(moved)} of {count(total)} customers moved, came or left."
        figures.append(_flow(reader, "Segments by model", ml, names, reader.tone_of_segment))
    else:
        lead = "How customers move from one segment to another."
        reason = (
            "The memberships have not changed since they were first assigned, so nobody has moved."
            if names
            else "No customer is in a segment of the model yet."
        )
        figures.append(
            Figure("Segments by model", empty=Empty(reason) if names else reader.why(reason, stage="segment"))
        )
    if rules:
        order = [row["segment"] for row in reader.read(queries.rule_segments)]
        figures.append(
            _flow(
                reader,
                "Segments by rule, at the last two decisions of each customer",
                rules,
                order,
                reader.tone_of_rule,
            )
        )
    else:
        reason = "Nobody has been decided on twice so far, so there is no before and after."
        figures.append(Figure("Segments by rule, at the last two decisions of each customer", empty=Empty(reason)))
    figures.extend(_forecast(reader))
    return Section(
        "migration", title, lead, tuple(figures), reader.model_badges if ml else (), reader.doubt_in_short if ml else ""
    )


def _shown(segment: str) -> str:
    return "in no segment" if segment == queries.NO_SEGMENT else segment


def _flow(
    reader: Reader, title: str, rows: list[dict[str, Any]], order: Sequence[str], tones: dict[str, str]
) -> Figure:
    def place(name: str) -> tuple[int, str]:
        return (order.index(name) if name in order else len(order), name)

    rows = [row | {end: _shown(row[end]) for end in ("source", "target")} for row in rows]
    sources = sorted({row["source"] for row in rows}, key=place)
    targets = sorted({row["target"] for row in rows}, key=place)
    links = [
        Link(
            row["source"],
            row["target"],
            row["customers"],
            f"{row['source']} → {row['target']}: {count(row['customers'])} customers",
        )
        for row in rows
    ]
    values = {(row["source"], row["target"]): row["customers"] for row in rows}
    behind = table(
        ("From ↓  to →", *targets, "all"),
        (
            (source, *(count(values.get((source, target), 0)) for target in targets), count(sum(values.get((source, t), 0) for t in targets)))
            for source in sources
        ),
        range(1, len(targets) + 2),
    )  # fmt: skip
    picture = flow(
        [Node(name, tones.get(name, "mute")) for name in sources],
        [Node(name, tones.get(name, "mute")) for name in targets],
        links,
        name=f"{title}: customers from segment to segment",
    )
    return Figure(
        title,
        picture,
        note="Left: before. Right: after. Pale: customers who stayed. Small blocks are drawn larger than their share, which is written beside them.",
        table=behind,
    )


def _forecast(reader: Reader) -> tuple[Figure, ...]:
    measures = reader.read(queries.monitor)
    forecast = {row["subject"]: row["value"] for row in measures if row["measure"] == "forecast"}
    if not forecast:
        return ()
    now = {row["subject"]: row["value"] for row in measures if row["measure"] == "share"}
    order = sorted(forecast, key=lambda name: (-forecast[name], name))
    shown = [
        Bar(
            name,
            forecast[name],
            f"{percent(now.get(name), 1)} → {percent(forecast[name], 1)}",
            reader.tone_of_segment.get(name, "mute"),
            second=now.get(name),
        )
        for name in order
    ]
    behind = table(
        ("Segment", "Share now", "Forecast share"),
        ((name, percent(now.get(name), 1), percent(forecast[name], 1)) for name in order),
        (1, 2),
    )
    return (
        Figure(
            "Where the shares are heading",
            bars(shown, name="Share now and forecast share by segment", whole=1),
            (("t0", "forecast (colour of the segment)"), ("second", "now")),
            "Expected if another period like the last one followed; customers without a segment are left out.",
            behind,
            wide=True,
        ),
    )
