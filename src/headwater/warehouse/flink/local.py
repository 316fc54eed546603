"""A SQL gateway on loopback whose jobs run in the same Java machine: for tests, benchmarks and trying things."""

import os
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from headwater.errors import ConfigError, StageFailed

START_SECONDS = 90.0
_OPENS = (
    "java.base/java.lang", "java.base/java.net", "java.base/java.io", "java.base/java.nio", "java.base/sun.nio.ch",
    "java.base/java.lang.reflect", "java.base/java.text", "java.base/java.time", "java.base/java.util",
    "java.base/java.util.concurrent", "java.base/java.util.concurrent.atomic", "java.base/java.util.concurrent.locks",
)  # fmt: skip
_LOGGING = """rootLogger.level = WARN
rootLogger.appenderRef.out.ref = Out
appender.out.name = Out
appender.out.type = CONSOLE
appender.out.layout.type = PatternLayout
appender.out.layout.pattern = %d{yyyy-MM-dd HH:mm:ss} %p %c{1} %m%n
"""


def home() -> Path | None:
    """Where Flink is: FLINK_HOME, or the package of `make flink` beside a checkout."""
    named = os.environ.get("FLINK_HOME")
    if named:
        return Path(named)
    found = sorted(Path(".venv-flink").glob("lib/python3.*/site-packages/pyflink"))
    return found[-1].resolve() if found else None


def missing(flink: Path | None, jars: Path) -> str | None:
    """None when a local cluster can be started, else the sentence that says what is missing."""
    if shutil.which("java") is None:
        return "there is no Java on this machine: install Java 17 or newer (on Debian, apt-get install default-jre-headless)"
    if flink is None or not any((flink / "lib").glob("flink-dist*.jar")):
        return "there is no Flink: set FLINK_HOME to one, or run `make flink` in a checkout"
    for jar in ("flink-sql-connector-kafka-*.jar", "flink-sql-gateway-*.jar"):
        if not (any(jars.glob(jar)) or any((flink / "lib").glob(jar)) or any((flink / "opt").glob(jar))):
            return f"there is no {jar} in {jars.name} nor in Flink's lib or opt: run `make flink` in a checkout, or download it"
    return None


@contextmanager
def gateway(folder: Path, flink: Path | None, jars: Path, *, memory_mb: int = 1_500) -> Iterator[str]:
    """Run it while inside; gives its address. `folder` takes its settings and what it says.

    Raises ConfigError when something is missing, StageFailed with its last words when it does not come up.
    """
    if (lacking := missing(flink, jars)) is not None:
        raise ConfigError(lacking)
    assert flink is not None
    folder.mkdir(parents=True, exist_ok=True)
    port = _free_port()
    (folder / "config.yaml").write_text(_settings(port, folder), encoding="utf-8")
    (folder / "log4j.properties").write_text(_LOGGING, encoding="utf-8")
    said = folder / "flink.log"
    classes = [flink / "lib" / "*", *sorted((flink / "opt").glob("flink-sql-client-*.jar")), jars / "*"]
    classes += sorted((flink / "opt").glob("flink-sql-gateway-*.jar"))
    command = [
        "java", f"-Xmx{memory_mb}m", "-XX:-UsePerfData", *(f"--add-opens={one}=ALL-UNNAMED" for one in _OPENS),
        f"-Dlog4j.configurationFile=file:{folder / 'log4j.properties'}",
        "-cp", os.pathsep.join(map(str, classes)), "org.apache.flink.table.gateway.SqlGateway",
    ]  # fmt: skip
    with said.open("ab") as out:
        process = subprocess.Popen(
            command,
            stdout=out,
            stderr=out,
            stdin=subprocess.DEVNULL,
            cwd=folder,
            env={**os.environ, "FLINK_CONF_DIR": str(folder)},
        )
    try:
        _await(port, process, said)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(timeout=10)
        if process.poll() is None:
            process.kill()
            process.wait()


def _await(port: int, process: "subprocess.Popen[bytes]", said: Path) -> None:
    until = time.monotonic() + START_SECONDS
    while time.monotonic() < until and process.poll() is None:
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        time.sleep(0.1)
    words = said.read_text(encoding="utf-8", errors="replace")
    found = re.findall(r"Caused by: (.+)", words)
    raise StageFailed(
        f"Flink did not come up within {START_SECONDS:.0f} s: {found[-1] if found else words.strip()[-500:]}"
    )


def _settings(port: int, folder: Path) -> str:
    return "\n".join(
        [
            "execution.target: local",
            "sql-gateway.endpoint.rest.address: 127.0.0.1",
            "sql-gateway.endpoint.rest.bind-address: 127.0.0.1",
            f"sql-gateway.endpoint.rest.port: {port}",
            "sql-gateway.session.idle-timeout: 30 d",
            f"sql-gateway.endpoint.rest.bind-port: {port}",
            "taskmanager.numberOfTaskSlots: 8",
            "taskmanager.memory.network.fraction: 0.15",
            f"io.tmp.dirs: {folder / 'tmp'}",
            "",
        ]
    )


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return int(taken.getsockname()[1])
