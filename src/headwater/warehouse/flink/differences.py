"""Where a data product on Flink is another one than the engine's: one list, for `headwater explain` and for the docs."""

from dataclasses import dataclass

from headwater.errors import InvalidValue
from headwater.warehouse.flink.script import PRODUCTS

_ALL = tuple(PRODUCTS)


@dataclass(frozen=True)
class Difference:
    """`title`: what differs, in a few words; `sentence`: what each of the two does; `models`: where it shows."""

    title: str
    sentence: str
    models: tuple[str, ...] = _ALL


DIFFERENCES = (
    Difference(
        "windows do not shrink",
        "the engine counts the thirty days before its clock, so totals shrink by themselves; Flink computes a row again only when "
        "one arrives, so it counts the thirty days before the customer's newest order, and a quiet customer keeps the last total for ever",
        ("thirty_day_customer_snapshot",),
    ),
    Difference(
        "orders dated ahead",
        "the engine counts an order when its clock has reached the order's date; Flink counts it when it arrives, and its thirty days "
        "end there",
        ("thirty_day_customer_snapshot",),
    ),
    Difference(
        "what was left out",
        "the engine keeps each line that is no sale in excluded_sales, with the reason; the job on Flink leaves it out and counts nothing",
        ("product_sales",),
    ),
    Difference(
        "truncated tables, and rows that a new snapshot does not have",
        "the engine deletes the rows; Flink sees no deletion of single keys and keeps them. Start the job anew after either",
    ),
    Difference(
        "long texts that did not change",
        "the engine puts in the value it has; Postgres does not send it and Flink writes null. Set `replica identity full` on tables "
        "with texts above two kilobytes",
        ("enriched_customers", "products_with_pk"),
    ),
    Difference(
        "late rows",
        "both correct a sale when an older version or order comes late, as long as the state is there; with flink.state_days the job "
        "forgets what was not touched for so long, and neither corrects nor retracts it any more",
        ("product_sales", "thirty_day_customer_snapshot"),
    ),
    Difference(
        "between two products",
        "the engine commits all of them in one transaction; on Flink each topic moves by itself, milliseconds apart, and an update "
        "may show as a deletion followed by the new row",
    ),
)


def of(model: str) -> list[Difference]:
    """The differences that show in a data product. Raises InvalidValue for a model that is not rendered for Flink."""
    if model not in PRODUCTS:
        raise InvalidValue(
            f"{model!r} is not rendered for Flink; the data products are: {', '.join(PRODUCTS)}. Every other model that Flink can "
            "keep is compiled by dbt-confluent: docs/other-engines.md"
        )
    return [one for one in DIFFERENCES if model in one.models]
