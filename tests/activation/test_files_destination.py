"""Rows as files, complete or not at all."""

import csv
import json
from decimal import Decimal

import pytest

from headwater.activation import destinations
from headwater.activation.destinations import Batch, Later, Operation, files
from headwater.activation.settings import DestinationSettings
from headwater.errors import ConfigError

ROWS = (
    Operation("id1", "people", "c1", 1, "create", {"name": 'quote " comma,', "amount": Decimal("1.50"), "city": None}),
    Operation("id2", "people", "c2", 2, "update", {"amount": Decimal("2.00"), "tags": ["a", "b"]}),
    Operation("id3", "people", "c3", 3, "delete", {}),
)
BATCH = Batch("people-1", "people", ROWS, ("name", "amount", "city", "tags"))


def make(project, **options):
    return destinations.make("out", DestinationSettings(type="files", options=options), folder=project, environment={})


def test_csv_has_the_fields_in_the_order_of_the_mapping(tmp_path):
    make(tmp_path).deliver(BATCH)
    with (tmp_path / "outbox" / "people" / "people-1.csv").open(newline="") as text:
        lines = list(csv.reader(text))
    assert lines == [
        ["operation", "key", "operation_id", "name", "amount", "city", "tags"],
        ["create", "c1", "id1", 'quote " comma,', "1.50", "", ""],
        ["update", "c2", "id2", "", "2.00", "", '["a","b"]'],
        ["delete", "c3", "id3", "", "", "", ""],
    ]


def test_json_tells_cleared_from_untouched(tmp_path):
    make(tmp_path, format="json", folder="elsewhere").deliver(BATCH)
    text = (tmp_path / "elsewhere" / "people" / "people-1.json").read_text()
    assert [row["fields"] for row in json.loads(text, parse_float=Decimal)] == [dict(row.fields) for row in ROWS]
    assert len(text.splitlines()) == len(ROWS) + 2


def test_the_same_batch_again_replaces_its_file(tmp_path):
    one = make(tmp_path)
    one.deliver(BATCH)
    one.deliver(Batch("people-1", "people", ROWS[:1], BATCH.columns))
    (only,) = (tmp_path / "outbox" / "people").iterdir()
    assert len(only.read_text().splitlines()) == 2


def test_a_crash_while_writing_leaves_no_half_file(tmp_path, monkeypatch):
    def die(name):
        raise KeyboardInterrupt(name)

    monkeypatch.setattr(files, "failpoint", die)
    with pytest.raises(KeyboardInterrupt):
        make(tmp_path).deliver(BATCH)
    folder = tmp_path / "outbox" / "people"
    assert [path.name for path in folder.iterdir()] == [".people-1.csv.part"]
    monkeypatch.undo()
    make(tmp_path).deliver(BATCH)
    assert [path.name for path in folder.iterdir()] == ["people-1.csv"]


def test_a_folder_that_cannot_be_written_is_for_later(tmp_path):
    (tmp_path / "outbox").write_text("in the way")
    with pytest.raises(Later) as told:
        make(tmp_path).deliver(BATCH)
    assert told.value.message.startswith("people-1.csv cannot be written: ")
    assert told.value.advice == "make room or mend the folder, then run again"


def test_wrong_options(tmp_path):
    with pytest.raises(ConfigError) as told:
        make(tmp_path, format="xml", fodler="x")
    assert str(told.value).splitlines() == [
        "the destination 'out' has 2 problems:",
        "  destinations.out.options.format: found 'xml'; Input should be 'csv' or 'json'",
        "  destinations.out.options.fodler: no such option; known: folder, format",
    ]
