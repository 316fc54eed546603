"""A reviewed plan is sent exactly as it is, or refused with what changed."""

import pytest

from headwater.activation.plan import Plan
from headwater.errors import Refused


@pytest.fixture
def reviewed(desk):
    """A plan of three rows, read back from its file."""
    desk.people(("c1", "Ann", "Oslo"), ("c2", "Bo", "Rome"), ("c3", "Cy", "Bonn"))
    return Plan.read(desk.plan().write(desk.folder / "plan.json"))


def refusal(desk, plan):
    with pytest.raises(Refused) as told:
        desk.deliver(plan)
    assert desk.delivered() == {}
    return str(told.value).splitlines()


def test_nothing_changed(desk, reviewed):
    delivery = desk.deliver(reviewed)
    assert (delivery.status, delivery.confirmed, delivery.plan_id) == ("ok", 3, reviewed.plan_id)


def test_what_changed_is_shown(desk, reviewed):
    desk.people(("c1", "Ann", "Bergen"), ("c2", "Bo", "Rome"), ("c4", "Di", "Bern"))
    assert refusal(desk, reviewed) == [
        f"the plan {reviewed.plan_id} is stale; 3 rows are not what was reviewed; nothing was sent:",
        '  c1: city "Oslo" → "Bergen"',
        "  c3: create is no longer needed",
        "  c4: create, which the plan does not have",
        "Run `headwater plan people` again and review it",
    ]


def test_many_changes_are_counted(desk, reviewed):
    desk.people(*[(f"d{number}", "n", "c") for number in range(6)])
    lines = refusal(desk, reviewed)
    assert len(lines) == 8
    assert lines[-2] == "  … and 4 more"


def test_changed_settings_refuse(desk, reviewed):
    desk.with_sync(write_nulls=True)
    assert refusal(desk, reviewed) == [
        f"the plan {reviewed.plan_id} is stale: the settings of 'people' or of its destination changed since it was made. Run `headwater plan people` again"
    ]


def test_a_plan_of_another_sync(desk, reviewed):
    desk.with_sync(name="others")
    assert "is for the sync 'people', not for 'others'" in refusal(desk, reviewed)[0]


def test_sent_once_it_is_done_for_good(desk, reviewed):
    desk.deliver(reviewed)
    again = desk.deliver(reviewed)
    assert (again.status, again.sent) == ("nothing", 0)


def test_a_change_and_back_is_not_what_was_reviewed(desk, reviewed):
    """The rows are the same as reviewed, but they were sent in between: the plan is done, nothing goes out again."""
    desk.deliver()
    assert desk.deliver(reviewed).status == "nothing"
    desk.people(("c1", "X", "Oslo"), ("c2", "Bo", "Rome"), ("c3", "Cy", "Bonn"))
    desk.deliver()
    desk.people(("c1", "Ann", "Oslo"), ("c2", "Bo", "Rome"), ("c3", "Cy", "Bonn"))
    with pytest.raises(Refused, match="c1: create is now update"):
        desk.deliver(reviewed)


def test_a_consent_withdrawn_after_the_plan_holds_the_row_and_sends_the_rest(desk, reviewed):
    def recheck(relation):
        rows = desk.warehouse.rows(f"from {relation}")
        return [(row["operation_id"], "consent", "withdrawn on Sunday") for row in rows if row["key"] == "c2"]

    delivery = desk.deliver(reviewed, recheck=recheck)
    assert (delivery.status, delivery.confirmed, delivery.held) == ("ok", 2, 1)
    assert sorted(desk.delivered()) == ["c1", "c3"]
    (row,) = desk.warehouse.rows("select key, state, reason, code from headwater.outbox where state = 'held'")
    assert row == {"key": "c2", "state": "held", "reason": "consent: withdrawn on Sunday", "code": "consent"}


def test_who_was_held_at_review_is_not_sent_by_that_plan_unless_reviewed_again(desk):
    desk.people(("c1", "Ann", "Oslo"), ("c2", "Bo", "Rome"))

    def recheck(relation):
        rows = desk.warehouse.rows(f"from {relation}")
        return [(row["operation_id"], "quiet", "it is night") for row in rows if row["key"] == "c2"]

    reviewed = Plan.read(desk.plan(recheck=recheck).write(desk.folder / "plan.json"))
    delivery = desk.deliver(reviewed, recheck=lambda relation: [])
    assert (delivery.confirmed, delivery.held) == (1, 1)
    assert list(desk.delivered()) == ["c1"]
    assert desk.deliver(recheck=lambda relation: []).confirmed == 1
