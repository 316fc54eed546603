"""The comparison with other engines: its input, its rule of emission, how wrong rows are counted, and Headwater over it."""

import json
import subprocess
import sys
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from types import ModuleType

import pytest

EVENTS = 4_000


@pytest.fixture
def rows(benchmark: Callable[[str], ModuleType]) -> ModuleType:
    return benchmark("benchmarks.peers.rows")


@pytest.fixture
def given(rows: ModuleType, tmp_path: Path) -> Path:
    rows.events.write(tmp_path / "input", EVENTS)
    return tmp_path / "input"


def _totals(lines: list[str], days: float) -> dict[str, tuple[int, int]]:
    """The query in plain Python: the oracle of the oracle."""
    parsed = [line.split(",") for line in lines]
    newest = max(datetime.fromisoformat(one[3]) for one in parsed)
    totals: dict[str, tuple[int, int]] = {}
    for _, customer, amount, moment in parsed:
        if datetime.fromisoformat(moment) > newest - timedelta(days=days):
            total, count = totals.get(customer, (0, 0))
            totals[customer] = (total + int(amount), count + 1)
    return totals


def _leave(rows: ModuleType, path: Path, totals: dict[str, tuple[int, int]]) -> Path:
    pace = sys.modules["benchmarks.peers.pace"]
    pace.leave(path, [(customer, *one) for customer, one in totals.items()])
    return path


def test_the_batch_answer_is_the_query_and_each_kind_of_wrong_row_is_counted(
    rows: ModuleType, given: Path, tmp_path: Path
) -> None:
    lines = (given / "events.csv").read_text().splitlines()[1:]
    later = (given / "silent.csv").read_text().splitlines()[1:]
    totals = _totals(lines, 30)
    seen = tmp_path / "seen.csv"
    assert rows.events.wrong(given, "end", _leave(rows, seen, totals)) == 0
    assert rows.events.wrong(given, "silent", _leave(rows, seen, _totals(lines + later, 30))) == 0
    assert (
        rows.events.wrong(given, "silent", _leave(rows, seen, totals)) == len(totals) + 1
    )  # all of them stale, one missing
    first, second, *_ = totals
    changed = {**totals, first: (totals[first][0] + 1, totals[first][1]), "nobody": (1, 1)}
    del changed[second]
    assert rows.events.wrong(given, "end", _leave(rows, seen, changed)) == 3


def test_the_input_is_the_same_each_time_and_arrives_out_of_order_within_two_hours(
    rows: ModuleType, given: Path, tmp_path: Path
) -> None:
    rows.events.write(tmp_path / "again", EVENTS)
    assert (tmp_path / "again" / "events.csv").read_bytes() == (given / "events.csv").read_bytes()
    moments = [line.rpartition(",")[2] for line in (given / "events.csv").read_text().splitlines()[1:]]
    assert len(moments) == EVENTS
    assert moments != sorted(moments)
    assert len((given / "silent.csv").read_text().splitlines()) == 3


def test_batches_shrink_when_they_take_long_and_grow_when_they_do_not(rows: ModuleType) -> None:
    pace = sys.modules["benchmarks.peers.pace"].Pace(least=100, size=1_000)
    pace.took(0.4, 1_000)
    assert (pace.size, pace.late) == (500, 1_000)
    pace.took(0.1, 500)
    assert (pace.size, pace.late) == (625, 1_000)
    for _ in range(20):
        pace.took(9.0, 100)
    assert pace.size == 100
    assert pace.p99 == 9.0


def test_of_printed_rows_a_reader_takes_the_newest_of_each_customer(rows: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "printed").write_text(
        "2> +I[A, 5, 1, 2026-01-01T00:00]\n1> +I[B, 7, 1, 2026-01-02T00:00:01.500]\n2> +I[A, 9, 2, 2026-01-03T10:00]\n"
        "SLF4J: something else\n1> +I[HEARTBEAT, 1, 1, 2026-03-01T00:00]\n"
    )
    rows._newest(tmp_path)
    end, silent = ((tmp_path / f"{moment}.csv").read_text().splitlines() for moment in ("end", "silent"))
    assert sorted(end[1:]) == ["A,9,2", "B,7,1"]
    assert sorted(silent[1:]) == ["A,9,2", "B,7,1", "HEARTBEAT,1,1"]


def test_a_child_that_fails_says_its_last_words(rows: ModuleType, given: Path, tmp_path: Path) -> None:
    with pytest.raises(subprocess.CalledProcessError) as error:
        rows.measure("Nobody", Path(sys.executable), "nobody_child", given, tmp_path / "out")
    assert "nobody_child" in error.value.stderr


def test_the_table_of_the_page_has_a_line_for_each_engine_of_the_large_input(rows: ModuleType) -> None:
    ours = {"engine": "Headwater", "events": 5_000_000, "seconds": 50.0, "cpu_seconds": 70.5, "peak_mb": 900.0,
            "p99_ms": 240.0, "late": 5_000, "wrong": 0, "wrong_silent": 0}  # fmt: skip
    peer = {**ours, "engine": "PyFlink", "p99_ms": None, "late": None, "wrong": 50_000, "wrong_silent": 100_000}
    small = {"headwater": {**ours, "events": 1}, "peer": {**peer, "engine": "Other"}}
    table = rows.side_by_side(
        [{"name": "peers_view", "facts": small}, {"name": "peers_flink_5m", "facts": {"headwater": ours, "peer": peer}}]
    ).splitlines()
    assert table[2] == "| Headwater | 5,000,000 | 50.0 | 70.5 | 900 | 240 | 0.1% | 0 | 0 |"
    assert (
        table[3] == "| PyFlink | 5,000,000 | 50.0 | 70.5 | 900 | by its settings | by its settings | 50,000 | 100,000 |"
    )
    assert len(table) == 4


def test_a_meter_sees_a_childs_child(rows: ModuleType, tmp_path: Path) -> None:
    busy = "import sys, time\nwhile time.process_time() < 0.3: pass\nprint(1, flush=True)\nsys.stdin.read()"
    script = (
        f"import subprocess, sys; child = subprocess.Popen([sys.executable, '-c', {busy!r}], stdout=-1, stdin=-1);"
        "child.stdout.readline(); print('burnt', flush=True); sys.stdin.read(); child.communicate()"
    )
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, stdin=subprocess.PIPE) as process:
        assert process.stdout is not None
        with sys.modules["benchmarks.processes"].Meter(process.pid) as meter:
            process.stdout.readline()
            assert meter.cpu_seconds > 0.25
            assert meter.peak_mb > 4
            process.communicate()


@pytest.mark.long
def test_headwater_and_postgres_with_expiry_are_right(rows: ModuleType, given: Path, tmp_path: Path) -> None:
    ours = rows.measure("Headwater", Path(sys.executable), "headwater_child", given, tmp_path / "headwater")
    assert (ours.events, ours.wrong, ours.wrong_silent) == (EVENTS, 0, 0)
    theirs = rows.measure("Postgres", Path(sys.executable), "postgres_child", given, tmp_path / "postgres", "expiring")
    assert (theirs.wrong, theirs.wrong_silent) == (0, 0)
    assert json.dumps([ours.seconds, theirs.cpu_seconds])
