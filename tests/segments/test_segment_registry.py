"""Versions, aliases, and files that are not trusted on sight."""

import hashlib
import pickle
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from segment_shops import AS_OF
from skops import io as skops_io

from headwater.clock import FixedClock
from headwater.errors import InvalidValue, Refused
from headwater.segments import registry
from headwater.segments.registry import BrokenArtefact, Version, promote, rollback, versions, write_artefact
from headwater.segments.settings import MlSegmentSettings
from headwater.warehouse.connection import Warehouse

SETTINGS = MlSegmentSettings()
GOOD = {"smallest_jaccard": 0.9, "weakest": "one", "smallest_share": 0.2, "rarest": "one", "overlap": 0.95}


class Stranger:
    """A type that skops does not know."""

    def __init__(self) -> None:
        self.word = "hello"


def add(warehouse: Warehouse, number: int, compared_with: int | None, **measures: Any) -> Version:
    """A version in the registry, challenger, with what the gate looks at."""
    version = Version(
        "kmeans",
        number,
        "challenger",
        AS_OF,
        AS_OF,
        {},
        {"measures": {**GOOD, **measures}, "previous_version": compared_with},
        {},
        "promoted",
        "",
        "hash",
        "none",
        "none",
    )
    with warehouse.transaction():
        registry.register(warehouse, version)
    return version


def aliases(warehouse: Warehouse) -> dict[int, str | None]:
    return {version.version: version.alias for version in versions(warehouse)}


def test_promotion_moves_the_aliases(warehouse: Warehouse, clock: FixedClock) -> None:
    add(warehouse, 1, None, overlap=None)
    first = promote(warehouse, SETTINGS, clock)
    assert (first.version, first.previous, first.stability, first.changed) == (1, None, "fine", True)
    add(warehouse, 2, 1)
    assert aliases(warehouse) == {1: "champion", 2: "challenger"}
    second = promote(warehouse, SETTINGS, clock)
    assert second.message == "version 2 is the champion, fine; before: version 1"
    assert aliases(warehouse) == {1: "previous", 2: "champion"}
    again = promote(warehouse, SETTINGS, clock, version=2)
    assert (again.changed, again.message) == (False, "version 2 was the champion already")
    assert aliases(warehouse) == {1: "previous", 2: "champion"}


def test_a_refused_version_stays_challenger_and_the_refusal_has_rule_and_numbers(
    warehouse: Warehouse, clock: FixedClock
) -> None:
    add(warehouse, 1, None)
    promote(warehouse, SETTINGS, clock)
    add(warehouse, 2, 1, overlap=0.41)
    with pytest.raises(Refused) as refused:
        promote(warehouse, SETTINGS, clock)
    assert str(refused.value) == (
        "version 2 of kmeans is not promoted, version 1 stays champion. min_overlap: 41% of the customers would keep their segment, at least "
        "70% is required; lower segments.ml.min_overlap if the change is wanted."
    )
    assert aliases(warehouse) == {1: "champion", 2: "challenger"}
    loose = SETTINGS.model_copy(update={"min_overlap": 0.4})
    assert promote(warehouse, loose, clock).changed


def test_a_refused_first_version_is_published_as_doubtful(warehouse: Warehouse, clock: FixedClock) -> None:
    add(warehouse, 1, None, smallest_jaccard=0.4)
    done = promote(warehouse, SETTINGS, clock)
    assert done.stability == "doubtful"
    assert done.warnings[0].startswith(
        "version 1 of kmeans is the first, and is published as doubtful. smallest_jaccard: one is found"
    )
    champion = registry.champion(warehouse)
    assert champion is not None
    assert (champion.verdict, champion.published_stability) == ("doubtful", "doubtful")


def test_a_doubtful_version_may_be_promoted_and_says_so(warehouse: Warehouse, clock: FixedClock) -> None:
    add(warehouse, 1, None)
    promote(warehouse, SETTINGS, clock)
    add(warehouse, 2, 1, smallest_jaccard=0.65)
    done = promote(warehouse, SETTINGS, clock)
    assert done.stability == "doubtful"
    assert "Jaccard 0.65, below 0.75" in done.warnings[0]


def test_a_version_that_was_compared_with_another_champion_is_refused(warehouse: Warehouse, clock: FixedClock) -> None:
    add(warehouse, 1, None)
    promote(warehouse, SETTINGS, clock)
    add(warehouse, 2, 1)
    add(warehouse, 3, 1)
    promote(warehouse, SETTINGS, clock, version=2)
    with pytest.raises(Refused, match="version 3 of kmeans was compared with version 1, but the champion is version 2"):
        promote(warehouse, SETTINGS, clock, version=3)


def test_rollback_returns_step_by_step_and_what_left_stays_out(warehouse: Warehouse, clock: FixedClock) -> None:
    for number in (1, 2, 3):
        add(warehouse, number, number - 1 or None)
        clock.push(timedelta(days=1))
        promote(warehouse, SETTINGS, clock)
    back = rollback(warehouse, clock)
    assert (back.version, back.previous) == (2, 3)
    assert aliases(warehouse) == {1: "previous", 2: "champion", 3: None}
    rollback(warehouse, clock)
    assert aliases(warehouse) == {1: "champion", 2: None, 3: None}
    with pytest.raises(
        Refused, match="there is no earlier version of kmeans to return to; version 1 is the first that was promoted"
    ):
        rollback(warehouse, clock)
    with pytest.raises(
        Refused, match=r"version 3 of kmeans was taken out of use by a rollback: Rolled back to version 2 at 2026-07-04"
    ):
        promote(warehouse, SETTINGS, clock, version=3)


def test_nothing_to_roll_back_or_promote(warehouse: Warehouse, clock: FixedClock) -> None:
    with pytest.raises(Refused, match="no version was promoted yet"):
        rollback(warehouse, clock)
    with pytest.raises(
        InvalidValue,
        match="there is no challenger of kmeans to promote; versions: none; run `headwater segment train` first",
    ):
        promote(warehouse, SETTINGS, clock)
    add(warehouse, 1, None)
    with pytest.raises(InvalidValue, match="version: found 9; kmeans has the versions: 1"):
        promote(warehouse, SETTINGS, clock, version=9)


def artefact(folder: Path, content: dict[str, Any] | bytes) -> Version:
    """A version whose artefact is on disk."""
    if isinstance(content, bytes):
        folder.mkdir(exist_ok=True)
        (folder / "kmeans-000001.skops").write_bytes(content)
        name, sha256 = "kmeans-000001.skops", hashlib.sha256(content).hexdigest()
    else:
        name, sha256 = write_artefact(folder, "kmeans", 1, content)
    return replace(
        Version("kmeans", 1, None, AS_OF, AS_OF, {}, {}, {}, "promoted", "", "hash", "", ""),
        artefact=name,
        artefact_sha256=sha256,
    )


def test_an_artefact_comes_back_equal(tmp_path: Path) -> None:
    version = artefact(tmp_path / "models", {"model": {"k": 5}, "centroids": np.arange(6.0).reshape(2, 3)})
    found = registry.load_artefact(tmp_path / "models", version)
    assert found["model"] == {"k": 5}
    np.testing.assert_array_equal(found["centroids"], np.arange(6.0).reshape(2, 3))
    assert [path.name for path in (tmp_path / "models").iterdir()] == ["kmeans-000001.skops"]


def test_a_changed_artefact_is_not_loaded(tmp_path: Path) -> None:
    version = artefact(tmp_path, {"model": 1})
    path = tmp_path / version.artefact
    path.write_bytes(path.read_bytes() + b"x")
    with pytest.raises(
        BrokenArtefact, match=r"it was changed after training and is not loaded. Restore the file from a backup"
    ):
        registry.load_artefact(tmp_path, version)


def test_a_missing_artefact_says_where_it_should_be(tmp_path: Path) -> None:
    version = artefact(tmp_path, {"model": 1})
    (tmp_path / version.artefact).unlink()
    with pytest.raises(
        BrokenArtefact, match=r"version 1 of kmeans should be in .*kmeans-000001.skops, and the file is not there"
    ):
        registry.load_artefact(tmp_path, version)


def test_an_unknown_type_is_not_loaded_even_with_the_right_sum(tmp_path: Path) -> None:
    version = artefact(tmp_path, skops_io.dumps({"model": Stranger()}))
    with pytest.raises(BrokenArtefact, match=r"holds types that are not loaded from a file: .*Stranger"):
        registry.load_artefact(tmp_path, version)


def test_a_pickle_is_not_loaded_even_with_the_right_sum(tmp_path: Path) -> None:
    version = artefact(tmp_path, pickle.dumps({"model": 1}))
    with pytest.raises(BrokenArtefact, match="is not a skops file"):
        registry.load_artefact(tmp_path, version)
