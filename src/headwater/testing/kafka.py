"""A real Apache Kafka on loopback, for tests and the demo: one node (KRaft), its data in a folder, stopped by its process.

`make kafka` fetches its jars; it needs Java 17 or newer.
"""

import base64
import os
import shutil
import socket
import subprocess
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from headwater.errors import StageFailed

HEAP = ("-Xmx320m", "-Xms128m")
QUICK = "-XX:TieredStopAtLevel=1"
"""Java compiles for a short life: a start costs two fifths less CPU."""
START_SECONDS = 90.0


def found(jars: Path) -> str | None:
    """None when a broker can be started, else the sentence that says what is missing."""
    if shutil.which("java") is None:
        return "there is no Java on this machine: install Java 17 or newer (on Debian, apt-get install default-jre-headless)"
    if not any(jars.glob("kafka_2.13-*.jar")):
        return f"there are no Kafka jars in {jars.name}: run `make kafka`"
    return None


@contextmanager
def broker(folder: Path, jars: Path, *, port: int = 0, quick: bool = True) -> Iterator[str]:
    """Run a broker while inside; gives its address, host:port. `folder` keeps its data: give it again, with the same port, to restart it.

    `quick`: it is to start soon; not for measuring. The file `broker.pid` in `folder` names its process, for whoever wants to
    kill it. Raises StageFailed with the broker's last words when it does not come up.
    """
    missing = found(jars)
    if missing:
        raise StageFailed(missing)
    folder.mkdir(parents=True, exist_ok=True)
    address = f"127.0.0.1:{port or _free_port()}"
    settings = folder / "server.properties"
    settings.write_text(_settings(folder, address, f"127.0.0.1:{_free_port()}"), encoding="utf-8")
    java = ["java", *HEAP, *([QUICK] if quick else []), "-cp", str(jars / "*")]
    if not (folder / "data" / "meta.properties").exists():
        cluster = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
        tool = [*java, "kafka.tools.StorageTool", "format", "--standalone", "-t", cluster, "-c", str(settings)]
        made = subprocess.run(tool, capture_output=True, text=True, check=False)
        if made.returncode:
            raise StageFailed(f"Kafka cannot prepare {folder}: {made.stderr.strip()[-500:]}")
    said = folder / "broker.log"
    with said.open("ab") as out:
        process = subprocess.Popen(
            [*java, "kafka.Kafka", str(settings)], stdout=out, stderr=out, stdin=subprocess.DEVNULL, cwd=folder
        )
    (folder / "broker.pid").write_text(str(process.pid), encoding="utf-8")
    try:
        _await(address, process, said)
        yield address
    finally:
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(timeout=30)
        if process.poll() is None:
            process.kill()
            process.wait()


def _await(address: str, process: subprocess.Popen[bytes], said: Path) -> None:
    """Until the broker takes connections."""
    host, _, port = address.partition(":")
    until = time.monotonic() + START_SECONDS
    while time.monotonic() < until and process.poll() is None:
        with suppress(OSError), socket.create_connection((host, int(port)), timeout=1):
            return
        time.sleep(0.1)
    words = said.read_text(encoding="utf-8", errors="replace").strip()[-800:] or "it said nothing"
    raise StageFailed(f"Kafka did not come up on {address} within {START_SECONDS:.0f} s: {words}")


def _settings(folder: Path, address: str, controller: str) -> str:
    return os.linesep.join(
        [
            "process.roles=broker,controller",
            "node.id=1",
            f"controller.quorum.bootstrap.servers={controller}",
            "controller.listener.names=CONTROLLER",
            f"listeners=PLAINTEXT://{address},CONTROLLER://{controller}",
            f"advertised.listeners=PLAINTEXT://{address}",
            "listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
            f"log.dirs={folder / 'data'}",
            "num.partitions=3",
            "auto.create.topics.enable=false",
            "offsets.topic.replication.factor=1",
            "offsets.topic.num.partitions=3",
            "transaction.state.log.replication.factor=1",
            "transaction.state.log.min.isr=1",
            "group.initial.rebalance.delay.ms=0",
            "",
        ]
    )


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return int(taken.getsockname()[1])
