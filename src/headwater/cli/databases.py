"""Commands of databases whose changes come in."""

from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from headwater.cli.apps import app, cdc_app
from headwater.cli.options import HERE, Json, Project
from headwater.cli.screen import console, line, print_json
from headwater.errors import ConfigError, InvalidValue, UsageError

if TYPE_CHECKING:
    from headwater.collect.databases.settings import DatabaseSettings
    from headwater.collect.databases.state import Note
    from headwater.collect.settings import CollectSettings

Which = Annotated[
    str | None, typer.Argument(help="a database of headwater.yml, or an address like postgresql://user:…@host/db")
]


@app.command(hidden=True)
def changes(
    source: Annotated[str, typer.Argument(help="a database of headwater.yml")], project: Project = HERE
) -> None:
    """The process of one database alone; `up` starts it."""
    from headwater import config
    from headwater.clock import from_environment
    from headwater.collect.databases.follow import follow
    from headwater.collect.topics.follow import follow as read_topics
    from headwater.stack import log_to_write

    settings, clock = config.load(project), from_environment()
    log = log_to_write(settings, project, clock)
    topics = next((one for one in settings.collect.topics if one.name == source), None)
    try:
        if topics is not None:
            read_topics(project, settings.collect, topics, log, clock)
        else:
            follow(project, settings.collect, source, log, clock)
    finally:
        log.close()


@cdc_app.command("setup")
def setup_(
    source: Which = None,
    apply: Annotated[bool, typer.Option("--apply", help="run the SQL; without this nothing is created")] = False,
    project: Project = HERE,
    as_json: Json = False,
) -> None:
    """Look at all that following a database needs, and print the SQL for what is missing, and why; exit code 1 when something is."""
    from headwater.collect.databases import masks, setup
    from headwater.collect.databases.postgres import Database, address, address_of

    if source and "://" in source:
        where = address(source, "the address")
        settings, collect = _discovered(source), None
    else:
        collect = _collect(project)
        settings = _one(collect, source)
        where = address_of(settings)
    with Database(where) as database:
        held = masks.Masks(settings, b"only to look") if collect is None else masks.load(collect, settings)
        checks = setup.examine(settings, database, held)
        if apply and (wanted := setup.statements(checks)):
            for statement in wanted:
                database.run([statement])
                if not as_json:
                    line("ok", "done", statement)
            checks = setup.examine(settings, database, held)
    wrong = [check for check in checks if check.status == "wrong"]
    if as_json:
        print_json({"ok": not wrong, "database": where.shown, "checks": [asdict(check) for check in checks]})
    else:
        for check in checks:
            line(check.status, check.name, check.sentence)
        _print_sql(checks, "" if apply else "; nothing was changed")
        if collect is None:
            _print_settings(settings, checks)
        elif not wrong:
            line("ok", settings.name, "can be followed: `headwater up`")
    if wrong:
        raise typer.Exit(1)


def _print_sql(checks: list[Any], also: str) -> None:
    screen = console()
    lacking = [check for check in checks if check.status != "ok" and check.sql]
    if not lacking:
        return
    screen.print(f"\nSQL for whoever may run it{also}:", markup=False, highlight=False)
    for check in lacking:
        by_hand = " (by hand)" if check.by_hand else ""
        screen.print(f"\n-- {check.name}{by_hand}: {check.sentence}", markup=False, highlight=False)
        for statement in check.sql:
            screen.print(f"{statement};", markup=False, highlight=False)


def _print_settings(settings: "DatabaseSettings", checks: list[Any]) -> None:
    """The lines for headwater.yml that an address alone does not have."""
    screen = console()
    rows = ["", "for headwater.yml (and the address into the environment):", "", "collect:", "  databases:"]
    rows += [
        f"    - name: {settings.name}",
        f"      url_env: {settings.url_env}",
        f"      publication: {settings.publication}",
        "      tables:",
    ]
    personal = next((check.sentence for check in checks if check.name == "personal data"), "")
    for name in settings.tables:
        masked = [part.split(".")[1] for part in personal.partition(":")[0].split(", ") if part.startswith(f"{name}.")]
        given = ", ".join(f"{column}: hash" for column in masked)
        rows.append(f"        {name}: {{mask: {{{given}}}}}" if given else f"        {name}: {{}}")
    for row in rows:
        screen.print(row, markup=False, highlight=False)


def _discovered(url: str) -> "DatabaseSettings":
    """Settings for a database of which only the address is known: every table of the schema `public`."""
    from headwater.collect.databases.postgres import Database, address
    from headwater.collect.databases.settings import DatabaseSettings, TableSettings

    where = address(url, "the address")
    name = "".join(char if char.isalnum() else "_" for char in where.database.lower()).strip("_") or "database"
    name = name if name[0].isalpha() else f"db_{name}"
    with Database(where) as database:
        beat = DatabaseSettings.model_fields["heartbeat_table"].default
        found = [table for table in database.names("public") if table != beat]
        if not found:
            raise UsageError(
                f"{where.shown} has no table in the schema public that the role may see: make the tables first, or grant the role "
                "usage of the schema. `headwater feed` runs a database with tables, to try it on"
            )
    return DatabaseSettings(
        name=name, url_env=f"{name.upper()}_DATABASE_URL", tables={table: TableSettings() for table in found}
    )


@cdc_app.command("status")
def cdc_status(project: Project = HERE, as_json: Json = False) -> None:
    """How each database is followed: snapshot or changes, how far, how much journal is kept for it."""
    notes = database_notes(project)
    if as_json:
        print_json([asdict(note) if note else {"source": name, "phase": None} for name, note in notes])
        return
    if not notes:
        print("headwater.yml has no collect.databases and no collect.topics")
    for name, note in notes:
        line(*described(name, note))


@cdc_app.command("resnapshot")
def resnapshot(
    source: Annotated[str | None, typer.Argument(help="a database of headwater.yml")] = None,
    table: Annotated[list[str] | None, typer.Option(help="only these tables")] = None,
    project: Project = HERE,
    as_json: Json = False,
) -> None:
    """Read all rows again, between two changes: rows that are wrong here become right, rows that are gone there go."""
    from headwater.collect.databases.state import Place

    settings = _one(_collect(project), source)
    if unknown := sorted(set(table or ()) - set(settings.tables)):
        raise InvalidValue(f"--table: found {', '.join(unknown)}; expected {', '.join(settings.tables)}")
    place = Place(project, settings.name)
    place.ask(table or list(settings.tables), datetime.now(UTC))
    note = place.note()
    alive = note is not None and note.alive(datetime.now(UTC))
    said = "it begins within seconds" if alive else "it begins when `headwater up` follows the database"
    if as_json:
        print_json({"ok": True, "source": settings.name, "tables": table or list(settings.tables), "running": alive})
    else:
        line("ok", settings.name, f"{', '.join(table or settings.tables)} will be read again; {said}")


def described(name: str, note: "Note | None") -> tuple[str, str, str, tuple[str, ...]]:
    """One database as a line: sign, name, sentence, warnings."""
    if note is None:
        return "skipped", f"database {name}", "was never followed; `headwater cdc setup` says what it needs", ()
    warnings = list(note.warnings)
    if note.gap:
        warnings.append(
            f"changes are missing ({note.gap['why']}); all rows were read again after {note.gap['found_at']}"
        )
    if note.phase == "failed":
        return "failed", f"database {name}", note.sentence, tuple(warnings)
    if not note.alive(datetime.now(UTC)):
        said = note.sentence if note.phase == "stopped" else f"its process is gone since {note.at}"
        return "skipped", f"database {name}", said, tuple(warnings)
    parts = [note.sentence]
    if note.newest_at:
        parts.append(f"knows what was {note.newest_at[:19].replace('T', ' ')} UTC")
    if note.behind_bytes is not None:
        parts.append(f"{note.behind_bytes / 1e6:,.1f} MB of journal kept")
    sign = "warn" if warnings else "running" if note.phase in ("starting", "snapshot") else "ok"
    return sign, f"database {name}", ", ".join(parts), tuple(warnings)


def database_notes(project: Path) -> "list[tuple[str, Note | None]]":
    """Each database of the project, and what the process that follows it said last."""
    from headwater.collect.databases.state import Place

    collect = _collect(project)
    return [(one.name, Place(project, one.name).note()) for one in (*collect.databases, *collect.topics)]


def _collect(project: Path) -> "CollectSettings":
    from headwater import config

    return config.load(project).collect


def _one(collect: "CollectSettings", name: str | None) -> "DatabaseSettings":
    """The database of that name; without a name the only one."""
    from headwater.collect.databases.follow import named

    if name is not None:
        return named(collect, name)
    if len(collect.databases) == 1:
        return collect.databases[0]
    known = ", ".join(one.name for one in collect.databases)
    if not known:
        raise ConfigError(
            "headwater.yml has no collect.databases; `headwater cdc setup postgresql://…` prints them for a database"
        )
    raise UsageError(f"which database? There are {known}")


@app.command()
def feed(
    folder: Annotated[
        Path, typer.Option(help="where the database keeps its data; the same folder goes on with them")
    ] = Path("feed"),
    port: Annotated[int, typer.Option(help="port on this machine; 0 = any free one", min=0, max=65535)] = 54329,
    rate: Annotated[float, typer.Option(help="orders a second, 0 = as many as go", min=0)] = 1.0,
    seed: Annotated[int, typer.Option(help="seed of the rows and of what happens")] = 1,
    orders: Annotated[int | None, typer.Option(help="end after so many orders; none = at Ctrl-C", min=0)] = None,
    only_orders: Annotated[
        bool, typer.Option("--only-orders", help="new orders alone: no updates, no deletes")
    ] = False,
    as_json: Json = False,
) -> None:
    """An online retailer's Postgres on this machine, in which an order happens each second, and changes beside it; Ctrl-C ends it."""
    import signal
    import threading

    from headwater.testing import feed as feeding
    from headwater.testing.postgres import server

    stopping = threading.Event()
    screen = console()
    with server(folder, port=port) as running:
        signal.signal(signal.SIGTERM, lambda *_: stopping.set())
        signal.signal(signal.SIGINT, lambda *_: stopping.set())
        told = feeding.prepare(running)
        import psycopg

        with psycopg.connect(running.address(feeding.DATABASE), autocommit=True) as connection:
            rows = feeding.load(connection, seed)
            if not as_json:
                line(
                    "ok",
                    "postgres",
                    f"{running.address(feeding.DATABASE)}, {f'{rows:,} rows' if rows else 'as it was left'}; data in {folder}",
                )
                for name, value in told.items():
                    screen.print(f"  export {name}={value}", markup=False, highlight=False)
                screen.print("Ctrl-C ends it; the data stay", markup=False)
            shop = feeding.Feed(connection, seed, only_orders)
            done = feeding.run(shop, rate, stopping, orders=orders)
    if as_json:
        print_json({"ok": True, "orders": done, "done": shop.done, "environment": told})
    else:
        line(
            "ok",
            "feed",
            f"{done:,} orders, and all in all {', '.join(f'{count} {what}' for what, count in sorted(shop.done.items()))}",
        )
