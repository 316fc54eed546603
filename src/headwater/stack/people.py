"""One person: forgotten everywhere, or told apart from another again."""

import hashlib
from collections.abc import Sequence
from typing import Literal

from headwater.activation.destinations import Batch, Later, Operation, Rejected, Unusable, make
from headwater.clock import naive_utc
from headwater.live import forget as forgetting
from headwater.live import persons
from headwater.live.forget import Asked, Told
from headwater.log.sqlite import SqliteLog
from headwater.records.stage import StageResult
from headwater.stack.project import LOG, Project


class People(Project):
    """Deletion, and links between ids."""

    def forget(self, person: str, kind: str | None = None) -> StageResult:
        """Delete a person everywhere and suppress the ids; nothing else may have the warehouse open meanwhile."""
        return self._stage("forget", lambda: self._forgotten(person, kind))

    def _forgotten(self, person: str, kind: str | None) -> StageResult:
        log = SqliteLog(self.folder / LOG, clock=self.clock)
        try:
            receipt = forgetting.forget(
                self.folder,
                self.warehouse,
                log,
                person,
                self.clock,
                kind=kind,
                settings=self.config.identity,
                ask=self._ask,
            )
        finally:
            log.close()
        places = [place for place in receipt.places if place.removed_rows or place.message]
        said = tuple(f"{place.place}: {place.message}" for place in places if place.message)
        rest = "" if receipt.complete else "; a destination is still to be asked, run it again"
        text = f"{receipt.removed_rows:,} rows removed in {len(places)} places, receipt {receipt.receipt_id}{rest}"
        details = {
            "receipt_id": receipt.receipt_id,
            "complete": receipt.complete,
            "places": [
                {"place": p.place, "removed_rows": p.removed_rows, "message": p.message} for p in receipt.places
            ],
        }
        return StageResult("forget", "ok", receipt.removed_rows, text, details, said)

    def _ask(self, told: Sequence[Told]) -> list[Asked]:
        """Have each destination delete what it was told of the person."""
        return [self._asked(one) for one in told]

    def _asked(self, told: Told) -> Asked:
        sync = next((one for one in self.config.syncs if one.name == told.sync), None)
        if sync is None:
            return Asked(
                told, "failed", f"headwater.yml has no sync {told.sync!r} any more: ask its destination yourself"
            )
        settings = self.config.destinations[sync.destination]
        if settings.type in ("files", "nothing"):
            return Asked(told, "local")
        # the same id whenever the same is asked again
        name = hashlib.sha256(f"forget {told.sync} {told.key}".encode()).hexdigest()[:32]
        operation = Operation(name, told.sync, told.key, 0, "delete", {})
        destination = make(sync.destination, settings, folder=self.folder)
        status: Literal["done", "failed", "later"]
        try:
            destination.open()
            (result,) = destination.deliver(Batch(name, told.sync, (operation,), tuple(sync.fields)))
            status = "later" if result.status == "retry" else result.status
            message = f"{result.code} {result.message}".strip()
        except Rejected as error:
            status, message = "failed", str(error)
        except (Later, Unusable) as error:
            status, message = "later", str(error)
        finally:
            destination.close()
        return Asked(told, status, message)

    def undo_link(self, link: str, because: str) -> StageResult:
        """Undo one identity link; the persons on both sides are resolved again, at once."""

        def work() -> StageResult:
            persons.prepare(self.warehouse)
            with self.warehouse.transaction():
                changed = persons.undo(self.warehouse, link, because, naive_utc(self.clock.now()), self.config.identity)
            text = f"link {link} is undone, {changed.identities:,} id(s) belong to another person now"
            if not changed.links:
                text = f"link {link} was undone already; nothing was changed"
            return StageResult("identity_undo", "ok", changed.identities, text, {"link": link, "because": because})

        return self._stage("identity_undo", work)
