"""What deciding brought, against those who were held out."""

from typing import Any

from headwater.console import experiment_queries as queries
from headwater.console.charts import Span, spans
from headwater.console.formats import NOTHING, count, moment
from headwater.console.page import Badge, Figure, Section
from headwater.console.reader import Reader, table
from headwater.decisions.experiment import LEAST_CUSTOMERS, POINTS, REWARD, interval, written

TITLE, LEAD = "Experiment", "What deciding brought: customers who were decided for against those who were held out."
NOTE = (
    "The thick line is the 95% interval for whoever looks once; the pale band holds however often one looks. "
    "Where it reaches over “no difference”, chance explains what was seen."
)


def experiment(reader: Reader) -> Section:
    """Lift with its interval, by goal and segment."""
    found, lifts = reader.read(queries.experiments), reader.read(queries.lifts)
    if not found:
        return Section(
            "experiment",
            TITLE,
            LEAD,
            empty=reader.why("Nothing was compared yet.", "headwater outcomes attribute", stage="outcomes"),
        )
    figures: list[Figure] = []
    for one in found:
        mine = [row for row in lifts if row["goal"] == one["goal"]]
        figures += _goal(reader, one, mine)
    first = found[0]
    failed = [f"{one['goal']}: {check['sentence']}" for one in found for check in one["checks"] if not check["ok"]]
    badges = [Badge("groups as they were meant", "good")] if not failed else [Badge("nothing can be concluded", "bad")]
    badges.append(Badge(f"as of {moment(first['computed_at'])}"))
    over_all = next(
        (row for row in lifts if row["goal"] == first["goal"] and _is_main(row) and row["segment"] == "all"), None
    )
    lead = first["message"]
    if first["trusted"] and over_all is not None and over_all["low"] is not None:
        lead = f"{first['goal']} within {first['window_days']} days: {_told(over_all, first['unit'] == POINTS)}. {first['power']}"
    lead = lead[:1].upper() + lead[1:]
    return Section("experiment", TITLE, lead, tuple(figures), tuple(badges), alerts=tuple(failed))


def _goal(reader: Reader, one: dict[str, Any], rows: list[dict[str, Any]]) -> list[Figure]:
    title = f"{one['goal']}: lift within {one['window_days']} days"
    shares = one["unit"] == POINTS
    main = [row for row in rows if _is_main(row) and row["low"] is not None]
    if not main:
        sizes = ((name.replace("_", " "), count(size)) for name, size in one["groups"].items())
        note = one["message"][:1].upper() + one["message"][1:]
        return [Figure(title, note=note, table=table(("Group", "Customers"), sizes, (1,)), open=True, wide=True)]
    shown = [
        Span(
            "all segments" if row["segment"] == "all" else row["segment"],
            row["lift"], row["low"], row["high"],
            f"{written(row['lift'], share=shares)} {interval(row['low'], row['high'], share=shares)}",
            "mute" if row["safe_low"] <= 0 <= row["safe_high"] else "good" if row["lift"] > 0 else "bad",
            f"{row['segment']}: {count(row['customers_a'])} treated, {count(row['customers_b'])} held out; {row['sentence']}",
            (row["safe_low"], row["safe_high"]),
        )
        for row in main
    ]  # fmt: skip
    behind = table(
        ("Segment", "Metric", "Groups", "Customers", "Means", "Lift", "95%", "At every look", "Seen from"),
        (
            (
                r["segment"], r["metric"], f"{r['group_a']} / {r['group_b']}".replace("_", " "),
                f"{count(r['customers_a'])} / {count(r['customers_b'])}",
                f"{written(r['mean_a'], share=_share(r, shares), sign=False)} / {written(r['mean_b'], share=_share(r, shares), sign=False)}",
                written(r["lift"], share=_share(r, shares)), _range(r, "low", "high", shares), _range(r, "safe_low", "safe_high", shares),
                _least(r, shares),
            )
            for r in rows
        ),
        range(3, 9),
    )  # fmt: skip
    small = [
        f"{r['segment']} ({count(r['customers_a'])} / {count(r['customers_b'])})"
        for r in rows
        if _is_main(r) and r["low"] is None
    ]
    note = NOTE + (
        f" Too few customers to compare, {LEAST_CUSTOMERS} in each group are needed: {', '.join(small)}."
        if small
        else ""
    )
    return [Figure(title, spans(shown, name=f"Lift of {one['goal']} by segment"), (("good", "told from chance"), ("mute", "not told from chance")), note, behind, wide=True)]  # fmt: skip


def _is_main(row: dict[str, Any]) -> bool:
    return (row["metric"], row["group_a"], row["group_b"]) == (REWARD, "treatment", "holdout")


def _share(row: dict[str, Any], shares: bool) -> bool:
    return shares or row["metric"] != REWARD


def _range(row: dict[str, Any], low: str, high: str, shares: bool) -> str:
    """An interval, or in a word why there is none."""
    if row[low] is None:
        few = min(row["customers_a"], row["customers_b"]) < LEAST_CUSTOMERS
        return NOTHING if low != "low" else "too few" if few else "all the same"
    return interval(row[low], row[high], share=_share(row, shares))


def _least(row: dict[str, Any], shares: bool) -> str:
    if row["detectable"] is None:
        return NOTHING
    return written(row["detectable"], share=_share(row, shares)).removeprefix("+")


def _told(row: dict[str, Any], shares: bool) -> str:
    """What was found over all, in words."""
    treated, held = (written(row[mean], share=shares, sign=False) for mean in ("mean_a", "mean_b"))
    what = (
        "of the customers who were decided for, {} of those held out"
        if shares
        else "of reward a customer who was decided for, {} one held out"
    )
    lift = f"{written(row['lift'], share=shares)} {interval(row['low'], row['high'], share=shares)}"
    if row["safe_low"] > 0 or row["safe_high"] < 0:
        verdict = "more than chance explains, however often one looks"
    elif row["low"] > 0 or row["high"] < 0:
        verdict = "not yet more than chance explains to somebody who looks more than once"
    else:
        verdict = "no more than chance explains"
    return f"{treated} {what.format(held)}: {lift}, {verdict}"
