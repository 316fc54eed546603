"""The log's file: what is removed leaves no byte behind, a full disk, a file that is locked, damaged or another program's."""

import json
import random
import shutil
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from headwater.clock import FixedClock
from headwater.errors import InvalidValue, LogFull, LogUnavailable
from headwater.log import sqlite as module
from headwater.log.file import PAGE_BYTES
from headwater.log.sqlite import SqliteLog
from headwater.records.logged import Entry, Topic
from headwater.testing.log_checks import NOW, entry


def of_person(person: str, number: int, size: int, topic: Topic = "events", at: int = 0) -> Entry:
    text = (f"{person}-mark " * (size // 10 + 1)).encode()
    return Entry(topic, "shop", f"{person}-mark", f"{person}-mark-{number}", at, b'{"a": "' + text + b'"}')


def everything_on_disk(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())


def until(condition: Callable[[], bool]) -> None:
    while not condition():
        threading.Event().wait(0.001)


@pytest.mark.parametrize("seed", range(3))
def test_whoever_is_removed_is_in_no_byte_of_the_files(seed: int, tmp_path: Path) -> None:
    draw = random.Random(seed)
    clock = FixedClock(NOW)
    people = [f"person{n:02d}" for n in range(24)]
    with SqliteLog(tmp_path / "log.sqlite", max_age=timedelta(hours=1), clock=clock) as log:
        number = 0
        for _ in range(6):
            for _ in range(draw.randint(10, 40)):
                size = draw.choice((1, 1, 3, 20))
                at = int(clock.now().timestamp() * 1_000_000)
                log.append(
                    [
                        of_person(draw.choice(people), number + n, draw.choice((10, 60, 300, 1500, 9000)), at=at)
                        for n in range(size)
                    ]
                )
                number += size
                clock.push(timedelta(seconds=draw.randint(0, 60)))
            log.acknowledge("engine", "events", int(log.end("events") * draw.random()))
            log.trim()
            gone = people.pop(draw.randrange(len(people)))
            kept = [record.offset for record in log.read("events", 0, number) if record.key != f"{gone}-mark"]
            log.remove("events", lambda record, key=f"{gone}-mark": record.key == key, holding=[gone.encode()])
            assert [record.offset for record in log.read("events", 0, number)] == kept
            assert f"{gone}-mark".encode() not in everything_on_disk(tmp_path)


@pytest.mark.parametrize("holding", [[b"early-mark"], []])
def test_a_copy_that_merged_pages_keep_in_their_slack_goes_too(holding: list[bytes], tmp_path: Path) -> None:
    clock, path = FixedClock(NOW), tmp_path / "log.sqlite"

    def log() -> SqliteLog:
        return SqliteLog(path, max_age=timedelta(hours=1), clock=clock)

    with log() as first:
        first.append([of_person("old", 0, 10)])
        for number in range(60):
            first.append([of_person("early", number, 900, at=int(NOW.timestamp() * 1_000_000))])
        first.acknowledge("engine", "events", 30)
        clock.push(timedelta(days=1))
        assert first.trim() == 30
    content = bytearray(path.read_bytes())
    slack = list(leaf_gaps(content))
    assert slack
    for start, _ in slack:
        content[start + 10 : start + 20] = b"early-mark"
    path.write_bytes(content)
    with log() as again:
        assert again.remove("events", lambda record: record.key == "early-mark", holding=holding) == 31
    assert b"early-mark" not in everything_on_disk(tmp_path)


def leaf_gaps(content: bytes) -> Iterator[tuple[int, int]]:
    """The unused middle of every leaf of a table in a SQLite file, as (start, end), where it has 30 bytes or more."""
    for page in range(0, len(content), PAGE_BYTES):
        head = page + (100 if page == 0 else 0)
        if content[head] == 0x0D and page:
            cells = int.from_bytes(content[head + 3 : head + 5], "big")
            start, end = head + 8 + 2 * cells, page + int.from_bytes(content[head + 5 : head + 7], "big")
            if end - start >= 30:
                yield start, end


def test_what_was_trimmed_is_in_no_byte_of_the_files(tmp_path: Path) -> None:
    clock = FixedClock(NOW)
    with SqliteLog(tmp_path / "log.sqlite", max_age=timedelta(hours=1), clock=clock) as log:
        for number in range(100):
            log.append([of_person("early", number, 700, at=int(NOW.timestamp() * 1_000_000))])
        log.acknowledge("engine", "events", log.end("events"))
        clock.push(timedelta(days=1))
        assert log.trim() == 100
        log.remove("events", lambda record: False)
        assert b"early-mark" not in everything_on_disk(tmp_path)


def test_a_reader_that_holds_the_journal_keeps_a_removal_from_being_called_done(tmp_path: Path) -> None:
    path = tmp_path / "log.sqlite"
    with SqliteLog(path, wait_seconds=0.2) as log:
        log.append([of_person("gone", 1, 500)])
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("begin")
        other.execute("select count(*) from events").fetchone()
        with pytest.raises(
            LogUnavailable, match=r"its journal, where their bytes still stand, is being read .* Run this again"
        ):
            log.remove("events", lambda record: record.key == "gone-mark")
        assert log.read("events", 0, 10) == []
        other.close()
        assert log.remove("events", lambda record: record.key == "gone-mark") == 0
        assert b"gone-mark" not in everything_on_disk(tmp_path)


def test_size_removes_what_was_read_and_then_refuses(tmp_path: Path) -> None:
    limit = 3_000_000
    with SqliteLog(tmp_path / "log.sqlite", max_bytes=limit) as log:
        log.acknowledge("engine", "events", 0)
        block = [entry(n) for n in range(10)] + [of_person("big", 1, 90_000)]
        for _ in range(150):  # five times what fits
            log.append(block)
            log.acknowledge("engine", "events", log.end("events"))
        assert (tmp_path / "log.sqlite").stat().st_size <= limit
        read = log.end("events")
        with pytest.raises(LogFull, match=r"it may take 3,000,000 bytes .* Let the readers catch up, or allow more"):
            for _ in range(150):
                log.append(block)
        unread = log.read("events", read, 100_000)
        assert [record.offset for record in unread] == list(range(read + 1, log.end("events") + 1))
        assert len(unread) > 100


FULL = """
import json, resource, signal, sys
from pathlib import Path
from headwater.errors import LogFull
from headwater.log.sqlite import SqliteLog
from headwater.testing.log_checks import entry
resource.setrlimit(resource.RLIMIT_FSIZE, (3_000_000, resource.RLIM_INFINITY))
log = SqliteLog(Path(sys.argv[1]))
kept, said = 0, None
while said is None:
    try:
        log.append([entry(kept + n) for n in range(500)])
        kept += 500
    except LogFull as error:
        said = str(error)
for _ in range(3):
    try:
        log.append([entry(10_000_000 + n) for n in range(2_000)])
    except LogFull:
        pass
    else:
        said = "took entries without room"
found = len(log.read("events", 0, 10_000_000))
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
log.append([entry(kept)])
print(json.dumps([kept, found, said, log.read("events", found, 10)[0].message_id, log.end("events")]))
"""


def test_a_disk_without_room_is_told_and_keeps_what_was_acknowledged(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", FULL, str(tmp_path / "log.sqlite")], capture_output=True, text=True, check=True
    )
    kept, found, said, next_id, end = json.loads(done.stdout)
    assert kept > 1_000
    assert found == kept
    assert said.startswith("there is no room to append to the log")
    assert "this process may write files of 3,000,000 bytes" in said
    assert (next_id, end) == (f"m{kept}", kept + 1)


def test_a_file_that_another_process_holds_is_told(tmp_path: Path) -> None:
    path = tmp_path / "log.sqlite"
    with SqliteLog(path, wait_seconds=0.2) as log:
        log.append([entry(1)])
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("begin immediate")
        with pytest.raises(
            LogUnavailable, match=r"could not append to the log .*: another process held it for 0.2 s"
        ) as told:
            log.append([entry(2)])
        assert "Close the program that has it open, then send again" in str(told.value)
        other.execute("rollback")
        other.close()
        log.append([entry(3)])
        assert [record.message_id for record in log.read("events", 0, 10)] == ["m1", "m3"]


def test_a_file_of_another_program_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "log.sqlite"
    other = sqlite3.connect(path)
    other.execute("create table events (mine text)")
    other.close()
    before = path.read_bytes()
    with (
        SqliteLog(path) as log,
        pytest.raises(LogUnavailable, match=r"is a SQLite file of another program .* Move it away"),
    ):
        log.append([entry(1)])
    assert path.read_bytes() == before


def test_a_file_that_is_no_database_is_told(tmp_path: Path) -> None:
    path = tmp_path / "log.sqlite"
    path.write_bytes(b"not a database at all" * 1_000)
    with SqliteLog(path) as log:
        for call in (lambda: log.append([entry(1)]), lambda: log.read("events", 0, 1), log.facts):
            with pytest.raises(LogUnavailable, match=r"the file is damaged; .* expected a log of Headwater"):
                call()


def test_a_flipped_bit_is_told_and_not_read(tmp_path: Path) -> None:
    path = tmp_path / "log.sqlite"
    with SqliteLog(path) as log:
        log.append([entry(n) for n in range(50)])
    content = bytearray(path.read_bytes())
    at = content.index(b'{"n": 17}')
    content[at + 6] ^= 1
    path.write_bytes(content)
    with SqliteLog(path) as log, pytest.raises(LogUnavailable, match="events 1 to 50 are not what was written"):
        log.read("events", 0, 100)


def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with SqliteLog(tmp_path / "file" / "log.sqlite") as log, pytest.raises(LogUnavailable, match="Look at its folder"):
        log.append([entry(1)])


def test_threads_that_wait_together_are_committed_together(tmp_path: Path) -> None:
    path = tmp_path / "log.sqlite"
    with SqliteLog(path, wait_seconds=60) as log:
        log.append([entry(0)])
        holder = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        holder.execute("begin immediate")  # everybody has to wait
        first, *others = [threading.Thread(target=log.append, args=([entry(n)],)) for n in range(1, 41)]
        first.start()
        until(lambda: log._pen.locked() and not log._tickets)
        for thread in others:
            thread.start()
        until(lambda: len(log._tickets) == 39)
        holder.execute("rollback")
        holder.close()
        for thread in (first, *others):
            thread.join()
        rows = sqlite3.connect(path).execute("select count from events order by last").fetchall()
        assert rows == [(1,), (1,), (39,)]


def test_an_entry_that_is_no_text_refuses_its_call_alone(tmp_path: Path) -> None:
    with SqliteLog(tmp_path / "log.sqlite") as log:
        with pytest.raises(InvalidValue, match=r"cannot be logged: .* expected texts that are UTF-8"):
            log.append([Entry("events", "shop", "\ud800", "m", 1, b"{}")])
        assert log.end("events") == 0


def test_two_processes_write_into_one_log(tmp_path: Path) -> None:
    path = tmp_path / "log.sqlite"
    code = (
        "import sys; from pathlib import Path; from headwater.log.sqlite import SqliteLog; "
        "from headwater.testing.log_checks import entry\n"
        "log = SqliteLog(Path(sys.argv[1]), wait_seconds=60)\n"
        "for n in range(60): log.append([entry(int(sys.argv[2]) + n)]); log.acknowledge('r' + sys.argv[2], 'events', n)"
    )
    children = [
        subprocess.Popen([sys.executable, "-c", code, str(path), str(start)], stderr=subprocess.PIPE)
        for start in (0, 100, 200)
    ]
    for child in children:
        _, errors = child.communicate()
        assert child.returncode == 0, errors
    with SqliteLog(path) as log:
        numbers = [int(record.message_id[1:]) for record in log.read("events", 0, 1_000)]
        for start in (0, 100, 200):
            assert [n for n in numbers if start <= n < start + 100] == list(range(start, start + 60))
        assert set(log.facts().unread) == {"r0", "r100", "r200"}


def test_the_journal_is_brought_into_the_file_while_appends_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "CHECKPOINT_BYTES", 200_000)
    path = tmp_path / "log.sqlite"
    with SqliteLog(path) as log:
        block = [of_person("busy", n, 900) for n in range(100)]
        for _ in range(60):
            log.append(block)
        journal = path.with_name("log.sqlite-wal").stat().st_size
        assert journal < path.stat().st_size / 2, f"the journal holds {journal:,} bytes: it was never begun anew"
        assert len(log.read("events", 0, 100_000)) == 6_000


def test_a_copy_of_the_folder_is_a_log(tmp_path: Path) -> None:
    with SqliteLog(tmp_path / "a" / "log.sqlite") as log:
        log.append([entry(n) for n in range(5)])
        shutil.copytree(tmp_path / "a", tmp_path / "b")
    with SqliteLog(tmp_path / "b" / "log.sqlite") as copy:
        assert len(copy.read("events", 0, 10)) == 5


def test_a_log_from_before_a_topic_was_known_opens_with_all_it_holds(tmp_path: Path) -> None:
    path = tmp_path / "log.sqlite"
    with SqliteLog(path) as log:
        log.append([entry(1), entry(2, "rejected")])
        log.acknowledge("engine", "events", 1)
    with sqlite3.connect(path) as older:
        older.execute("drop table changes")
    older.close()
    with SqliteLog(path) as log, SqliteLog(path) as beside:
        assert log.end("changes") == 0
        log.append([entry(3), entry(4, "changes")])
        assert [record.message_id for record in beside.read("changes", 0, 10)] == ["m4"]
        assert [record.message_id for record in beside.read("events", 0, 10)] == ["m1", "m3"]
        assert beside.facts().unread == {"engine": {"events": 1}}
