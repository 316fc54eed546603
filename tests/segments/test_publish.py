from pathlib import Path

import pytest

from headwater.segments.publish import TABLE, publish_segments
from headwater.warehouse.connection import Warehouse

ROWS = "(values ('b', 3, 'Champions (VIPs)'), ('a,1', 4, 'Loyal Customers'), ('ä', 2, 'Occasional Shoppers'), ('B', 0, 'Big Spenders')) as t(customer_id, segment_id, segment_name)"


def test_the_seed_is_sorted_with_unix_line_ends(warehouse: Warehouse, tmp_path: Path) -> None:
    seed = tmp_path / "seeds" / "customer_segments.csv"
    done = publish_segments(warehouse, ROWS, seed, seed_limit=10)
    assert (
        seed.read_bytes()
        == (
            "customer_id,segment_id,segment_name\nB,0,Big Spenders\n"
            '"a,1",4,Loyal Customers\nb,3,Champions (VIPs)\nä,2,Occasional Shoppers\n'
        ).encode()
    )
    assert (done.place, done.rows, done.changed) == (str(seed), 4, True)
    assert [path.name for path in seed.parent.iterdir()] == ["customer_segments.csv"]


def test_publishing_the_same_again_leaves_the_file_untouched(warehouse: Warehouse, tmp_path: Path) -> None:
    seed = tmp_path / "customer_segments.csv"
    publish_segments(warehouse, ROWS, seed, seed_limit=10)
    before = seed.stat().st_ino
    assert not publish_segments(warehouse, ROWS, seed, seed_limit=10).changed
    assert seed.stat().st_ino == before


def test_a_large_shop_is_published_as_a_table_and_back(warehouse: Warehouse, tmp_path: Path) -> None:
    seed = tmp_path / "customer_segments.csv"
    publish_segments(warehouse, ROWS, seed, seed_limit=10)
    done = publish_segments(warehouse, ROWS, seed, seed_limit=3)
    assert (done.place, done.changed) == (TABLE, True)
    assert seed.read_text() == "customer_id,segment_id,segment_name\n"
    assert warehouse.value(f"select count(*) from {TABLE}") == 4
    assert not publish_segments(warehouse, ROWS, seed, seed_limit=3).changed
    assert publish_segments(warehouse, ROWS, seed, seed_limit=10).place == str(seed)
    assert warehouse.value(f"select count(*) from {TABLE}") == 0


def test_a_crash_while_writing_leaves_the_old_file(
    warehouse: Warehouse, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seed = tmp_path / "customer_segments.csv"
    seed.write_text("customer_id,segment_id,segment_name\nold,1,At-Risk (Lapsing)\n")

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("headwater.segments.publish.os.fsync", killed)
    with pytest.raises(KeyboardInterrupt):
        publish_segments(warehouse, ROWS, seed, seed_limit=10)
    assert seed.read_text() == "customer_id,segment_id,segment_name\nold,1,At-Risk (Lapsing)\n"
    monkeypatch.undo()
    publish_segments(warehouse, ROWS, seed, seed_limit=10)
    assert not list(tmp_path.glob(".customer_segments*"))
