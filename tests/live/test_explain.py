"""The facts that `headwater explain` shows of a model."""

import pytest
from lineage_lab import look, within

from headwater.errors import ConfigError
from headwater.live.explain import explain


def test_a_model_by_key() -> None:
    sql = (
        "select v.person, k.points, count(*) as n from visits as v inner join kinds as k on v.kind = k.kind "
        f"where {within('v.ts', '30 days')} group by v.person, k.points"
    )
    facts = explain(look(sql, "person"), {"main.visits": 1_000_000, "main.kinds": 5})
    assert facts.sentences == (
        "m is refreshed by person",
        "not by adding and taking away (mode delta): it reads several tables",
        "a change in main.visits touches person",
        "a change in main.kinds touches person",
        "time alone: a row enters at its moment, and leaves 30 days later (v.ts within 30 days of the clock)",
        "reads main.kinds as a whole (5 rows)",
        "reads main.visits by person (1,000,000 rows)",
    )
    assert "{touched}" in facts.scoped


def test_a_model_that_is_full_says_why() -> None:
    facts = explain(look("select person, rank() over (order by amount) as place from visits", "person"))
    assert facts.mode == "full"
    assert facts.sentences[:2] == (
        "m is recomputed as a whole at every change, because:",
        "  a window is not partitioned by person, so a row of one person depends on rows of others",
    )
    assert facts.sentences[-1] == "reads main.visits as a whole (an unknown number of rows)"


def test_a_change_that_concerns_every_key_says_so() -> None:
    sql = (
        "with most as (select max(points) as points from kinds) "
        "select v.person, count(*) as n, max(most.points) as points from visits as v cross join most group by v.person"
    )
    facts = explain(look(sql, "person"))
    assert "a change in main.kinds touches every person: nothing ties it to main.kinds" in facts.sentences


@pytest.mark.parametrize("call", ["sum(weight)", "avg(weight)", "sum(cast(weight as float) * 2)"])
def test_sums_of_doubles_are_refused(call: str) -> None:
    with pytest.raises(
        ConfigError, match=r"the live model m computes .* of a DOUBLE.*money must be DECIMAL: cast the column"
    ):
        look(f"select person, {call} as w from scales group by person", "person")


def test_a_ratio_of_decimals_is_no_sum_of_doubles() -> None:
    sql = "select person, cast(sum(amount) as double) / count(*) as mean from visits group by person"
    assert look(sql, "person").mode == "keyed"
