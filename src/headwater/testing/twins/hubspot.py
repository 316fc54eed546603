"""A twin of HubSpot's CRM objects interface (v3 and the dated form).

Facts are those of HubSpot's published reference: batch endpoints take at most 100 inputs; without `objectWriteTraceId` one
bad input refuses all of them with 400, with it on every input the answer is 207 with an error per bad input; ids in one
batch must differ; values are strings; unknown properties are refused; `lifecyclestage` does not go backward; 429 names its
policy. Rolling limit of 10 seconds, and a daily one.
"""

import itertools
import json
import re
import uuid
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from headwater.testing.twins.serving import Fault, Rolling, Twin

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
_NOT_NOW = ("Something went wrong on our side", "INTERNAL_ERROR")
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
class HubSpot(Twin):
    """The twin. `token` is the private app's token; `properties` are those defined per object type, name to type.

    `limit` and `daily` refuse as HubSpot does; `refuse` are ids with the words that refuse them. With `open_schema` an object
    type or a property is made when it is first written, which HubSpot itself does not do.
    """

    title = "HubSpot"
    token: str = "pat-twin"  # noqa: S105 (a local twin's)
    properties: dict[str, dict[str, str]] = field(default_factory=lambda: {"contacts": dict(CONTACT_PROPERTIES)})
    unique: dict[str, str] = field(default_factory=lambda: {"contacts": "email"})
    limit: Rolling = field(default_factory=lambda: Rolling(190, 10.0))
    daily: int = 1_000_000
    now: Callable[[], datetime] = lambda: datetime.now(UTC)
    refuse: dict[str, str] = field(default_factory=dict)
    open_schema: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        taken = [int(id_) for held in self.records.values() for id_ in held]
        self._ids = itertools.count(max(taken, default=100) + 1)

    def _routes(self) -> list[BaseRoute]:
        routes = [
            Route(f"{root}/{{kind}}/batch/{verb}", self._endpoint(self._json(work)), methods=["POST"])
            for root in ("/crm/v3/objects", "/crm/objects/{version:str}")
            for verb, work in (("upsert", self._upsert), ("read", self._read), ("archive", self._archive))
        ]
        define = Route("/crm/v3/properties/{kind}", self._endpoint(self._json(self._define)), methods=["GET", "POST"])
        return [*routes, define]

    # ------------------------------------------------------------------ one call

    def _json(self, work: Callable[[str, Any, Fault], tuple[int, Any]]) -> Callable[[Request, bytes, Fault], Response]:
        def answered(request: Request, body: bytes, fault: Fault) -> Response:
            try:
                sent = json.loads(body) if body else None
            except ValueError:
                return _error(400, "Invalid input JSON", "VALIDATION_ERROR")
            status, answer = work(request.path_params["kind"], sent, fault)
            return Response(status_code=status) if answer is None else JSONResponse(answer, status)

        return answered

    def _admitted(self, request: Request, fault: Fault) -> Response | None:
        if fault == "expired" or request.headers.get("authorization") != f"Bearer {self.token}":
            return _error(401, "Authentication credentials not found or no longer valid", "INVALID_AUTHENTICATION")
        if fault == "busy" or not self.limit.admit():
            return _limited("You have reached your ten_secondly_rolling limit.", "TEN_SECONDLY_ROLLING")
        if len(self.limit.passed) > self.daily:
            return _limited("You have reached your daily limit.", "DAILY")
        return None

    def _broken(self, fault: Fault) -> Response:
        if fault == "write_then_broken":
            return _error(502, "bad gateway", "INTERNAL_ERROR")
        return _error(500, "internal error", "INTERNAL_ERROR")

    def _mute(self) -> Response:
        return JSONResponse({"status": "COMPLETE", "results": []})

    def _facts(self) -> dict[str, Any]:
        return {"most_calls_in_ten_seconds": self.limit.most(), "refused_calls": self.limit.refused}

    def _shown(self, kind: str) -> list[Mapping[str, Any]]:
        held = self.records.get(kind, {}).values()
        return [{"id": one.id, "updatedAt": one.updated_at, **one.properties} for one in held if not one.archived]

    def _value(self, record: Record, name: str) -> str | None:
        return None if record.archived else record.properties.get(name) or None

    def _revived(self, record: dict[str, Any]) -> Record:
        return Record(**record)

    def _stored(self, record: Record) -> dict[str, Any]:
        return asdict(record)

    # ------------------------------------------------------------------ the endpoints

    def _upsert(self, kind: str, sent: Any, fault: Fault) -> tuple[int, Any]:
        started = self._stamp()
        inputs, problem = self._inputs(kind, sent)
        if problem:
            return 400, problem
        traced = all(one.get("objectWriteTraceId") for one in inputs)
        checked = [
            (one, _NOT_NOW if fault == "partial" and number % 3 == 0 else self._problem(kind, one))
            for number, one in enumerate(inputs)
        ]
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
        if self.open_schema:
            self.properties.setdefault(kind, {})
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
        found = self._find(kind, unique, key)
        record = held.get(key) if unique == "hs_object_id" else found[0] if found else None
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
            record.updated_at = self._stamp()
            self._keep(kind, record.id)
        shown = {**record.shown(), "new": new}
        if one.get("objectWriteTraceId"):
            shown["objectWriteTraceId"] = one["objectWriteTraceId"]
        return shown

    def _read(self, kind: str, sent: Any, _fault: Fault) -> tuple[int, Any]:
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

    def _archive(self, kind: str, sent: Any, _fault: Fault) -> tuple[int, Any]:
        inputs, problem = self._inputs(kind, sent)
        if problem:
            return 400, problem
        for one in inputs:
            record = self.records.get(kind, {}).get(one["id"])
            if record is not None and not record.archived:
                record.archived = True
                self._keep(kind, record.id)
        return 204, None

    def _define(self, kind: str, sent: Any, _fault: Fault) -> tuple[int, Any]:
        known = self.properties.setdefault(kind, {})
        if sent is None:
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
