"""A twin of HubSpot's CRM objects interface (v3 and the dated form).

Facts are those of HubSpot's published reference: batch endpoints take at most 100 inputs; without `objectWriteTraceId` one
bad input refuses all of them with 400, with it on every input the answer is 207 with an error per bad input; ids in one
batch must differ; values are strings; unknown properties are refused; `lifecyclestage` does not go backward; 429 names its
policy. Rolling limit of 10 seconds, and a daily one.
"""

import itertools
import json
import re
import threading
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from headwater.testing.twins.serving import Faults, NoAnswer, Rolling, page

CONTACT_PROPERTIES: dict[str, str] = {
    "email": "string",
    "firstname": "string",
    "lastname": "string",
    "phone": "string",
    "company": "string",
    "city": "string",
    "state": "string",
    "country": "string",
    "zip": "string",
    "lifecyclestage": "enumeration",
    "hs_lead_status": "enumeration",
}
STAGES = (
    "subscriber",
    "lead",
    "marketingqualifiedlead",
    "salesqualifiedlead",
    "opportunity",
    "customer",
    "evangelist",
    "other",
)
MOST_INPUTS = 100
_EMAIL = re.compile(r"[^@\s]+@[^@\s.]+(\.[^@\s.]+)+")


@dataclass
class Record:
    """One object. `properties` as the interface gives them: all text."""

    id: str
    properties: dict[str, str]
    created_at: str
    updated_at: str
    archived: bool = False

    def shown(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "properties": dict(self.properties),
            "createdAt": self.created_at,
            "updatedAt": self.updated_at,
            "archived": self.archived,
        }


@dataclass
class HubSpot:
    """The twin. `token` is the private app's token; `properties` are those defined per object type, name to type.

    `writes` counts properties writes that changed a record; `limit` and `daily` refuse as HubSpot does. With `open_schema` a
    property is made when it is first written, which HubSpot itself does not do.
    """

    token: str = "pat-twin"  # noqa: S105 (a local twin's)
    properties: dict[str, dict[str, str]] = field(default_factory=lambda: {"contacts": dict(CONTACT_PROPERTIES)})
    unique: dict[str, str] = field(default_factory=lambda: {"contacts": "email"})
    limit: Rolling = field(default_factory=lambda: Rolling(190, 10.0))
    daily: int = 1_000_000
    now: Callable[[], datetime] = lambda: datetime.now(UTC)
    faults: Faults = field(default_factory=Faults)
    records: dict[str, dict[str, Record]] = field(default_factory=dict)
    refuse: dict[str, str] = field(default_factory=dict)
    calls: int = 0
    writes: int = 0
    echo: bool = False
    open_schema: bool = False

    def __post_init__(self) -> None:
        self._ids = itertools.count(101)
        self._lock = threading.Lock()

    def by(self, kind: str, unique: str) -> dict[str, Record]:
        """Records that are not archived, by the value of a property."""
        found = self.records.get(kind, {}).values()
        return {
            record.properties[unique]: record
            for record in found
            if not record.archived and record.properties.get(unique)
        }

    def app(self) -> Starlette:
        """The interface, and the page at `/`."""
        routes = [
            Route(f"{root}/{{kind}}/batch/{verb}", self._endpoint(work), methods=["POST"])
            for root in ("/crm/v3/objects", "/crm/objects/{version:str}")
            for verb, work in (("upsert", self._upsert), ("read", self._read), ("archive", self._archive))
        ]
        routes += [
            Route("/crm/v3/properties/{kind}", self._endpoint(self._define), methods=["GET", "POST"]),
            Route("/", self._page, methods=["GET"]),
        ]
        return Starlette(routes=routes)

    # ------------------------------------------------------------------ one call

    def _endpoint(self, work: Callable[[str, Any, str], tuple[int, Any]]) -> Callable[[Request], Any]:
        async def endpoint(request: Request) -> Response:
            body = await request.body()
            with self._lock:
                self.calls += 1
                if self.echo:
                    return JSONResponse({"status": "error", "message": f"{dict(request.headers)} {body!r}"}, 400)
                fault = self.faults.next()
                refused = self._admitted(request, fault)
                if refused is not None:
                    return refused
                if fault == "hang_up":
                    return NoAnswer()
                if fault == "broken":
                    return _error(500, "internal error", "INTERNAL_ERROR")
                try:
                    sent = json.loads(body) if body else None
                except ValueError:
                    return _error(400, "Invalid input JSON", "VALIDATION_ERROR")
                status, answer = work(request.path_params["kind"], sent, request.method)
            if fault == "write_then_hang_up":
                return NoAnswer()
            if fault == "write_then_broken":
                return _error(502, "bad gateway", "INTERNAL_ERROR")
            if fault == "garbage":
                return Response("<html>we are upgrading</html>", media_type="text/html")
            if fault == "mute":
                answer = {"status": "COMPLETE", "results": []}
            return Response(status_code=status) if answer is None else JSONResponse(answer, status)

        return endpoint

    def _admitted(self, request: Request, fault: str) -> Response | None:
        if fault == "expired" or request.headers.get("authorization") != f"Bearer {self.token}":
            return _error(401, "Authentication credentials not found or no longer valid", "INVALID_AUTHENTICATION")
        if fault == "busy" or not self.limit.admit():
            return _limited("You have reached your ten_secondly_rolling limit.", "TEN_SECONDLY_ROLLING")
        if len(self.limit.passed) > self.daily:
            return _limited("You have reached your daily limit.", "DAILY")
        return None

    async def _page(self, _request: Request) -> Response:
        return page(
            "HubSpot twin",
            {
                kind: [{"id": record.id, **record.properties} for record in held.values() if not record.archived]
                for kind, held in self.records.items()
            },
        )

    # ------------------------------------------------------------------ the endpoints

    def _upsert(self, kind: str, sent: Any, _method: str) -> tuple[int, Any]:
        started = self._stamp()
        inputs, problem = self._inputs(kind, sent)
        if problem:
            return 400, problem
        traced = all(one.get("objectWriteTraceId") for one in inputs)
        checked = [(one, self._problem(kind, one)) for one in inputs]
        bad = [(one, told) for one, told in checked if told]
        if bad and not traced:
            return 400, _said(*bad[0][1])
        results = [self._write(kind, one) for one, told in checked if not told]
        answer: dict[str, Any] = {
            "status": "COMPLETE",
            "results": results,
            "startedAt": started,
            "completedAt": self._stamp(),
        }
        if not bad:
            return 200, answer
        answer["numErrors"] = len(bad)
        answer["errors"] = [
            {
                "status": "error",
                "category": category,
                "message": message,
                "context": {"objectWriteTraceId": [one["objectWriteTraceId"]]},
            }
            for one, (message, category) in bad
        ]
        return 207, answer

    def _inputs(self, kind: str, sent: Any) -> tuple[list[dict[str, Any]], Any]:
        if kind not in self.properties:
            return [], _said(f"Unable to infer object type from: {kind}", "VALIDATION_ERROR")
        inputs = sent.get("inputs") if isinstance(sent, dict) else None
        if not isinstance(inputs, list) or not all(isinstance(one, dict) for one in inputs):
            return [], _said("Invalid input JSON: `inputs` must be a list of objects", "VALIDATION_ERROR")
        if len(inputs) > MOST_INPUTS:
            return [], _said(
                f"The maximum number of inputs supported in a batch request is {MOST_INPUTS}", "VALIDATION_ERROR"
            )
        missing = [one for one in inputs if not isinstance(one.get("id"), str) or not one["id"]]
        if missing:
            return [], _said("Some required fields were not set: [id]", "VALIDATION_ERROR")
        ids = [one["id"] for one in inputs]
        if len(set(ids)) < len(ids):
            return [], _said("Duplicate IDs found in batch input", "VALIDATION_ERROR")
        return inputs, None

    def _problem(self, kind: str, one: dict[str, Any]) -> tuple[str, str] | None:
        unique = one.get("idProperty") or "hs_object_id"
        if unique not in (self.unique.get(kind), "hs_object_id"):
            return f"Property {unique} is not a unique identifier of {kind}", "VALIDATION_ERROR"
        if one["id"] in self.refuse:
            return self.refuse[one["id"]], "VALIDATION_ERROR"
        values = one.get("properties") or {}
        for name, value in values.items():
            if self.open_schema:
                self.properties[kind].setdefault(name, "string")
            if name not in self.properties[kind]:
                return f'Property values were not valid: Property "{name}" does not exist', "VALIDATION_ERROR"
            if not isinstance(value, str):
                return f"Invalid input JSON: property {name} must be text", "VALIDATION_ERROR"
            told = _unfit(name, value, self.properties[kind][name])
            if told:
                return f"Property values were not valid: {told}", "VALIDATION_ERROR"
        if unique == "email" and not _EMAIL.fullmatch(one["id"]):
            return f"Property values were not valid: Email address {one['id']} is invalid", "VALIDATION_ERROR"
        return None

    def _write(self, kind: str, one: dict[str, Any]) -> dict[str, Any]:
        unique = one.get("idProperty") or "hs_object_id"
        held = self.records.setdefault(kind, {})
        key = one["id"].lower() if unique == "email" else one["id"]
        record = held.get(key) if unique == "hs_object_id" else self.by(kind, unique).get(key)
        new = record is None
        if record is None:
            number = str(next(self._ids))
            record = held[number] = Record(number, {unique: key}, self._stamp(), self._stamp())
        before = dict(record.properties)
        for name, given in (one.get("properties") or {}).items():
            value = given.lower() if name == "email" else given
            if name == "lifecyclestage" and _backward(before.get(name, ""), value):
                continue
            if value == "":
                record.properties.pop(name, None)
            else:
                record.properties[name] = value
        if new or before != record.properties:
            self.writes += 1
            record.updated_at = self._stamp()
        shown = {**record.shown(), "new": new}
        if one.get("objectWriteTraceId"):
            shown["objectWriteTraceId"] = one["objectWriteTraceId"]
        return shown

    def _read(self, kind: str, sent: Any, _method: str) -> tuple[int, Any]:
        inputs, problem = self._inputs(kind, sent)
        if problem:
            return 400, problem
        unique = sent.get("idProperty") or "hs_object_id"
        held = (
            {record.id: record for record in self.records.get(kind, {}).values() if not record.archived}
            if unique == "hs_object_id"
            else self.by(kind, unique)
        )
        keys = [one["id"].lower() if unique == "email" else one["id"] for one in inputs]
        found = [held[key].shown() for key in keys if key in held]
        answer = {"status": "COMPLETE", "results": found, "startedAt": self._stamp(), "completedAt": self._stamp()}
        absent = [key for key in keys if key not in held]
        if not absent:
            return 200, answer
        error = {
            "status": "error",
            "category": "OBJECT_NOT_FOUND",
            "message": f"Could not get some {kind.upper()} objects, they may be deleted or not exist.",
            "context": {"ids": absent},
        }
        return 207, {**answer, "numErrors": 1, "errors": [error]}

    def _archive(self, kind: str, sent: Any, _method: str) -> tuple[int, Any]:
        inputs, problem = self._inputs(kind, sent)
        if problem:
            return 400, problem
        for one in inputs:
            record = self.records.get(kind, {}).get(one["id"])
            if record is not None and not record.archived:
                record.archived = True
                self.writes += 1
        return 204, None

    def _define(self, kind: str, sent: Any, method: str) -> tuple[int, Any]:
        known = self.properties.setdefault(kind, {})
        if method == "GET":
            return 200, {"results": [{"name": name, "type": type_} for name, type_ in known.items()]}
        if sent["name"] in known:
            return 409, _said(f"A property named '{sent['name']}' already exists.", "OBJECT_ALREADY_EXISTS")
        known[sent["name"]] = sent.get("type", "string")
        return 201, {"name": sent["name"], "type": known[sent["name"]]}

    def _stamp(self) -> str:
        return self.now().strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"


def _unfit(name: str, value: str, kind: str) -> str | None:
    if value == "":
        return None
    if name == "email" and not _EMAIL.fullmatch(value):
        return f"Email address {value} is invalid"
    if kind == "number" and not re.fullmatch(r"-?\d+(\.\d+)?", value):
        return f"{value} was not a valid number."
    if kind == "bool" and value not in ("true", "false"):
        return f"{value} was not one of the allowed options: [true, false]"
    if kind == "date" and (not re.fullmatch(r"-?\d+", value) or int(value) % 86_400_000):
        return f"{value} is not midnight UTC, in milliseconds"
    if kind == "datetime" and not re.fullmatch(r"-?\d+|\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z", value):
        return f"{value} was not a valid long."
    if name == "lifecyclestage" and value not in STAGES:
        return f"{value} was not one of the allowed options: {list(STAGES)}"
    return None


def _backward(before: str, after: str) -> bool:
    return before in STAGES and after in STAGES and STAGES.index(after) < STAGES.index(before)


def _said(message: str, category: str) -> dict[str, str]:
    return {"status": "error", "message": message, "correlationId": str(uuid.uuid4()), "category": category}


def _error(status: int, message: str, category: str) -> Response:
    return JSONResponse(_said(message, category), status)


def _limited(message: str, policy: str) -> Response:
    said = {"status": "error", "message": message, "errorType": "RATE_LIMIT", "correlationId": str(uuid.uuid4())}
    return JSONResponse({**said, "policyName": policy}, 429)
