"""What a destination must do, as checks that anybody can run against theirs.

    from headwater.testing import checks

    class MyBench(checks.Bench): ...            # how to reach your destination in a test, and what arrived there

    @pytest.mark.parametrize("check", checks.of(MyBench), ids=lambda check: check.__name__)
    def test_my_destination(check, tmp_path):
        check(MyBench(tmp_path))

A check takes a fresh bench, asserts, and returns nothing. `of` leaves out the checks for faults that the bench cannot
stage; `missing` names them, so that they can be looked at by hand.
"""

from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, ClassVar, Literal

import stamina

from headwater.activation.deliver import Delivery, deliver
from headwater.activation.destinations import Batch, CallFailed, Destination, Operation, Result, Verb, make
from headwater.activation.limits import RateLimit
from headwater.activation.send import Outcome, Sender
from headwater.activation.settings import DestinationSettings, SyncSettings
from headwater.clock import FixedClock
from headwater.warehouse import Warehouse

Fault = Literal["later", "lost_answer", "refuse", "poison", "echo"]
"""later: the next call fails and nothing is written · lost_answer: the next call is written and its answer is lost ·
refuse: the row of a key is refused, the others of its call are written · poison: a call that holds the key is refused as a
whole · echo: answers repeat what was sent, headers included, and fail."""

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
SECRET = "s3cr3t-Zq8w-planted"  # noqa: S105 (planted on purpose)
"""The value that a bench gives to every secret of its destination."""


class Bench:
    """One destination in a test. Write the methods that raise NotImplementedError, and list the faults you can stage.

    `folder` is empty and belongs to this bench. Bring secrets through `environment` (value `SECRET`), never `options`.
    """

    faults: ClassVar[frozenset[Fault]] = frozenset()
    columns: ClassVar[tuple[str, ...]] = ("name", "amount", "note")
    """Fields that your destination can hold; at least these three: text, decimal(18,4), text that may be null."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @property
    @abstractmethod
    def settings(self) -> DestinationSettings:
        """How a project would declare the destination."""
        raise NotImplementedError

    @property
    def environment(self) -> Mapping[str, str]:
        """Where its secrets are found."""
        return {}

    @abstractmethod
    def arrived(self) -> dict[str, dict[str, Any]]:
        """What stands there now: key → field → value (decimals as Decimal); rows that were removed are absent."""
        raise NotImplementedError

    @abstractmethod
    def effects(self) -> int:
        """How many rows were written or removed there so far; a repetition that changes nothing does not count."""
        raise NotImplementedError

    @abstractmethod
    def calls(self) -> int:
        """How often the destination was called so far."""
        raise NotImplementedError

    def stage(self, fault: Fault, key: str = "") -> None:
        """Let the fault happen. Called only for faults that are listed."""
        raise NotImplementedError

    def close(self) -> None:
        """Put everything away; called once at the end of a check."""

    def make(self) -> Destination:
        """The destination, not opened."""
        return make("checked", self.settings, folder=self.folder, environment=self.environment)


Check = Callable[[Bench], None]


def of(kind: type[Bench]) -> list[Check]:
    """The checks for benches of this class."""
    return [check for check in CHECKS if check.__name__ not in NEEDS or NEEDS[check.__name__] in kind.faults]


def missing(kind: type[Bench]) -> list[str]:
    """Names of the checks that `of` leaves out, because the bench cannot stage what they need."""
    return [check.__name__ for check in CHECKS if check not in of(kind)]


# ---------------------------------------------------------------------- the checks


def making_it_touches_nothing(bench: Bench) -> None:
    """A plan makes the destination to ask for its limits: no call, no file, no secret is needed for that."""
    with _closing(bench):
        before = _files(bench.folder)
        made = make("checked", bench.settings, folder=bench.folder, environment={})
        assert isinstance(made, Destination), f"{type(made).__name__} lacks a part of the contract of Destination"
        assert made.limits.max_rows >= 1, "limits.max_rows must be at least 1"
        assert made.limits.concurrency >= 1, "limits.concurrency must be at least 1"
        assert bench.calls() == 0, "making the destination called it"
        assert _files(bench.folder) == before, "making the destination wrote files"


def results_come_in_order(bench: Bench) -> None:
    """One result per operation, in the order of the batch, and `done` only for what is there."""
    with _open(bench) as destination:
        rows = _rows(min(destination.limits.max_rows, 5))
        results = destination.deliver(_batch(rows))
        assert [result.operation_id for result in results] == [row.operation_id for row in rows], (
            "results must be one per operation, in the order of the batch"
        )
        assert {result.status for result in results} == {"done"}, f"expected all done, found {results}"
        assert set(bench.arrived()) == {row.key for row in rows}


def values_arrive_as_they_are(bench: Bench) -> None:
    """Text keeps every character, a decimal every digit."""
    texts = [
        "plain",
        'quote " and \\',
        "line\nbreak, comma; tab\t",
        "Zoë · 東京 · 👋",
        " blank around ",
        "0012",
        "=1+1",
        "null",
    ]
    with _open(bench) as destination:
        for number, text in enumerate(texts):
            row = _row(number, fields={"name": text, "amount": Decimal("1234567890.1200"), "note": "n"})
            _all_done(destination.deliver(_batch([row])))
            found = bench.arrived()[row.key]
            assert found["name"] == text, f"sent {text!r}, {found['name']!r} arrived"
            assert found["amount"] == Decimal("1234567890.1200"), f"sent 1234567890.1200, {found['amount']!r} arrived"


def absent_fields_are_left_alone(bench: Bench) -> None:
    """A field that is not in `fields` keeps what the destination has; only None clears it."""
    with _open(bench) as destination:
        first = {"name": "a", "amount": Decimal(1), "note": "kept"}
        _all_done(destination.deliver(_batch([_row(1, fields=first)])))
        change = _row(1, verb="update", version=2, fields={"name": "b", "amount": Decimal(2)})
        _all_done(destination.deliver(_batch([replace(change, previous=first)])))
        found = bench.arrived()["key1"]
        assert found["name"] == "b", "the changed field did not arrive"
        assert found.get("note", "kept") in ("kept", ""), f"a field that was not sent became {found.get('note')!r}"


def removals_remove(bench: Bench) -> None:
    """After a delete the row is gone, and deleting again is no error."""
    with _open(bench) as destination:
        _all_done(destination.deliver(_batch([_row(1)])))
        _all_done(destination.deliver(_batch([_row(1, verb="delete", version=2, fields={})])))
        assert "key1" not in bench.arrived(), "the row is still there after its removal was confirmed"
        if destination.limits.idempotent:
            _all_done(destination.deliver(_batch([_row(1, verb="delete", version=2, fields={})])))


def a_repetition_changes_nothing(bench: Bench) -> None:
    """The same batch again (after a crash nobody knows whether it went out) is confirmed and has no second effect."""
    with _open(bench) as destination:
        if not destination.limits.idempotent:
            return
        batch = _batch(_rows(min(destination.limits.max_rows, 3)))
        _all_done(destination.deliver(batch))
        arrived, effects = bench.arrived(), bench.effects()
        again = [replace(row, in_doubt=True, attempts=1) for row in batch.operations]
        _all_done(destination.deliver(replace(batch, operations=tuple(again))))
        assert bench.arrived() == arrived, "sending the same batch again changed what is there"
        assert bench.effects() == effects, "sending the same batch again had a second effect"


def a_part_of_a_batch_may_come_again(bench: Bench) -> None:
    """After a crash some rows of a batch may be held back by now: the rest comes under the same batch id."""
    with _open(bench) as destination:
        if not destination.limits.idempotent or destination.limits.max_rows < 2:
            return
        batch = _batch(_rows(2))
        _all_done(destination.deliver(batch))
        rest = replace(batch, operations=(replace(batch.operations[0], in_doubt=True),))
        results = destination.deliver(rest)
        assert [result.operation_id for result in results] == [batch.operations[0].operation_id]
        assert "key0" in bench.arrived(), "the row that came again is not there"


def one_delivery_is_one_call(bench: Bench) -> None:
    """Rate limits count calls to `deliver`: each must be at most one call to the destination."""
    waited = 0

    class Counted(RateLimit):
        def wait(self) -> None:
            nonlocal waited
            waited += 1

    with _open(bench) as destination:
        sender = Sender(destination, bench.settings, Counted(1, 1.0))
        _delivered(sender.send(_batch(_rows(min(destination.limits.max_rows, 5)))))
        assert waited == 1, "one batch that succeeds must be one delivery"
        assert bench.calls() <= 1, f"one delivery made {bench.calls()} calls"


def calls_at_the_same_time_do_not_mix(bench: Bench) -> None:
    """As many threads as `limits.concurrency` says may deliver at once; every row arrives and is told of."""
    with _open(bench) as destination:
        size = min(destination.limits.max_rows, 3)
        rows = _rows(size * destination.limits.concurrency * 2)
        batches = [_batch(rows[start : start + size], name=f"batch{start}") for start in range(0, len(rows), size)]
        with ThreadPoolExecutor(destination.limits.concurrency) as pool:
            told = list(pool.map(destination.deliver, batches))
        for batch, results in zip(batches, told, strict=True):
            assert [result.operation_id for result in results] == [row.operation_id for row in batch.operations]
            _all_done(results)
        assert set(bench.arrived()) == {row.key for row in rows}


def a_refused_row_does_not_stop_the_others(bench: Bench) -> None:
    """The refused row fails with code, message and advice; all others are done."""
    bench.stage("refuse", "key1")
    with _open(bench) as destination:
        spy = _Spy(destination)
        told = _told(_send(bench, spy, _rows(3)))
        assert told["key1"].status == "failed", f"the refused row is {told['key1'].status}, expected failed"
        spy.says_why(told["key1"].operation_id)
        assert {told[key].status for key in ("key0", "key2")} == {"done"}
        assert set(bench.arrived()) == {"key0", "key2"}


def a_busy_destination_is_tried_again(bench: Bench) -> None:
    """What fails for the moment is told as Later or retry, and is delivered by the next try."""
    bench.stage("later")
    with _open(bench) as destination:
        outcome = _send(bench, destination, _rows(2))
        _delivered(outcome)
        assert max(one.attempt for one in outcome.tries) == 2, (
            "expected a first try that fails and a second that succeeds"
        )
        assert bench.effects() == 2


def a_lost_answer_is_in_doubt(bench: Bench) -> None:
    """When the write happened and the answer is lost, the row is not done; trying again has no second effect."""
    bench.stage("lost_answer")
    with _open(bench) as destination:
        outcome = _send(bench, destination, _rows(1))
        first = outcome.tries[0].result
        assert first.status == "retry", f"a row without an answer was told as {first.status}"
        assert first.in_doubt, "a row without an answer must be in doubt"
        _delivered(outcome)
        if destination.limits.idempotent:
            assert bench.effects() == 1, f"the row had {bench.effects()} effects, expected one"


def a_poisoned_batch_is_halved(bench: Bench) -> None:
    """A call refused because of one row is raised as Rejected (or that row is failed); all others arrive."""
    bench.stage("poison", "key2")
    with _open(bench) as destination:
        spy = _Spy(destination)
        told = _told(_send(bench, spy, _rows(5)))
        assert told["key2"].status == "failed", f"the poisoned row is {told['key2'].status}, expected failed"
        spy.says_why(told["key2"].operation_id)
        assert {result.status for key, result in told.items() if key != "key2"} == {"done"}
        assert set(bench.arrived()) == {"key0", "key1", "key3", "key4"}


def secrets_stay_secret(bench: Bench) -> None:
    """Neither an answer that repeats them nor an error puts a secret into a table, a result, a file or `repr`."""
    if "echo" in bench.faults:
        bench.stage("echo")
    with shop(bench, 3) as made:
        made.run(dry_run=True)
        delivery = made.run(dry_run=False)
        made.run(dry_run=False)
        assert SECRET not in repr(delivery)
        for table in made.tables():
            held = made.warehouse.value(
                f"select count(*) from {table} t where contains(cast(t as varchar), ?)", [SECRET]
            )
            assert held == 0, f"a secret stands in the table {table}"
        made.warehouse.execute("checkpoint")
        for path in bench.folder.rglob("*"):
            assert not path.is_file() or SECRET.encode() not in path.read_bytes(), (
                f"a secret stands in the file {path.name}"
            )
        destination = bench.make()
        assert SECRET not in repr(destination), "a secret shows in repr(destination)"
        assert SECRET not in repr(bench.settings), (
            "a secret stands in the options; name an environment variable instead"
        )


def a_dry_run_does_not_call(bench: Bench) -> None:
    """A dry run says what would be sent and calls nobody."""
    with shop(bench, 3) as made:
        delivery = made.run(dry_run=True)
        assert (delivery.status, delivery.planned) == ("dry_run", 3)
        assert bench.calls() == 0, "a dry run called the destination"
        assert bench.arrived() == {}


def a_whole_sync_goes_round(bench: Bench) -> None:
    """Plan and deliver: the first run sends all, the second nothing, one changed row is one row; calls are full."""
    with shop(bench, 7) as made:
        first = made.run(dry_run=False)
        assert (first.status, first.confirmed) == ("ok", 7), first.message
        assert set(bench.arrived()) == {f"key{number}" for number in range(7)}
        most = -(-7 // bench.make().limits.max_rows)
        assert bench.calls() <= most, f"7 rows took {bench.calls()} calls, expected {most}"
        effects = bench.effects()
        assert made.run(dry_run=False).status == "nothing"
        assert bench.effects() == effects
        made.warehouse.execute("update main.checked set name = 'changed' where id = 'key3'")
        assert made.run(dry_run=False).confirmed == 1
        assert bench.arrived()["key3"]["name"] == "changed"
        assert bench.effects() == effects + 1


def a_set_arrives_as_its_rows_would(bench: Bench) -> None:
    """More rows than a batch takes go in one call and arrive whole; later only what has a value is touched."""
    texts = [
        "plain",
        'quote " and \\',
        "line\nbreak, comma; tab\t",
        "Zoë · 東京 · 👋",
        " blank ",
        "0012",
        "=1+1",
        "null",
    ]
    with shop(bench, rows := _beyond_a_batch(bench)) as made:
        if not rows:
            return
        for number, text in enumerate(texts):
            made.warehouse.execute("update main.checked set name = ? where id = ?", [text, f"key{number}"])
        made.warehouse.execute("update main.checked set note = null where id = 'key1'")
        first = made.run(dry_run=False)
        assert (first.status, first.confirmed) == ("ok", rows), first.message
        assert bench.calls() == 1, f"a set of {rows} rows took {bench.calls()} calls, expected one"
        assert _filled(bench.arrived()) == _filled(made.expected())
        made.warehouse.execute(
            "update main.checked set amount = amount + 1, note = case when id <> 'key2' then 'new note' end"
        )
        assert made.run(dry_run=False).confirmed == rows
        expected = made.expected()
        expected["key2"]["note"] = "note"  # a null leaves alone what is there
        assert _filled(bench.arrived()) == _filled(expected)
        assert bench.effects() == 2 * rows


def a_set_of_removals_removes(bench: Bench) -> None:
    """After a set of removals its rows are gone, and no other."""
    with shop(bench, rows := _beyond_a_batch(bench)) as made:
        if not rows:
            return
        made.sync = made.sync.model_copy(update={"mode": "mirror", "max_removal_share": 1.0})
        made.run(dry_run=False)
        made.warehouse.execute("delete from main.checked where id <> 'key3'")
        assert made.run(dry_run=False).confirmed == rows - 1
        assert set(bench.arrived()) == {"key3"}


def a_poisoned_set_is_halved(bench: Bench) -> None:
    """One row that is refused costs itself alone: it fails with code, message and advice, all others arrive."""
    bench.stage("poison", "key2")
    with shop(bench, rows := _beyond_a_batch(bench)) as made:
        if not rows:
            return
        delivery = made.run(dry_run=False)
        assert (delivery.confirmed, delivery.failed) == (rows - 1, 1), delivery.message
        assert set(bench.arrived()) == {f"key{number}" for number in range(rows) if number != 2}
        (told,) = made.warehouse.rows(
            "select key, code, message, advice from headwater.sync_rows where status = 'failed'"
        )
        assert told["key"] == "key2"
        assert all(told.values()), f"a failed row must have the destination's code, message and advice; found {told}"


def a_set_without_an_answer_comes_again(bench: Bench) -> None:
    """When a set is written and its answer is lost, its rows go again and have no second effect."""
    bench.stage("lost_answer")
    with shop(bench, rows := _beyond_a_batch(bench)) as made:
        if not rows:
            return
        delivery = made.run(dry_run=False)
        assert (delivery.status, delivery.confirmed) == ("ok", rows), delivery.message
        assert _filled(bench.arrived()) == _filled(made.expected())
        assert bench.effects() == rows, f"{rows} rows had {bench.effects()} effects"


def it_can_be_closed_at_any_time(bench: Bench) -> None:
    """Closing twice, or without a delivery, is no error; a new one works afterwards."""
    with _closing(bench):
        destination = bench.make()
        destination.close()
        destination.open()
        destination.close()
        destination.close()
        other = bench.make()
        other.open()
        _all_done(other.deliver(_batch(_rows(1))))
        other.close()


CHECKS: tuple[Check, ...] = (
    making_it_touches_nothing,
    results_come_in_order,
    values_arrive_as_they_are,
    absent_fields_are_left_alone,
    removals_remove,
    a_repetition_changes_nothing,
    a_part_of_a_batch_may_come_again,
    one_delivery_is_one_call,
    calls_at_the_same_time_do_not_mix,
    a_refused_row_does_not_stop_the_others,
    a_busy_destination_is_tried_again,
    a_lost_answer_is_in_doubt,
    a_poisoned_batch_is_halved,
    secrets_stay_secret,
    a_dry_run_does_not_call,
    a_whole_sync_goes_round,
    a_set_arrives_as_its_rows_would,
    a_set_of_removals_removes,
    a_poisoned_set_is_halved,
    a_set_without_an_answer_comes_again,
    it_can_be_closed_at_any_time,
)
NEEDS: dict[str, Fault] = {
    "a_refused_row_does_not_stop_the_others": "refuse",
    "a_busy_destination_is_tried_again": "later",
    "a_lost_answer_is_in_doubt": "lost_answer",
    "a_poisoned_batch_is_halved": "poison",
    "a_poisoned_set_is_halved": "poison",
    "a_set_without_an_answer_comes_again": "lost_answer",
}


# ---------------------------------------------------------------------- what they stand on


class Shop:
    """A warehouse with one model `main.checked` and one sync `checked` to the destination; see `shop`."""

    def __init__(self, bench: Bench, rows: int) -> None:
        self.bench = bench
        self.warehouse = Warehouse(bench.folder / "checks.duckdb")
        self.warehouse.execute(
            f"create or replace table main.checked as select 'key' || i as id, 'name ' || i as name, "
            f"cast(i * 1.25 as decimal(18, 4)) as amount, 'note' as note from range({rows}) t(i)"
        )
        self.sync = SyncSettings(
            name="checked",
            model="checked",
            destination="checked",
            key="id",
            fields={"name": "name", "amount": "amount", "note": "note"},
        )

    def run(self, *, dry_run: bool) -> Delivery:
        """Plan and deliver once."""
        return deliver(
            self.warehouse,
            None,
            self.sync,
            self.bench.settings,
            FixedClock(NOW),
            dry_run,
            folder=self.bench.folder,
            environment=self.bench.environment,
        )

    def expected(self) -> dict[str, dict[str, Any]]:
        """What `Bench.arrived` gives once everything is delivered."""
        rows = self.warehouse.rows("select id, name, amount, note from main.checked")
        return {row.pop("id"): row for row in rows}

    def tables(self) -> list[str]:
        """All tables of the warehouse, quoted."""
        return [
            f'"{row["table_schema"]}"."{row["table_name"]}"'
            for row in self.warehouse.rows("select table_schema, table_name from information_schema.tables")
        ]


class _Spy:
    """The destination, and what it said before the runtime put it in order."""

    def __init__(self, destination: Destination) -> None:
        self.destination = destination
        self.said: dict[str, Result | CallFailed] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(self.destination, name)

    def deliver(self, batch: Batch) -> Sequence[Result]:
        try:
            results = self.destination.deliver(batch)
        except CallFailed as error:
            self.said |= dict.fromkeys((row.operation_id for row in batch.operations), error)
            raise
        self.said |= {result.operation_id: result for result in results}
        return results

    def says_why(self, operation_id: str) -> None:
        """The last word on the row has code, message and advice."""
        said = self.said[operation_id]
        for name in ("code", "message", "advice"):
            assert getattr(said, name), f"a failed row must have the destination's {name}; found {said!r}"


def _beyond_a_batch(bench: Bench) -> int:
    """So many rows that they go as a set; 0 where the destination takes none."""
    limits = bench.make().limits
    return max(limits.max_rows + 3, 10) if limits.set_rows else 0


def _filled(rows: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    return {key: {name: value for name, value in row.items() if value is not None} for key, row in rows.items()}


@contextmanager
def shop(bench: Bench, rows: int) -> Iterator[Shop]:
    """A shop of so many rows with one sync to the bench's destination; nothing waits inside, the bench is closed after it."""
    with _closing(bench), _without_waiting():
        made = Shop(bench, rows)
        with made.warehouse:
            yield made


@contextmanager
def _open(bench: Bench) -> Iterator[Destination]:
    with _closing(bench), _without_waiting():
        destination = bench.make()
        destination.open()
        try:
            yield destination
        finally:
            destination.close()


@contextmanager
def _closing(bench: Bench) -> Iterator[None]:
    try:
        yield
    finally:
        bench.close()


@contextmanager
def _without_waiting() -> Iterator[None]:
    with stamina.set_testing(True, attempts=4, cap=True):
        yield


def _row(number: int, *, verb: Verb = "create", version: int = 1, fields: Mapping[str, Any] | None = None) -> Operation:
    filled = {"name": f"name {number}", "amount": Decimal("12.3400"), "note": "note"} if fields is None else fields
    return Operation(f"{number:028d}v{version:03d}", "checked", f"key{number}", version, verb, filled)


def _rows(number: int) -> list[Operation]:
    return [_row(position) for position in range(number)]


def _batch(rows: Sequence[Operation], name: str = "batch") -> Batch:
    return Batch(f"checked-{name}-{rows[0].version}-{rows[0].key}", "checked", tuple(rows), Bench.columns)


def _send(bench: Bench, destination: Any, rows: Sequence[Operation]) -> Outcome:
    """Send through the runtime, in batches as the destination takes them."""
    sender = Sender(destination, bench.settings, None)
    size = destination.limits.max_rows
    whole = Outcome()
    for start in range(0, len(rows), size):
        outcome = sender.send(_batch(rows[start : start + size]))
        whole.answers += outcome.answers
        whole.tries += outcome.tries
    return whole


def _told(outcome: Outcome) -> dict[str, Result]:
    return {answer.operation.key: answer.result for answer in outcome.answers}


def _delivered(outcome: Outcome) -> None:
    _all_done([answer.result for answer in outcome.answers])


def _all_done(results: Sequence[Result]) -> None:
    others = [result for result in results if result.status != "done"]
    assert not others, f"expected every row done, found {others}"


def _files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))
