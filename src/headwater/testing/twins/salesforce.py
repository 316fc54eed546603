"""A twin of Salesforce's REST interface: sign-in, collections, single upsert, query by external id, Bulk API 2.0.

Facts are those of Salesforce's published guides: a collection takes at most 200 records and answers 200 with a result per
record in order, even when records fail; no two records of a call may carry one external id; a single upsert answers 300 when
several records match; errors are lists of `{message, errorCode, fields}` (of `statusCode` inside a collection's results);
each answer says `Sforce-Limit-Info: api-usage=used/max`; above that 403 REQUEST_LIMIT_EXCEEDED; a Bulk job is created, gets
CSV, is closed by UploadComplete, and has three results, of which rows may be unordered.
"""

import csv
import io
import itertools
import json
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs

from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import BaseRoute, Route

from headwater.testing.twins.serving import Fault, Twin

MOST_RECORDS = 200
_QUERY = re.compile(r"SELECT\s+(.+?)\s+FROM\s+(\w+)\s+WHERE\s+(\w+)\s+IN\s+\((.*)\)", re.IGNORECASE | re.DOTALL)


@dataclass(frozen=True)
class FieldOf:
    """A field of an object: `kind` is text, number, boolean, date or datetime; `length` bounds text."""

    kind: str = "text"
    length: int = 255
    required: bool = False
    external_id: bool = False


def lead_fields() -> dict[str, FieldOf]:
    """The fields of a Lead that leads of a shop use, with those that the shop adds."""
    return {
        "FirstName": FieldOf(length=40),
        "LastName": FieldOf(length=80, required=True),
        "Company": FieldOf(required=True),
        "Email": FieldOf(length=80),
        "Phone": FieldOf(length=40),
        "Country": FieldOf(length=80),
        "LeadSource": FieldOf(),
        "Person_Id__c": FieldOf(external_id=True),
        "MQL_Score__c": FieldOf("number"),
        "MQL_Status__c": FieldOf(),
        "Last_Event_At__c": FieldOf("datetime"),
    }


@dataclass
class Job:
    """A Bulk job."""

    id: str
    kind: str
    external: str
    state: str = "Open"
    content: str = ""
    done: list[dict[str, str]] = field(default_factory=list)
    failed: list[dict[str, str]] = field(default_factory=list)
    unprocessed: list[dict[str, str]] = field(default_factory=list)
    looks: int = 0


@dataclass
class Salesforce(Twin):
    """The twin. `objects` are the fields per object; `records` what stands there: object → record id → fields.

    `locked`: external ids whose record is locked for the next so many tries. `duplicates`: external ids that a duplicate rule
    stops. `quota`: calls a day. `unprocessed`: how many rows at the end of the next Bulk job it does not come to.
    """

    title = "Salesforce"
    client_id: str = "twin-app"
    client_secret: str = "twin-secret"  # noqa: S105 (a local twin's)
    objects: dict[str, dict[str, FieldOf]] = field(default_factory=lambda: {"Lead": lead_fields()})
    quota: int = 100_000
    page_lines: int = 50_000
    locked: dict[str, int] = field(default_factory=dict)
    duplicates: set[str] = field(default_factory=set)
    unprocessed: int = 0
    used: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        taken = [int(id_[-11:]) for held in self.records.values() for id_ in held]
        self._numbers = itertools.count(max(taken, default=0) + 1)
        self._session = "00Dtwin!1"
        self._jobs: dict[str, Job] = {}

    def expire(self) -> None:
        """End the session that was given out."""
        self._session = f"00Dtwin!{int(self._session.partition('!')[2]) + 1}"

    def _routes(self) -> list[BaseRoute]:
        data = "/services/data/v{version}"
        every: list[tuple[str, Callable[[Request, bytes, Fault], Response], list[str]]] = [
            ("/composite/sobjects/{kind}/{external}", self._upsert_all, ["PATCH"]),
            ("/composite/sobjects", self._delete_all, ["DELETE"]),
            ("/sobjects/{kind}/{external}/{value}", self._upsert_one, ["PATCH"]),
            ("/query", self._query, ["GET"]),
            ("/jobs/ingest", self._open_job, ["POST"]),
            ("/jobs/ingest/{job}", self._job, ["GET", "PATCH"]),
            ("/jobs/ingest/{job}/batches", self._upload, ["PUT"]),
            ("/jobs/ingest/{job}/{result}/", self._results, ["GET"]),
        ]
        routes: list[BaseRoute] = [
            Route(data + path, self._endpoint(work), methods=verbs) for path, work, verbs in every
        ]
        return [Route("/services/oauth2/token", self._token, methods=["POST"]), *routes]

    # ------------------------------------------------------------------ one call

    async def _token(self, request: Request) -> Response:
        form = parse_qs((await request.body()).decode())
        given = {name: values[0] for name, values in form.items()}
        if given.get("grant_type") != "client_credentials":
            return JSONResponse(
                {"error": "unsupported_grant_type", "error_description": "grant type not supported"}, 400
            )
        if (given.get("client_id"), given.get("client_secret")) != (self.client_id, self.client_secret):
            return JSONResponse({"error": "invalid_client", "error_description": "invalid client credentials"}, 401)
        return JSONResponse(
            {
                "access_token": self._session,
                "instance_url": f"{request.url.scheme}://{request.url.netloc}",
                "token_type": "Bearer",
            }
        )

    def _admitted(self, request: Request, fault: Fault) -> Response | None:
        if fault == "expired":
            self.expire()
        if request.headers.get("authorization") != f"Bearer {self._session}":
            return _error(401, "Session expired or invalid", "INVALID_SESSION_ID")
        if self.used >= self.quota:
            return _error(403, "TotalRequests Limit exceeded.", "REQUEST_LIMIT_EXCEEDED")
        self.used += 1
        return None

    def _broken(self, fault: Fault) -> Response:
        if fault == "busy":
            return _error(503, "try again", "SERVER_UNAVAILABLE")
        return _error(500, "an unexpected error occurred", "UNKNOWN_EXCEPTION")

    def _mute(self) -> Response:
        return JSONResponse([])

    def _counted(self, answer: Response) -> Response:
        answer.headers["Sforce-Limit-Info"] = f"api-usage={self.used}/{self.quota}"
        return answer

    # ------------------------------------------------------------------ collections, single upsert, query

    def _upsert_all(self, request: Request, body: bytes, fault: Fault) -> Response:
        kind, external = request.path_params["kind"], request.path_params["external"]
        problem = self._unknown(kind, external)
        if problem is not None:
            return problem
        try:
            sent = json.loads(body)
            records, whole = sent["records"], sent.get("allOrNone", False)
        except (ValueError, KeyError, TypeError):
            return _error(400, "Unexpected character or missing `records`", "JSON_PARSER_ERROR")
        if len(records) > MOST_RECORDS:
            return _error(
                400,
                "record limit reached. cannot submit more than 200 records in this operation",
                "EXCEEDED_MAX_SIZE_REQUEST",
            )
        if any((one.get("attributes") or {}).get("type") != kind for one in records):
            return _error(400, "Object type in attributes does not match the resource", "INVALID_INPUT")
        if fault == "partial":
            self.locked |= {str(one.get(external)): 1 for one in records[::3]}
        ids = [str(one.get(external)) for one in records]
        repeated = {one for one, number in Counter(ids).items() if number > 1}
        saved = request.headers.get("sforce-duplicate-rule-header") == "allowSave=true"
        checked = [
            (one, [_row_error("DUPLICATE_VALUE", f"duplicate external id specified: {number}", [external])])
            if number in repeated
            else (one, self._errors(kind, external, one, allow_duplicates=saved))
            for one, number in zip(records, ids, strict=True)
        ]
        if whole and any(errors for _, errors in checked):
            rolled = [
                _row_error(
                    "ALL_OR_NONE_OPERATION_ROLLED_BACK", "Record rolled back because not all records were valid", []
                )
            ]
            return JSONResponse([{"success": False, "errors": errors or rolled} for _, errors in checked])
        results = []
        for one, errors in checked:
            if errors:
                results.append({"success": False, "errors": errors})
            else:
                record, created = self._write(kind, external, one)
                results.append({"id": record["Id"], "success": True, "created": created, "errors": []})
        return JSONResponse(results)

    def _upsert_one(self, request: Request, body: bytes, _fault: Fault) -> Response:
        kind, external, value = (request.path_params[name] for name in ("kind", "external", "value"))
        problem = self._unknown(kind, external)
        if problem is not None:
            return problem
        matches = self._find(kind, external, value)
        if len(matches) > 1:
            return JSONResponse([f"/services/data/sobjects/{kind}/{one['Id']}" for one in matches], 300)
        sent = {**json.loads(body), external: value}
        errors = self._errors(kind, external, sent, allow_duplicates=False)
        if errors:
            first = errors[0]
            return _error(400, first["message"], first["statusCode"], first["fields"])
        record, created = self._write(kind, external, sent)
        return JSONResponse(
            {"id": record["Id"], "success": True, "created": created, "errors": []}, 201 if created else 200
        )

    def _delete_all(self, request: Request, _body: bytes, _fault: Fault) -> Response:
        ids = [one for one in request.query_params.get("ids", "").split(",") if one]
        if not ids or len(ids) > MOST_RECORDS:
            return _error(400, "give 1 to 200 ids", "INVALID_INPUT")
        results = []
        for number in ids:
            kind = next((kind for kind, held in self.records.items() if number in held), None)
            if kind is None:
                gone = _row_error("ENTITY_IS_DELETED", "entity is deleted", [])
                results.append({"id": number, "success": False, "errors": [gone]})
            else:
                del self.records[kind][number]
                self._keep(kind, number)
                results.append({"id": number, "success": True, "errors": []})
        return JSONResponse(results)

    def _query(self, request: Request, _body: bytes, _fault: Fault) -> Response:
        found = _QUERY.fullmatch(request.query_params.get("q", "").strip())
        if found is None or found[2] not in self.objects:
            return _error(400, "unexpected token, or an unknown object", "MALFORMED_QUERY")
        values = {re.sub(r"\\(.)", r"\1", value) for value in re.findall(r"'((?:[^'\\]|\\.)*)'", found[4])}
        columns = [column.strip() for column in found[1].split(",")]
        rows = [one for one in self.records.get(found[2], {}).values() if str(one.get(found[3])) in values]
        shown = [{"attributes": {"type": found[2]}, **{name: row.get(name) for name in columns}} for row in rows]
        return JSONResponse({"totalSize": len(shown), "done": True, "records": shown})

    # ------------------------------------------------------------------ Bulk API 2.0

    def _open_job(self, _request: Request, body: bytes, _fault: Fault) -> Response:
        sent = json.loads(body)
        problem = self._unknown(sent.get("object", ""), sent.get("externalIdFieldName", ""))
        if problem is not None:
            return problem
        if sent.get("operation") != "upsert" or sent.get("contentType") != "CSV":
            return _error(400, "the twin knows upsert of CSV", "INVALIDJOB")
        job = Job(f"750twin{next(self._numbers):011d}", sent["object"], sent["externalIdFieldName"])
        self._jobs[job.id] = job
        return JSONResponse(
            {"id": job.id, "state": job.state, "object": job.kind, "contentUrl": f"jobs/ingest/{job.id}/batches"}
        )

    def _upload(self, request: Request, body: bytes, _fault: Fault) -> Response:
        job = self._jobs.get(request.path_params["job"])
        if job is None or job.state != "Open":
            return _error(409, "the job does not take content any more", "INVALIDJOBSTATE")
        if not request.headers.get("content-type", "").startswith("text/csv"):
            return _error(415, "content type must be text/csv", "INVALID_CONTENT_TYPE")
        job.content = body.decode()
        return Response(status_code=201)

    def _job(self, request: Request, body: bytes, _fault: Fault) -> Response:
        job = self._jobs.get(request.path_params["job"])
        if job is None:
            return _error(404, "no such job", "NOT_FOUND")
        if request.method == "PATCH":
            wanted = json.loads(body).get("state")
            if wanted != "UploadComplete" or job.state != "Open":
                return _error(400, f"the job is {job.state}", "INVALIDJOBSTATE")
            job.state = "UploadComplete"
        else:
            job.looks += 1
            if job.state == "InProgress":
                self._process(job)
            elif job.state == "UploadComplete":
                job.state = "InProgress"
        return JSONResponse({"id": job.id, "state": job.state})

    def _process(self, job: Job) -> None:
        rows = list(csv.DictReader(io.StringIO(job.content)))
        come_to = len(rows) - min(self.unprocessed, len(rows))
        self.unprocessed = 0
        for row in rows[:come_to]:
            sent = {name: None if value == "#N/A" else value for name, value in row.items() if value != ""}
            errors = self._errors(job.kind, job.external, sent, allow_duplicates=False)
            if errors:
                said = f"{errors[0]['statusCode']}:{errors[0]['message']}:{','.join(errors[0]['fields'])} --"
                job.failed.append({"sf__Id": "", "sf__Error": said, **row})
            else:
                record, created = self._write(job.kind, job.external, sent)
                job.done.append({"sf__Id": record["Id"], "sf__Created": str(created).lower(), **row})
        job.done.reverse()
        job.unprocessed = rows[come_to:]
        job.state = "JobComplete" if come_to == len(rows) else "Failed"

    def _results(self, request: Request, _body: bytes, _fault: Fault) -> Response:
        job = self._jobs.get(request.path_params["job"])
        named = {"successfulResults": "done", "failedResults": "failed", "unprocessedrecords": "unprocessed"}
        result = named.get(request.path_params["result"])
        if job is None or result is None:
            return _error(404, "no such result", "NOT_FOUND")
        if job.state not in ("JobComplete", "Failed", "Aborted"):
            return _error(400, "the job is not finished", "INVALIDJOBSTATE")
        rows = getattr(job, result)
        start = int(request.query_params.get("locator", "0"))
        columns = list(rows[0]) if rows else ["sf__Id", "sf__Error", job.external]
        out = io.StringIO()
        writer = csv.DictWriter(out, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows[start : start + self.page_lines])
        after = start + self.page_lines
        return PlainTextResponse(
            out.getvalue(),
            headers={"Sforce-Locator": str(after) if after < len(rows) else "null"},
            media_type="text/csv",
        )

    # ------------------------------------------------------------------ records

    def _unknown(self, kind: str, external: str) -> Response | None:
        fields = self.objects.get(kind)
        if fields is None:
            return _error(404, "The requested resource does not exist", "NOT_FOUND")
        if external not in fields or not fields[external].external_id:
            return _error(
                404, f"Provided external ID field does not exist or is not accessible: {external}", "NOT_FOUND"
            )
        return None

    def _errors(
        self, kind: str, external: str, sent: dict[str, Any], *, allow_duplicates: bool
    ) -> list[dict[str, Any]]:
        fields = self.objects[kind]
        given = {name: value for name, value in sent.items() if name != "attributes"}
        unknown = sorted(set(given) - set(fields))
        if unknown:
            return [_row_error("INVALID_FIELD", f"No such column '{unknown[0]}' on sobject of type {kind}", unknown)]
        key = str(given.get(external) or "")
        if not key:
            return [_row_error("MISSING_ARGUMENT", f"{external} not specified", [external])]
        if self.locked.get(key, 0) > 0:
            self.locked[key] -= 1
            return [_row_error("UNABLE_TO_LOCK_ROW", "unable to obtain exclusive access to this record", [])]
        matches = self._find(kind, external, key)
        if len(matches) > 1:
            return [_row_error("DUPLICATE_EXTERNAL_ID", f"{external}: more than one record found", [external])]
        if matches and matches[0].get("IsConverted"):
            return [_row_error("CANNOT_UPDATE_CONVERTED_LEAD", "cannot reference converted lead", [])]
        if key in self.duplicates and not allow_duplicates:
            return [_row_error("DUPLICATES_DETECTED", "Use one of these records?", [])]
        after = {**(matches[0] if matches else {}), **given}
        missing = sorted(name for name, one in fields.items() if one.required and after.get(name) in (None, ""))
        if missing:
            return [
                _row_error("REQUIRED_FIELD_MISSING", f"Required fields are missing: [{', '.join(missing)}]", missing)
            ]
        for name, value in given.items():
            told = _unfit(name, value, fields[name])
            if told:
                return [told]
        return []

    def _write(self, kind: str, external: str, sent: dict[str, Any]) -> tuple[dict[str, Any], bool]:
        held = self.records.setdefault(kind, {})
        given = {name: value for name, value in sent.items() if name != "attributes"}
        found = self._find(kind, external, str(given[external]))
        record = found[0] if found else None
        created = record is None
        if record is None:
            number = f"00Qtwin{next(self._numbers):011d}"
            record = held[number] = {"Id": number}
        before = dict(record)
        for name, value in given.items():
            if value is None or value == "":
                record.pop(name, None)
            else:
                record[name] = value
        if created or record != before:
            self._keep(kind, record["Id"])
        return record, created


def _unfit(name: str, value: Any, kind: FieldOf) -> dict[str, Any] | None:
    if value is None:
        return None
    if kind.kind == "text" and len(str(value)) > kind.length:
        message = f"{name}: data value too large: {str(value)[:40]} (max length={kind.length})"
        return _row_error("STRING_TOO_LONG", message, [name])
    if kind.kind == "number" and not re.fullmatch(r"-?\d+(\.\d+)?", str(value)):
        return _row_error("INVALID_TYPE_ON_FIELD_IN_RECORD", f"{name}: value not of required type: {value}", [name])
    if kind.kind == "datetime" and not re.fullmatch(
        r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:?\d\d)", str(value)
    ):
        return _row_error("INVALID_TYPE_ON_FIELD_IN_RECORD", f"{name}: value not of required type: {value}", [name])
    if name == "Email" and "@" not in str(value):
        return _row_error("INVALID_EMAIL_ADDRESS", f"{name}: invalid email address: {value}", [name])
    return None


def _row_error(code: str, message: str, fields: list[str]) -> dict[str, Any]:
    return {"statusCode": code, "message": message, "fields": fields}


def _error(status: int, message: str, code: str, fields: list[str] | None = None) -> Response:
    said: dict[str, Any] = {"message": message, "errorCode": code}
    return JSONResponse([said | ({"fields": fields} if fields else {})], status)
