"""How far the filter on the key is pushed: what is read for the touched keys only, what stays whole, what is refused."""

import pytest
from lineage_lab import look, within

NARROW: dict[str, tuple[str, str, set[str]]] = {
    # what is shown: key, SQL, tables that even the scoped SQL reads whole
    "a plain column": ("person", "select person, kind from visits", set()),
    "groups with the key among them": (
        "person",
        "select kind, person, count(*) as n from visits group by kind, person",
        set(),
    ),
    "an inner join on the key": (
        "person",
        "select v.person, p.city from visits as v inner join people as p on v.person = p.person",
        set(),
    ),
    "a left join on the key": (
        "person",
        "select v.person, p.city from visits as v left join people as p on v.person = p.person",
        set(),
    ),
    "a join on another column": (
        "person",
        "select v.person, k.points from visits as v inner join kinds as k on v.kind = k.kind",
        {"main.kinds"},
    ),
    "an equality in WHERE": (
        "person",
        "select v.person, p.city from visits as v cross join people as p where v.person = p.person",
        set(),
    ),
    "equal to what is equal": (
        "person",
        "select v.person, d.device from visits as v inner join people as p on v.person = p.person "
        "inner join devices as d on p.person = d.owner",
        set(),
    ),
    "a left join behind a left join": (
        "person",
        "select v.person, d.device from visits as v left join people as p on v.person = p.person "
        "left join devices as d on p.person = d.owner",
        set(),
    ),
    "a CTE used twice, by different columns": (
        "person",
        "with p as (select person, city, boss from people) "
        "select me.person, up.city from p as me left join p as up on me.boss = up.person",
        {"main.people"},
    ),
    "a CTE used twice, by the key": (
        "person",
        "with p as (select person, city from people) "
        "select one.person, two.city from p as one inner join p as two on one.person = two.person",
        set(),
    ),
    "a derived table of groups": (
        "person",
        "with n as (select person, count(*) as n from visits group by person) "
        "select p.person, n.n from people as p left join n on p.person = n.person",
        set(),
    ),
    "a window partitioned by the key": (
        "person",
        "select person, row_number() over (partition by person order by ts) as nth from visits",
        set(),
    ),
    "a window partitioned by what equals the key": (
        "person",
        "select v.person, sum(v.amount) over (partition by p.person) as s from visits as v "
        "inner join people as p on v.person = p.person",
        set(),
    ),
    "a window partitioned by something else, below": (
        "person",
        "with w as (select person, kind, row_number() over (partition by kind order by ts) as nth from visits) "
        "select w.person, w.nth from w",
        {"main.visits"},
    ),
    "a window partitioned by the right side of a left join, below": (
        "person",
        "with w as (select v.person, count(*) over (partition by p.person) as n from visits as v "
        "left join people as p on v.person = p.person) select w.person, w.n from w",
        {"main.visits", "main.people"},
    ),
    "UNION": ("person", "select person from visits union select owner from devices", set()),
    "EXCEPT": ("person", "select person from visits except select person from banned", set()),
    "DISTINCT": ("person", "select distinct person, kind from visits", set()),
    "LIMIT, below": (
        "person",
        "select v.person, t.city from visits as v inner join (select person, city from people order by ts limit 2) as t "
        "on v.person = t.person",
        {"main.people"},
    ),
    "a semi join": ("person", "select v.person from visits as v semi join people as p on v.person = p.person", set()),
    "an anti join": ("person", "select v.person from visits as v anti join banned as b on v.person = b.person", set()),
    "IN (SELECT …)": (
        "person",
        "select person from visits where person in (select person from people)",
        {"main.people"},
    ),
    "a computed key is filtered where it is computed": (
        "day",
        "select cast(ts as date) as day, count(*) as n from visits group by cast(ts as date)",
        {"main.visits"},
    ),
    "columns of unlike types are not tied": (
        "person",
        "select v.person, k.points from visits as v inner join kinds as k on v.id = k.kind",
        {"main.kinds"},
    ),
}


@pytest.mark.parametrize("case", NARROW)
def test_what_is_read_whole(case: str) -> None:
    key, sql, whole = NARROW[case]
    analysis = look(sql, key)
    assert analysis.read_whole == whole
    assert "{touched}" in analysis.scoped


FULL = {
    "LIMIT": (
        "select person, ts from visits order by ts limit 10",
        "LIMIT, OFFSET or a sample chooses among all rows, so a row of one person depends on rows of others",
    ),
    "a window over other rows": (
        "select person, rank() over (order by amount) as place from visits",
        "a window is not partitioned by person, so a row of one person depends on rows of others",
    ),
    "a key that is a window's result": (
        "select first_value(person) over (partition by kind order by ts) as person from visits",
        "person is the result of a window function, so a row of one person depends on rows of others",
    ),
    "a key on the right side of a left join": (
        "select p.person, v.kind from visits as v left join people as p on v.device = p.boss",
        "person comes from the right side of a left join, so it is null where there is no match",
    ),
    "DISTINCT ON something else": (
        "select distinct on (kind) person, kind from visits order by kind, ts",
        "DISTINCT ON chooses rows by something else than person, so a row of one person depends on rows of others",
    ),
    "a full join": (
        "select coalesce(v.person, p.person) as person from visits as v full join people as p on v.person = p.person",
        "no path leads from main.visits to person: a FULL JOIN is not looked through; declare one under meta.headwater.touch",
    ),
    "UNION BY NAME": (
        "select person from visits union by name select person from people",
        "UNION BY NAME is not looked through; name the columns in one order and write UNION ALL",
    ),
    "groups without the key": (
        "select count(*) as person from visits",
        "GROUP BY does not contain person, so a row of one person depends on rows of others",
    ),
}


@pytest.mark.parametrize("case", FULL)
def test_what_is_refused_says_why(case: str) -> None:
    sql, sentence = FULL[case]
    analysis = look(sql, "person")
    assert analysis.mode == "full"
    assert analysis.why_full[0] == sentence


def test_the_scoped_sql_keeps_columns_and_clock() -> None:
    analysis = look(
        f"select person, count(*) as n from visits where {within('ts', '30 days')} group by person", "person"
    )
    assert analysis.scoped == (
        'SELECT "visits"."person" AS "person", COUNT(*) AS "n" FROM (SELECT * FROM "main"."visits" AS "visits" WHERE '
        '"visits"."person" IN (SELECT _touched.key FROM {touched} AS _touched)) AS "visits" WHERE ('
        "\"visits\".\"ts\" > CAST('1999-09-09 09:09:09.090909' AS TIMESTAMP) - INTERVAL '30' DAYS AND "
        '"visits"."ts" <= CAST(\'1999-09-09 09:09:09.090909\' AS TIMESTAMP)) GROUP BY "visits"."person"'
    )
