"""Where the clock may stand, which keys are due when it moves, and when the next ones will be."""

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest
from lineage_lab import CLOCK, NOW, TABLES, faults, look, within
from template_models import Model, World, stamp

from headwater.errors import ConfigError

RECENT = f"select person, count(*) as n from visits where {within('ts', '30 days')} group by person"


def world(sql: str, moments: dict[str, datetime]) -> World:
    """Visits of one person each, at these moments; the clock stands at NOW."""
    rows: list[dict[str, Any]] = [{"id": i, "person": p, "ts": ts} for i, (p, ts) in enumerate(moments.items())]
    return World([Model("m", "main.m", sql, "table", "person", "auto", {})], TABLES, {"main.visits": rows}, NOW)


def due(there: World, before: datetime, to: datetime) -> set[Any]:
    (model,) = there.models
    return there.touched(model, there.analyses["m"], set(), before, to)


def next_due(there: World, after: datetime) -> list[datetime | None]:
    return [there.warehouse.value(w.next_due.replace("{a0}", stamp(after))) for w in there.analyses["m"].windows]


def test_a_row_enters_at_its_moment_and_leaves_when_the_width_is_over() -> None:
    there = world(
        RECENT, {"p1": NOW + timedelta(hours=1), "p2": NOW - timedelta(days=30), "p3": NOW - timedelta(days=29)}
    )
    second = timedelta(seconds=1)
    assert due(there, NOW - second, NOW) == {"p2"}, "thirty days ago is outside"
    assert due(there, NOW, NOW + timedelta(hours=1) - second) == set()
    assert due(there, NOW, NOW + timedelta(hours=1)) == {"p1"}, "its own moment is inside"
    assert due(there, NOW + timedelta(hours=1), NOW + timedelta(days=1)) == {"p3"}
    assert due(there, NOW, NOW + timedelta(days=400)) == {"p1", "p3"}
    there.close()


def test_the_next_moment_is_the_earliest_that_somebody_enters_or_leaves() -> None:
    there = world(
        RECENT, {"p1": NOW + timedelta(days=3), "p2": NOW - timedelta(days=30), "p3": NOW - timedelta(days=29)}
    )
    assert next_due(there, NOW) == [NOW + timedelta(days=1)]
    assert next_due(there, NOW + timedelta(days=1)) == [NOW + timedelta(days=3)]
    assert next_due(there, NOW + timedelta(days=3)) == [NOW + timedelta(days=33)]
    assert next_due(there, NOW + timedelta(days=33)) == [None]
    there.close()


def test_without_a_width_rows_only_enter() -> None:
    there = world(
        f"select person, kind from visits where {within('ts', None)}", {"p1": NOW + timedelta(days=3), "p2": NOW}
    )
    assert there.analyses["m"].windows[0].width is None
    assert next_due(there, NOW) == [NOW + timedelta(days=3)]
    assert next_due(there, NOW + timedelta(days=3)) == [None]
    there.close()


def test_the_scans_of_a_stored_moment_are_ranges_on_it() -> None:
    (window,) = look(RECENT, "person").windows
    assert window.width == "30 days"
    assert window.reads == {"main.visits"}
    assert window.text == "visits.ts within 30 days of the clock"
    assert window.next_due == (
        'SELECT MIN(_next.moment) AS moment FROM (SELECT "visits"."ts" AS "moment" FROM "main"."visits" AS "visits" WHERE '
        '"visits"."ts" > {a0} UNION ALL SELECT "visits"."ts" + INTERVAL \'30\' DAYS AS "moment" FROM "main"."visits" AS "visits" '
        'WHERE "visits"."ts" > {a0} - INTERVAL \'30\' DAYS) AS _next'
    )


def test_several_widths_of_one_moment_are_one_window() -> None:
    sql = (
        f"select person, count(case when {within('ts', '7 days')} then 1 end) as n7, "
        f"count(case when {within('ts', '30 days')} then 1 end) as n30 from visits group by person"
    )
    (window,) = look(sql, "person").windows
    assert "INTERVAL '7' DAYS" in window.due and "INTERVAL '30' DAYS" in window.due
    assert faults(sql, "person", 3) == []


def test_a_forgotten_expiry_is_caught() -> None:
    right = look(RECENT, "person")
    (window,) = right.windows
    start = window.due.index(' OR ("visits"."ts" > {a0} - INTERVAL')
    entering_only = window.due[:start] + window.due[window.due.index("))", start) + 1 :]
    mutated = replace(right, windows=(replace(window, due=entering_only),))
    assert any(faults(RECENT, "person", seed, analysis=mutated) for seed in range(6))


def test_a_key_that_is_due_behind_a_join_is_found_by_its_own_name() -> None:
    sql = (
        f"with seen as (select device from visits where {within('ts', '30 days')}) "
        "select d.owner, count(*) as n from devices as d inner join seen on d.device = seen.device group by d.owner"
    )
    (window,) = look(sql, "owner").windows
    assert window.reads == {"main.visits"}
    assert faults(sql, "owner", 5) == []


AGES = (
    f"select person, min(date_diff('day', cast(ts as date), cast({CLOCK} as date))) as age from visits group by person"
)


def test_the_clocks_day_makes_everybody_due_at_midnight() -> None:
    there = world(AGES, {"p1": NOW, "p2": NOW - timedelta(days=30)})
    midnight = datetime.fromisoformat("2026-04-01T00:00:00")
    assert due(there, NOW, midnight - timedelta(microseconds=1)) == set()
    assert due(there, NOW, midnight) == {"p1", "p2"}
    assert next_due(there, NOW) == [midnight]
    assert next_due(there, midnight) == [midnight + timedelta(days=1)]
    (window,) = there.analyses["m"].windows
    assert window.daily and window.text == "every row is computed anew at midnight UTC"
    there.close()
    assert [faults(AGES, "person", seed) for seed in range(3)] == [[], [], []]


def test_a_forgotten_midnight_is_caught() -> None:
    right = look(AGES, "person")
    assert any(faults(AGES, "person", seed, analysis=replace(right, windows=())) for seed in range(6))


def test_a_model_that_is_full_is_due_at_midnight_too() -> None:
    analysis = look(f"select max(date_diff('day', cast(ts as date), cast({CLOCK} as date))) as age from visits", None)
    (window,) = analysis.windows
    assert analysis.mode == "full" and window.daily


MISPLACED = {
    "an age": f"select person, date_diff('day', ts, {CLOCK}) as age from visits",
    "a column": f"select person, {CLOCK} as as_of from visits",
    "the wrong way round": f"select person from visits where {CLOCK} >= ts",
    "a bound that is closed": f"select person from visits where ts >= {CLOCK} - interval '30 days'",
    "a bound that is open": f"select person from visits where ts < {CLOCK}",
    "an equality": f"select person from visits where ts = {CLOCK}",
    "what comes": f"select person from visits where ts > {CLOCK} + interval '1 day'",
    "of many rows": f"select person from visits group by person having max(ts) <= {CLOCK}",
    "of a window": f"select person, lag(ts) over (partition by person order by ts) <= {CLOCK} as b from visits",
}


@pytest.mark.parametrize("case", MISPLACED)
def test_the_clock_in_any_other_place_is_an_error(case: str) -> None:
    with pytest.raises(
        ConfigError, match=r"the live model m uses the clock in .* where it cannot be kept fresh: .*within_last"
    ):
        look(MISPLACED[case], "person")


@pytest.mark.parametrize(
    "call", ["now()", "current_timestamp", "current_date", "today()", "random()", "gen_random_uuid()"]
)
def test_the_machines_time_and_chance_are_errors(call: str) -> None:
    with pytest.raises(ConfigError, match=r"the live model m calls .*, which says something else whenever it is asked"):
        look(f"select person, {call} as x from visits", "person")


def test_a_full_model_says_that_something_is_due() -> None:
    analysis = look(f"select count(*) as n from visits where {within('ts', '30 days')}", None)
    (window,) = analysis.windows
    assert analysis.mode == "full"
    assert "{a0}" in window.next_due


def test_a_moment_out_of_a_group_is_due_by_what_the_group_is_now() -> None:
    sql = (
        "with last as (select person, max(ts) as last_at from visits group by person) "
        f"select person, not coalesce({within('last_at', '30 days')}, false) as is_quiet from last where person is not null"
    )
    analysis = look(sql, "person")
    assert analysis.mode == "keyed"
    assert faults(sql, "person", 4) == []


def test_the_next_moment_of_what_cannot_be_followed_is_read_off_the_rows_as_they_are() -> None:
    sql = (
        f"with recent as (select person, max(ts) as last_at from visits where {within('ts', '60 days')} group by person), "
        f"quiet as (select person, last_at from recent where {within('last_at', '30 days')}) "
        "select person, last_at from quiet where person is not null"
    )
    analysis = look(sql, "person")
    assert analysis.mode == "full"
    assert any("which keys are due cannot be told from recent.last_at" in reason for reason in analysis.why_full)
    there = world(sql, {"p1": NOW - timedelta(days=29), "p2": NOW - timedelta(days=3)})
    moments = [moment for moment in next_due(there, NOW) if moment is not None]
    assert min(moments) == NOW + timedelta(days=1)
    there.close()
