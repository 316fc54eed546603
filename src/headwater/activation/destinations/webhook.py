"""Rows as JSON over HTTP."""

import hashlib
import hmac
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import parse_qsl, quote, urlsplit

from pydantic import Field, model_validator

from headwater.activation import exact
from headwater.activation.destinations import options as checked
from headwater.activation.destinations import template
from headwater.activation.destinations.base import (
    BaseDestination,
    Batch,
    Later,
    Limits,
    Operation,
    Rejected,
    Result,
    Unusable,
)
from headwater.activation.destinations.http import NOT_DONE, PERHAPS_DONE, Answer, Caller
from headwater.settings import Settings

_SECRET_HEADER = re.compile(r"authorization|cookie|token|secret|api-?key|password", re.IGNORECASE)
_SECRET_PARAMETER = re.compile(r"token|secret|key|password|signature|^sig$", re.IGNORECASE)


class RowResults(Settings):
    """Where an answer to a batch says what became of each row; paths look like `$.data.results`."""

    path: Annotated[str, Field(description="list with one entry per row, in the order sent unless `id` is given")] = (
        "$.results"
    )
    id: Annotated[str | None, Field(description="path in an entry to the operation id or key; null = by order")] = None
    ok: Annotated[str, Field(description="path in an entry to what tells success")] = "$.ok"
    ok_value: Annotated[Any, Field(description="value that means success")] = True
    code: Annotated[str, Field(description="path in an entry to the error's code")] = "$.code"
    message: Annotated[str, Field(description="path in an entry to the error's text")] = "$.message"
    retry_codes: Annotated[list[str], Field(description="codes after which the row is tried again")] = []


class WebhookOptions(Settings):
    url: Annotated[str | None, Field(description="address; may hold {field} and {@key}")] = None
    url_env: Annotated[str | None, Field(description="environment variable with the address, when it is a secret")] = (
        None
    )
    method: Annotated[Literal["POST", "PUT", "PATCH"], Field(description="HTTP method")] = "POST"
    delete_method: Annotated[
        Literal["POST", "PUT", "PATCH", "DELETE"] | None,
        Field(description="HTTP method of removals; null = like the others, told apart by the operation in the body"),
    ] = None
    body: Annotated[
        Any, Field(description="template of one row, any JSON; null = operation, ids, key and all fields")
    ] = None
    batch_size: Annotated[
        int, Field(ge=1, le=10_000, description="rows a call; above 1 the body is a list of rows")
    ] = 1
    rows_field: Annotated[
        str | None, Field(description="field of the body that holds the list of rows; null = the body is the list")
    ] = "rows"
    headers: Annotated[dict[str, str], Field(description="headers that are no secret")] = {}
    secret_headers: Annotated[
        dict[str, str], Field(description="header to the environment variable that holds its whole value")
    ] = {}
    signature_env: Annotated[
        str | None, Field(description="environment variable with the key of the HMAC-SHA256 signature; null = unsigned")
    ] = None
    signature_header: Annotated[str, Field(description="header `sha256=<hex of the body's HMAC>`")] = (
        "X-Headwater-Signature"
    )
    idempotency_header: Annotated[str | None, Field(description="header with the idempotency key; null = none")] = (
        "Idempotency-Key"
    )
    idempotent: Annotated[
        bool, Field(description="false when the receiver acts again on an idempotency key that it has seen")
    ] = True
    success: Annotated[list[int], Field(description="status codes of success; none = 200 to 299")] = []
    success_path: Annotated[
        str | None, Field(description="path in the answer to what tells success; null = not looked at")
    ] = None
    success_value: Annotated[Any, Field(description="value there that means success")] = True
    results: Annotated[
        RowResults | None, Field(description="results per row in the answer; null = one for all rows")
    ] = None
    retry: Annotated[list[int], Field(description="more status codes after which the call is tried again")] = []
    timeout_seconds: Annotated[float, Field(gt=0, description="longest wait for an answer, seconds")] = 30
    concurrency: Annotated[int, Field(ge=1, le=64, description="calls at the same time")] = 4

    @model_validator(mode="after")
    def _one_address(self) -> "WebhookOptions":
        if (self.url is None) == (self.url_env is None):
            raise ValueError("give either `url` or `url_env`, not both")
        if self.url is not None and urlsplit(self.url).scheme not in ("http", "https"):
            raise ValueError(f"`url` must begin with http:// or https://, found {self.url!r}")
        address = self.url or ""
        if self.batch_size > 1 and template.names(address):
            raise ValueError("an address with {field} takes one row a call: leave `batch_size` at 1")
        return self

    @model_validator(mode="after")
    def _no_secrets(self) -> "WebhookOptions":
        named = sorted(header for header in self.headers if _SECRET_HEADER.search(header))
        if named:
            raise ValueError(
                f"the header {named[0]!r} looks like a secret: name an environment variable with its value under `secret_headers`"
            )
        parts = urlsplit(self.url or "")
        if "@" in parts.netloc or any(
            _SECRET_PARAMETER.search(name) and not template.names(value) for name, value in parse_qsl(parts.query)
        ):
            raise ValueError(
                "`url` looks as if it held a secret: name an environment variable with the address as `url_env`"
            )
        return self


class Webhook(BaseDestination):
    """Sends rows as JSON, one a call or in batches, to any HTTP address.

    Guarantee: at least once. A row is confirmed when the answer has a status of success, says success at `success_path`
    if one is given, and, where the answer has results per row, its own result says so. After a time-out or a broken answer
    the same call goes out again with the same idempotency key.
    Idempotency: each row carries its operation id (`{@operation_id}`), each call a key in `Idempotency-Key`: the operation id
    of a single row, a digest of the ids for a batch. A receiver that knows neither acts twice when an answer is lost; set
    `idempotent: false` for it, and a crash leaves at most one call in doubt.
    Limits: `batch_size` rows a call (default 1), `concurrency` calls at a time, `rate_per_second` of the destination.
    What the answers mean: 401, 403, 405, 407, a redirect, and 404 or 410 at a fixed address stop the sync; 423, 425, 429, 503
    and what breaks in between are tried again (`Retry-After` in seconds or as a date); other 4xx refuse the row, or the
    batch, which is then halved until the row is found.
    Secrets are read from the environment when the sync runs; options hold the variables' names. Redirects are not followed.
    """

    def __init__(self, name: str, options: Mapping[str, Any], *, folder: Path, environment: Mapping[str, str]) -> None:
        super().__init__(name, options, folder=folder, environment=environment)
        self.settings = checked.read(WebhookOptions, name, options)
        self.limits = Limits(self.settings.batch_size, self.settings.concurrency, self.settings.idempotent)
        self._caller: Caller | None = None
        self._secrets: dict[str, str] = {}

    @property
    def place(self) -> str:
        """The address; of one that is a secret, the name of its variable."""
        return self.settings.url or f"${self.settings.url_env}"

    def open(self) -> None:
        """Read the secrets and open a connection pool. Raises Unusable naming the variables that are not set."""
        wanted = [self.settings.url_env, self.settings.signature_env, *self.settings.secret_headers.values()]
        variables = [variable for variable in wanted if variable is not None]
        missing = sorted({variable for variable in variables if not self.environment.get(variable)})
        if missing:
            raise Unusable(
                "SECRET_MISSING",
                f"the environment has no {', '.join(missing)}",
                advice=f"set {'it' if len(missing) == 1 else 'them'} (`.env.example` lists the names), then run again",
            )
        self._secrets = {variable: self.environment[variable] for variable in variables}
        unfit = sorted(
            variable
            for variable, value in self._secrets.items()
            if variable != self.settings.signature_env and not (value.isascii() and value.isprintable())
        )
        if unfit:
            raise Unusable(
                "SECRET_UNFIT",
                f"{' and '.join(unfit)} {'holds' if len(unfit) == 1 else 'hold'} a line break or a character that no header may have",
                advice="set the value anew, without quotes and line breaks, then run again",
            )
        self._caller = Caller(
            self.name, timeout_seconds=self.settings.timeout_seconds, concurrency=self.settings.concurrency
        )

    def close(self) -> None:
        """Close the pool."""
        if self._caller is not None:
            self._caller.close()
            self._caller = None

    @property
    def secrets(self) -> Sequence[str]:
        """The values read by `open`, as they are, as the part after `Bearer `, and as an address writes them."""
        found: list[str] = []
        for value in self._secrets.values():
            found += [value, value.partition(" ")[2], quote(value, safe="")]
            if "://" in value:
                parts = urlsplit(value)
                found += [part for part in (parts.path.strip("/"), parts.query) if part]
        return sorted({value for value in found if value}, key=len, reverse=True)

    def deliver(self, batch: Batch) -> Sequence[Result]:
        """One call."""
        self._check_names(batch)
        removal = self._removal(batch)
        named = bool(template.names(self._url()))
        body = b"" if removal == "DELETE" and named else self._body(batch).encode()
        method = removal or self.settings.method
        assert self._caller is not None, "open() comes before deliver()"
        answer = self._caller.call(method, self._address(batch.operations[0]), self._headers(batch, body), body)
        self._judge(answer)
        if self.settings.results is None or len(batch.operations) == 0:
            return self.done(batch)
        return self._row_results(batch, self.settings.results, answer.document)

    # the request

    def _check_names(self, batch: Batch) -> None:
        used = template.names(self.settings.body) | template.names(self._url())
        unknown = sorted(used - set(batch.columns) - set(template.OWN)) if batch.columns else []
        if unknown:
            raise Unusable(
                "TEMPLATE",
                f"the template of {self.name!r} names {', '.join(unknown)}, which the sync {batch.sync!r} does not have",
                advice=f"use one of: {', '.join([*batch.columns, *template.OWN])}",
            )

    def _url(self) -> str:
        return self.settings.url or self._secrets.get(self.settings.url_env or "", "")

    def _address(self, operation: Operation) -> str:
        return template.fill_address(self._url(), operation, lambda text: quote(text, safe=""))

    def _removal(self, batch: Batch) -> str | None:
        """The method for removals, when it is another and the batch holds nothing else."""
        removals = {operation.operation == "delete" for operation in batch.operations}
        if self.settings.delete_method is None or True not in removals:
            return None
        if False in removals:
            raise Rejected("MIXED", "removals go in calls of their own")
        return self.settings.delete_method

    def _body(self, batch: Batch) -> str:
        rows = [
            _default(operation) if self.settings.body is None else template.fill(self.settings.body, operation)
            for operation in batch.operations
        ]
        if self.settings.batch_size == 1:
            return exact.dumps(rows[0])
        return exact.dumps(rows if self.settings.rows_field is None else {self.settings.rows_field: rows})

    def _headers(self, batch: Batch, body: bytes) -> dict[str, str]:
        headers = {"Content-Type": "application/json", "User-Agent": "headwater", **self.settings.headers}
        headers |= {header: self._secrets[variable] for header, variable in self.settings.secret_headers.items()}
        if self.settings.idempotency_header is not None:
            headers[self.settings.idempotency_header] = _call_id(batch)
        if self.settings.signature_env is not None:
            key = self._secrets[self.settings.signature_env].encode()
            headers[self.settings.signature_header] = "sha256=" + hmac.new(key, body, hashlib.sha256).hexdigest()
        return headers

    # the answer

    def _judge(self, answer: Answer) -> None:
        """Raise unless the call as a whole succeeded."""
        status, code, words, kept = answer.status, answer.code, answer.words, answer.kept
        fixed = not template.names(self._url())
        if status in self.settings.success or (not self.settings.success and 200 <= status < 300):
            path = self.settings.success_path
            found = None if path is None else template.pick(answer.document, path)
            if path is None or found == self.settings.success_value:
                return
            raise Rejected(
                code,
                f"{path} is {exact.dumps(_plain(found))}, expected {exact.dumps(self.settings.success_value)}. {words}",
                advice="the receiver took the call and refused its content: see its answer",
                response=kept,
            )
        if status in NOT_DONE or status in PERHAPS_DONE or status in self.settings.retry:
            raise Later(code, words, retry_after=answer.retry_after, in_doubt=status in PERHAPS_DONE, response=kept)
        if status in (401, 403, 405, 407) or 300 <= status < 400 or (fixed and status in (404, 410)):
            raise Unusable(
                code, words, advice=_ADVICE.get(status, f"mend address, credentials or method of {self.name!r}")
            )
        raise Rejected(code, words, advice="mend the row, or the mapping of the sync", response=kept)

    def _row_results(self, batch: Batch, told: RowResults, document: Any) -> list[Result]:
        """What the answer says of each row; a row that it does not mention is tried again, in doubt."""
        entries = template.pick(document, told.path)
        entries = entries if isinstance(entries, list) else []
        if told.id is None:
            by_id = dict(zip((row.operation_id for row in batch.operations), entries, strict=False))
        else:
            by_id = {template.as_text(template.pick(entry, told.id)): entry for entry in entries}
        results = []
        for row in batch.operations:
            entry = by_id.get(row.operation_id, by_id.get(row.key))
            if entry is None:
                results.append(
                    Result(
                        row.operation_id,
                        "retry",
                        "NO_RESULT",
                        f"the answer has no result for this row at {told.path}",
                        "look at `results` of the destination's options",
                        in_doubt=True,
                    )
                )
                continue
            code = template.as_text(_plain(template.pick(entry, told.code)))
            message = template.as_text(_plain(template.pick(entry, told.message)))
            if template.pick(entry, told.ok) == told.ok_value:
                results.append(Result(row.operation_id, "done"))
            else:
                status: Literal["retry", "failed"] = "retry" if code in told.retry_codes else "failed"
                advice = (
                    "the next run tries it again" if status == "retry" else "mend the row, or the mapping of the sync"
                )
                results.append(Result(row.operation_id, status, code or "REFUSED", message, advice, response=entry))
        return results


_ADVICE = {
    401: "the credentials are wrong or out of date: set them anew",
    403: "the credentials do not allow this: ask for the permission",
    404: "nothing lives at the address: mend `url`",
}


def _default(operation: Operation) -> dict[str, Any]:
    return {
        "operation": operation.operation,
        "operation_id": operation.operation_id,
        "key": operation.key,
        "fields": operation.fields,
    }


def _call_id(batch: Batch) -> str:
    if len(batch.operations) == 1:
        return batch.operations[0].operation_id
    return hashlib.sha256("".join(row.operation_id for row in batch.operations).encode()).hexdigest()[:32]


def _plain(value: Any) -> Any:
    """Something short that JSON can say."""
    return value if value is None or isinstance(value, str | int | bool) else exact.dumps(value)[:200]
