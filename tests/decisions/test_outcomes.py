"""A file of outcomes: what is taken in, what is put aside and why, and that no row is lost on the way."""

import json
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from learning_cases import Made, write

from headwater.clock import FixedClock
from headwater.decisions.outcomes import COLUMNS, note_refusals, observed, take_in
from headwater.decisions.settings import DecisionSettings
from headwater.errors import DataError
from headwater.warehouse import Warehouse

SETTINGS = DecisionSettings()
CLOCK = FixedClock(datetime(2026, 3, 1, tzinfo=UTC))


@pytest.fixture(scope="module")
def warehouse():
    with Warehouse(":memory:") as made:
        yield made


@pytest.fixture(autouse=True)
def emptied(warehouse):
    for table in (
        "decision_log", "contact_ledger", "outcomes", "outcome_imports", "outcome_rejects", "consent_state",
    ):  # fmt: skip
        warehouse.execute(f"delete from headwater.{table}")


def taken(warehouse, folder, text, name="responses.csv"):
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return take_in(warehouse, path, SETTINGS, CLOCK)


def test_good_rows_are_taken_in_once_however_often_the_file_comes(warehouse, tmp_path):
    text = (
        "outcome_id,customer_id,kind,value,occurred_at\n"
        "1,c1,order,19.90,2026-02-01T10:00:00+02:00\n"
        "2,c1,Email_Opened,,2026-02-01 09:00\n"
        "3,c2,complaint,,2026-02-02\n"
    )
    first = taken(warehouse, tmp_path, text)
    assert first.message == "responses.csv: 3 rows read, 3 new, 0 known, 0 rejected; 1 person has said no"
    rows = warehouse.execute(
        "select outcome_id, kind, value::double, occurred_at::varchar from headwater.outcomes order by 1"
    ).fetchall()
    assert rows == [
        ("1", "order", 19.9, "2026-02-01 08:00:00"),
        ("2", "open", 1.0, "2026-02-01 09:00:00"),
        ("3", "complaint", 1.0, "2026-02-02 00:00:00"),
    ]
    again = taken(warehouse, tmp_path, text)
    assert (again.read, again.new, again.known, again.rejected, again.consents) == (3, 0, 3, 0, 0)
    assert warehouse.value("select count(*) from headwater.outcomes") == 3
    assert warehouse.value("select count(*) from headwater.consent_state") == 1


def test_a_bad_row_is_put_aside_with_all_its_reasons(warehouse, tmp_path):
    write(warehouse, [Made("c1", "a")])
    done = taken(
        warehouse,
        tmp_path,
        "outcome_id,customer_id,decision_id,kind,value,occurred_at\n"
        "1,c9,d0,order,5,2026-02-01\n"
        "2,,,dance,much,tomorrow\n"
        "3,c1,nowhere,open,,2027-01-01\n"
        "4,c1,d0,open,,\n"
        "5,c1,d0,open,,2026-02-01\n"
        "5,c1,d0,click,,2026-02-01\n"
        "a,b\n",
    )
    assert (done.read, done.new, done.known, done.rejected) == (7, 1, 0, 6)
    rows = warehouse.execute("select line, reasons::varchar from headwater.outcome_rejects order by line").fetchall()
    found = {line: json.loads(reasons) for line, reasons in rows}
    assert found[2] == ["customer_id is not the customer of decision_id"]
    assert found[3] == [
        "kind is none of order, open, click, visit, unsubscribe, complaint, and no event that decisions.events names",
        "occurred_at is no moment like 2026-01-31T12:00:00Z",
        "value is no number, or has more digits than decimal(18,4) holds",
        "neither customer_id nor decision_id says who it was",
    ]
    assert found[4] == ["occurred_at lies in the future", "decision_id is in no row of headwater.decision_log"]
    assert found[5] == ["occurred_at is empty"]
    assert found[7] == ["outcome_id stands for another outcome already"]
    assert found[8][0].startswith("2 values, the header has 6")
    assert done.warnings[0] == "6 rows could not be used; see headwater.outcome_rejects"


def test_a_decision_says_who_it_was(warehouse, tmp_path):
    write(warehouse, [Made("c1", "a")])
    taken(warehouse, tmp_path, "decision_id,kind,occurred_at\nd0,unsubscribe,2026-02-01\n")
    assert warehouse.value("select customer_id from headwater.outcomes") == "c1"
    said = warehouse.execute("select customer_id, channel, consented, source from headwater.consent_state").fetchall()
    assert said == [("c1", "email", False, "unsubscribe")], "from the channel of the decision"


def test_parquet_is_read_as_well_and_other_columns_are_named(warehouse, tmp_path):
    path = tmp_path / "responses.parquet"
    warehouse.execute(
        f"""copy (select 'c' || i as customer_id, 'open' as kind, timestamp '2026-02-01' as occurred_at, 'x' as mood
                  from range(3) t(i)) to '{path}' (format parquet)"""
    )
    done = take_in(warehouse, path, SETTINGS, CLOCK)
    assert (done.read, done.new) == (3, 3)
    assert done.warnings == ("columns that mean nothing here were left: mood",)


@pytest.mark.parametrize(
    ("header", "missing"),
    [("customer_id,when", "kind, occurred_at"), ("kind,occurred_at", r"customer_id \(or decision_id\)")],
)
def test_a_file_without_what_is_needed_is_refused_whole(warehouse, tmp_path, header, missing):
    with pytest.raises(
        DataError, match=f"responses.csv lacks {missing}; it has {header.replace(',', ', ')}. A file of outcomes may"
    ):
        taken(warehouse, tmp_path, f"{header}\n")
    with pytest.raises(DataError, match=r"cannot be read: No such file or directory\. Give a CSV or Parquet file"):
        take_in(warehouse, tmp_path / "absent.csv", SETTINGS, CLOCK)


CELLS = {
    "outcome_id": st.sampled_from(["", "1", "2", "3"]),
    "customer_id": st.sampled_from(["c1", "c1", "c2", ""]),
    "decision_id": st.sampled_from(["", "", "", "d0", "gone"]),
    "kind": st.sampled_from(["order", "open", "unsubscribe", "email_clicked", "", "sneeze"]),
    "value": st.sampled_from(["", "1", "-2.50", "1e99", "much", "NaN"]),
    "occurred_at": st.sampled_from(["2026-02-01", "2026-02-01T00:00:00Z", "2026-02-30", "", "2030-01-01", "x"]),
    "campaign": st.sampled_from(["", "spring"]),
    "channel": st.sampled_from(["", "email", "SMS", "pigeon"]),
}


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(*CELLS.values()) | st.just(("torn",)), max_size=12))
def test_no_row_is_lost_whatever_the_file_holds(warehouse, tmp_path_factory, rows):
    for table in ("decision_log", "outcomes", "outcome_rejects", "outcome_imports"):
        warehouse.execute(f"delete from headwater.{table}")
    write(warehouse, [Made("c1", "a")])
    text = "\n".join([",".join(COLUMNS), *(",".join(row) for row in rows)]) + "\n"
    text = text.replace("outcome_id,customer_id,decision_id,kind,value,occurred_at,campaign,channel", ",".join(CELLS))
    folder = tmp_path_factory.mktemp("outcomes")
    done = taken(warehouse, folder, text)
    assert done.read == len(rows) == done.new + done.known + done.rejected
    assert done.new == warehouse.value("select count(*) from headwater.outcomes")
    assert done.rejected == warehouse.value("select count(*) from headwater.outcome_rejects")
    assert warehouse.value("select count(distinct outcome_id) from headwater.outcomes") == done.new
    again = taken(warehouse, folder, text)
    assert (again.new, again.rejected) == (0, done.rejected)
    assert again.read == again.known + again.rejected


def shop_tables(warehouse):
    warehouse.execute(
        """create or replace table main.fct_orders as
           select * from (values ('o1', 'c1', 20.0, timestamp '2026-02-01', true), ('o2', 'c1', -5.0, timestamp '2026-02-02', false),
               ('o3', null, 9.0, timestamp '2026-02-02', true), ('o4', 'c2', 0.0, timestamp '2026-02-02', false))
               t(order_id, customer_id, revenue, ordered_at, is_purchase)"""
    )
    warehouse.execute(
        """create or replace table main.fct_events as
           select * from (values ('e1', 'c1', 's1', 'page_viewed', timestamp '2026-02-01 10:00'),
               ('e2', 'c1', 's1', 'email_clicked', timestamp '2026-02-01 10:05'),
               ('e3', 'c2', 's2', 'email_unsubscribed', timestamp '2026-02-03'),
               ('e4', null, 's3', 'email_opened', timestamp '2026-02-03')) t(event_id, customer_id, session_id, event_name, occurred_at)"""
    )
    warehouse.execute(
        """create or replace table main.stg_campaign_responses as
           select 'r1' as campaign_response_id, 'spring' as campaign_id, 'c2' as customer_id, timestamp '2026-02-01' as opened_at,
               null::timestamp as clicked_at, null::timestamp as unsubscribed_at"""
    )


def test_what_the_shop_sees_for_itself_is_there_without_a_file(warehouse, tmp_path):
    shop_tables(warehouse)
    try:
        taken(warehouse, tmp_path, "outcome_id,customer_id,kind,value,occurred_at\no1,c1,order,20,2026-02-01\n")
        rows = warehouse.execute(
            f"select kind, customer_id, value::double, campaign from ({observed(warehouse, SETTINGS)}) order by all"
        ).fetchall()
        assert rows == [
            ("click", "c1", 1.0, None),
            ("open", "c2", 1.0, "spring"),
            ("order", "c1", -5.0, None),
            ("order", "c1", 20.0, None),
            ("unsubscribe", "c2", 1.0, None),
            ("visit", "c1", 1.0, None),
            ("visit", "c2", 1.0, None),
        ]
        assert note_refusals(warehouse, SETTINGS, CLOCK) == 1
        assert note_refusals(warehouse, SETTINGS, CLOCK) == 0
    finally:
        for table in ("fct_orders", "fct_events", "stg_campaign_responses"):
            warehouse.execute(f"drop table main.{table}")
