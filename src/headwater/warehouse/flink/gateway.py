"""Statements handed to Flink's SQL gateway over HTTP, and what became of them."""

import itertools
import time
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from headwater.errors import StageFailed

if TYPE_CHECKING:
    import httpx2

POLL_SECONDS = (0.01, 0.02, 0.05, 0.1, 0.2)
"""Between two looks at a statement that runs; the last one again and again."""


class Gateway:
    """One session of a gateway. `timeout`: seconds that it may take to answer one call."""

    def __init__(self, url: str, *, timeout: float = 60.0) -> None:
        self.url = url.rstrip("/")
        self._timeout = timeout
        self._client: httpx2.Client | None = None
        self._session = ""

    def __enter__(self) -> Self:
        import httpx2  # noqa: PLC0415 (only who submits needs it)

        self._client = httpx2.Client(base_url=self.url, timeout=self._timeout)
        self._session = self._call("POST", "/v1/sessions", {"properties": {}})["sessionHandle"]
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        assert self._client is not None
        self._client.close()

    def submit(self, statements: Sequence[str]) -> str:
        """Run all statements; the last one starts the job. Its id, once the cluster has it.

        Raises StageFailed with the statement and Flink's reason.
        """
        for statement in statements[:-1]:
            self._done(statement, self._start(statement))
        return self._job(self._done(statements[-1], self._start(statements[-1])))

    def run(self, statements: Sequence[str], *, stopped: Callable[[], bool] = lambda: False) -> None:
        """Run all statements and wait until the job of the last one has ended, or `stopped` says so."""
        for statement in ("set 'table.dml-sync' = 'true'", *statements[:-1]):
            self._done(statement, self._start(statement))
        self._done(statements[-1], self._start(statements[-1]), stopped)

    def _start(self, statement: str) -> str:
        return self._call("POST", f"/v1/sessions/{self._session}/statements", {"statement": statement})[
            "operationHandle"
        ]

    def _done(self, statement: str, operation: str, stopped: Callable[[], bool] = lambda: False) -> dict[str, Any]:
        """The first page of the operation's result, when it has ended."""
        place = f"/v1/sessions/{self._session}/operations/{operation}"
        waits = itertools.chain(POLL_SECONDS, itertools.repeat(POLL_SECONDS[-1]))
        while (status := self._call("GET", f"{place}/status")["status"]) in ("PENDING", "INITIALIZED", "RUNNING"):
            if stopped():
                return {}
            time.sleep(next(waits))
        try:
            return self._call("GET", f"{place}/result/0")
        except StageFailed as error:
            head = " ".join(statement.split())[:120]
            raise StageFailed(f"Flink ended {status.lower()} at `{head} …`: {error}") from error

    def _job(self, result: dict[str, Any]) -> str:
        return str(result.get("jobID") or "")

    def _call(self, method: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        import httpx2  # noqa: PLC0415 (only who submits needs it)

        assert self._client is not None, "the session was opened"
        try:
            answer = self._client.request(method, path, json=body)
        except httpx2.HTTPError as error:
            raise StageFailed(
                f"the SQL gateway at {self.url} does not answer ({error}). Start it on the cluster (`bin/sql-gateway.sh start`), "
                "or set flink.gateway"
            ) from error
        if answer.status_code >= 400:
            raise StageFailed(_reason(answer))
        return dict(answer.json())


def _reason(answer: "httpx2.Response") -> str:
    """The deepest cause that Flink names."""
    try:
        said = [str(one) for one in answer.json()["errors"]]
    except (ValueError, KeyError, TypeError):
        return f"{answer.status_code} {answer.text[:300]}"
    lines = [line.strip() for one in said for line in one.splitlines()]
    causes = [line.removeprefix("Caused by: ") for line in lines if line.startswith("Caused by: ")]
    return (causes[-1] if causes else lines[0] if lines else "no reason was given")[:600]
