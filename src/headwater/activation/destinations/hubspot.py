"""Contacts and other objects of HubSpot's CRM."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from math import ceil
from pathlib import Path
from typing import Annotated, Any

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

MOST_INPUTS = 100
TEN_SECONDS = 10.0
_AGAIN = frozenset({"RATE_LIMITS", "RATE_LIMIT", "INTERNAL_ERROR", "TIMEOUT", "SERVICE_UNAVAILABLE"})


class HubSpotOptions(Settings):
    token_env: Annotated[str, Field(description="environment variable with the private app's token, pat-…")] = (
        "HUBSPOT_TOKEN"  # noqa: S105 (a name, not a value)
    )
    base_url: Annotated[str, Field(description="address of HubSpot, or of a twin", pattern=r"^https?://")] = (
        "https://api.hubapi.com"
    )
    object: Annotated[str, Field(description="contacts, companies, tickets, or the id of a custom object")] = "contacts"
    id_property: Annotated[str, Field(description="property with unique values that the sync's key fills")] = "email"
    path: Annotated[
        str, Field(description="path of the object's interface; the dated form is /crm/objects/2026-03/{object}")
    ] = "/crm/v3/objects/{object}"
    batch_size: Annotated[int, Field(ge=1, le=MOST_INPUTS, description="rows a call")] = MOST_INPUTS
    concurrency: Annotated[int, Field(ge=1, le=16, description="calls at the same time")] = 4
    timeout_seconds: Annotated[float, Field(gt=0, description="longest wait for an answer, seconds")] = 30


class HubSpot(BaseDestination):
    """Upserts objects in batches by a property with unique values, and archives them on removal.

    Guarantee: at least once. A row is confirmed when HubSpot's answer names it: every row carries `objectWriteTraceId`, which
    makes HubSpot answer for each row (207) instead of refusing all hundred because of one. A success that names neither
    result nor error for a row is no success: the row fails, and says so.
    Idempotency: an upsert by `id_property` sets the same values again. Two rows whose e-mail differs only in case are one
    contact to HubSpot: give the sync `key_form: lower`.
    Limits: 100 rows a call; 100 calls in 10 seconds (Free, Starter), 190 (Professional, Enterprise), 250 with the add-on, 110 for
    OAuth apps, and a number a day: set `rate_per_second` of the destination (19 for 190). After 429 of the daily policy the
    sync stops and its rows stay ready; after any other it waits for `Retry-After`, or for the policy's window: one second or ten.
    The limit counts a call from its sending until ten seconds after its answer, so that none of HubSpot's windows ever holds more
    than allowed; it is kept for the next process in `warehouse/limits/`. A removal takes two calls: HubSpot
    archives only by its own id, which is looked up first.
    Values: a null clears the property (an empty text), a date is sent as midnight UTC in milliseconds, a moment in
    milliseconds, decimals with all their digits. `lifecyclestage` does not go backward in HubSpot; a row where it would fails
    with NOT_TAKEN.
    Permissions of the private app: crm.objects.contacts.read and .write (or those of the object).
    What the answers mean: 401, 403, 404 stop the sync; 423, 429, 477, 502 to 504, 521 to 524 are tried again; 400 halves the batch.
    """

    def __init__(self, name: str, options: Mapping[str, Any], *, folder: Path, environment: Mapping[str, str]) -> None:
        super().__init__(name, options, folder=folder, environment=environment)
        self.settings = checked.read(HubSpotOptions, name, options)
        self.limits = Limits(self.settings.batch_size, self.settings.concurrency, window_seconds=TEN_SECONDS)
        self._caller: Caller | None = None
        self._token = ""

    @property
    def place(self) -> str:
        """The address, and the kind of object."""
        return f"{self.settings.base_url.rstrip('/')} {self.settings.object}"

    @property
    def secrets(self) -> Sequence[str]:
        """The token, once it was read."""
        return (self._token,) if self._token else ()

    def open(self) -> None:
        """Read the token. Raises Unusable naming the variable that is not set."""
        self._token = self.environment.get(self.settings.token_env, "")
        if not self._token:
            raise Unusable(
                "SECRET_MISSING",
                f"the environment has no {self.settings.token_env}",
                advice="make a private app in HubSpot (Settings › Integrations › Private Apps) and set its token",
            )
        self._caller = Caller(
            "HubSpot", timeout_seconds=self.settings.timeout_seconds, concurrency=self.settings.concurrency
        )

    def close(self) -> None:
        """Close the connections."""
        if self._caller is not None:
            self._caller.close()
            self._caller = None

    def calls(self, writes: int, removals: int) -> int:
        """A call per hundred rows; two where they are removed."""
        return ceil(writes / self.settings.batch_size) + 2 * ceil(removals / self.settings.batch_size)

    def quota(self) -> str:
        """HubSpot counts calls in ten seconds and in a day."""
        return "they count for the account's day"

    def deliver(self, batch: Batch) -> Sequence[Result]:
        """One upsert, and for the removals among the rows a look-up and an archive."""
        removals = [row for row in batch.operations if row.operation == "delete"]
        upserts = [row for row in batch.operations if row.operation != "delete"]
        results: dict[str, Result] = {}
        if upserts:
            results |= {result.operation_id: result for result in self._upsert(upserts, batch.types)}
        if removals:
            try:
                if upserts:
                    self.wait()
                removed = list(self._remove(removals))
            except CallFailed as error:
                if not upserts:
                    raise
                removed = self.undone(removals, error)
            results |= {result.operation_id: result for result in removed}
        return [results[row.operation_id] for row in batch.operations]

    # ------------------------------------------------------------------ the calls

    def _upsert(self, rows: Sequence[Operation], types: Mapping[str, str]) -> Iterator[Result]:
        own = self.settings.id_property
        kinds = {name: kind for name, kind in types.items() if _is_moment(kind)}
        inputs = [
            {
                "idProperty": own,
                "id": row.key,
                "objectWriteTraceId": row.operation_id,
                "properties": {
                    name: value if type(value) is str and name not in kinds else _text(value, kinds.get(name, ""))
                    for name, value in row.fields.items()
                    if name != own
                },
            }
            for row in rows
        ]
        answer = self._call("upsert", {"inputs": inputs})
        document = answer.document if isinstance(answer.document, dict) else {}
        done = {one.get("objectWriteTraceId"): one for one in _listed(document, "results")}
        failed: dict[str, Mapping[str, Any]] = {}
        for error in _listed(document, "errors"):
            for trace in (error.get("context") or {}).get("objectWriteTraceId", []):
                failed[trace] = error
        for row in rows:
            if row.operation_id in failed:
                yield _refused(row, failed[row.operation_id])
            elif row.operation_id in done:
                yield self._taken(row, done[row.operation_id])
            else:
                yield _not_mentioned(row, answer)

    def _remove(self, rows: Sequence[Operation]) -> Iterator[Result]:
        known = self._call(
            "read",
            {
                "idProperty": self.settings.id_property,
                "properties": [self.settings.id_property],
                "inputs": [{"id": row.key} for row in rows],
            },
        )
        document = known.document if isinstance(known.document, dict) else {}
        found = [one for one in _listed(document, "results") if "id" in one]
        if found:
            self.wait()
            self._call("archive", {"inputs": [{"id": one["id"]} for one in found]})
        unnamed = self._unnamed(rows, found, document)
        for row in rows:
            yield _not_mentioned(row, known) if row.operation_id in unnamed else Result(row.operation_id, "done")

    def _unnamed(
        self, rows: Sequence[Operation], found: Sequence[Mapping[str, Any]], document: Mapping[str, Any]
    ) -> set[str]:
        """Ids of the rows that a look-up neither found nor called missing: nobody knows whether they are gone.

        A contact that is found by another of its addresses comes back under its first, and accounts for one row.
        """
        keys = {str((one.get("properties") or {}).get(self.settings.id_property)).lower() for one in found}
        for error in _listed(document, "errors"):
            if error.get("category") == "OBJECT_NOT_FOUND":
                keys |= {str(one).lower() for one in (error.get("context") or {}).get("ids", [])}
        unnamed = {row.operation_id for row in rows if row.key.lower() not in keys}
        under_another = len(keys - {row.key.lower() for row in rows})
        return unnamed if len(unnamed) > under_another else set()

    def _call(self, verb: str, body: Mapping[str, Any]) -> Answer:
        assert self._caller is not None, "open() comes before deliver()"
        path = self.settings.path.replace("{object}", self.settings.object)
        answer = self._caller.call(
            "POST",
            f"{self.settings.base_url.rstrip('/')}{path}/batch/{verb}",
            {"Authorization": f"Bearer {self._token}", "Content-Type": "application/json", "User-Agent": "headwater"},
            exact.dumps(body).encode(),
        )
        self._judge(answer)
        return answer

    def _judge(self, answer: Answer) -> None:
        """Raise unless the call as a whole was taken."""
        status, words, kept = answer.status, answer.words, answer.kept
        document = answer.document if isinstance(answer.document, dict) else {}
        code = str(document.get("category") or document.get("policyName") or answer.code)
        if 200 <= status < 300:
            if answer.text and not document:
                raise Later("NOT_JSON", f"HubSpot answered {status} with {words[:80]!r}", in_doubt=True, response=kept)
            return
        if status == 429 and document.get("policyName") == "DAILY":
            raise Unusable(
                "DAILY", words, advice="HubSpot counts anew at midnight of the account's time zone; run again then"
            )
        if status in (423, 429) or status in PERHAPS_DONE or status == 503:
            policy = _WINDOWS.get(str(document.get("policyName")), TEN_SECONDS) if status == 429 else None
            wait = answer.retry_after if answer.retry_after is not None else policy
            raise Later(code, words, retry_after=wait, in_doubt=status in PERHAPS_DONE, response=kept)
        if status in (401, 403, 404) or 300 <= status < 400:
            raise Unusable(code, words, advice=_ADVICE.get(status, f"mend `base_url` of {self.name!r}"))
        raise Rejected(code, words, advice="mend the row, or the mapping of the sync", response=kept)

    def _taken(self, row: Operation, told: Mapping[str, Any]) -> Result:
        """Done, unless HubSpot kept another lifecycle stage than it was given."""
        stage = row.fields.get("lifecyclestage")
        kept = (told.get("properties") or {}).get("lifecyclestage")
        if stage and kept and kept != stage:
            return Result(
                row.operation_id,
                "failed",
                "NOT_TAKEN",
                f"lifecyclestage stayed {kept!r}; HubSpot does not go back to {stage!r}",
                "clear lifecyclestage in HubSpot first, or leave it out of the mapping",
            )
        kind = _KINDS.get(self.settings.object, self.settings.object)
        return Result(row.operation_id, "done", remote_id=f"hubspot:{kind}:{told['id']}" if told.get("id") else "")


_WINDOWS = {"SECONDLY": 1.0}
"""How long a refused call waits where the policy counts over less than ten seconds."""
_KINDS = {"contacts": "contact", "companies": "company", "deals": "deal", "tickets": "ticket"}
"""What HubSpot's webhooks call the objects."""
_ADVICE = {
    401: "the token is wrong or was revoked: set it anew",
    403: "give the private app the scopes crm.objects.contacts.read and .write (or those of the object)",
    404: "mend `object` or `path`",
}


def _listed(document: Mapping[str, Any], name: str) -> list[Mapping[str, Any]]:
    found = document.get(name)
    return [one for one in found if isinstance(one, dict)] if isinstance(found, list) else []


def _refused(row: Operation, error: Mapping[str, Any]) -> Result:
    category = str(error.get("category") or "REFUSED")
    again = category in _AGAIN
    return Result(
        row.operation_id,
        "retry" if again else "failed",
        category,
        str(error.get("message") or ""),
        "the next run tries it again" if again else "mend the row, the mapping, or the property in HubSpot",
        response=dict(error),
    )


def _not_mentioned(row: Operation, answer: Answer) -> Result:
    return Result(
        row.operation_id,
        "failed",
        "NOT_MENTIONED",
        f"HubSpot answered {answer.status} and said nothing of this row",
        "look at the contact in HubSpot; `headwater retry` sends the row again",
        in_doubt=True,
        response=answer.kept,
    )


def _is_moment(kind: str) -> bool:
    return kind == "DATE" or kind.startswith("TIMESTAMP")


def _text(value: Any, kind: str) -> str:
    """A value of the warehouse's type `kind` as HubSpot's properties take it."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if _is_moment(kind):
        moment = datetime.fromisoformat(str(value))
        return str(round((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * 1_000))
    if isinstance(value, Decimal | int | str):
        return str(value)
    return exact.dumps(value)
