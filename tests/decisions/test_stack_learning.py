"""The stages around learning, as the commands call them, on a project that holds a log and nothing else."""

from datetime import UTC, datetime

import pytest
from learning_cases import Did, Made, happen, write
from test_champion import EVEN, PERSONAL, tell

from headwater import scaffold
from headwater.clock import FixedClock
from headwater.errors import InvalidValue, Refused
from headwater.stack import Stack

CLOCK = FixedClock(datetime(2026, 3, 1, tzinfo=UTC))


@pytest.fixture
def stack(tmp_path):
    scaffold.init(tmp_path / "shop", None)
    path = tmp_path / "shop" / "headwater.yml"
    text = path.read_text(encoding="utf-8")
    settings = "goal: conversion\n  policy: champion\n  holdout_share: 0.0\n"
    for line in ("goal: 90d_clv", "policy: default_table", "holdout_share: 0.10"):
        text = "\n".join(one for one in text.splitlines() if not one.strip().startswith(line))
    path.write_text(text.replace("decisions:\n", f"decisions:\n  {settings}", 1), encoding="utf-8")
    with Stack(tmp_path / "shop", clock=CLOCK) as made:
        yield made


def test_before_anything_was_decided_the_stages_say_so(stack):
    assert stack.outcomes().status == stack.compare().status == "skipped"
    assert stack.policies() == []
    with pytest.raises(InvalidValue, match="goal: found 'profit'; allowed: 90d_clv"):
        stack.policy_train("profit")


def test_a_typo_is_no_failed_stage_and_a_refusal_says_that_it_is_one(stack):
    for call in (stack.policy_train, stack.experiment, stack.policy_promote):
        with pytest.raises(InvalidValue, match="goal: found 'nonsense'"):
            call("nonsense")
    assert stack.status() == []
    with pytest.raises(Refused, match="there is no champion for conversion to take back"):
        stack.policy_rollback()
    (row,) = stack.status()
    assert (row["stage"], row["status"]) == ("policy rollback", "refused")
    assert row["message"].startswith("there is no champion for conversion to take back")


def test_from_training_to_being_taken_back(stack):
    tell(stack.warehouse, PERSONAL)
    untrained = stack.policy_evaluate()
    assert untrained.details["version"] is None
    assert (
        "No policy was trained for conversion: softmax was fitted for this evaluation only and is kept nowhere. "
        "`decisions.learning.least_rows` (500) bounds training; an evaluation has no least number of rows"
    ) in untrained.message
    assert "is the challenger, fitted on 3,000 decisions of 3,000 customers" in stack.policy_train().message
    judged = stack.policy_evaluate()
    assert judged.message.startswith("softmax beats the best constant policy (always ")
    assert judged.message.endswith("it may be promoted")
    assert judged.details["difference"]["low"] > 0
    promoted = stack.policy_promote()
    assert promoted.warnings == ()
    assert [(one["alias"], one["verdict"]) for one in stack.policies()] == [("champion", "promoted")]
    assert stack.outcomes().warnings == ()
    # its decisions make people complain
    write(
        stack.warehouse,
        [
            Made(
                f"n{i}",
                "a",
                60 + i / 10_000,
                probabilities=EVEN,
                policy="softmax",
                version="conversion:1",
                decision_id=f"n{i}",
            )
            for i in range(1_500)
        ],
    )
    stack.warehouse.execute("delete from headwater.outcomes")
    happen(stack.warehouse, [Did(f"n{i}", 62, "complaint") for i in range(0, 1_500, 15)])
    stack.warehouse.execute("update headwater.clock set as_of = timestamp '2026-04-01'")
    (warning,) = stack.outcomes().warnings
    assert warning.startswith(
        "the champion for conversion was taken back and the table, with exploration, decides: complaint after 6.67% of 1,500"
    )
    (one,) = stack.policies()
    assert (one["alias"], one["verdict"]) == (None, "retired")
    assert one["verdict_reason"].startswith("Rolled back at 2026-03-01 00:00 UTC, because of complaint after 6.67%")
    assert stack.outcomes().warnings == (), "once"
    with pytest.raises(Refused, match="there is no champion for conversion to take back"):
        stack.policy_rollback()
