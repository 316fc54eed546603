"""A receiver over real HTTP: keeps rows, counts what had an effect, and misbehaves when told to.

Not built on our client: it reads what is on the wire with the standard library, and a call that a receiver of this kind
would refuse (a wrong signature, a body that is not JSON, no idempotency key) is refused.
"""

import hashlib
import hmac
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from decimal import Decimal
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class Receiver:
    """What arrived. `acted` idempotency keys and operation ids that had an effect; `seen` every key, repetitions too."""

    key: str = ""
    token: str = ""
    rows: dict[str, dict[str, Any]] = field(default_factory=dict)
    acted: list[str] = field(default_factory=list)
    calls: list[dict[str, Any]] = field(default_factory=list)
    script: list[Any] = field(default_factory=list)
    refuse: set[str] = field(default_factory=set)
    poison: set[str] = field(default_factory=set)
    echo: bool = False
    url: str = ""
    lock: threading.Lock = field(default_factory=threading.Lock)

    def answer(self, path: str, headers: dict[str, str], body: bytes) -> tuple[int, dict[str, str], Any] | None:
        """Status, headers, JSON; None: the connection is closed without an answer."""
        with self.lock:
            self.calls.append({"path": path, "headers": headers, "body": body})
            if self.echo:
                return 400, {}, {"error": f"I was sent {headers} and {body.decode()} at {self.url}"}
            step = self.script.pop(0) if self.script else "ok"
            if isinstance(step, tuple):
                return step
            if step == "sleep":
                time.sleep(0.3)
            if step == "hang up":
                return None
            problem = self._problem(headers, body)
            if problem:
                return problem
            sent = json.loads(body, parse_float=Decimal)
            rows = sent.get("rows", [sent])
            if any(row["key"] in self.poison for row in rows):
                return 422, {}, {"error": "one row is poison"}
            results = [self._take(row) for row in rows]
            if step == "act and hang up":
                return None
            if "rows" in sent:
                return 200, {}, {"results": results}
            return (200 if results[0]["ok"] else 422), {}, results[0]

    def _problem(self, headers: dict[str, str], body: bytes) -> tuple[int, dict[str, str], Any] | None:
        if self.token and headers.get("Authorization") != f"Bearer {self.token}":
            return 401, {}, {"error": "who are you?"}
        if self.key:
            right = "sha256=" + hmac.new(self.key.encode(), body, hashlib.sha256).hexdigest()
            if headers.get("X-Headwater-Signature") != right:
                return 401, {}, {"error": "the signature is wrong"}
        if not headers.get("Idempotency-Key"):
            return 400, {}, {"error": "no idempotency key"}
        return None

    def _take(self, row: dict[str, Any]) -> dict[str, Any]:
        if row["key"] in self.refuse:
            return {"ok": False, "code": "NOT_WANTED", "message": f"{row['key']} is not wanted"}
        if row["operation_id"] not in self.acted:
            self.acted.append(row["operation_id"])
            if row["operation"] == "delete":
                self.rows.pop(row["key"], None)
            else:
                self.rows.setdefault(row["key"], {}).update(row["fields"])
        return {"ok": True}


@contextmanager
def receiving(receiver: Receiver) -> Iterator[Receiver]:
    """Serve on a free port of this machine until the block ends."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _serve(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            told = receiver.answer(f"{self.command} {self.path}", dict(self.headers.items()), body)
            if told is None:
                self.close_connection = True
                self.connection.close()
                return
            status, headers, document = told
            text = document.encode() if isinstance(document, str) else json.dumps(document).encode()
            self.send_response(status)
            for name, value in {"Content-Type": "application/json", **headers}.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        do_POST = do_PUT = do_PATCH = do_DELETE = _serve  # noqa: N815 (the standard library's names)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, request: Any, client_address: Any) -> None:
            """A client that was killed in the middle is no news."""

    server = Server(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=lambda: server.serve_forever(poll_interval=0.01), daemon=True)
    thread.start()
    receiver.url = f"http://127.0.0.1:{server.server_port}/rows"
    try:
        yield receiver
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
