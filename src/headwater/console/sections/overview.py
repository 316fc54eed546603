"""The headline, revenue over time, and what the run did."""

from headwater.console import activation_queries, activity_queries, queries
from headwater.console.charts import Point, area
from headwater.console.formats import FIRM, NOTHING, count, day, moment, month, ratio, short, span
from headwater.console.page import Badge, Empty, Figure, Section, Tile
from headwater.console.reader import Reader, table


def tiles(reader: Reader) -> tuple[Tile, ...]:
    """The headline numbers."""
    total = reader.read(queries.headline)
    decided = reader.read(queries.decision_summary)
    syncs = reader.read(activation_queries.syncs)
    unattributed = total["unattributed_orders"]
    per_order = total["revenue"] / total["orders"] if total["orders"] else None
    return (
        Tile(
            "Revenue, net",
            reader.money(total["revenue"]),
            f"{reader.money(total['unattributed_revenue'])} of it in {count(unattributed)} orders without a customer"
            if unattributed
            else "every order has a customer"
            if total["orders"]
            else "no orders yet",
        ),
        Tile(
            "Customers",
            count(total["customers"]),
            f"{count(total['buyers'])} have bought, {count(total['active'])} in the last 30 days",
        ),
        Tile(
            "Orders",
            count(total["orders"]),
            f"{reader.money(per_order)} each" if per_order is not None else "no orders yet",
        ),
        Tile(
            "Decided",
            count(decided["acted"]) if decided else NOTHING,
            f"of {count(decided['customers'])} customers get an action" if decided else "no decisions yet",
        ),
        Tile(
            "Delivered",
            count(sum(row["confirmed_ever"] for row in syncs)) if syncs else NOTHING,
            "rows that destinations have confirmed so far",
        ),
    )


def freshness(reader: Reader) -> str:
    """One sentence: how old the newest rows are, seen from as_of."""
    total = reader.read(queries.headline)
    as_of = reader.as_of
    if as_of is None:
        return "Nothing is loaded yet: run `headwater run`."
    parts = [
        f"newest {what} {span(as_of - at)} before" if at < as_of else f"newest {what} at that moment"
        for what, at in (("order", total["newest_order_at"]), ("event", total["newest_event_at"]))
        if at is not None
    ]
    if total["files"]:
        parts.append(f"{count(total['files'])} files loaded {moment(total['newest_file_at'])}")
    return "; ".join(parts) or "no orders and no events"


def overview(reader: Reader) -> Section:
    """Revenue over time."""
    rows = reader.read(queries.revenue_by_month)
    title, id_ = "Revenue over time", "overview"
    if not rows:
        empty = reader.why(
            "There are no orders among the files: add their file under `orders` in mapping.yml.",
            stage="build_upstream",
            model="fct_orders",
        )
        return Section(id_, title, "Net revenue by month of the order.", empty=empty)
    whole = [row for row in rows if row["is_whole"]] or rows
    best = max(whole, key=lambda row: row["revenue"])
    points = [
        Point(
            month(row["month"]),
            float(row["revenue"]),
            f"{month(row['month'])}: {reader.money(row['revenue'])}, {count(row['orders'])} orders"
            + ("" if row["is_whole"] else " (the month is not over)"),
        )
        for row in rows
    ]
    behind = table(
        ("Month", "Revenue", "Orders"),
        (
            (month(row["month"]) + ("" if row["is_whole"] else " (not over)"), reader.money(row["revenue"]), count(row["orders"]))
            for row in rows
        ),
        (1, 2),
    )  # fmt: skip
    note = (
        ""
        if rows[-1]["is_whole"]
        else f"{month(rows[-1]['month'])} is not over at this moment: its point will still move."
    )
    return Section(
        id_,
        title,
        f"Net revenue by month of the order. The best month was {month(best['month'])} with {reader.money(best['revenue'])}.",
        (
            Figure(
                "Revenue by month",
                area(points, name="Net revenue by month", written=reader.short_money),
                note=note,
                table=behind,
                wide=True,
            ),
            *_engagement(reader),
        ),
    )


def _engagement(reader: Reader) -> tuple[Figure, ...]:
    """How much was going on in the shop, week by week."""
    rows = reader.read(activity_queries.engagement_by_week)
    if not any(row["sessions"] for row in rows):
        return ()
    points = [
        Point(
            f"{row['week'].day}{FIRM}{row['week']:%b}",
            float(row["sessions"]),
            f"week of {day(row['week'])}: {count(row['sessions'])} sessions, {count(row['orders'])} orders",
        )
        for row in rows
    ]
    behind = table(
        ("Week of", "Sessions", "Events", "Orders", "Orders per 100 sessions"),
        (
            (day(row["week"]), count(row["sessions"]), count(row["events"]), count(row["orders"]), ratio(_hundredfold(row["orders_per_session"]), 1))
            for row in rows
        ),
        range(1, 5),
    )  # fmt: skip
    note = f"In the last whole week, {ratio(_hundredfold(rows[-1]['orders_per_session']), 1)} orders for every 100 sessions. Weeks begin on Monday."
    picture = area(points, name="Sessions by week", written=short)
    return (Figure("Engagement: sessions by week", picture, note=note, table=behind, wide=True),)


def _hundredfold(share: float | None) -> float | None:
    return None if share is None else 100 * float(share)


def run(reader: Reader) -> Section:
    """What each stage did the last time it ran, and what it warned of."""
    # the stage that writes this page is still running while it is written
    rows = [row for row in reader.read(queries.stages) if (row["stage"], row["status"]) != ("export", "running")]
    title, lead = "What the run did", "What each stage wrote the last time it ran."
    if not rows:
        return Section("run", title, lead, empty=Empty("No stage has run yet.", "headwater run"))
    alerts = tuple(f"{row['stage']}: {warning}" for row in rows for warning in row["warnings"])
    behind = table(
        ("Stage", "Status", "Rows", "Took", "What it says"),
        (
            (
                row["stage"],
                row["status"],
                count(row["row_count"]),
                span(row["ended_at"] - row["started_at"]) if row["ended_at"] else NOTHING,
                row["message"] or NOTHING,
            )
            for row in rows
        ),
        (2, 3),
        cards=True,
    )
    figures = [Figure("Stages", table=behind, open=True, wide=True)]
    files = reader.read(queries.files)
    if files:
        figures.append(
            Figure(
                "Files",
                table=table(
                    ("File", "Rows read", "Loaded", "Rejected", "When"),
                    ((f["file"], count(f["read_rows"]), count(f["loaded_rows"]), count(f["rejected_rows"]), moment(f["loaded_at"])) for f in files),
                    (1, 2, 3),
                    cards=True,
                ),
                note="Lines that are no rows at all are listed under “Data quality”.",
                wide=True,
                open=len(files) <= 12,
            )
        )  # fmt: skip
    failed = [row["stage"] for row in rows if row["status"] in ("failed", "interrupted")]
    skipped = [row["stage"] for row in rows if row["status"] == "skipped"]
    badges = [Badge(f"{len(failed)} failed", "bad")] if failed else [Badge("nothing failed", "good")]
    refused = [row["stage"] for row in rows if row["status"] == "refused"]
    badges += [
        Badge(f"{len(some)} {what}", "warn") for some, what in ((skipped, "skipped"), (refused, "refused")) if some
    ]
    if alerts:
        badges.append(Badge(f"{count(len(alerts))} warning{'s' if len(alerts) != 1 else ''}", "warn"))
    return Section("run", title, lead, tuple(figures), tuple(badges), alerts=alerts)
