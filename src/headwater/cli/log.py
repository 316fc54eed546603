"""Commands of the log."""

from typing import Any

from headwater.cli.apps import log_app
from headwater.cli.options import HERE, Json, Project
from headwater.cli.screen import line, print_json


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
