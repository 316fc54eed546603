"""The difference between the model now and what was confirmed, as a plan that a person can read and a machine can hold to."""

import hashlib
import json
from dataclasses import replace

import pytest

from headwater.activation.difference import _Comparison
from headwater.activation.plan import Plan
from headwater.errors import DataError, Refused, UsageError

BEFORE = [("same", "Ann", "Oslo"), ("changed", "Bo", "Rome"), ("gone", "Cy", "Bonn")]
AFTER = [("same", "Ann", "Oslo"), ("changed", "Bo", "Paris"), ("new", "Di", "Bern")]


def shown(plan):
    return [(one.operation, one.key) for one in plan.operations()]


@pytest.mark.parametrize(
    ("mode", "first", "second"),
    [
        ("upsert", ["create"] * 3, [("update", "changed"), ("create", "new")]),
        ("update", ["update"] * 3, [("update", "changed"), ("update", "new")]),
        ("insert", ["create"] * 3, [("create", "new")]),
        ("mirror", ["create"] * 3, [("update", "changed"), ("create", "new"), ("delete", "gone")]),
        ("delete", ["delete"] * 3, [("delete", "new")]),
    ],
)
def test_modes(desk, mode, first, second):
    desk.with_sync(mode=mode, max_removal_share=1)
    desk.people(*BEFORE)
    assert [verb for verb, _ in shown(desk.plan())] == first
    assert desk.deliver().confirmed == 3
    desk.people(*AFTER)
    assert shown(desk.plan()) == second
    assert desk.deliver().confirmed == len(second)
    assert desk.deliver().status == "nothing"


@pytest.mark.parametrize("mode", ["upsert", "update", "insert", "mirror", "delete"])
@pytest.mark.parametrize("write_nulls", [False, True])
def test_the_first_plan_of_all_is_what_a_comparison_with_nothing_gives(desk, monkeypatch, mode, write_nulls):
    desk.with_sync(
        mode=mode, write_nulls=write_nulls, requires=["city"], fields={"name": "name", "city": "city", "kilos": "kilos"}
    )
    desk.people(("c1", 'A "quoted" \\ name', "Oslo"), (" c2 ", None, None), ("c3", "Zoë\n東京", "Rome"))
    desk.warehouse.execute(
        "alter table main.people add column kilos double; update main.people set kilos = 1.5 where id = 'c3'"
    )
    plans = []
    for first in (True, False):
        if not first:
            monkeypatch.setattr(_Comparison, "_first", lambda _: False)
        made = desk.plan()
        told = desk.warehouse.rows(f"select * from {made.rows.table} order by _headwater_key")
        plans.append(
            (made.as_json(), list(made.operations()), list(made.held()), [dict(sorted(row.items())) for row in told])
        )
    assert plans[0] == plans[1]


@pytest.mark.parametrize("other", ["c1", " c1", None])
def test_a_first_plan_with_keys_that_are_not_their_own_quarantines_them(desk, other):
    desk.people(("c1", "Ann", "Oslo"), (other, "Bo", "Rome"), ("c3", "Cy", "Bonn"))
    made = desk.plan()
    assert [key for _, key in shown(made)] == (["c1", "c3"] if other is None else ["c3"])
    assert made.counts.quarantined == (1 if other is None else 2)


def test_delete_mode_forgets_a_key_that_left_so_that_it_may_come_back(desk):
    desk.with_sync(mode="delete")
    desk.people(("c1", "Ann", "Oslo"))
    first = next(desk.plan().operations())
    desk.deliver()
    desk.people()
    assert desk.plan().counts.forgotten == 1
    assert desk.deliver().status == "nothing"
    desk.people(("c1", "Ann", "Oslo"))
    again = next(desk.plan().operations())
    assert (again.operation, again.version) == ("delete", 2)
    assert again.operation_id != first.operation_id


def test_a_null_never_wipes_unless_the_sync_says_so(desk):
    desk.people(("c1", "Ann", "Oslo"))
    desk.deliver()
    desk.people(("c1", "Bo", None))
    (operation,) = desk.plan().operations()
    assert operation.fields == {"name": "Bo"}
    desk.deliver()
    assert desk.delivered() == {"c1": ("Bo", "Oslo")}
    desk.people(("c1", None, None))
    assert desk.plan().counts.planned == 0
    desk.with_sync(write_nulls=True)
    (operation,) = desk.plan().operations()
    assert operation.fields == {"name": None, "city": None}
    desk.deliver()
    assert desk.delivered() == {"c1": (None, None)}


def test_rows_without_a_key_are_told_and_not_sent(desk):
    desk.people((None, "Ann", "Oslo"), ("  ", "Bo", "Rome"), ("c1", "Cy", "Bonn"))
    plan = desk.plan()
    assert shown(plan) == [("create", "c1")]
    (held,) = plan.held()
    assert (held.rule, held.row_count, held.sentence) == (
        "key",
        2,
        "2 rows of the model have no key (id is null or blank); give them one, or leave them out with `where`",
    )
    assert plan.counts.quarantined == 2


def test_repeated_rows_are_collapsed_and_contradicting_ones_are_not_sent(desk):
    desk.people(
        ("twin", "Ann", None),
        ("twin", "Ann", None),
        ("twin ", "Ann", None),
        ("torn", "Bo", "Rome"),
        ("torn", "Bo", None),
    )
    plan = desk.plan()
    assert shown(plan) == [("create", "twin")]
    (held,) = plan.held()
    assert (held.key, held.rule, held.sentence) == (
        "torn",
        "duplicate",
        "2 rows of the model have this key and differ in city; make the key unique in the model, or say with `prefer` which row to take",
    )
    assert (plan.counts.model_rows, plan.counts.collapsed, plan.counts.quarantined) == (5, 2, 2)
    assert plan.warnings == (
        "2 rows of the model people cannot be sent, for want of a key of their own; the plan says which",
        "2 rows of the model people with the key of another row collapsed into that",
    )


def test_prefer_picks_one_of_several(desk):
    desk.people(("c1", "Ann", "Oslo"), ("c1", "Bo", "Rome"), ("c1", "Cy", "Bonn"))
    desk.with_sync(prefer="name desc")
    plan = desk.plan()
    assert [one.fields for one in plan.operations()] == [{"name": "Cy", "city": "Bonn"}]
    assert (plan.counts.collapsed, plan.counts.quarantined) == (2, 0)


def test_a_mirror_does_not_remove_a_key_that_it_cannot_read(desk):
    desk.with_sync(mode="mirror")
    desk.people(("c1", "Ann", "Oslo"), ("c2", "Bo", "Rome"))
    desk.deliver()
    desk.people(("c1", "Ann", "Oslo"), ("c1", "Other", "Oslo"), ("c2", "Bo", "Rome"))
    assert shown(desk.plan()) == []


def test_a_number_that_is_none_is_held(desk):
    desk.warehouse.execute(
        "create table main.people as select * from (values ('c1', 'nan'::double, 1.5::float), ('c2', 0.1, 'inf'), ('c3', 1e300, 2)) t(id, name, city)"
    )
    plan = desk.plan()
    assert shown(plan) == [("create", "c3")]
    assert [(one.key, one.rule, one.sentence) for one in plan.held()] == [
        ("c1", "value", "name is not a finite number; mend it in the model"),
        ("c2", "value", "city is not a finite number; mend it in the model"),
    ]


def test_who_is_held_back_and_by_which_rule(desk):
    desk.people(("c1", "Ann", "Oslo"), ("c2", "Bo", "Rome"), ("c3", "Cy", "Bonn"))

    def recheck(relation):
        rows = desk.warehouse.rows(f"select * from {relation} order by key")
        assert [row["key"] for row in rows] == ["c1", "c2", "c3"]
        return [(rows[0]["operation_id"], "consent", "said no"), (rows[2]["operation_id"], "holdout", "is measured")]

    plan = desk.plan(recheck=recheck)
    assert shown(plan) == [("create", "c2")]
    assert plan.held_by_rule == {"consent": 1, "holdout": 1}
    assert [(one.key, one.rule, one.sentence) for one in plan.held()] == [
        ("c1", "consent", "said no"),
        ("c3", "holdout", "is measured"),
    ]


def test_a_removal_is_not_held_back(desk):
    desk.with_sync(mode="mirror", max_removal_share=1)
    desk.people(("c1", "Ann", "Oslo"))
    desk.deliver()
    desk.people()
    plan = desk.plan(
        recheck=lambda relation: [(row["operation_id"], "no", "no") for row in desk.warehouse.rows(f"from {relation}")]
    )
    assert shown(plan) == [("delete", "c1")]


def test_planning_changes_nothing_and_twice_gives_the_same(desk):
    desk.people(*BEFORE)
    desk.deliver()
    desk.people(*AFTER)
    tables = [
        "headwater.outbox",
        "headwater.sync_runs",
        "headwater.sync_rows",
        "delivered.people",
        "delivered.people__next",
    ]
    before = [desk.warehouse.execute(f"from {table} order by all").fetchall() for table in tables]
    first, second = desk.plan(), desk.plan()
    assert (first.plan_id, first.digest, first.as_json()) == (second.plan_id, second.digest, second.as_json())
    assert list(first.operations()) == list(second.operations())
    assert [desk.warehouse.execute(f"from {table} order by all").fetchall() for table in tables] == before


def test_the_digest_knows_rows_settings_and_destination(desk):
    desk.people(*BEFORE)
    digests = {desk.plan().digest}
    desk.people(*AFTER)
    digests.add(desk.plan().digest)
    desk.with_sync(write_nulls=True)
    digests.add(desk.plan().digest)
    desk.destination = desk.destination.model_copy(update={"rate_per_second": 3.0})
    digests.add(desk.plan().digest)
    assert len(digests) == 4


def test_a_plan_comes_back_from_its_file(desk):
    desk.people(("c1", 'A "quoted" | name', None), ("c2", "Zoë\n東京", "Rome"), (None, "x", "y"))
    plan = desk.plan(recheck=lambda relation: [(next(plan_ids(desk, relation)), "consent", "said no")])
    path = plan.write(desk.folder / "plans" / "people.json")
    back = Plan.read(path)
    assert back.as_json() == plan.as_json()
    assert [(one.operation_id, one.fields) for one in back.operations()] == [
        (one.operation_id, one.fields) for one in plan.operations()
    ]
    assert [(one.key, one.rule, one.sentence) for one in back.held()] == [
        (one.key, one.rule, one.sentence) for one in plan.held()
    ]
    assert path.read_bytes() == plan.write(desk.folder / "again.json").read_bytes()


def plan_ids(desk, relation):
    return (row["operation_id"] for row in desk.warehouse.rows(f"from {relation} order by key"))


def test_a_plan_file_shows_old_and_new_per_field(desk):
    desk.people(("c1", "Ann", "Oslo"))
    desk.deliver()
    desk.people(("c1", "Ann", "Bergen"))
    document = json.loads(desk.plan().write(desk.folder / "plan.json").read_text())
    (row,) = document["operations"]
    assert row["changes"] == {"city": {"old": "Oslo", "new": "Bergen"}}
    assert row["send"] == {"name": "Ann", "city": "Bergen"}
    assert document["counts"]["updates"] == 1
    assert document["made_at"] == "2026-03-01T12:00:00+00:00"


def test_an_edited_plan_is_refused(desk):
    desk.people(("c1", "Ann", "Oslo"))
    path = desk.plan().write(desk.folder / "plan.json")
    path.write_text(path.read_text().replace("Oslo", "Rome"))
    with pytest.raises(Refused, match="was changed after it was written; a plan is sent as reviewed or not at all"):
        Plan.read(path)


def test_a_file_that_is_no_plan(desk):
    path = desk.folder / "plan.json"
    path.write_text('{"a": 1}')
    with pytest.raises(DataError, match="is not a plan that `headwater plan` wrote"):
        Plan.read(path)
    with pytest.raises(UsageError, match="does not exist"):
        Plan.read(desk.folder / "none.json")


def test_calls_are_counted_as_the_destination_takes_them(desk):
    desk.people(*[(f"c{number}", "n", "c") for number in range(23)])
    desk.destination = desk.destination.model_copy(
        update={"type": "webhook", "options": {"url": "https://example.com/rows", "batch_size": 10}}
    )
    assert desk.plan().calls == 3


@pytest.mark.parametrize(("left", "stopped"), [(8, False), (7, True)], ids=["at the limit", "above the limit"])
def test_a_mirror_that_would_remove_too_many_stops(desk, left, stopped):
    desk.with_sync(mode="mirror", max_removal_share=0.2)
    rows = [(f"c{number}", "n", "c") for number in range(10)]
    desk.people(*rows)
    desk.deliver()
    desk.people(*rows[:left])
    plan = desk.plan()
    assert bool(plan.stops) == stopped
    if stopped:
        with pytest.raises(Refused) as told:
            desk.deliver()
        assert str(told.value).splitlines() == [
            "people is stopped by 1 circuit breaker; nothing was sent:",
            "  removals: 3 of 10 delivered rows (30.0%) would be removed; `max_removal_share` of 'people' allows 20.0%",
            "Look at the plan; to send it all the same, allow it by name (removals)",
        ]
        assert len(desk.delivered()) == 10
        assert desk.deliver(allow={"removals"}).confirmed == 3
        assert len(desk.delivered()) == 7


def test_a_run_of_too_many_rows_stops(desk):
    desk.people(("c1", "n", "c"), ("c2", "n", "c"))
    desk.with_sync(max_rows=1)
    with pytest.raises(Refused, match="rows: 2 rows would be sent; `max_rows` of 'people' allows 1"):
        desk.deliver()
    assert desk.deliver(allow=["rows"]).confirmed == 2


@pytest.fixture
def segments(desk):
    def write(*rows):
        desk.warehouse.execute(
            "create or replace table main.people (id varchar, name varchar, city varchar, segment varchar)"
        )
        for row in rows:
            desk.warehouse.execute("insert into main.people values (?, ?, ?, ?)", row)

    write(("c1", "Ann", "Oslo", "a"), ("c2", "Bo", "Rome", "b"), ("c3", "Cy", "Bonn", None))
    return write


def test_one_segment_only_and_the_others_stay_as_they_are(desk, segments):
    desk.with_sync(mode="mirror", max_removal_share=1)
    plan = desk.plan(segment="a")
    assert (shown(plan), plan.counts.outside) == ([("create", "c1")], 2)
    assert desk.deliver(segment="a").confirmed == 1
    assert shown(desk.plan(segment="all")) == [("create", "c2"), ("create", "c3")]
    desk.deliver()
    segments(("c1", "Ann!", "Oslo", "a"), ("c2", "Bo!", "Rome", "b"))
    assert shown(desk.plan(segment="b")) == [("update", "c2")]
    assert desk.deliver(segment="b").confirmed == 1
    assert sorted(desk.delivered()) == ["c1", "c2", "c3"]
    assert shown(desk.plan()) == [("update", "c1"), ("delete", "c3")]


def test_a_segment_needs_its_column(desk):
    desk.people(("c1", "Ann", "Oslo"))
    with pytest.raises(UsageError, match="its model has no column `segment`"):
        desk.plan(segment="vip")


def test_for_the_eye(desk):
    desk.with_sync(mode="mirror", max_removal_share=0.1)
    desk.people(*BEFORE)
    desk.deliver()
    desk.people(("same", "Ann", "Oslo"), ("changed", "Bo", "a | b"), (None, "x", "y"))
    plan = desk.plan()
    assert plan.summary().splitlines() == [
        "people → there: 0 to create, 1 to update, 1 to remove (2 calls); 3 rows in people, 3 delivered before",
        "  held back by key: 1",
        "  stops: 1 of 3 delivered rows (33.3%) would be removed; `max_removal_share` of 'people' allows 10.0%",
        "  note: 1 row of the model people cannot be sent, for want of a key of their own; the plan says which",
    ]
    page = plan.markdown().splitlines()
    assert "| update | changed | city | Rome | a \\| b |" in page
    assert "| delete | gone | name | Cy | – |" in page
    assert any(line.startswith("| – | key | 1 row of the model has no key") for line in page)
    assert [[str(cell) for cell in column.cells] for column in plan.table().columns][:2] == [
        ["update", "delete", "", "held"],
        ["changed", "gone", "", "–"],
    ]
    short = replace(plan).markdown(limit=1)
    assert "… and 1 more in the plan file." in short


def test_a_mapping_that_grew_sends_the_new_field_and_one_that_shrank_sends_nothing(desk):
    desk.people(("c1", "Ann", "Oslo"), ("c2", "Bo", None))
    desk.with_sync(fields={"name": "name"})
    desk.deliver()
    desk.with_sync(fields={"name": "name", "city": "city"})
    (operation,) = desk.plan().operations()
    assert (operation.key, operation.previous) == ("c1", {"name": "Ann"})
    desk.deliver()
    assert desk.delivered() == {"c1": ("Ann", "Oslo"), "c2": ("Bo", None)}
    desk.with_sync(fields={"name": "name"})
    assert desk.plan().counts.planned == 0
    assert desk.deliver().status == "nothing"


def test_a_column_of_another_type_is_compared_as_such(desk):
    desk.people(("c1", "1", "Oslo"), ("c2", "x", "Rome"))
    desk.deliver()
    desk.warehouse.execute(
        "create or replace table main.people as select 'c' || i as id, i as name, 'Oslo' as city from range(1, 3) t(i)"
    )
    assert [(one.key, one.previous) for one in desk.plan().operations()] == [("c2", {"city": "Rome"})]
    desk.deliver()
    assert desk.delivered() == {"c1": (1, "Oslo"), "c2": (2, "Oslo")}


def test_an_operation_id_is_that_of_its_json(desk):
    """What an id is made of never changes: an open operation of an older version is known again by it."""
    desk.people(('k"1\\\n\x07é東/', 'q" \\ \n\x07 👋', "Oslo"), ("plain", "Ann", None))
    for operation in desk.plan().operations():
        payload = json.dumps(dict(operation.fields), ensure_ascii=False, separators=(",", ":"))
        said = ["people", operation.key, "1", "create", payload]
        text = json.dumps(said, ensure_ascii=False, separators=(",", ":"))
        assert operation.operation_id == hashlib.sha256(text.encode()).hexdigest()[:32]
