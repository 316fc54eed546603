"""The files of a followed database: what stands in them survives a kill at any moment."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from headwater.collect.databases.changes import Floor
from headwater.collect.databases.postgres import Moment
from headwater.collect.databases.state import Note, Place, State

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
WHOLE = b'\xac\xed\x00\x05sr\x00\x11java.util.HashMap\x1a["shop",{"server":"shop"}]\x00\x77{"lsn_proc":900,"lsn":880}x'


@pytest.fixture
def place(tmp_path: Path) -> Place:
    made = Place(tmp_path, "shop")
    made.make()
    return made


def test_only_its_user_may_look(place: Place) -> None:
    assert place.folder.stat().st_mode & 0o777 == 0o700


def test_the_state_comes_back_as_it_was(place: Place) -> None:
    assert place.state() == State()
    state = State(Floor.at(Moment(10, 3, NOW), ["a", "b"]), None, True, 7, {"why": "x"})
    place.store(state)
    assert place.state() == state


@pytest.mark.parametrize("size", range(0, len(WHOLE), 9))
def test_offsets_that_a_kill_tore_give_way_to_the_kept_ones(place: Place, size: int) -> None:
    place.offsets.write_bytes(WHOLE)
    place.keep_offsets()
    place.offsets.write_bytes(WHOLE.replace(b"900", b"999")[:size])
    place.keep_offsets()
    assert place.mend_offsets()
    assert place.position() == 900
    assert not place.mend_offsets()


def test_whole_offsets_stay(place: Place) -> None:
    place.offsets.write_bytes(WHOLE)
    place.keep_offsets()
    place.offsets.write_bytes(WHOLE.replace(b"900", b"999"))
    assert not place.mend_offsets()
    assert place.position() == 999


def test_who_asks_twice_asks_for_both(place: Place) -> None:
    assert place.asked() is None
    place.ask(["a"], NOW)
    place.ask(["a", "b"], NOW)
    assert place.asked() == ["a", "b"]
    place.answered()
    assert place.asked() is None


def test_a_note_that_nobody_writes_any_more_is_of_a_process_that_is_gone(place: Place) -> None:
    assert place.note() is None
    place.say(Note("shop", "streaming", at=NOW.isoformat()))
    note = place.note()
    assert note is not None
    assert note.alive(NOW + timedelta(seconds=10))
    assert not note.alive(NOW + timedelta(seconds=20))
    assert not Note("shop", "stopped", at=NOW.isoformat()).alive(NOW)
