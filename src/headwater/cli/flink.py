"""Commands of the scale-out engine: its SQL, and a job of it."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from headwater.cli.apps import flink_app
from headwater.cli.options import HERE, Json, Project
from headwater.cli.screen import line, print_json

if TYPE_CHECKING:
    from headwater.config import Config
    from headwater.warehouse.flink.script import Script

UntilEnd = Annotated[bool, typer.Option("--until-end", help="end at what the topic holds when the job starts")]
RecoverFrom = Annotated[
    str | None, typer.Option("--recover-from", help="a checkpoint or savepoint to go on from, file:///… or s3://…")
]


@flink_app.command("sql")
def sql(
    until_end: UntilEnd = False,
    recover_from: RecoverFrom = None,
    project: Project = HERE,
    as_json: Json = False,
) -> None:
    """Print the data products as Flink SQL, to be read or run elsewhere; secrets stand in it as ${NAME}."""
    script = _script(project, until_end, recover_from)[1]
    if as_json:
        print_json({"statements": list(script.statements)})
    else:
        print(script.text, end="")


@flink_app.command("run")
def run(
    gateway: Annotated[str | None, typer.Option("--gateway", help="address of the cluster's SQL gateway")] = None,
    until_end: UntilEnd = False,
    recover_from: RecoverFrom = None,
    memory_mb: Annotated[int, typer.Option("--memory-mb", help="of the local cluster, megabytes", min=512)] = 1_500,
    project: Project = HERE,
    as_json: Json = False,
) -> None:
    """Start the job of the data products: on a cluster through its SQL gateway, or on this machine until Ctrl-C."""
    import os

    from headwater.warehouse.flink import local
    from headwater.warehouse.flink.gateway import Gateway

    settings, script = _script(project, until_end, recover_from)
    statements = script.told(os.environ)
    warnings = _prepared(settings, recover_from)
    for warning in () if as_json else warnings:
        line("warn", "flink", warning)
    address = gateway or settings.flink.gateway
    if address:
        with Gateway(address) as session:
            job = "" if until_end else session.submit(statements)
            if until_end:
                session.run(statements)
        _told(
            as_json,
            {"gateway": address, "job": job or None, "ended": until_end, "warnings": warnings},
            f"job {job} runs at {address}" if job else "the job has ended",
        )
        return
    home = local.home()
    jars = Path(os.environ.get("HEADWATER_FLINK_JARS", ".flink")).resolve()  # Flink works in a folder of its own
    with (
        local.gateway(project.resolve() / "run" / "flink", home, jars, memory_mb=memory_mb) as here,
        Gateway(here) as session,
    ):
        if not as_json:
            line("ok", "flink", "a local Flink runs the data products" + ("" if until_end else "; Ctrl-C ends it"))
        session.run(statements)
    _told(as_json, {"gateway": None, "job": None, "ended": True, "warnings": warnings}, "the job has ended")


def _script(project: Path, until_end: bool, recover_from: str | None) -> "tuple[Config, Script]":
    from headwater import config
    from headwater.errors import ConfigError
    from headwater.warehouse.flink.script import render

    settings = config.load(project)
    names = [one.name for one in (*settings.collect.databases, *settings.collect.topics)]
    source = settings.flink.source or (names[0] if len(names) == 1 else None)
    if source is None:
        raise ConfigError(
            f"headwater.yml has the databases {', '.join(names) or 'none'}; set flink.source to the one that the data products read"
        )
    script = render(
        settings.name,
        settings.log,
        settings.flink,
        source=source,
        before_first=settings.data_products.before_first,
        folder=project,
        bounded=until_end,
        recover_from=recover_from,
    )
    return settings, script


def _prepared(settings: "Config", recover_from: str | None) -> list[str]:
    """Make the topics that are missing; what must be known before the job starts."""
    import os

    from headwater.log.kafka import KafkaLog
    from headwater.log.kafka_making import make_compacted
    from headwater.warehouse.flink.script import PRODUCTS

    own = settings.log.kafka
    assert own is not None, "the script says so"
    with KafkaLog(own, os.environ) as log:
        gone = log.deleted("changes")
    make_compacted(own, os.environ, [settings.flink.products_prefix + name for name in PRODUCTS])
    warnings = []
    if gone and recover_from is None:
        warnings.append(
            f"{gone:,} older changes were deleted from the log, so rows that did not change since are not in it: have the database "
            "read again first (`headwater cdc resnapshot`)"
        )
    if settings.flink.group not in own.hold_for_groups:
        warnings.append(
            f"log.kafka.hold_for_groups does not name {settings.flink.group}: changes that the engine has are deleted whether the "
            "job has them or not"
        )
    return warnings


def _told(as_json: bool, fields: dict[str, Any], sentence: str) -> None:
    if as_json:
        print_json(fields)
    else:
        line("ok", "flink", sentence)
