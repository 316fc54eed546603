"""Commands of the log, and a real Kafka to try it on."""

from pathlib import Path
from typing import Annotated, Any

import typer

from headwater.cli.apps import app, log_app
from headwater.cli.options import HERE, Json, Project
from headwater.cli.screen import console, line, print_json


@log_app.command("move")
def move(project: Project = HERE, as_json: Json = False) -> None:
    """Go on in Kafka with what the file of the log still holds unread; stop `headwater up` first, set `log` before."""
    import json

    from headwater import relay
    from headwater.errors import Busy, ConfigError
    from headwater.log.kafka import KafkaLog
    from headwater.log.move import move as move_log
    from headwater.stack import LOG, Stack

    if relay.holder(project / "warehouse") is not None:
        raise Busy(
            "`headwater up` runs and takes events into the file: stop it with `headwater down`, then move the log"
        )
    with Stack(project) as stack:
        with stack.locked("headwater log move"):
            known = stack.warehouse.exists("headwater.clock")
            stored = stack.warehouse.value("select max(position) from headwater.clock") if known else None
        log = stack.open_log()
        try:
            if not isinstance(log, KafkaLog):
                raise ConfigError(
                    "the log is still of kind sqlite: set `log: {kind: kafka, kafka: …}` in headwater.yml first"
                )
            moved = move_log(project / LOG, log, _numbers(json.loads(stored or "{}")))
        finally:
            log.close()
    if as_json:
        print_json({"records": dict(moved.records), "aside": str(moved.aside)})
        return
    counted = ", ".join(f"{count:,} of {topic}" for topic, count in moved.records.items())
    line(
        "ok",
        "log",
        f"unread records went along: {counted}; the file is {moved.aside.name} now, `headwater up` goes on in Kafka",
    )


def _numbers(stored: dict[str, Any]) -> dict[str, int]:
    return {topic: at for topic, at in stored.items() if isinstance(at, int)}


@app.command("kafka")
def kafka_(
    folder: Annotated[
        Path, typer.Option(help="where the broker keeps its data; the same folder goes on with them")
    ] = Path("kafka"),
    port: Annotated[int, typer.Option(help="port on this machine; 0 = any free one", min=0, max=65535)] = 9092,
    jars: Annotated[
        Path,
        typer.Option(
            envvar="HEADWATER_KAFKA_JARS", help="folder of Kafka's jars; `make kafka` in a clone fetches them"
        ),
    ] = Path(".kafka"),
    as_json: Json = False,
) -> None:
    """A real Apache Kafka on this machine, one broker without a password, to try things on; Ctrl-C ends it."""
    import signal
    import threading

    from headwater.errors import UsageError
    from headwater.testing import kafka

    if lacking := kafka.found(jars):
        raise UsageError(lacking)
    stopping = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.set())
    with kafka.broker(folder.resolve(), jars.resolve(), port=port, quick=False) as address:
        if as_json:
            print_json({"ok": True, "bootstrap_servers": address})
        else:
            line("ok", "kafka", f"{address}; data in {folder}")
            for text in (
                "for headwater.yml:",
                "",
                "log:",
                "  kind: kafka",
                "  kafka:",
                f'    bootstrap_servers: "{address}"',
            ):
                console().print(text, markup=False, highlight=False)
            console().print("\nCtrl-C ends it; the data stay", markup=False)
        stopping.wait()
