"""What was confirmed is kept in the model's own types, exactly: a row that did not change never differs."""

import json
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headwater.activation import exact
from headwater.activation.deliver import deliver
from headwater.activation.plan import plan
from headwater.activation.settings import DestinationSettings, SyncSettings
from headwater.clock import SystemClock
from headwater.warehouse import Warehouse

VALUES = {
    "varchar": "'it''s \"quoted\" \\ é 東 👋' || chr(10) || chr(1)",
    "bigint": "-9223372036854775807",
    "hugeint": "170141183460469231731687303715884105727",
    "decimal(38, 10)": "12345678901234567890123456.1234567890",
    "decimal(18, 4)": "-0.0001",
    "double": "0.1::double + 0.2::double",
    "float": "0.1::float",
    "boolean": "false",
    "date": "date '2026-01-31'",
    "timestamp": "timestamp '2026-01-31 23:59:59.999999'",
    "timestamptz": "timestamptz '2026-01-31 23:59:59.5+02'",
    "time": "time '01:02:03.000004'",
    "interval": "interval 3 months",
    "uuid": "uuid '7f3c1d52-1f8e-4b6a-9a53-000000000001'",
    "blob": "'\\xAA\\x00'::blob",
    "varchar[]": "['a', null, 'b\"c']",
    "struct(a integer, b varchar)": "{'a': 1, 'b': null}",
    "map(varchar, integer)": "map(['x'], [1])",
    "json": '\'{"b" : 1, "a": [1,  2.50]}\'::json',
}


@pytest.mark.parametrize("kind", VALUES)
def test_a_value_of_any_type_is_delivered_once(desk, kind):
    desk.warehouse.execute(f"create table main.typed as select 'k' as id, cast({VALUES[kind]} as {kind}) as value")
    desk.sync = SyncSettings(name="typed", model="typed", destination="there", key="id", fields={"value": "value"})
    (operation,) = desk.plan().operations()
    assert "value" in operation.fields
    assert desk.deliver().confirmed == 1
    assert desk.plan().counts.planned == 0
    (same,) = desk.warehouse.execute(
        "select d.value is not distinct from m.value from delivered.typed d, main.typed m"
        if kind != "json"
        else "select json(m.value) = d.value from delivered.typed d, main.typed m"
    ).fetchone()
    assert same


def test_how_values_are_written(desk):
    desk.warehouse.execute(
        "create table main.typed as select 'k' as id, 1.50::decimal(18,4) as money, timestamp '2026-01-31 10:00:00' as at, "
        "timestamp '2026-01-31 10:00:00.25' as exactly, date '2026-01-31' as day, ['a'] as tags, true as flag, 9007199254740993 as big"
    )
    desk.sync = SyncSettings(name="typed", model="typed", destination="there", key="id")
    (operation,) = desk.plan().operations()
    assert exact.dumps(operation.fields) == (
        '{"id":"k","money":1.5000,"at":"2026-01-31T10:00:00Z","exactly":"2026-01-31T10:00:00.250000Z","day":"2026-01-31",'
        '"tags":["a"],"flag":true,"big":9007199254740993}'
    )
    assert operation.fields["money"] == Decimal("1.5000")


texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)


@pytest.fixture(scope="module")
def warehouse():
    with Warehouse(":memory:") as warehouse:
        yield warehouse


@settings(max_examples=10, deadline=None)
@given(
    st.dictionaries(
        texts, st.tuples(st.none() | texts, st.none() | st.floats(allow_nan=False, allow_infinity=False)), max_size=5
    )
)
def test_any_text_and_any_number_is_delivered_once(tmp_path_factory, warehouse, model):
    for table in ("delivered.any", "delivered.any__next", "headwater.outbox"):
        if warehouse.exists(table):
            warehouse.execute(f"delete from {table}")
    warehouse.execute("create or replace table main.any (id varchar, text varchar, number double)")
    for key, (text, number) in model.items():
        warehouse.execute("insert into main.any values (?, ?, ?)", [key, text, number])
    sync = SyncSettings(
        name="any",
        model="any",
        destination="there",
        key="id",
        key_form="as_is",
        fields={"text": "text", "number": "number"},
    )
    there = DestinationSettings(type="nothing")
    made = plan(warehouse, sync, there, SystemClock())
    told = {one.key: (one.fields.get("text"), one.fields.get("number")) for one in made.operations()}
    assert told == {
        key: (text, None if number is None else pytest.approx(Decimal(repr(number))))
        for key, (text, number) in model.items()
        if key
    }
    assert deliver(warehouse, None, sync, there, SystemClock(), False).confirmed == len([key for key in model if key])
    assert plan(warehouse, sync, there, SystemClock()).counts.planned == 0


def test_exact_json():
    text = '{"a":12.3000,"b":[1,null,true],"c":"é\\n","d":1e300}'
    value = exact.loads(text)
    assert value["a"] == Decimal("12.3000")
    assert exact.dumps(value) == '{"a":12.3000,"b":[1,null,true],"c":"é\\n","d":1E+300}'
    assert json.loads(exact.dumps(value)) == json.loads(text)
    for bad in (Decimal("NaN"), float("nan"), object(), {1, 2}):
        with pytest.raises((TypeError, ValueError)):
            exact.dumps(bad)


@pytest.mark.parametrize("how", ["delete from delivered.people", "drop table delivered.people"])
def test_who_empties_the_confirmed_rows_has_everything_sent_again(desk, how):
    desk.people(("c1", "Ann", "Oslo"), ("c2", "Bo", None))
    desk.deliver()
    desk.warehouse.execute(how)
    done = desk.deliver()
    assert (done.status, done.confirmed) == ("ok", 2)
    assert desk.delivered() == {"c1": ("Ann", "Oslo"), "c2": ("Bo", None)}
    assert desk.states() == {"done": 2}
    assert desk.deliver().status == "nothing"
