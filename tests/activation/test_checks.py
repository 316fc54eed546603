"""Every destination of ours passes the kit that users run on theirs; and the kit finds destinations that do not."""

import csv
import json
from contextlib import ExitStack
from decimal import Decimal
from typing import Any, ClassVar

import pytest
from receiver import Receiver, receiving

from headwater.activation.destinations import Limits, Operation, Result
from headwater.activation.settings import DestinationSettings
from headwater.testing import checks
from headwater.testing.fake_destination import SHELVES, FakeDestination, Shelf


class FilesBench(checks.Bench):
    """Files in a folder; a folder that cannot be made is the fault that can be staged."""

    faults: ClassVar = frozenset({"later"})
    format = "json"

    @property
    def settings(self):
        return DestinationSettings(type="files", options={"format": self.format})

    def files(self):
        folder = self.folder / "outbox" / "checked"
        return sorted(folder.glob(f"*.{self.format}")) if folder.is_dir() else []

    def lines(self):
        return [row for path in self.files() for row in self.read(path)]

    def read(self, path):
        return json.loads(path.read_text(), parse_float=Decimal)

    def arrived(self):
        rows: dict[str, dict[str, Any]] = {}
        for line in self.lines():
            if line["operation"] == "delete":
                rows.pop(line["key"], None)
            else:
                rows.setdefault(line["key"], {}).update(line["fields"])
        return rows

    def effects(self):
        return len(self.lines())

    def calls(self):
        return len(self.files())

    def stage(self, fault, key=""):
        blocked = self.folder / "outbox"
        blocked.write_text("a file where the folder should be")
        made = self.make

        def make_then_mend():
            destination = made()
            deliver = destination.deliver

            def once(batch):
                try:
                    return deliver(batch)
                finally:
                    if blocked.is_file():
                        blocked.unlink()

            destination.deliver = once
            return destination

        self.make = make_then_mend


class CsvBench(FilesBench):
    format = "csv"

    def read(self, path):
        with path.open(newline="") as text:
            for line in csv.DictReader(text):
                fields = {name: line[name] for name in self.columns if line[name] != ""}
                if "amount" in fields:
                    fields["amount"] = Decimal(fields["amount"])
                yield {"operation": line["operation"], "key": line["key"], "fields": fields}


class WebhookBench(checks.Bench):
    """A receiver on this machine, one row a call."""

    faults: ClassVar = frozenset({"later", "lost_answer", "refuse", "poison", "echo"})
    options: ClassVar = {}

    def __init__(self, folder):
        super().__init__(folder)
        self.stack = ExitStack()
        self.receiver = self.stack.enter_context(receiving(Receiver(key=checks.SECRET, token=checks.SECRET)))

    @property
    def settings(self):
        return DestinationSettings(
            type="webhook",
            options={
                "url": self.receiver.url,
                "signature_env": "SIGNATURE",
                "secret_headers": {"Authorization": "TOKEN"},
                **self.options,
            },
        )

    @property
    def environment(self):
        return {"SIGNATURE": checks.SECRET, "TOKEN": f"Bearer {checks.SECRET}"}

    def arrived(self):
        return self.receiver.rows

    def effects(self):
        return len(self.receiver.acted)

    def calls(self):
        return len(self.receiver.calls)

    def stage(self, fault, key=""):
        if fault == "later":
            self.receiver.script.append((503, {"Retry-After": "1"}, {"error": "busy"}))
        elif fault == "lost_answer":
            self.receiver.script.append("act and hang up")
        elif fault == "refuse":
            self.receiver.refuse.add(key)
        elif fault == "poison":
            self.receiver.poison.add(key)
        else:
            self.receiver.echo = True

    def close(self):
        self.stack.close()


class WebhookBatchBench(WebhookBench):
    """The same, in batches with a result per row."""

    options: ClassVar = {"batch_size": 4, "results": {"path": "$.results"}}


class FakeBench(checks.Bench):
    """The fake that we ship must be a good one."""

    faults: ClassVar = frozenset({"later", "lost_answer", "refuse", "poison"})
    kind = "headwater.testing.fake_destination:FakeDestination"

    def __init__(self, folder):
        super().__init__(folder)
        self.shelf = SHELVES[str(folder)] = Shelf(limits=Limits(max_rows=3, concurrency=2))

    @property
    def settings(self):
        return DestinationSettings(type=self.kind, options={"shelf": str(self.folder)})

    def arrived(self):
        return {key: dict(row) for key, row in self.shelf.rows.items()}

    def effects(self):
        return len(self.shelf.effects)

    def calls(self):
        return len(self.shelf.calls)

    def stage(self, fault, key=""):
        if fault in ("refuse", "poison"):
            (self.shelf.refused if fault == "refuse" else self.shelf.poison).add(key)
        else:
            self.shelf.faults.append(fault)

    def close(self):
        SHELVES.pop(str(self.folder), None)


class SetBench(FakeBench):
    """The same, of which more than a batch is taken as a set."""

    def __init__(self, folder):
        super().__init__(folder)
        self.shelf.limits = Limits(max_rows=3, set_rows=50)


BENCHES = [FilesBench, CsvBench, WebhookBench, WebhookBatchBench, FakeBench, SetBench]


@pytest.mark.parametrize(
    ("bench", "check"),
    [
        pytest.param(bench, check, id=f"{bench.__name__}-{check.__name__}")
        for bench in BENCHES
        for check in checks.of(bench)
    ],
)
def test_our_destinations_pass(bench, check, tmp_path):
    check(bench(tmp_path))


def test_what_a_bench_cannot_stage_is_named():
    assert checks.missing(FilesBench) == [
        "a_refused_row_does_not_stop_the_others",
        "a_lost_answer_is_in_doubt",
        "a_poisoned_batch_is_halved",
        "a_poisoned_set_is_halved",
        "a_set_without_an_answer_comes_again",
    ]
    assert checks.missing(WebhookBench) == []


# destinations with one fault each, and the check that finds it


class Backwards(FakeDestination):
    def deliver(self, batch):
        return list(reversed(super().deliver(batch)))


class Hasty(FakeDestination):
    """Says done of a row that was refused."""

    def _one(self, row: Operation) -> Result:
        super()._one(row)
        return Result(row.operation_id, "done")


class Forgetful(FakeDestination):
    """Acts again on an id it has seen."""

    def _one(self, row: Operation) -> Result:
        self.shelf.effects.append("again")
        return super()._one(row)


class Wiping(FakeDestination):
    """Writes what was not sent as nothing."""

    def _one(self, row: Operation) -> Result:
        result = super()._one(row)
        if row.operation != "delete":
            self.shelf.rows[row.key] = {name: row.fields.get(name) for name in checks.Bench.columns}
        return result


class Rounding(FakeDestination):
    """Turns decimals into floats."""

    def _one(self, row: Operation) -> Result:
        result = super()._one(row)
        if row.key in self.shelf.rows and "amount" in row.fields:
            self.shelf.rows[row.key]["amount"] = round(float(row.fields["amount"]), 1)
        return result


class Chatty(FakeDestination):
    """One call per row, whatever the batch."""

    def deliver(self, batch):
        results = super().deliver(batch)
        self.shelf.calls += [(row.operation_id,) for row in batch.operations]
        return results


class Mute(FakeDestination):
    """Refuses without a word."""

    def _one(self, row: Operation) -> Result:
        result = super()._one(row)
        return result if result.status == "done" else Result(row.operation_id, "failed")


class Keeping(FakeDestination):
    """Never removes."""

    def _one(self, row: Operation) -> Result:
        return Result(row.operation_id, "done") if row.operation == "delete" else super()._one(row)


class Eager(FakeDestination):
    """Calls when it is made."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.shelf.calls.append(())


FAULTY = [
    (Backwards, checks.results_come_in_order, "in the order of the batch"),
    (Hasty, checks.a_refused_row_does_not_stop_the_others, "the refused row is done, expected failed"),
    (Forgetful, checks.a_repetition_changes_nothing, "had a second effect"),
    (Wiping, checks.absent_fields_are_left_alone, "a field that was not sent became None"),
    (Rounding, checks.values_arrive_as_they_are, "sent 1234567890.1200, 1234567890.1 arrived"),
    (Chatty, checks.one_delivery_is_one_call, "one delivery made 4 calls"),
    (Mute, checks.a_refused_row_does_not_stop_the_others, "must have the destination's code"),
    (Keeping, checks.removals_remove, "the row is still there after its removal was confirmed"),
    (Eager, checks.making_it_touches_nothing, "making the destination called it"),
    (Eager, checks.a_dry_run_does_not_call, "a dry run called the destination"),
]


@pytest.mark.parametrize(("faulty", "check", "sentence"), FAULTY, ids=lambda value: getattr(value, "__name__", ""))
def test_the_kit_finds_the_fault(faulty, check, sentence, tmp_path):
    class FaultyBench(FakeBench):
        kind = f"{__name__}:{faulty.__name__}"

    with pytest.raises(AssertionError, match=sentence):
        check(FaultyBench(tmp_path))


class Leaking(FakeDestination):
    """Puts its secret into what it says."""

    def _one(self, row: Operation) -> Result:
        return Result(row.operation_id, "failed", "NO", f"token {self.environment['TOKEN']} refused", "no")


class Scribbling(FakeDestination):
    """Writes its secret into a file."""

    def _one(self, row: Operation) -> Result:
        (self.folder / "debug.log").write_text(f"logging in with {self.environment['TOKEN']}")
        return super()._one(row)


@pytest.mark.parametrize(
    ("faulty", "sentence"),
    [(Leaking, "a secret stands in the table"), (Scribbling, "a secret stands in the file debug.log")],
)
def test_the_kit_finds_a_secret_in_tables_and_files(faulty, sentence, tmp_path):
    class FaultyBench(FakeBench):
        kind = f"{__name__}:{faulty.__name__}"
        environment: ClassVar = {"TOKEN": checks.SECRET}

    with pytest.raises(AssertionError, match=sentence):
        checks.secrets_stay_secret(FaultyBench(tmp_path))
