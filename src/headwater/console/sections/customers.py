"""The RFM map, cohort retention and the expected value of customers."""

from math import sqrt

from headwater.console import queries
from headwater.console.charts import Bar, Bin, Cell, bars, heat_map, histogram
from headwater.console.formats import count, month, percent, short
from headwater.console.page import Empty, Figure, Section
from headwater.console.reader import Reader, table


def rfm(reader: Reader) -> Section:
    """Recency × frequency, coloured by revenue."""
    title, lead = (
        "RFM map",
        "Recency against frequency: the stronger the colour, the more revenue the customers of a field have brought.",
    )
    rows = reader.read(queries.rfm)
    if not rows:
        return Section(
            "rfm",
            title,
            lead,
            empty=reader.why(
                "No customer has bought anything yet, so there is no recency and no frequency.",
                model="mart_marketing__customer_360",
            ),
        )
    found = {(row["recency"], row["frequency"]): row for row in rows}
    most = max(float(row["revenue"]) for row in rows) or 1
    recencies, frequencies = range(5, 0, -1), range(1, 6)
    cells = []
    for recency in recencies:
        line = []
        for frequency in frequencies:
            row = found.get((recency, frequency))
            if row is None:
                line.append(Cell(0, "", tip="nobody"))
                continue
            tip = f"recency {recency}, frequency {frequency}: {count(row['customers'])} customers, {reader.money(row['revenue'])} ({percent(row['revenue_share'], 1)} of revenue)"
            line.append(
                Cell(
                    sqrt(max(float(row["revenue"]), 0) / most),
                    short(row["customers"]),
                    reader.short_money(row["revenue"]),
                    tip,
                )
            )
        cells.append(line)
    picture = heat_map(
        [f"R{r}" for r in recencies], [f"F{f}" for f in frequencies], cells,
        name="Customers and revenue by recency and frequency score", label_share=9, row_height=52, across="how often they buy: seldom → often",
    )  # fmt: skip
    at_risk = [row for row in rows if row["recency"] <= 2 and row["frequency"] >= 4]
    if at_risk:
        worth = sum(row["revenue"] for row in at_risk)
        lead = f"{count(sum(r['customers'] for r in at_risk))} customers who used to buy often (F4–F5) have gone quiet (R1–R2); they have brought {reader.money(worth)}."
    behind = table(
        ("Recency", "Frequency", "Customers", "Revenue", "Share of revenue"),
        (
            (
                f"R{r['recency']}",
                f"F{r['frequency']}",
                count(r["customers"]),
                reader.money(r["revenue"]),
                percent(r["revenue_share"], 1),
            )
            for r in rows
        ),
        (2, 3, 4),
    )
    note = "R5: bought most recently, R1: longest ago. In each field: customers above, revenue below."
    return Section(
        "rfm",
        title,
        lead,
        (Figure("Recency × frequency", picture, note=note, table=behind, wide=True, scale=("less revenue", "more")),),
    )


SLIGHT = 0.05
"""A share that is shown in full colour only where nothing is larger would look like much; below this it stays pale."""


def _whole_percent(share: float) -> str:
    """What stands in a cell: whole percent, `<1` for more than nothing."""
    return "<1" if 0 < share < 0.005 else f"{100 * share:.0f}"


def cohorts(reader: Reader) -> Section:
    """Who came back, by month of the first order."""
    title = "Cohort retention"
    lead = "Of the customers who first bought in a month, how many bought again in each month after."
    rows = reader.read(queries.cohorts)
    later = [row for row in rows if row["months_since_first"] > 0]
    if not later:
        reason = "All orders fall into one month, so nobody could come back in a later one."
        if not rows:
            reason = "There are no orders of customers, so there are no cohorts."
        empty = reader.why(reason, model="mart_marketing__cohort_retention")
        return Section("cohorts", title, lead, empty=empty)
    months = sorted({row["cohort_month"] for row in later})
    last = max(row["months_since_first"] for row in later)
    found = {(row["cohort_month"], row["months_since_first"]): row for row in rows}
    sizes = {row["cohort_month"]: row["cohort_customers"] for row in later}
    most = max(*(row["retention_rate"] or 0 for row in later), SLIGHT)
    cells = [
        [
            Cell((row["retention_rate"] or 0) / most, _whole_percent(row["retention_rate"] or 0),
                 tip=f"{month(m)}, {since} months on: {count(row['active_customers'])} of {count(row['cohort_customers'])} customers ({percent(row['retention_rate'], 1)}), {reader.money(row['revenue'])}")
            if (row := found.get((m, since))) else Cell(None)
            for since in range(1, last + 1)
        ]
        for m in months
    ]  # fmt: skip
    picture = heat_map(
        [f"{month(m)}" for m in months], [str(since) for since in range(1, last + 1)], cells,
        name="Share of a cohort that bought again, by months since the first order", label_share=15, row_height=28, across="months since the first order",
    )  # fmt: skip
    first = [found[m, 1] for m in months if (m, 1) in found]
    base = sum(row["cohort_customers"] for row in first)
    if base:
        lead += f" On average {percent(sum(row['active_customers'] for row in first) / base, 1)} come back in the month after the first."
    behind = table(
        ("First order", "Customers", *(f"+{since}" for since in range(1, last + 1))),
        (
            (month(m), count(sizes[m]), *(percent(found[m, s]["retention_rate"], 1) if (m, s) in found else "" for s in range(1, last + 1)))
            for m in months
        ),
        range(1, last + 2),
    )  # fmt: skip
    return Section(
        "cohorts",
        title,
        lead,
        (
            Figure(
                "Retention, percent of the cohort",
                picture,
                table=behind,
                note="The month that is not over counts only what has happened so far.",
                wide=True,
            ),
        ),
    )


def clv(reader: Reader) -> Section:
    """Distribution of the expected customer value."""
    title, lead = "Customer lifetime value", "What each customer is expected to bring."
    total, bins = reader.read(queries.clv_summary), reader.read(queries.clv_histogram)
    if total is None:
        empty = reader.why(
            "No customer has an expected value yet: the model has not scored anybody.",
            "headwater segment assign",
            stage="segment",
        )
        return Section("clv", title, lead, empty=empty)
    lead = (
        f"Over the next {count(total['horizon_days'])} days {count(total['customers'])} customers are expected to bring {reader.money(total['total'])}; "
        f"the best tenth of them {percent(total['top_decile_share'])} of it. Median {reader.money(total['median'])}, mean {reader.money(total['mean'])}."
    )
    figures = []
    if bins:
        drawn = [
            Bin(
                row["customers"],
                f"{reader.money(row['low'])} to {reader.money(row['high'])}: {count(row['customers'])} customers"
                if row["high"] is not None
                else f"{reader.money(row['low'])} and more: {count(row['customers'])} customers",
                "t0" if row["high"] is not None else "mute",
            )
            for row in bins
        ]
        every = max(1, round(len(bins) / 5))
        ticks = [
            (i / len(bins), reader.short_money(row["low"]))
            for i, row in enumerate(bins)
            if i % every == 0 and i < len(bins) - 1
        ]
        behind = table(
            ("From", "To", "Customers"),
            (
                (
                    reader.money(r["low"]),
                    reader.money(r["high"]) if r["high"] is not None else "and more",
                    count(r["customers"]),
                )
                for r in bins
            ),
            (0, 1, 2),
        )
        note = f"Customers by expected value; the grey column holds all from {reader.money(bins[-1]['low'])} up."
        figures.append(
            Figure("Distribution", histogram(drawn, ticks, name="Customers by expected value"), note=note, table=behind)
        )
    else:
        figures.append(
            Figure(
                "Distribution",
                empty=Empty(
                    "Nearly every customer has an expected value of nothing, so there is no distribution to draw."
                ),
            )
        )
    figures.extend(_clv_by_segment(reader))
    by_segment = len(figures) > 1
    return Section(
        "clv",
        title,
        lead,
        tuple(figures),
        reader.model_badges if by_segment and reader.doubt else (),
        reader.doubt_in_short if by_segment else "",
        tuple(reader.read(queries.clv_warnings)),
    )


def _clv_by_segment(reader: Reader) -> tuple[Figure, ...]:
    rows = reader.read(queries.clv_by_segment)
    if not rows:
        return ()
    shown = [
        Bar(
            row["segment_name"],
            max(float(row["total"]), 0),
            f"{reader.short_money(row['total'])} · median {reader.short_money(row['median'])}",
            reader.tone_of_segment.get(row["segment_name"], "mute"),
            f"{row['segment_name']}: {reader.money(row['total'])} from {count(row['customers'])} customers",
        )
        for row in rows
    ]
    behind = table(
        ("Segment", "Customers", "Expected", "Median"),
        ((r["segment_name"], count(r["customers"]), reader.money(r["total"]), reader.money(r["median"])) for r in rows),
        (1, 2, 3),
    )
    return (Figure("Expected value by segment", bars(shown, name="Expected value by ML segment"), table=behind),)
