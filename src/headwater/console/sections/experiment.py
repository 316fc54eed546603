"""What deciding brought, against those who were held out."""

from typing import Any

from headwater.console import experiment_queries as queries
from headwater.console.charts import Span, spans
from headwater.console.formats import NOTHING, count, moment
from headwater.console.page import Badge, Figure, Section
from headwater.console.reader import Reader, table

TITLE, LEAD = "Experiment", "What deciding brought: customers who were decided for against those who were held out."
NOTE = (
    "The thick line is the 95 % interval for whoever looks once; the pale band holds however often one looks. "
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
    return Section("experiment", TITLE, first["message"], tuple(figures), tuple(badges), alerts=tuple(failed))


def _goal(reader: Reader, one: dict[str, Any], rows: list[dict[str, Any]]) -> list[Figure]:
    title = f"{one['goal']}: lift within {one['window_days']} days"
    shares = one["unit"] == "points"
    main = [
        row for row in rows
        if (row["metric"], row["group_a"], row["group_b"]) == ("reward", "treatment", "holdout") and row["low"] is not None
    ]  # fmt: skip
    if not main:
        sizes = ((name.replace("_", " "), count(size)) for name, size in one["groups"].items())
        return [Figure(title, note=one["message"], table=table(("Group", "Customers"), sizes, (1,)), open=True)]
    shown = [
        Span(
            "all segments" if row["segment"] == "all" else row["segment"],
            row["lift"], row["low"], row["high"],
            f"{_bare(row['lift'], shares)} [{_bare(row['low'], shares)}, {_bare(row['high'], shares)}]{' points' if shares else ''}",
            "mute" if row["safe_low"] <= 0 <= row["safe_high"] else "good" if row["lift"] > 0 else "bad",
            f"{row['segment']}: {count(row['customers_a'])} treated, {count(row['customers_b'])} held out; {row['sentence']}",
            (row["safe_low"], row["safe_high"]),
        )
        for row in main
    ]  # fmt: skip
    behind = table(
        ("Segment", "Metric", "Groups", "Customers", "Means", "Lift", "95 %", "At every look", "Can be seen"),
        (
            (
                r["segment"], r["metric"], f"{r['group_a']} / {r['group_b']}".replace("_", " "),
                f"{count(r['customers_a'])} / {count(r['customers_b'])}",
                f"{_written(r['mean_a'], _share(r, shares), sign=False)} / {_written(r['mean_b'], _share(r, shares), sign=False)}",
                _written(r["lift"], _share(r, shares)), _range(r, "low", "high", shares), _range(r, "safe_low", "safe_high", shares),
                _written(r["detectable"], _share(r, shares), sign=False),
            )
            for r in rows
        ),
        range(3, 9),
    )  # fmt: skip
    note = NOTE + (f" {one['power']}" if one["power"] not in one["message"] else "")
    return [Figure(title, spans(shown, name=f"Lift of {one['goal']} by segment"), (("good", "told from chance"), ("mute", "not told from chance")), note, behind, wide=True)]  # fmt: skip


def _share(row: dict[str, Any], shares: bool) -> bool:
    return shares or row["metric"] != "reward"


def _range(row: dict[str, Any], low: str, high: str, shares: bool) -> str:
    if row[low] is None:
        return NOTHING
    return f"{_written(row[low], _share(row, shares))} … {_written(row[high], _share(row, shares))}"


def _bare(value: float, share: bool) -> str:
    return _written(value, share).removesuffix("\u202fpoints")


def _written(value: float | None, share: bool, *, sign: bool = True) -> str:
    """A difference: points of a share, or an amount."""
    if value is None:
        return NOTHING
    text = f"{value * 100:{'+' if sign else ''}.1f}" if share else f"{value:{'+' if sign else ''}.2f}"
    return text.replace("-", "\u2212") + ("\u202f%" if share and not sign else "\u202fpoints" if share else "")
