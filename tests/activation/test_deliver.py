"""A plan goes out, exactly as reviewed, and only what was confirmed counts as delivered."""

import csv

from headwater.activation.settings import DestinationSettings


def test_what_the_model_says_arrives_in_a_file_once(desk):
    desk.destination = DestinationSettings(type="files")
    desk.people(("c1", "Ann", "Oslo"), ("c2", "Bo", None))
    first = desk.deliver()
    again = desk.deliver()
    assert (first.status, first.planned, first.confirmed) == ("ok", 2, 2)
    assert (again.status, again.planned) == ("nothing", 0)
    files = list((desk.folder / "outbox" / "people").iterdir())
    assert len(files) == 1
    with files[0].open() as lines:
        rows = [(row["operation"], row["key"], row["name"], row["city"]) for row in csv.DictReader(lines)]
    assert rows == [("create", "c1", "Ann", "Oslo"), ("create", "c2", "Bo", "")]


def test_one_changed_row_is_one_row_sent(desk):
    desk.people(("c1", "Ann", "Oslo"), ("c2", "Bo", "Rome"))
    desk.deliver()
    desk.people(("c1", "Ann", "Bergen"), ("c2", "Bo", "Rome"))
    (operation,) = desk.plan().operations()
    assert (operation.operation, operation.key, operation.fields, operation.previous) == (
        "update",
        "c1",
        {"name": "Ann", "city": "Bergen"},
        {"name": "Ann", "city": "Oslo"},
    )
    assert desk.deliver().confirmed == 1
    assert desk.delivered() == {"c1": ("Ann", "Bergen"), "c2": ("Bo", "Rome")}
