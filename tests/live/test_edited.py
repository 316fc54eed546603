"""Which files of the models have changed since they were taken over."""

import os
from pathlib import Path

import pytest

from headwater.live import edited


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A project whose models were taken over."""
    for name in ("models/marts/user_alerts.sql", "models/marts/user_alerts.yml", "macros/scale.sql"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("select 1", encoding="utf-8")
    (tmp_path / "dbt_project.yml").write_text("name: shop", encoding="utf-8")
    edited.note(tmp_path, edited.files(tmp_path))
    return tmp_path


def test_what_is_new_gone_or_another_is_named_and_nothing_else(folder: Path) -> None:
    assert edited.changed(folder) == []
    (folder / "models/marts/user_alerts.sql").write_text("select 2", encoding="utf-8")
    (folder / "macros/scale.sql").unlink()
    (folder / "models/new.yml").write_text("version: 2", encoding="utf-8")
    (folder / "models/notes.txt").write_text("of no concern", encoding="utf-8")
    assert edited.changed(folder) == ["macros/scale.sql", "models/marts/user_alerts.sql", "models/new.yml"]


def test_a_file_written_again_with_the_same_contents_has_not_changed(folder: Path) -> None:
    path = folder / "models/marts/user_alerts.sql"
    path.write_text("select 1", encoding="utf-8")
    os.utime(path, (1, 1))
    assert edited.changed(folder) == []


def test_an_edit_while_the_models_are_read_is_not_lost(folder: Path) -> None:
    taken = edited.files(folder)
    (folder / "dbt_project.yml").write_text("name: shop2", encoding="utf-8")
    edited.note(folder, taken)
    assert edited.changed(folder) == ["dbt_project.yml"]


def test_nothing_is_said_where_nothing_was_written_down_and_nothing_is_written(folder: Path) -> None:
    (folder / edited.NOTE).unlink()
    assert edited.changed(folder) == []
    assert not (folder / edited.NOTE).exists()


def test_one_line_says_what_follows() -> None:
    assert edited.sentence(["models/a.sql"]) == (
        "models/a.sql has changed since the last build; `headwater build` takes it over"
    )
    assert edited.sentence(["a.sql", "b.sql", "c.sql", "d.sql"]) == (
        "a.sql, b.sql, c.sql and 1 more file have changed since the last build; `headwater build` takes them over"
    )
