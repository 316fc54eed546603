"""Step 9, the watching part: whether some kinds of people get far less than others, though no policy may see what kind they are.

A ratio is the share of a group that gets an action over the share of everybody who was decided for. Below 0.8 ("four fifths")
it is worth a look: an allowed feature may be standing in for a forbidden one. It is a reason to look, not a verdict: segments
differ by behaviour, and behaviour differs between groups.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from headwater.decisions.hashing import text_sql
from headwater.warehouse import Warehouse

LOW_RATIO = 0.8
LEAST_CUSTOMERS = 100


@dataclass(frozen=True)
class Exposure:
    """One group of one attribute. `share`: of its customers who get an action; `ratio`: that over everybody's share."""

    attribute: str
    group: str
    customers: int
    share: float
    ratio: float

    @property
    def low(self) -> bool:
        """Whether it is worth a look."""
        return self.ratio < LOW_RATIO

    @property
    def sentence(self) -> str:
        return (
            f"customers with {self.attribute} = {self.group} get an action {self.ratio:.2f} times as often as all do "
            f"({self.share:.1%} of {self.customers:,}); below {LOW_RATIO} look whether an allowed feature stands in for a forbidden one"
        )


def measure(
    warehouse: Warehouse,
    decisions: str,
    people: str = "main.dim_customer",
    attributes: tuple[str, ...] = ("gender", "country"),
) -> list[Exposure]:
    """Exposures of the decisions in a relation (columns customer_id, action), lowest ratio first.

    `people` has a row per customer; attributes it lacks are left out, groups under 100 customers too (too few to say). Empty when
    `people` does not exist or nobody gets an action.
    """
    if not warehouse.exists(people):
        return []
    columns = {row[0] for row in warehouse.execute(f"describe {people}").fetchall()}
    looked = [name for name in attributes if name in columns]
    if not looked:
        return []
    rows = warehouse.execute(
        f"""select attribute, group_name, customers, given / customers as share,
                share / nullif(
                    (sum(given) over (partition by attribute)) / (sum(customers) over (partition by attribute)), 0) as ratio
            from (
                select {_which(looked, text_sql)} as attribute, {_which(looked, str)} as group_name,
                    count(*) as customers, count(*) filter (where gets) as given
                from (
                    select {", ".join(f"p.{name}::varchar as {name}" for name in looked)}, d.action <> {text_sql("none")} as gets
                    from {decisions} d join {people} p on p.customer_id = d.customer_id
                ) group by grouping sets ({", ".join(f"({name})" for name in looked)})
            )"""
    ).fetchall()
    found = [
        Exposure(attribute, group, customers, share, ratio)
        for attribute, group, customers, share, ratio in rows
        if group is not None and customers >= LEAST_CUSTOMERS and ratio is not None
    ]
    return sorted(found, key=lambda exposure: (exposure.ratio, attributes.index(exposure.attribute), exposure.group))


def _which(names: Sequence[str], said: Callable[[str], str]) -> str:
    """SQL: what is `said` of the one attribute that a row is grouped by."""
    return f"case {' '.join(f'when grouping({name}) = 0 then {said(name)}' for name in names)} end"
