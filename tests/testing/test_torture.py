"""A live project is killed at every failpoint, its disk filled, its reader held: nothing is lost, doubled or wrong."""

import signal
from pathlib import Path

import pytest

from headwater.failpoint import NAMES
from headwater.stack import Stack
from headwater.testing.torture import BY_COMMAND, POINTS, Outcome, Run, torture


def test_three_numbers_are_said_and_every_surprise() -> None:
    outcome = Outcome(kills=3, sent=2_000, acknowledged=1_990, full=2)
    assert outcome.clean
    assert str(outcome) == (
        "3 kills, 2,000 events sent, 1,990 acknowledged, 2 requests refused on a full disk\n"
        "lost 0, duplicated 0, wrong rows 0"
    )
    for one in (Outcome(lost=1), Outcome(duplicated=1), Outcome(wrong=1), Outcome(surprises=["it fell over"])):
        assert not one.clean
    assert str(Outcome(surprises=["it fell over"])).endswith("\nsurprise: it fell over")


def test_every_failpoint_of_the_engine_is_a_kill_or_passed_by_a_command() -> None:
    left = {name for name in NAMES if name.startswith(("live.", "collect."))} - POINTS.keys()
    assert left == BY_COMMAND


@pytest.mark.crash
@pytest.mark.timeout(3600)
def test_a_live_project_killed_at_every_failpoint_loses_nothing(tmp_path: Path) -> None:
    said: list[str] = []
    outcome = torture(len(POINTS) + 3, seed=7, folder=tmp_path, say=said.append)
    assert outcome.clean, "\n".join(said)
    assert outcome.kills == len(POINTS) + 3
    assert outcome.acknowledged > 500


@pytest.mark.crash
@pytest.mark.timeout(900)
def test_what_is_taken_away_doubled_or_changed_behind_its_back_is_counted(tmp_path: Path) -> None:
    outcome, said = Outcome(), list[str]()
    run = Run(tmp_path / "shop", 3, outcome, said.append)
    run.make()
    with run.living():
        run._until_more(300)
        run.finish()
    with Stack(tmp_path / "shop") as project:
        project.warehouse.execute(
            "delete from collected.identifies where event_id = (select min(event_id) from collected.identifies)"
        )
        project.warehouse.execute(
            "insert into collected.events select * from collected.events where event_id = (select min(event_id) from collected.events)"
        )
        project.warehouse.execute(
            "delete from headwater.rejected_events where message_id = (select min(message_id) from headwater.rejected_events)"
        )
    run.count()
    assert (outcome.lost, outcome.duplicated) == (2, 1), "\n".join(said)


@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_two_hundred_kills_lose_nothing(tmp_path: Path) -> None:
    said: list[str] = []
    outcome = torture(200, seed=int(signal.SIGKILL), folder=tmp_path, say=said.append)
    assert outcome.clean, "\n".join(said)
