"""Leads, opportunities and other objects of Salesforce."""

import csv
import io
import re
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from math import ceil
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import quote, urlencode

from pydantic import Field

from headwater.activation import exact
from headwater.activation.destinations import options as checked
from headwater.activation.destinations.base import (
    BaseDestination,
    Batch,
    CallFailed,
    Later,
    Limits,
    Operation,
    Rejected,
    Result,
    Unusable,
)
from headwater.activation.destinations.http import PERHAPS_DONE, Answer, Caller
from headwater.settings import Settings

COLLECTION_ROWS = 200
BULK_ROWS = 10_000
"""Rows of one Bulk job: well below the 150 MB of a job, and few enough that a claim fits into memory."""
_AGAIN = frozenset(
    {"UNABLE_TO_LOCK_ROW", "SERVER_UNAVAILABLE", "QUERY_TIMEOUT", "REQUEST_RUNNING_TOO_LONG", "UNKNOWN_EXCEPTION"}
)
_FIELD = re.compile(r"[A-Za-z][A-Za-z0-9_]*")


class SalesforceOptions(Settings):
    login_url: Annotated[
        str,
        Field(description="address of your domain, or of a twin; the token comes from there", pattern=r"^https?://"),
    ]
    client_id_env: Annotated[str, Field(description="environment variable with the external client app's key")] = (
        "SALESFORCE_CLIENT_ID"
    )
    client_secret_env: Annotated[str, Field(description="environment variable with its secret")] = (
        "SALESFORCE_CLIENT_SECRET"  # noqa: S105 (a name, not a value)
    )
    object: Annotated[str, Field(description="Lead, Contact, Opportunity, or a custom object", pattern=_FIELD.pattern)]
    external_id: Annotated[
        str, Field(description="external id field that the sync's key fills, e.g. Person_Id__c", pattern=_FIELD.pattern)
    ]
    removal: Annotated[
        dict[str, Any] | Literal["delete"],
        Field(description="fields that a row gets when it leaves the model, or `delete`"),
    ] = "delete"
    api_version: Annotated[str, Field(description="version of the interface", pattern=r"^\d+\.\d$")] = "64.0"
    bulk_above: Annotated[int, Field(ge=0, description="from more rows on than this a run uses Bulk API 2.0")] = 2_000
    quota_share: Annotated[
        float, Field(gt=0, le=1, description="stop when so much of the organisation's daily calls is used")
    ] = 0.80
    allow_duplicates: Annotated[
        bool, Field(description="save in spite of duplicate rules (Sforce-Duplicate-Rule-Header: allowSave)")
    ] = False
    poll_seconds: Annotated[float, Field(gt=0, description="pause between two looks at a Bulk job, seconds")] = 2
    job_seconds: Annotated[float, Field(gt=0, description="longest wait for a Bulk job, seconds")] = 600
    timeout_seconds: Annotated[float, Field(gt=0, description="longest wait for an answer, seconds")] = 60


class Salesforce(BaseDestination):
    """Upserts records by an external id: 200 a call, or by Bulk API 2.0 when a run has more than `bulk_above` rows.

    Guarantee: at least once. A row is confirmed by Salesforce's own answer for it: in order for collections, by external id
    among the successful rows of a Bulk job (failed and unprocessed rows are read too, and tried again where that can help).
    Idempotency: an upsert by external id sets the same values again. Several records with one external id are Salesforce's
    MULTIPLE_CHOICES: nothing was written, the row fails.
    Limits: 200 rows a call, no two with one external id; 10,000 rows a Bulk job. Each answer says how much of the
    organisation's daily calls is used: at `quota_share` the sync stops, and its rows stay ready. A removal with `delete` takes
    two calls, since Salesforce deletes only by its own id.
    Values: a null clears the field (`#N/A` in Bulk), a field that is absent is not touched; decimals keep all their digits;
    moments are ISO 8601 UTC.
    Removals: a record is deleted, or gets the fields of `removal`, e.g. `{MQL_Status__c: Lapsed}`, which is what leads need.
    Sign-in: OAuth 2.0 client credentials of an external client app; a session that ends is renewed once per call.
    Permissions of its user: API Enabled; read, create and edit (and delete) on the object; edit on the fields.
    What the answers mean: UNABLE_TO_LOCK_ROW, 500 and 503 are tried again; REQUEST_LIMIT_EXCEEDED, 403 and 404 stop the sync;
    errors of a row (REQUIRED_FIELD_MISSING, STRING_TOO_LONG, DUPLICATES_DETECTED …) are final for it.
    """

    def __init__(self, name: str, options: Mapping[str, Any], *, folder: Path, environment: Mapping[str, str]) -> None:
        super().__init__(name, options, folder=folder, environment=environment)
        self.settings = checked.read(SalesforceOptions, name, options)
        self.limits = Limits(COLLECTION_ROWS)
        self._bulk = False
        self._caller: Caller | None = None
        self._token = self._instance = ""
        self._used = 0.0
        self._signing_in = threading.Lock()

    @property
    def place(self) -> str:
        """The domain, and the object."""
        return f"{self.settings.login_url.rstrip('/')} {self.settings.object}"

    def expect(self, rows: int) -> None:
        """Above `bulk_above` rows the run goes by Bulk API 2.0."""
        self._bulk = rows > self.settings.bulk_above
        self.limits = Limits(BULK_ROWS if self._bulk else COLLECTION_ROWS)

    def calls(self, writes: int, removals: int) -> int:
        """A call per 200 rows, two where they are deleted; a Bulk job takes six and one more per look at it."""
        fields = isinstance(self.settings.removal, dict)
        written, deleted = ([writes, removals], 0) if fields else ([writes], removals)
        calls, rows = (7, BULK_ROWS) if self._bulk else (1, COLLECTION_ROWS)
        return calls * sum(ceil(some / rows) for some in written) + 2 * ceil(deleted / COLLECTION_ROWS)

    def quota(self) -> str:
        """Salesforce counts the organisation's calls in 24 hours."""
        return (
            f"they count for the organisation's day; the sync stops when {self.settings.quota_share:.0%} of it is used"
        )

    @property
    def secrets(self) -> Sequence[str]:
        """Key, secret and session, once they were read."""
        names = (self.settings.client_id_env, self.settings.client_secret_env)
        values = [self.environment.get(name, "") for name in names] if self._caller else []
        return [value for value in (*values, self._token) if value]

    def open(self) -> None:
        """Sign in. Raises Unusable when the credentials are not set or are refused."""
        missing = [
            name
            for name in (self.settings.client_id_env, self.settings.client_secret_env)
            if not self.environment.get(name)
        ]
        if missing:
            raise Unusable(
                "SECRET_MISSING",
                f"the environment has no {', '.join(missing)}",
                advice="make an external client app with the client credentials flow and set its key and secret",
            )
        self._caller = Caller("Salesforce", timeout_seconds=self.settings.timeout_seconds, concurrency=2)
        try:
            self._sign_in()
        except Later:
            self._token = ""  # nobody answered: the first call tries again

    def close(self) -> None:
        """Close the connections."""
        if self._caller is not None:
            self._caller.close()
            self._caller = None
        self._token = ""

    def deliver(self, batch: Batch) -> Sequence[Result]:
        """The rows by one collections call or one Bulk job; removals that delete by two more calls."""
        self._check_quota()
        removed = [row for row in batch.operations if row.operation == "delete"]
        removal = self.settings.removal
        written = [(row, dict(row.fields)) for row in batch.operations if row.operation != "delete"]
        if isinstance(removal, dict):
            written += [(row, removal) for row in removed]
            removed = []
        results: dict[str, Result] = {}
        if written:
            send = self._job if self._bulk else self._collection
            results |= {result.operation_id: result for result in send(written)}
        for start in range(0, len(removed), COLLECTION_ROWS):
            some = removed[start : start + COLLECTION_ROWS]
            try:
                if results:
                    self.wait()
                results |= {result.operation_id: result for result in list(self._delete(some))}
            except CallFailed as error:
                if not results:
                    raise
                left = [
                    *self.undone(some, error),
                    *self.undone(removed[start + COLLECTION_ROWS :], error, tried=False),
                ]
                results |= {result.operation_id: result for result in left}
                break
        return [results[row.operation_id] for row in batch.operations]

    # ------------------------------------------------------------------ collections

    def _collection(self, rows: Sequence[tuple[Operation, Mapping[str, Any]]]) -> Iterator[Result]:
        kind, external = self.settings.object, self.settings.external_id
        records = [
            {"attributes": {"type": kind}, **_without(fields, external), external: row.key} for row, fields in rows
        ]
        answer = self._call("PATCH", f"/composite/sobjects/{kind}/{external}", {"allOrNone": False, "records": records})
        told = answer.document if isinstance(answer.document, list) else None
        if told is None or len(told) != len(rows):
            raise Later(
                "NOT_ANSWERED",
                f"expected {len(rows)} results, found {answer.words[:80]!r}",
                in_doubt=True,
                response=answer.kept,
            )
        for (row, _), one in zip(rows, told, strict=True):
            yield _result(row, one.get("success") is True, one.get("errors") or [], str(one.get("id") or ""))

    def _delete(self, rows: Sequence[Operation]) -> Iterator[Result]:
        kind, external = self.settings.object, self.settings.external_id
        listed = ", ".join("'" + row.key.replace("\\", "\\\\").replace("'", "\\'") + "'" for row in rows)
        found = self._call(
            "GET", f"/query?{urlencode({'q': f'SELECT Id, {external} FROM {kind} WHERE {external} IN ({listed})'})}"
        )
        records = found.document.get("records") if isinstance(found.document, dict) else None
        if not isinstance(records, list):  # what is not found counts as removed, so that it must be said
            raise Later("NOT_ANSWERED", "Salesforce did not say which of the records are there", response=found.kept)
        ids = {str(one[external]): str(one["Id"]) for one in records}
        told: dict[str, Mapping[str, Any]] = {}
        if ids:
            self.wait()
            answer = self._call(
                "DELETE", f"/composite/sobjects?{urlencode({'ids': ','.join(ids.values()), 'allOrNone': 'false'})}"
            )
            told = dict(zip(ids, answer.document, strict=False)) if isinstance(answer.document, list) else {}
        for row in rows:
            one = told.get(row.key)
            errors = [] if one is None else one.get("errors") or []
            gone = any(error.get("statusCode") == "ENTITY_IS_DELETED" for error in errors)
            if row.key in ids and one is None:
                yield Result(
                    row.operation_id, "retry", "NOT_ANSWERED", "Salesforce said nothing of this row", in_doubt=True
                )
            else:
                yield _result(row, one is None or gone or one.get("success") is True, errors)

    # ------------------------------------------------------------------ Bulk API 2.0

    def _job(self, rows: Sequence[tuple[Operation, Mapping[str, Any]]]) -> Iterator[Result]:
        kind, external = self.settings.object, self.settings.external_id
        made = self._call(
            "POST",
            "/jobs/ingest",
            {
                "object": kind,
                "externalIdFieldName": external,
                "operation": "upsert",
                "contentType": "CSV",
                "lineEnding": "LF",
            },
        )
        job = f"/jobs/ingest/{_said(made, 'id', in_doubt=False)}"
        self.wait()
        self._call("PUT", f"{job}/batches", _csv(rows, external), kind="text/csv")
        self.wait()
        self._call("PATCH", job, {"state": "UploadComplete"})
        state = self._finished(job)
        done = {line[external]: line["sf__Id"] for line in self._lines(f"{job}/successfulResults/")}
        failed = {line[external]: line["sf__Error"] for line in self._lines(f"{job}/failedResults/")}
        for row, _ in rows:
            if row.key in done:
                yield _result(row, True, [], done[row.key])
            elif row.key in failed:
                code, _, message = failed[row.key].partition(":")
                yield _result(row, False, [{"statusCode": code, "message": message.strip()}])
            else:
                yield Result(
                    row.operation_id,
                    "retry",
                    "UNPROCESSED",
                    f"the job ended as {state} and did not come to this row",
                    "the next run tries it again",
                )

    def _finished(self, job: str) -> str:
        """Wait for the job. Raises Later, in doubt, when it does not end in time."""
        until = time.monotonic() + self.settings.job_seconds
        while True:
            self.wait()
            state = _said(self._call("GET", job), "state", in_doubt=True)
            if state in ("JobComplete", "Failed", "Aborted"):
                return state
            if time.monotonic() > until:
                raise Later(
                    "JOB_RUNNING", f"the job is still {state} after {self.settings.job_seconds:.0f} s", in_doubt=True
                )
            self.answered()
            time.sleep(self.settings.poll_seconds)

    def _lines(self, path: str) -> Iterator[dict[str, str]]:
        """The lines of a result, page after page."""
        locator = ""
        while locator != "null":
            more = f"?locator={quote(locator)}" if locator else ""
            self.wait()
            answer = self._call("GET", path + more)
            yield from csv.DictReader(io.StringIO(answer.text))
            locator = answer.headers.get("Sforce-Locator", "null")

    # ------------------------------------------------------------------ one call

    def _call(self, method: str, path: str, body: Any = None, *, kind: str = "application/json") -> Answer:
        assert self._caller is not None, "open() comes before deliver()"
        content = b"" if body is None else body.encode() if isinstance(body, str) else exact.dumps(body).encode()
        for last in (False, True):
            token = self._token
            if not token:
                token = self._sign_in()
                self.wait()
            headers = {"Authorization": f"Bearer {token}", "User-Agent": "headwater", "Content-Type": kind}
            if self.settings.allow_duplicates:
                headers["Sforce-Duplicate-Rule-Header"] = "allowSave=true"
            address = f"{self._instance}/services/data/v{self.settings.api_version}{path}"
            answer = self._caller.call(method, address, headers, content)
            self._count(answer)
            if answer.status != 401 or last:
                break
            self.wait()
            self._sign_in(instead_of=token)
            self.wait()
        self._judge(answer)
        return answer

    def _sign_in(self, instead_of: str = "") -> str:
        """A session; another thread's new one is used as it is."""
        assert self._caller is not None
        with self._signing_in:
            if self._token and self._token != instead_of:
                return self._token
            form = {
                "grant_type": "client_credentials",
                "client_id": self.environment.get(self.settings.client_id_env, ""),
                "client_secret": self.environment.get(self.settings.client_secret_env, ""),
            }
            answer = self._caller.call(
                "POST",
                f"{self.settings.login_url.rstrip('/')}/services/oauth2/token",
                {"Content-Type": "application/x-www-form-urlencoded", "User-Agent": "headwater"},
                urlencode(form).encode(),
            )
            document = answer.document if isinstance(answer.document, dict) else {}
            if answer.status in (400, 401, 403):
                raise Unusable(
                    str(document.get("error") or answer.code),
                    str(document.get("error_description") or answer.words),
                    advice="mend the key and the secret, and let the app's client credentials flow run as a user",
                )
            if "access_token" not in document:
                raise Later(answer.code, f"no session: {answer.words[:200]}", retry_after=answer.retry_after)
            self._instance = str(document.get("instance_url") or self.settings.login_url).rstrip("/")
            self._token = str(document["access_token"])
            return self._token

    def _count(self, answer: Answer) -> None:
        used = re.search(r"api-usage=(\d+)/(\d+)", answer.headers.get("Sforce-Limit-Info", ""))
        if used and int(used[2]):
            self._used = int(used[1]) / int(used[2])

    def _check_quota(self) -> None:
        if self._used >= self.settings.quota_share:
            raise Unusable(
                "QUOTA",
                f"{self._used:.0%} of the organisation's daily calls is used; `quota_share` of {self.name!r} leaves the rest to others",
                advice="run again tomorrow, or raise `quota_share`",
            )

    def _judge(self, answer: Answer) -> None:
        """Raise unless the call as a whole was taken."""
        status, words, kept = answer.status, answer.words, answer.kept
        first = answer.document[0] if isinstance(answer.document, list) and answer.document else {}
        code = str(first.get("errorCode") or answer.code) if isinstance(first, dict) else answer.code
        if 200 <= status < 300:
            return
        if code == "REQUEST_LIMIT_EXCEEDED":
            raise Unusable(code, words, advice="the organisation's daily calls are used up; run again tomorrow")
        if code in _AGAIN or status in PERHAPS_DONE or status in (423, 429, 503):
            raise Later(code, words, retry_after=answer.retry_after, in_doubt=status in PERHAPS_DONE, response=kept)
        if status in (401, 403, 404, 405) or code in ("INVALID_TYPE", "NOT_FOUND"):
            raise Unusable(code, words, advice=_ADVICE.get(status, "mend `object`, `external_id` or the user's rights"))
        raise Rejected(code, words, advice="mend the row, or the mapping of the sync", response=kept)


_ADVICE = {
    401: "the session is refused again and again: look at the app's policies and the user it runs as",
    403: "give the user the rights to the object and its fields, and API Enabled",
    404: "mend `object`, `external_id` or `api_version`",
}
_ROW_ADVICE = {
    "DUPLICATES_DETECTED": "merge the records, change the duplicate rule, or say `allow_duplicates: true`",
    "REQUIRED_FIELD_MISSING": "give the field in the mapping, with a default like {company|Unknown}",
    "STRING_TOO_LONG": "shorten the field in the mapping, or lengthen it in Salesforce",
    "CANNOT_UPDATE_CONVERTED_LEAD": "the lead was converted; leave converted leads out with `where`",
    "MULTIPLE_CHOICES": "several records carry this external id: make it unique in Salesforce",
}


def _said(answer: Answer, name: str, *, in_doubt: bool) -> str:
    """A field of the answer about a job. Raises Later when it has none."""
    value = answer.document.get(name) if isinstance(answer.document, dict) else None
    if value is None:
        raise Later("NOT_ANSWERED", f"Salesforce did not say the job's {name}", in_doubt=in_doubt, response=answer.kept)
    return str(value)


def _result(row: Operation, done: bool, errors: Sequence[Mapping[str, Any]], record: str = "") -> Result:
    if done:
        return Result(row.operation_id, "done", remote_id=f"salesforce:{record}" if record else "")
    first = errors[0] if errors else {}
    code = str(first.get("statusCode") or first.get("errorCode") or "REFUSED")
    again = code in _AGAIN
    advice = _ROW_ADVICE.get(code, "mend the row, the mapping, or the field in Salesforce")
    return Result(
        row.operation_id,
        "retry" if again else "failed",
        code,
        str(first.get("message") or "Salesforce gave no reason"),
        "the next run tries it again" if again else advice,
        response=list(errors),
    )


def _without(fields: Mapping[str, Any], name: str) -> dict[str, Any]:
    return {field: value for field, value in fields.items() if field != name}


def _csv(rows: Sequence[tuple[Operation, Mapping[str, Any]]], external: str) -> str:
    """The rows as Bulk API 2.0 reads them: `#N/A` clears a field, an empty one is not touched."""
    columns = sorted({name for _, fields in rows for name in fields} - {external})
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow([external, *columns])
    for row, fields in rows:
        writer.writerow([row.key, *(_cell(fields[name]) if name in fields else "" for name in columns)])
    return out.getvalue()


def _cell(value: Any) -> str:
    if value is None or value == "":
        return "#N/A"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat()
    return value if isinstance(value, str) else exact.dumps(value)
