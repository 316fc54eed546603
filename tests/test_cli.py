"""The command line as a user meets it: sentences, exit codes, JSON, and nothing heavy before it is needed."""

import json
import os
import re
import subprocess
import sys
from datetime import datetime
from pathlib import Path

import pytest

import headwater as headwater_package
from headwater import relay, scaffold
from headwater.cli.apps import PANELS, app, name_of
from headwater.cli.entry import execute
from headwater.live import why
from headwater.live.forget import Told
from headwater.log.base import Entry
from headwater.log.opening import FILE
from headwater.log.sqlite import SqliteLog
from headwater.stack import Stack
from headwater.warehouse import Warehouse
from headwater.warehouse.lock import project_lock

HEADWATER = [sys.executable, "-m", "headwater"]


def headwater(*arguments: str, cwd: Path | None = None, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*HEADWATER, *arguments],
        cwd=cwd,
        env={**os.environ, **env},
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A shop of two tables, as somebody would export it."""
    folder = tmp_path_factory.mktemp("files")
    (folder / "customers.csv").write_text(
        "customer_id,email,first_name,marketing_opt_in,nps_score,created_at\n"
        + "".join(f"{i},c{i}@example.com,N{i},{i % 2},{i % 11},2026-01-{1 + i % 28:02d}\n" for i in range(1, 41)),
        encoding="utf-8",
    )
    (folder / "orders.csv").write_text(
        "order_id,customer_id,order_ts,status,amount\n"
        + "".join(f"{i},{1 + i % 40},2026-03-{1 + i % 28:02d} 10:00:00,paid,{10 + i}.50\n" for i in range(1, 61))
        + "61,3,not a date,paid,5.00\n",
        encoding="utf-8",
    )
    return folder


@pytest.fixture(scope="module")
def shop(files: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project of these files after one run."""
    folder = tmp_path_factory.mktemp("cli") / "shop"
    assert headwater("init", str(folder), "--from", str(files)).returncode == 0
    done = headwater("run", cwd=folder)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def test_help_names_every_command_and_imports_nothing_heavy() -> None:
    code = (
        "import sys; sys.argv = ['headwater', '--help']\n"
        "from headwater.cli import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "heavy = {'duckdb', 'dbt', 'numpy', 'sklearn', 'scipy', 'pydantic', 'httpx2', 'jinja2', 'sqlglot'} & set(sys.modules)\n"
        "print('heavy:', sorted(heavy))\n"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert "heavy: []" in said
    for command in (
        "init",
        "demo",
        "run",
        "seed",
        "build",
        "segment",
        "decide",
        "plan",
        "activate",
        "export",
        "status",
        "doctor",
    ):
        assert f" {command} " in said


def test_every_command_that_is_shown_stands_in_a_panel_and_every_name_of_a_panel_is_a_command() -> None:
    placed = [name for names in PANELS.values() for name in names]
    shown = [name_of(one) for one in (*app.registered_commands, *app.registered_groups) if not one.hidden]
    assert sorted(placed) == sorted(shown)
    said = headwater("--help").stdout
    assert [panel for panel in PANELS if f"─ {panel} ─" in said] == list(PANELS)
    assert [said.index(f"─ {panel} ─") for panel in PANELS] == sorted(said.index(f"─ {panel} ─") for panel in PANELS)


def test_a_variable_that_is_neither_yes_nor_no_is_named_with_what_it_may_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DRY_RUN", "maybe")
    expected = (
        "Invalid value for '--dry-run' (env var: 'DRY_RUN'): expected true or false (or 1, yes, on and 0, no, off)"
    )
    assert execute(["activate", "--project", str(tmp_path)]) == 2
    assert expected in " ".join(capsys.readouterr().err.split())
    assert execute(["activate", "--project", str(tmp_path), "--json"]) == 2
    assert json.loads(capsys.readouterr().out)["error"].endswith(
        "expected true or false (or 1, yes, on and 0, no, off)"
    )


def test_init_says_what_it_mapped_and_refuses_to_overwrite(files: Path, tmp_path: Path) -> None:
    folder = tmp_path / "shop"
    made = headwater("init", str(folder), "--from", str(files))
    assert made.returncode == 0, made.stderr
    assert "customers: 6 columns from customers.csv" in made.stdout
    assert f"next: cd {folder} && headwater run" in made.stdout
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    again = headwater("init", str(folder), "--from", str(files))
    assert again.returncode == 2
    assert "holds a project already" in again.stderr
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before


def test_a_folder_that_is_no_project_is_said_with_its_exit_code(tmp_path: Path) -> None:
    done = headwater("run", cwd=tmp_path)
    assert done.returncode == 3
    assert "this folder is not a Headwater project. Change into one, or make one with `headwater init" in done.stderr
    as_json = headwater("run", "--json", cwd=tmp_path)
    said = json.loads(as_json.stdout)
    assert as_json.returncode == said["exit_code"] == 3
    assert said["ok"] is False
    assert "not a Headwater project" in said["error"]


@pytest.mark.long
def test_what_is_wrong_or_fails_is_in_the_exit_code(tmp_path: Path) -> None:
    done = headwater("doctor", cwd=tmp_path)
    assert (done.returncode, "make one with `headwater init NAME`" in done.stdout) == (1, True), done.stdout
    assert headwater("init", "shop", cwd=tmp_path).returncode == 0
    for command in (("segment", "train"), ("segment", "assign"), ("segment", "monitor"), ("test",), ("verify",)):
        early = headwater(*command, cwd=tmp_path / "shop")
        assert early.returncode == 1, (command, early.stdout, early.stderr)
        assert "is not in the warehouse yet; run `headwater build` first" in early.stderr, command


def test_a_question_only_reads_and_is_answered_as_rows(shop: Path) -> None:
    asked = headwater(
        "query", "select customer_id from dim_customer order by customer_id limit 3", "--limit", "2", cwd=shop
    )
    assert asked.stdout == "customer_id\n1\n10\nthe first 2 rows; --limit shows more\n"
    rows = headwater("query", "select 1 as one, null as nothing", "--json", cwd=shop)
    assert json.loads(rows.stdout) == [{"one": 1, "nothing": None}]
    for sql, sentence in (
        ("delete from dim_customer", "found a statement of type DELETE; a query only reads"),
        ("select 1; select 2", "found 2 statements; a query is one SELECT"),
        ("select x from", "the query cannot be read"),
        ("select x from nowhere", "the query cannot be answered: Catalog Error"),
        ("select count(*) from range(100000) a, range(100000) b where a.range + b.range = 7", "took more than 0.2 s"),
    ):
        refused = headwater("query", sql, "--seconds", "0.2", cwd=shop)
        assert (refused.returncode, sentence in refused.stderr) == (2, True), (sql, refused.stderr)


def test_a_circuit_breaker_is_opened_by_its_name(shop: Path) -> None:
    wrong = headwater("activate", "--allow", "everything", cwd=shop)
    assert wrong.returncode == 2
    assert "--allow: found 'everything'; expected removals, rows or moved" in wrong.stderr
    settings = shop / "headwater.yml"
    before = settings.read_text(encoding="utf-8")
    mirror = before.replace(
        "    model: user_alerts   # or tag:hightouch\n", "    model: dim_customer\n    max_rows: 1\n"
    ).split("  - name: leads")
    fields = "  - name: leads" + mirror[1].split("    fields:")[0].replace("key: person_id", "key: customer_id")
    settings.write_text(mirror[0] + fields + "    fields: {customer_id: customer_id}\n", encoding="utf-8")
    try:
        stopped = headwater("activate", "--sync", "leads", "--no-dry-run", cwd=shop)
        assert (stopped.returncode, "`max_rows` of 'leads' allows 1" in stopped.stderr) == (5, True), stopped.stderr
        passed = headwater("activate", "--sync", "leads", "--no-dry-run", "--allow", "rows", cwd=shop)
        assert passed.returncode == 0, passed.stderr
    finally:
        settings.write_text(before, encoding="utf-8")


def test_a_wrong_call_is_said_with_exit_code_two(shop: Path) -> None:
    for arguments, sentence in (
        (("bogus",), "No such command 'bogus'"),
        (("build", "--part", "half"), "--part: found 'half'; expected all, upstream or downstream"),
        (
            ("decide", "--goal", "fame"),
            "goal: found 'fame'; input should be '90d_clv', 'engagement', 'conversion' or 'retention'",
        ),
        (("activate", "--discount-cap", "120"), "discount_cap: found 120.0; input should be less than or equal to 100"),
        (("activate", "--segment", "everyone"), "segment: found 'everyone'; allowed: churn_rescue_nps"),
        (("kill-switch", "maybe"), "kill-switch: found 'maybe'; expected on or off"),
    ):
        done = headwater(*arguments, cwd=shop)
        assert done.returncode == 2, (arguments, done.stdout, done.stderr)
        assert sentence in done.stderr, (arguments, done.stderr)


def test_a_bad_row_is_quarantined_and_the_rest_goes_on(shop: Path) -> None:
    from headwater.warehouse import Warehouse

    with Warehouse(shop / "warehouse" / "shop.duckdb") as warehouse:
        assert warehouse.value("select count(*) from main.fct_orders") == 60
        row = warehouse.rows("select entity, file, line, column_name, value from main.quarantined_rows")
    assert row == [
        {"entity": "orders", "file": "orders.csv", "line": 62, "column_name": "order_ts", "value": "not a date"}
    ]


@pytest.mark.parametrize(
    "command",
    [
        ("seed",),
        ("segment", "due"),
        ("segment", "assign"),
        ("segment", "monitor"),
        ("decide",),
        ("plan",),
        ("activate",),
        ("export",),
        ("status",),
        ("syncs",),
        ("alerts", "--check"),
        ("doctor",),
        ("kill-switch",),
    ],
)
def test_every_command_prints_one_json_value(command: tuple[str, ...], shop: Path) -> None:
    done = headwater(*command, "--json", cwd=shop)
    assert done.returncode == 0, done.stdout + done.stderr
    json.loads(done.stdout)


def test_the_environment_sets_what_make_passes_on(shop: Path) -> None:
    env = {
        "SEGMENT": "churn_rescue_nps",
        "DRY_RUN": "0",
        "GOAL": "90d_clv",
        "DISCOUNT_CAP": "5",
        "SUPPRESS_HOURS": "24",
    }
    done = headwater("activate", "--json", cwd=shop, **env)
    assert done.returncode == 0, done.stdout + done.stderr
    decided, *sent = json.loads(done.stdout)
    assert decided["details"]["segment"] == "churn_rescue_nps"
    assert [one["stage"] for one in sent] == ["activate email_actions", "activate cs_ticket_actions"]
    assert {one["details"]["status"] for one in sent} <= {"ok", "nothing"}


def test_a_plan_is_sent_as_it_was_read_or_refused(shop: Path) -> None:
    assert headwater("plan", "email_actions", cwd=shop).returncode == 0
    plan = shop / "outbox" / "plans" / "email_actions.json"
    sent = headwater("activate", "--plan", str(plan), "--no-dry-run", cwd=shop)
    assert sent.returncode == 0, sent.stdout + sent.stderr
    first = json.loads(headwater("syncs", "--json", cwd=shop).stdout)[0]
    if first["confirmed"]:
        stale = headwater("activate", "--plan", str(plan), "--no-dry-run", cwd=shop)
        assert stale.returncode in (0, 5)


def test_the_second_command_is_told_who_holds_the_project(shop: Path, tmp_path: Path) -> None:
    with project_lock(shop / "warehouse", "headwater run"):
        done = headwater("doctor", cwd=shop)
    assert f"`headwater run` (process {os.getpid()}" in done.stdout


def test_a_kill_switch_stops_every_action_until_it_is_off(shop: Path) -> None:
    assert "global since" in headwater("kill-switch", "on", "--reason", "a test", cwd=shop).stdout
    decided = json.loads(headwater("decide", "--json", cwd=shop).stdout)["details"]
    assert set(decided["by_action"]) == {"none"}
    assert "none is on" in headwater("kill-switch", "off", cwd=shop).stdout


def changed(shop: Path, sql: str) -> None:
    with Warehouse(shop / "warehouse" / "shop.duckdb") as warehouse:
        warehouse.execute(sql)


def test_a_typo_is_not_forgotten_and_a_suppression_is_lifted(shop: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def said(code: int, *arguments: str) -> str:
        assert execute(["forget", "--project", str(shop), *arguments]) == code
        out, err = capsys.readouterr()
        return out + err

    assert "nobody has the id 'bbo'. Look it up with `headwater why`" in said(2, "bbo")
    first, *rest = said(0, "--kind", "user", "--unseen", "--", "bbo").splitlines()
    assert "nobody has this id; it is suppressed from now on" in first
    assert "forget --lift" in first
    assert not rest, "the same is not said twice"
    assert "1 id is not suppressed any more" in said(0, "bbo", "--lift")
    assert "expected one of them" in said(2, "bbo", "--lift", "--unseen")


def test_a_receipt_says_what_is_left_to_do_where_no_service_is_asked(shop: Path) -> None:
    with Stack(shop) as stack:
        (asked,) = stack._ask_to_forget([Told("email_actions", "k")])
    assert (asked.status, asked.message) == (
        "local",
        "the files in outbox/ are cleaned; whoever fetched them before must delete the person from what they have",
    )


def test_a_wrong_write_key_is_not_a_source_that_was_removed(shop: Path, capsys: pytest.CaptureFixture[str]) -> None:
    changed(
        shop,
        "insert into headwater.rejected_events (rejected_id, source, received_at, reason)"
        " values ('by-nobody', '', now()::timestamp, 'unknown_write_key')",
    )
    try:
        assert execute(["status", "--project", str(shop)]) == 0
    finally:
        changed(shop, "delete from headwater.rejected_events where rejected_id = 'by-nobody'")
    (said,) = [one for one in capsys.readouterr().out.splitlines() if "source" in one.split("  ")[0]]
    assert said.startswith("! no source")
    assert "1 call without a write key or with one that nobody has" in said


def test_many_warnings_of_a_stage_are_one_line_and_a_count(shop: Path, capsys: pytest.CaptureFixture[str]) -> None:
    changed(
        shop,
        "insert into headwater.stage_runs (run_id, stage, status, started_at, ended_at, row_count, message, warnings)"
        """ values ('many', 'many', 'ok', now()::timestamp, now()::timestamp, 0, '', '["first", "second", "third"]')""",
    )
    try:
        assert execute(["status", "--project", str(shop)]) == 0
        said = capsys.readouterr().out
        assert execute(["status", "--warnings", "--project", str(shop)]) == 0
        every = capsys.readouterr().out
        assert execute(["status", "--json", "--project", str(shop)]) == 0
        told = json.loads(capsys.readouterr().out)
    finally:
        changed(shop, "delete from headwater.stage_runs where run_id = 'many'")
    assert "! first (and 2 more; `headwater status --warnings` shows them all)" in said
    assert "second" not in said
    assert "! second" in every
    (of_stage,) = [row["warnings"] for row in told["stages"] if row["stage"] == "many"]
    assert of_stage == ["first", "second", "third"]


def test_an_edited_model_and_a_killed_engine_are_said_first(shop: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def said(*argv: str) -> list[str]:
        execute([*argv, "--project", str(shop)])
        return capsys.readouterr().out.splitlines()

    assert not [line for line in said("status") if "changed since" in line or " engine " in line]
    model = shop / "models" / "marts" / "core" / "dim_customer.sql"
    text, note = model.read_text(encoding="utf-8"), shop / "warehouse" / relay.NOTE
    try:
        model.write_text(f"{text}\n-- edited", encoding="utf-8")
        note.write_text(json.dumps({"socket": str(shop / "gone"), "pid": 12345}), encoding="utf-8")
        first, second, *_ = said("status")
        (found,) = [line for line in said("doctor") if line.startswith("! engine")]
        told = json.loads(said("status", "--json")[0])
    finally:
        model.write_text(text, encoding="utf-8")
        note.unlink()
    assert first.startswith("! engine                     no engine runs; the last one (process 12345, since ")
    assert first.endswith(" ended unexpectedly: `headwater up` goes on where it was")
    assert "no engine runs; the last one (process 12345" in found
    assert second == (
        "! models                     models/marts/core/dim_customer.sql has changed since the last build; "
        "`headwater build` takes it over"
    )
    assert told["edited"] == ["models/marts/core/dim_customer.sql"]
    assert told["engine_ended_unexpectedly"]["pid"] == 12345
    assert not [line for line in said("status") if "changed since" in line]


def test_no_test_of_a_model_names_somebody_who_may_be_a_customer() -> None:
    root = Path(headwater_package.__file__).parent
    field = re.compile(r"\b(?:customer_?id|person_id|user_id|anonymous_id): (?!null)\"?(?:anon:)?([^,\"}\s]+)")
    fixtures = [*root.glob("project/models/unit_tests/*.yml"), *root.glob("templates/*/models/unit_tests/*.yml")]
    found = {name for path in fixtures for name in field.findall(path.read_text(encoding="utf-8"))}
    assert len(found) > 20
    assert not {name for name in found if not name.startswith("unit_test_") and not re.fullmatch(r"9000000\d\d", name)}


def test_equal_neighbours_are_one_line_with_their_number(
    shop: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    seen = [datetime(2026, 3, day, 10) for day in (9, 8, 7)]  # noqa: DTZ001
    steps = [why.Step("events", when, "page_viewed by customer 1") for when in seen]
    chain = why.Chain("1", "1", ("1",), (), (*steps, why.Step("models", None, "page_viewed by customer 1")))
    monkeypatch.setattr(Stack, "why", lambda *_, **__: chain)
    assert execute(["why", "1", "--project", str(shop)]) == 0
    _, events, models = capsys.readouterr().out.splitlines()
    assert events.endswith("2026-03-09 10:00:00  page_viewed by customer 1 (3 times, the first 2026-03-07 10:00:00)")
    assert models.endswith("models                     page_viewed by customer 1")


def test_the_newest_events_are_shown_although_records_after_them_were_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = scaffold.init(tmp_path / "website", None).folder
    log = SqliteLog(folder / FILE)
    said = [b'{"type":"track","event":"E%d","userId":"u"}' % number for number in range(6)]
    log.append([Entry("events", "website", "u", f"m{n}", 1_772_000_000_000_000, text) for n, text in enumerate(said)])
    log.remove("events", lambda record: record.message_id in ("m3", "m4", "m5"))
    log.close()

    def interrupted(_seconds: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("headwater.cli.looking.time.sleep", interrupted)
    assert execute(["tail", "-n", "2", "--project", str(folder)]) == 0, "Ctrl-C is its normal end"
    shown = capsys.readouterr()
    assert re.findall(r"track (\w+)", shown.out) == ["E1", "E2"]
    assert shown.err == ""
    assert execute(["tail", "-n", "4", "--project", str(folder)]) == 0
    shown = capsys.readouterr()
    assert "the log still holds 3 of the 4 newest events" in shown.out
    assert re.findall(r"track (\w+)", shown.out) == ["E0", "E1", "E2"]


@pytest.mark.long
def test_plain_dbt_works_in_the_folder(shop: Path) -> None:
    done = subprocess.run(
        [str(Path(sys.executable).parent / "dbt"), "build", "--select", "customer_segments", "fct_customer_segments"],
        cwd=shop,
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )
    assert done.returncode == 0, done.stdout
    assert "Completed successfully" in done.stdout
