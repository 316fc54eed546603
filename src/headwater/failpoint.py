"""Named places where a test may kill the process, so that "survives kill -9 anywhere" is a test and not a hope.

`HEADWATER_FAILPOINT=activate.claimed` ends the process at that name with exit code 137 and without any cleanup, as
SIGKILL would; `name:3` ends it the third time the name is passed. Without the variable a failpoint costs one dictionary
look-up. `NAMES` lists every failpoint of the product; passing a name that is not listed is an error, so the list stays true.
"""

import os

NAMES: dict[str, str] = {
    "run.seeded": "files are in the raw tables, nothing is built yet",
    "run.built_upstream": "models up to customer_segments are built",
    "segment.registered": "a segment model is in the registry, not yet promoted",
    "segment.settled": "everybody's membership is brought up to his score, not committed",
    "segment.assigned": "memberships are written, customer_segments is not yet published",
    "segment.file_written": "the seed customer_segments is written beside its place, not renamed",
    "run.segmented": "customer_segments is published",
    "run.built": "all models are built",
    "decide.written": "decisions are in the log but not committed",
    "outcomes.written": "outcomes are attributed, not committed",
    "run.attributed": "outcomes are attributed, nothing is decided yet",
    "run.decided": "decisions are in the log",
    "run.planned": "the plans are written",
    "activate.planned": "the outbox holds the rows to send, none is claimed",
    "activate.claimed": "rows are claimed and contacts released, nothing is sent",
    "activate.file_written": "a file of the outbox is written beside its place, not renamed",
    "activate.answered": "the destination answered a call, others of the same claim may be out",
    "activate.sent": "the destination answered every call of a claim, nothing is recorded",
    "activate.recorded": "the answers of a claim are recorded, the next claim is not made",
    "activate.finished": "every row is recorded, the run itself is still marked as running",
    "run.delivered": "what a run was told to send is sent",
    "run.compared": "the groups of the experiment are compared",
    "run.exported": "everything is written",
    "log.written": "gathered entries of several blocks are in the log's transaction, not committed",
    "log.committed": "gathered entries are durable, nobody who handed them in is told",
    "log.checkpointed": "a part of the journal is in the log's file, the journal is still whole",
    "log.trimmed": "old records are deleted, not committed",
    "log.removed": "records of somebody are overwritten, not committed",
    "log.erased": "records of somebody are overwritten for good, the journal still holds them",
    "collect.taken": "a request is taken apart, nothing of it is in the log",
    "collect.logged": "a request is in the log, its sender does not know yet",
    "changes.taken": "a batch of a database's changes is read, nothing of it is in the log",
    "changes.logged": "a batch of a database's changes is in the log, Debezium does not know yet",
    "changes.kept": "a batch of a database's changes is in the log and Debezium has noted it",
    "live.statement": "a statement of a batch's models is about to run (`live.statement:17`: the seventeenth)",
    "live.reshaped": "tables that changes land in are made or changed, no batch has begun",
    "live.landed": "a batch's records are in the raw tables, not committed",
    "live.identified": "a batch's identities are followed, not committed",
    "live.model": "a live model is refreshed, not committed",
    "live.refreshed": "all live models are refreshed, not committed",
    "live.stored": "the clock and the position are written, not committed",
    "live.committed": "a batch is committed, the log does not know yet",
    "live.acknowledged": "the log knows how far the engine is",
    "live.redriven": "rejected events are in the log again, not marked",
    "live.aside": "a statement of a model that is built aside is about to run",
    "live.aside_written": "what a model built aside changes is written, its owed keys are not refreshed, not committed",
    "live.aside_swapped": "a table built aside has taken the place of one with other columns, not committed",
    "memberships.following": "memberships by model have followed the changes of scores, not committed",
    "memberships.followed": "memberships by model have followed the changes of scores, nobody who reads them is told",
    "live.compacting": "the warehouse file is about to be written anew",
    "live.compacted": "the warehouse file is written anew and in its place",
    "live.published": "a snapshot for readers is written beside its place, not renamed",
    "forget.noted": "who is to be forgotten is noted, nothing is removed",
    "forget.asked": "the destinations are asked to forget somebody, nothing is removed here",
    "forget.warehouse": "somebody's rows are out of the warehouse, his records still in the log",
    "forget.log": "somebody's records are out of the log, files still hold him",
    "forget.files": "files are cleaned of somebody, the warehouse file still holds freed blocks",
    "forget.rewritten": "the warehouse file is written anew without somebody, the receipt is not whole",
    "forget.finished": "the receipt is whole, the note of the deletion is still there",
}

_passed: dict[str, int] = {}


def failpoint(name: str) -> None:
    """End the process here if the environment says so."""
    wanted = os.environ.get("HEADWATER_FAILPOINT")
    if not wanted:
        return
    if name not in NAMES:
        raise KeyError(f"failpoint {name!r} is not declared; known: {', '.join(sorted(NAMES))}")
    want, _, nth = wanted.partition(":")
    if want == name:
        _passed[name] = _passed.get(name, 0) + 1
        if _passed[name] == int(nth or 1):
            os._exit(137)
