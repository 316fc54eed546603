"""The SQL that stands in a mapping: what is allowed, and what is made of it."""

import pytest

from headwater.collect import expressions
from headwater.collect.expressions import Column

TYPES = {"sales": {"Customer ID": "BIGINT", "day": "VARCHAR", "total": "DOUBLE"}, "people": {"id": "VARCHAR"}}


def prepare(sql: str) -> expressions.Expression:
    return expressions.prepare(sql, "sales", {"sales": "r", "people": "j1"}, TYPES)


@pytest.mark.parametrize(
    ("sql", "expected", "sql_type"),
    [
        ("day", 'r."day"', "VARCHAR"),
        ('"customer id"', 'r."Customer ID"', "BIGINT"),
        ("people.id", 'j1."id"', "VARCHAR"),
        ("unknown", 'r."unknown"', None),
        ("_line", 'r."_line"', None),
        ("'web'", "'web'", "VARCHAR"),
        ("1", "1", "BIGINT"),
        ("nullif(day, 'NA')", "nullif(r.\"day\", 'NA')", "VARCHAR"),
        ("day || '-' || people.id", 'r."day" || \'-\' || j1."id"', "VARCHAR"),
        ("cast(total as decimal(18, 4))", 'TRY_CAST(r."total" AS DECIMAL(18, 4))', "DECIMAL(18, 4)"),
        ("day::date", 'TRY_CAST(r."day" AS DATE)', "DATE"),
        ("strptime(day, '%d.%m.%y')", "try_strptime(CAST(r.\"day\" AS TEXT), '%d.%m.%y')", "TIMESTAMP"),
        ("cast(total as varchar)", 'CAST(r."total" AS TEXT)', "VARCHAR"),
    ],
)
def test_columns_are_found_and_conversions_made_soft(sql: str, expected: str, sql_type: str | None) -> None:
    found = prepare(sql)
    assert (found.sql, found.sql_type) == (expected, sql_type)


def test_a_failed_conversion_can_be_told_from_a_missing_value() -> None:
    assert prepare("day").failed is None
    assert prepare("strptime(day, '%Y')").failed == (
        "(try_strptime(CAST(r.\"day\" AS TEXT), '%Y') is null and nullif(trim(cast(r.\"day\" as varchar)), '') is not null)"
    )
    assert prepare("case when total > 1 then day::date else total::int end").failed.count(" or ") == 1  # type: ignore[union-attr]


def test_columns_stand_in_the_order_of_appearance_and_once() -> None:
    assert expressions.columns('total || people.id || total || "Customer ID"') == (
        Column(None, "total"), Column("people", "id"), Column(None, "Customer ID"),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("sql", "problem"),
    [
        ("select 1", "found 'select 1'; a query cannot stand here, expected an expression over one row's columns"),
        ("(select max(x) from t)", "found '(select max(x) from t)'; a query cannot stand here, expected an expression over one row's columns"),
        ("sum(total)", "found 'sum(total)'; an aggregate cannot stand here, expected an expression over one row's columns"),
        ("row_number() over ()", "found 'row_number() over ()'; an aggregate cannot stand here, expected an expression over one row's columns"),
        ("day as d", "found 'day as d', expected one expression over the file's columns"),
        (
            "Kundennr.",
            "found 'Kundennr.', which is not SQL: Required keyword: 'this' missing. "
            "Line 1, Col: 9. If that is the name of a column, put it in quotes: '\"Kundennr.\"'",
        ),
        ("*", "found '*', expected one expression over the file's columns"),
        ("1; drop table t", "found '1; drop table t', expected one expression over the file's columns"),
        ("", "found '', expected an SQL expression over the file's columns"),
        (None, "found None, expected an SQL expression over the file's columns"),
        (True, "found True, expected an SQL expression over the file's columns"),
    ],
)  # fmt: skip
def test_what_is_no_expression_is_said(sql: object, problem: str) -> None:
    assert expressions.problem(sql) == problem


@pytest.mark.parametrize(
    "sql", ["day", 1, 1.5, "case when day = 'x' then 1 end", "regexp_replace(day, '^0', '')", "date", "order"]
)
def test_what_is_one_passes(sql: object) -> None:
    assert expressions.problem(sql) is None


def test_joins_are_equalities_with_a_column_of_the_joined_file() -> None:
    assert expressions.equalities("people.id = lower(sales.who) and sales.day = people.day", "people") == (
        ("lower(sales.who)", "id"), ("sales.day", "day"),
    )  # fmt: skip
    for condition in (
        "people.id > sales.who",
        "sales.a = sales.b",
        "people.id = people.other",
        "people.id = sales.who or 1 = 1",
    ):
        assert expressions.equalities(condition, "people") == ()
