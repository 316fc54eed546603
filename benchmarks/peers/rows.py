"""The rows: each engine in its own process and environment, under one meter, its rows against the batch answer.

`seconds` of a row is Headwater's on the same input in the same run, `bound` the peer's, so a ratio below 1 means ahead.
"""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks.peers import events
from benchmarks.peers.pace import LIMIT
from benchmarks.processes import Meter
from benchmarks.row import Measured
from headwater.warehouse import Warehouse

ROOT = Path(__file__).resolve().parents[2]
FLINK, PATHWAY = ROOT / ".venv-flink", ROOT / ".venv-peers"
HEAP = "-Xmx4g"
"""Memory that Flink's Java machine may take."""


@dataclass(frozen=True)
class Run:
    """What one engine did. `late`: events of which the result took longer than 250 ms, None = not measured from outside.

    `wrong`: customers of whom a reader saw another row than DuckDB computes in batch, after the last event; `wrong_silent`:
    the same 31 silent days later.
    """

    engine: str
    events: int
    seconds: float
    cpu_seconds: float
    peak_mb: float
    p99_ms: float | None
    late: int | None
    wrong: int
    wrong_silent: int


def headwater(folder: Path, size: str = "") -> None:
    """Headwater over the input of a size, once for all rows. `size`: the end of the input's name, "" or "_5m"; so below."""
    run = measure("Headwater", Path(sys.executable), "headwater_child", folder.parent / f"peers_events{size}", folder)
    folder.mkdir()
    (folder / "run.json").write_text(json.dumps(asdict(run)), encoding="utf-8")


def flink(work: Path, size: str = "") -> Measured:
    return _beside(work, size, "PyFlink", _python(FLINK, "make flink"), "flink_child")


def pathway(work: Path, size: str = "") -> Measured:
    return _beside(work, size, "Pathway", _python(PATHWAY, "make peers"), "pathway_child")


def postgres(work: Path, size: str = "") -> Measured:
    return _postgres(work, size, "upsert", "upsert")


def expiring(work: Path, size: str = "") -> Measured:
    return _postgres(work, size, "upsert and expiry by hand", "expiring")


def view(work: Path, size: str = "") -> Measured:
    return _postgres(work, size, "materialized view", "view")


def _postgres(work: Path, size: str, name: str, way: str) -> Measured:
    return _beside(work, size, f"Postgres, {name}", Path(sys.executable), "postgres_child", way)


def _python(environment: Path, target: str) -> Path:
    python = environment / "bin" / "python"
    assert python.exists(), f"{environment.name} is missing: run `{target}`"
    return python


def _beside(work: Path, size: str, engine: str, python: Path, child: str, *way: str) -> Measured:
    ours = Run(**json.loads((work / f"peers_headwater{size}" / "run.json").read_text(encoding="utf-8")))
    output = work / "_".join([child, *way, size])
    theirs = measure(engine, python, child, work / f"peers_events{size}", output, *way)
    said = (
        f"{theirs.events:,} events, p99 {ours.p99_ms:,.0f} ms; CPU {ours.cpu_seconds:,.0f} s against {theirs.cpu_seconds:,.0f} s; wrong rows"
        f" {ours.wrong} and, after 31 silent days, {ours.wrong_silent} against {theirs.wrong:,} and {theirs.wrong_silent:,}"
    )
    right = not ours.wrong and not ours.wrong_silent
    in_time = ours.p99_ms is not None and ours.p99_ms <= LIMIT * 1_000
    ok = ours.seconds < theirs.seconds and right and in_time
    return Measured(
        said, ours.seconds, ours.peak_mb, theirs.seconds, ok, {"headwater": asdict(ours), "peer": asdict(theirs)}
    )


def measure(engine: str, python: Path, child: str, given: Path, output: Path, *way: str) -> Run:
    """Run one child over an input; `output` is its folder, gone when it has ended well. Raises CalledProcessError with its last words when it fails."""
    output.mkdir(parents=True)
    command = [str(python), "-m", f"benchmarks.peers.{child}", str(given), str(output), *way]
    environment = {**os.environ, "JVM_ARGS": HEAP}
    said: dict[str, float] = {}
    before = cpu = 0.0
    with (
        (output / "said").open("wb") as errors,
        subprocess.Popen(
            command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=errors, stdin=subprocess.DEVNULL
        ) as process,
        Meter(process.pid) as meter,
    ):
        for line in process.stdout or ():
            if line.startswith(b'{"phase": "begun"'):
                before = meter.cpu_seconds
            elif line.startswith(b'{"phase": "ended"'):
                cpu, said = meter.cpu_seconds - before, json.loads(line)
        code = process.wait()
    if code or not said:
        words = (output / "said").read_text(encoding="utf-8", errors="replace")[-2_000:]
        raise subprocess.CalledProcessError(code or 1, command, stderr=words)
    if (output / "printed").exists():
        _newest(output)
    with (given / "events.csv").open("rb") as file:
        count = sum(1 for _ in file) - 1
    late = said.get("late")
    found = Run(
        engine, count, said["seconds"], cpu, meter.peak_mb, said.get("p99_ms"), None if late is None else int(late),
        events.wrong(given, "end", output / "end.csv"), events.wrong(given, "silent", output / "silent.csv"),
    )  # fmt: skip
    shutil.rmtree(output)  # gigabytes
    return found


def _newest(output: Path) -> None:
    """Of an engine that prints a row for each event: the newest row of each customer, which is what a reader takes."""
    with Warehouse(output / "printed.duckdb") as w:
        w.execute(
            "create table said as select split(regexp_extract(line, '\\[(.*)\\]', 1), ', ') as part"
            f" from read_csv('{output / 'printed'}', columns = {{line: varchar}}, header = false, delim = '\x01', quote = '')"
            " where line like '%+I[%'"
        )
        for moment, which in (("end", f"where part[1] <> '{events.HEARTBEAT}'"), ("silent", "")):
            w.execute(
                "copy (select part[1] as customer_id, arg_max(part[2], cast(part[4] as timestamp)) as amount_cents,"
                " arg_max(part[3], cast(part[4] as timestamp)) as events"
                f" from said {which} group by part[1]) to '{output / moment}.csv' (header)"
            )


def side_by_side(rows: list[dict[str, object]]) -> str:
    """The table of the page: a line per engine of the rows that were measured with the large input, or the small one."""
    measured = {str(row["name"]): row["facts"] for row in rows if str(row["name"]).startswith("peers_")}
    large = {name: facts for name, facts in measured.items() if name.endswith("_5m")}
    runs: dict[str, Run] = {}
    for facts in (large or measured).values():
        assert isinstance(facts, dict)
        for one in (Run(**facts["headwater"]), Run(**facts["peer"])):
            runs.setdefault(one.engine, one)
    if not runs:
        return "Not measured in this run."
    head = (
        "engine", "events", "wall, s", "CPU, s", "memory, MB", f"p99, ms (limit {LIMIT * 1_000:.0f})", "later than that",
        "wrong rows", "after 31 silent days",
    )  # fmt: skip
    lines = [head, ("---",) * len(head)]
    lines += [
        (
            one.engine, f"{one.events:,}", f"{one.seconds:,.1f}", f"{one.cpu_seconds:,.1f}", f"{one.peak_mb:,.0f}",
            "by its settings" if one.p99_ms is None else f"{one.p99_ms:,.0f}",
            "by its settings" if one.late is None else f"{one.late / one.events:.1%}",
            f"{one.wrong:,}", f"{one.wrong_silent:,}",
        )
        for one in runs.values()
    ]  # fmt: skip
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
