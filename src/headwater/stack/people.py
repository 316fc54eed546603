"""One person: why he is where he is, forgotten everywhere, told apart from another; and events that were refused."""

import hashlib
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from headwater.activation.destinations import Batch, Destination, Later, Operation, Rejected, Unusable, make
from headwater.activation.settings import DestinationSettings, SyncSettings
from headwater.clock import naive_utc
from headwater.collect.reasons import BEYOND_CURE, REASONS
from headwater.collect.redrive import Redrive
from headwater.live import forget as forgetting
from headwater.live import persons, why
from headwater.live.forget import Asked, Told
from headwater.live.redrive import redrive
from headwater.records.counted import counted
from headwater.records.stage import StageResult
from headwater.stack.project import Project


class People(Project):
    """Deletion, and links between ids."""

    def forget(self, person: str, kind: str | None = None, *, unseen: bool = False) -> StageResult:
        """Delete a person everywhere and suppress the ids; nothing else may have the warehouse open meanwhile.

        An id that nobody has is refused, but with `unseen`.
        """
        return self._stage("forget", lambda: self._forgotten(person, kind, unseen))

    def lift(self, person: str, kind: str | None = None) -> StageResult:
        """Take the person behind an id off the list of suppressed ids again."""

        def work() -> StageResult:
            lifted, receipts = forgetting.lift(self.warehouse, person, self.clock, kind=kind)
            text = (
                f"{counted(lifted, 'id is', 'ids are')} not suppressed any more ({', '.join(receipts)}): what arrives from now on is taken, "
                "and the next `headwater seed` reads the files again. What was deleted or dropped is gone"
            )
            return StageResult("forget_lift", "ok", lifted, text, {"lifted": lifted, "receipts": list(receipts)})

        return self._stage("forget_lift", work)

    def _forgotten(self, person: str, kind: str | None, unseen: bool) -> StageResult:
        log = self.open_log()
        try:
            receipt = forgetting.forget(
                self.folder,
                self.warehouse,
                log,
                person,
                self.clock,
                kind=kind,
                settings=self.config.identity,
                ask=self._ask_to_forget,
                unseen=unseen,
            )
        finally:
            log.close()
        places = [place for place in receipt.places if place.removed_rows or place.message]
        said = tuple(f"{p.place}: {p.message}" for p in places if p.message and p.place != "suppression")
        rest = "" if receipt.complete else "; a destination is still to be asked, run it again"
        removed = f"{counted(receipt.removed_rows, 'row')} removed in {counted(sum(p.removed_rows > 0 for p in places), 'place')}"
        nobody = next((p.message for p in places if p.place == "suppression"), "")
        text = f"{nobody or removed}, receipt {receipt.receipt_id}{rest}"
        details = {
            "receipt_id": receipt.receipt_id,
            "complete": receipt.complete,
            "unseen": receipt.unseen,
            "places": [
                {"place": p.place, "removed_rows": p.removed_rows, "message": p.message} for p in receipt.places
            ],
        }
        return StageResult("forget", "ok", receipt.removed_rows, text, details, said)

    def _ask_to_forget(self, told: Sequence[Told]) -> list[Asked]:
        """Have each destination delete what it was told of the person."""
        by_sync: dict[str, list[Told]] = {}
        for one in told:
            by_sync.setdefault(one.sync, []).append(one)
        return [answer for name, rows in by_sync.items() for answer in self._forgotten_by(name, rows)]

    def _forgotten_by(self, name: str, told: Sequence[Told]) -> list[Asked]:
        """What the destination of one sync says to each row."""
        sync = next((one for one in self.config.syncs if one.name == name), None)
        if sync is None:
            said = f"headwater.yml has no sync {name!r} any more: ask its destination yourself"
            return [Asked(one, "failed", said) for one in told]
        settings = self.config.destinations[sync.destination]
        if settings.type in ("files", "nothing"):
            return [Asked(one, "local", _left_to_do(settings)) for one in told]
        destination = make(sync.destination, settings, folder=self.folder)
        answers: list[Asked] = []
        try:
            destination.open()
            for one in told:
                answers.append(_forget_row(destination, sync, one))
        except (Later, Unusable) as error:
            answers += [Asked(one, "later", str(error)) for one in told[len(answers) :]]
        finally:
            destination.close()
        return answers

    def why(self, person: str, *, events: int, decisions: int) -> why.Chain:
        """From the events of a person to what was decided and delivered, with the reasons."""
        with self.locked("headwater why"):
            return why.why(self.warehouse, person, events=events, decisions=decisions)

    def redrive(self, where: str | None, *, dry_run: bool) -> StageResult:
        """Send rejected events through again that would pass now; a dry run only says which."""

        def work() -> StageResult:
            check = Redrive(self.config.collect, self.folder).check
            log = self.open_log()
            try:
                done = redrive(self.warehouse, log, check, self.clock, where=where, dry_run=dry_run)
            finally:
                log.close()
            verb = "would pass" if dry_run else "are in the log again"
            known = f", {done.known:,} were landed already" if done.known else ""
            gone = sum(count for code, count in done.still.items() if code in BEYOND_CURE)
            lost = f", {gone:,} cannot be sent through again" if gone else ""
            text = f"{done.looked:,} rejected events looked at, {done.passed:,} {verb}{known}{lost}"
            still = tuple(
                f"{count:,} {'cannot be sent through' if code in BEYOND_CURE else 'would be rejected'} again: "
                f"{REASONS.get(code, code)} ({code})"
                for code, count in done.still.items()
            )
            details = {"dry_run": dry_run, **asdict(done), "beyond_cure": gone}
            return StageResult("redrive", "ok", done.passed, text, details, still)

        return self._stage("redrive", work)

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


def _left_to_do(settings: DestinationSettings) -> str:
    """What there is still to do where no service is asked, since the destination is no service."""
    if settings.type == "nothing":
        return "nothing ever left this project by it"
    folder = Path(settings.options.get("folder", "outbox"))
    if folder.parts[:1] == ("outbox",):
        return f"the files in {folder}/ are cleaned; whoever fetched them before must delete the person from what they have"
    return f"take the person out of the files in {folder}/ yourself, and tell whoever fetched them"


def _forget_row(destination: Destination, sync: SyncSettings, told: Told) -> Asked:
    """Have one row deleted, under an id that is the same whenever the same is asked again. Raises Later, Unusable."""
    name = hashlib.sha256(f"forget {told.sync} {told.key}".encode()).hexdigest()[:32]
    operation = Operation(name, told.sync, told.key, 0, "delete", {})
    try:
        (result,) = destination.deliver(Batch(name, told.sync, (operation,), tuple(sync.fields)))
    except Rejected as error:
        return Asked(told, "failed", str(error))
    return Asked(
        told, "later" if result.status == "retry" else result.status, f"{result.code} {result.message}".strip()
    )
