"""From changed rows to keys: one model per rule, held to what really changed over random changes of every table."""

from dataclasses import replace

import pytest
from lineage_lab import faults, look, within

from headwater.errors import ConfigError
from headwater.live.analysis import Analysis

RULES: dict[str, tuple[str, str]] = {
    "a plain column": ("person", "select person, kind, ts from visits"),
    "a filter": ("person", "select person, kind from visits where kind = 'a' and amount > 1"),
    "groups": ("person", "select person, count(*) as n, sum(amount) as amount from visits group by person"),
    "groups of two columns": ("person", "select person, kind, count(*) as n from visits group by person, kind"),
    "having": ("person", "select person, sum(amount) as s from visits group by person having sum(amount) > 3"),
    "an inner join that ties": (
        "person",
        "select v.person, p.city, v.kind from visits as v inner join people as p on v.person = p.person",
    ),
    "a dimension reached by another column": (
        "person",
        "select v.person, k.points from visits as v inner join kinds as k on v.kind = k.kind",
    ),
    "two hops to a dimension": (
        "person",
        "select v.person, p.city from visits as v inner join devices as d on v.device = d.device "
        "inner join people as p on d.owner = p.person",
    ),
    "a dimension reached twice": (
        "id",
        "select v.id, one.city, two.city as boss_city from visits as v left join people as one on v.person = one.person "
        "left join people as two on v.device = two.person",
    ),
    "a left join": (
        "person",
        "select v.person, count(p.city) as n from visits as v left join people as p on v.person = p.person group by v.person",
    ),
    "a key computed over a left join": (
        "who",
        "select coalesce(v.person, d.owner, 'device ' || v.device) as who, count(*) as n from visits as v "
        "left join devices as d on v.device = d.device group by who",
    ),
    "a filter that a missing match may pass": (
        "person",
        "select v.person, v.id from visits as v left join devices as d on v.device = d.device "
        "where case when d.device is not null then d.owner = 'p1' else v.amount > 1 end",
    ),
    "an anti join written as a left join": (
        "person",
        "select p.person, p.city from people as p left join visits as v on p.person = v.person where v.person is null",
    ),
    "a key computed below and used above": (
        "who",
        "with known as (select v.id, coalesce(d.owner, v.person) as who, v.ts from visits as v left join devices as d "
        "on v.device = d.device), firsts as (select who, min(ts) as first_at from known group by who) "
        "select known.who, known.id, firsts.first_at from known left join firsts on known.who = firsts.who",
    ),
    "a window partitioned by the key": (
        "person",
        "select person, id, row_number() over (partition by person order by ts, id) as nth from visits where person is not null",
    ),
    "a window below, partitioned by another column": (
        "person",
        "with ranked as (select device, owner, row_number() over (partition by device order by ts, owner) as nth from devices), "
        "firsts as (select device, owner from ranked where nth = 1) "
        "select v.person, f.owner, count(*) as n from visits as v inner join firsts as f on v.device = f.device "
        "group by v.person, f.owner",
    ),
    "the key out of a windowed row": (
        "owner",
        "with ranked as (select device, owner, row_number() over (partition by device order by ts, owner) as nth from devices) "
        "select ranked.owner, count(v.id) as n from ranked left join visits as v on ranked.device = v.device "
        "where ranked.nth = 1 and ranked.owner is not null group by ranked.owner",
    ),
    "a window by name": (
        "person",
        "select person, id, sum(amount) over w as s from visits window w as (partition by person)",
    ),
    "a list of pairs": (
        "person",
        "select person from visits where (person, kind) in (select p.person, p.city from people as p)",
    ),
    "one column of two names": (
        "person",
        "select person, person as again, amount > any (select points from kinds) as x from visits",
    ),
    "a join with USING": ("person", "select person, city from visits inner join people using (person)"),
    "qualify": (
        "person",
        "select person, id from visits where person is not null qualify row_number() over (partition by person order by ts, id) = 1",
    ),
    "a left join under a filter that takes both": (
        "person",
        "select v.person, p.city from visits as v left join people as p on v.person = p.person "
        "where p.city = 'x' or p.city is null",
    ),
    "a left join on one of two columns": (
        "person",
        "select v.person, p.city from visits as v left join people as p on v.person = p.person or v.device = p.boss",
    ),
    "a null partition is a partition": (
        "id",
        "with ranked as (select id, row_number() over (partition by person order by ts, id, kind, device, amount) as nth from visits) "
        "select distinct id, nth from ranked",
    ),
    "union all": (
        "person",
        "select person, 'visit' as what from visits union all select person, 'being' as what from people",
    ),
    "union": ("person", "select person from visits union select owner from devices"),
    "except": ("person", "select person from visits except select person from banned"),
    "intersect": ("person", "select person from visits intersect select person from people"),
    "distinct": ("person", "select distinct person, kind from visits"),
    "a CTE used twice": (
        "person",
        "with v as (select person, kind, count(*) as n from visits group by person, kind) "
        "select one.person, one.kind, two.kind as other, one.n from v as one left join v as two on one.person = two.person "
        "and one.kind < two.kind",
    ),
    "a CTE used twice, by different keys": (
        "person",
        "with p as (select person, city, boss from people) "
        "select me.person, me.city, up.city as boss_city from p as me left join p as up on me.boss = up.person",
    ),
    "in a list of others": (
        "person",
        "select person, kind from visits where person in (select person from people where city = 'x')",
    ),
    "not in": ("person", "select person, kind from visits where person not in (select person from banned)"),
    "in, by another column": ("person", "select person, kind from visits where device in (select device from devices)"),
    "exists": (
        "person",
        "select v.person, v.kind from visits as v where exists (select 1 from people as p where p.person = v.person)",
    ),
    "a join on an inequality": (
        "person",
        "select v.person, count(*) as n from visits as v inner join kinds as k on v.amount < k.points group by v.person",
    ),
    "a left join on two columns": (
        "person",
        "select v.person, p.city from visits as v left join people as p on v.person = p.person and p.city = 'x'",
    ),
    "a left join through a left join": (
        "id",
        "select v.id, v.device, d.owner, p.city from visits as v left join devices as d on v.device = d.device "
        "left join people as p on d.owner = p.person",
    ),
    "months that all groups share": (
        "city",
        "with days as (select distinct cast(ts as date) as day from visits), "
        "n as (select p.city, cast(v.ts as date) as day, count(*) as n from people as p inner join visits as v "
        "on p.person = v.person group by p.city, day) "
        "select c.city, days.day, coalesce(n.n, 0) as n from (select distinct city from people) as c "
        "inner join days on days.day >= date '2026-01-01' left join n on c.city = n.city and days.day = n.day",
    ),
    "limit below": (
        "person",
        "select v.person, t.kind from visits as v left join (select kind from kinds order by points, kind limit 1) as t "
        "on v.kind = t.kind",
    ),
    "a semi join": ("person", "select v.person, v.kind from visits as v semi join people as p on v.person = p.person"),
    "an anti join": ("person", "select v.person, v.kind from visits as v anti join banned as b on v.person = b.person"),
    "a computed key": (
        "day",
        "select cast(ts as date) as day, count(distinct person) as people from visits group by day",
    ),
    "an aggregate over a computed group": (
        "label",
        "with s as (select person || '/' || kind as label, amount from visits) select label, sum(amount) as a from s group by label",
    ),
    "until the clock": ("person", f"select person, kind from visits where {within('ts', None)}"),
    "within thirty days": (
        "person",
        f"select person, count(*) as n from visits where {within('ts', '30 days')} group by person",
    ),
    "within, in a case inside a sum": (
        "person",
        f"select person, sum(case when {within('ts', '30 days')} then amount else 0 end) as s from visits group by person",
    ),
    "not within": (
        "person",
        f"select person, city, not coalesce({within('ts', '30 days')}, false) as is_quiet from people",
    ),
    "within, below a window": (
        "person",
        f"with v as (select * from visits where {within('ts', None)}) "
        "select person, id, lag(ts) over (partition by person order by ts, id) as before from v where person is not null",
    ),
    "within, below a window partitioned by another column": (
        "person",
        "with ranked as (select device, owner, row_number() over (partition by device order by ts, owner) as nth "
        f"from devices where {within('ts', None)}) "
        "select v.person, r.owner from visits as v inner join ranked as r on v.device = r.device and r.nth = 1",
    ),
    "within, on the dimension": (
        "person",
        f"select v.person, d.owner from visits as v left join devices as d on v.device = d.device and {within('d.ts', '30 days')}",
    ),
    "two clocks": (
        "person",
        f"with d as (select device, owner from devices where {within('ts', '30 days')}) "
        "select coalesce(v.person, d.owner) as person, count(*) as n from visits as v left join d on v.device = d.device "
        f"where {within('v.ts', '30 days')} group by coalesce(v.person, d.owner)",
    ),
    "within, in a subquery": (
        "person",
        f"select person, city from people where person in (select person from visits where {within('ts', '30 days')})",
    ),
    "within, under a scalar": (
        "person",
        f"select person, city from people where (select count(*) from visits where {within('ts', '30 days')}) > 3",
    ),
}


@pytest.mark.parametrize("rule", RULES)
def test_no_untouched_key_changes_and_scoped_rows_are_the_whole_rows(rule: str) -> None:
    key, sql = RULES[rule]
    assert faults(sql, key, seed=len(rule), steps=12) == []


@pytest.mark.slow
@pytest.mark.parametrize("rule", RULES)
def test_the_same_over_many_more_changes(rule: str) -> None:
    key, sql = RULES[rule]
    for seed in range(12):
        assert faults(sql, key, seed) == []


def caught(sql: str, key: str, mutated: Analysis) -> bool:
    return any(faults(sql, key, seed, analysis=mutated) for seed in range(8))


def test_a_forgotten_old_key_is_caught() -> None:
    """`delta` holds old and new images; a path that sees the new ones only misses the key that a row left."""
    key, sql = RULES["groups"]
    right = look(sql, key)
    gone = "select * from {delta} where exists (select 1 from visits as v where v.id = _d.id and v.person = _d.person)"
    paths = tuple(
        replace(path, sql=path.sql.replace("{delta}", f"({gone.replace('{delta}', '{delta} as _d')})"))
        for path in right.paths
    )
    assert caught(sql, key, replace(right, paths=paths))


def test_a_forgotten_key_path_is_caught() -> None:
    for rule in ("a dimension reached by another column", "a left join", "in, by another column"):
        key, sql = RULES[rule]
        right = look(sql, key)
        for path in right.paths:
            rest = tuple(other for other in right.paths if other is not path)
            assert caught(sql, key, replace(right, paths=rest)), f"{rule}: nobody misses the path from {path.source}"


def test_one_way_of_two_to_a_dimension_is_not_enough() -> None:
    key, sql = RULES["a dimension reached twice"]
    right = look(sql, key)
    (people,) = [path for path in right.paths if path.source == "main.people"]
    one_way = "select v.id as key from {plus:main.visits} as v, {delta} as d where v.person = d.person"
    paths = tuple(replace(path, sql=one_way) if path is people else path for path in right.paths)
    assert caught(sql, key, replace(right, paths=paths))


def test_the_row_that_a_left_join_lost_is_found() -> None:
    """Of a key computed over a left join, both what it was without a match and what it is with one are touched."""
    key, sql = RULES["a key computed over a left join"]
    right = look(sql, key)
    (devices,) = [path for path in right.paths if path.source == "main.devices"]
    matched = (
        "select coalesce(v.person, d.owner) as key from {plus:main.visits} as v, {delta} as d where v.device = d.device"
    )
    paths = tuple(replace(path, sql=matched) if path is devices else path for path in right.paths)
    assert caught(sql, key, replace(right, paths=paths))


def test_the_path_from_a_table_with_the_key_reads_nothing_but_the_change() -> None:
    (path,) = look("select person, kind, count(*) as n from visits group by person, kind", "person").paths
    assert path.source == "main.visits"
    assert "{plus:" not in path.sql and not path.everything
    assert path.text == "main.visits → person"


def test_a_path_joins_the_change_to_the_tables_as_they_were_and_are() -> None:
    paths = {p.source: p.sql for p in look(RULES["a dimension reached by another column"][1], "person").paths}
    assert "{delta}" in paths["main.kinds"] and "{plus:main.visits}" in paths["main.kinds"]


def test_views_are_looked_through() -> None:
    views = {"main.seen": "select device as gadget, person from visits where kind = 'a'"}
    analysis = look("select person, count(*) as n from seen group by person", "person", views=views)
    assert analysis.reads == {"main.visits"}
    assert [path.source for path in analysis.paths] == ["main.visits"]


def test_what_nothing_ties_to_the_key_touches_every_key_and_says_so() -> None:
    sql = (
        "with most as (select max(points) as points from kinds) "
        "select v.person, count(*) as n, max(most.points) as points from visits as v cross join most group by v.person"
    )
    analysis = look(sql, "person")
    assert analysis.mode == "keyed"
    assert {p.source: p.everything for p in analysis.paths} == {"main.visits": False, "main.kinds": True}
    assert "every person: nothing ties it to main.kinds" in [p.text for p in analysis.paths]
    assert faults(sql, "person", 1) == []


@pytest.mark.parametrize(
    "sql",
    [
        "select person, kind from visits where amount >= (select avg(amount) from visits)",
        "with top as (select max(amount) as most from visits) "
        "select v.person, v.amount = top.most as is_most from visits as v cross join top",
    ],
)
def test_a_model_of_which_every_change_concerns_every_key_is_full(sql: str) -> None:
    analysis = look(sql, "person")
    assert analysis.mode == "full"
    assert analysis.why_full == ("every change of any table concerns every person",)


def test_a_declared_path_takes_the_place_of_lineage() -> None:
    touch = {"people": "select v.person as key from visits as v where v.device in (select boss from {delta})"}
    analysis = look(RULES["a left join on two columns"][1], "person", touch)
    (people,) = [path for path in analysis.paths if path.source == "main.people"]
    assert people.sql == touch["people"]
    assert people.text == "as declared under touch"


def test_a_declared_path_of_a_table_that_is_not_read_is_an_error() -> None:
    with pytest.raises(ConfigError, match=r"declares touch: orders, but reads no such table; it reads main\.visits"):
        look(RULES["groups"][1], "person", {"orders": "select 1"})


def test_a_key_that_is_an_aggregate_has_no_path() -> None:
    analysis = look("select kind, max(person) as person from visits group by kind", "person")
    assert analysis.mode == "full"
    assert analysis.why_full[0] == "GROUP BY does not contain person, so a row of one person depends on rows of others"


def test_a_declared_path_mends_what_lineage_cannot_follow() -> None:
    sql = (
        "with m as (select device, max(owner) as owner from devices group by device) "
        "select m.owner, count(*) as n from visits as v inner join m on v.device = m.device group by m.owner"
    )
    full = look(sql, "owner")
    assert full.mode == "full"
    assert set(full.why_full) == {
        "no path leads from main.devices to owner: owner of m cannot be told from single changed rows; declare one under "
        "meta.headwater.touch",
        'no path leads from main.visits to owner: owner is computed from many rows (MAX("devices"."owner")); declare one under '
        "meta.headwater.touch",
    }
    mended = {
        "devices": "select owner as key from {plus:main.devices} where device in (select device from {delta})",
        "visits": "select owner as key from {plus:main.devices} where device in (select device from {delta})",
    }
    analysis = look(sql, "owner", mended)
    assert analysis.mode == "keyed"
    assert faults(sql, "owner", 2, analysis=analysis) == []


def test_no_key_and_a_key_that_is_no_column() -> None:
    assert look("select person from visits", None).why_full == ("it has no key (meta.headwater.key in its .yml)",)
    with pytest.raises(
        ConfigError, match=r"has no column who, which meta\.headwater\.key names; its columns are person"
    ):
        look("select person from visits", "who")


def test_a_table_that_nobody_knows_is_an_error() -> None:
    with pytest.raises(ConfigError, match=r"the live model m reads main\.nothing, which is no table or view"):
        look("select person from nothing", "person")


def test_sql_that_cannot_be_read_is_an_error_that_names_the_model() -> None:
    with pytest.raises(ConfigError, match="the SQL of the live model m cannot be read"):
        look("select person from visits where (", "person")
