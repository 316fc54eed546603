"""`bi/*.csv` and `bi/*.parquet`."""

import csv
from decimal import Decimal
from pathlib import Path

import pytest

from headwater.console import export as module
from headwater.console.export import export, is_mart, marts
from headwater.errors import StageFailed
from headwater.warehouse.connection import Warehouse


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_every_mart_is_written_twice_with_all_its_rows(full: Warehouse, tmp_path: Path) -> None:
    done = export(full, tmp_path / "bi")
    assert {file.relation for file in done.files} >= {
        "dim_customer",
        "fct_orders",
        "mart_marketing__customer_360",
        "user_alerts",
    }
    for file in done.files:
        rows = full.value(f"select count(*) from main.{file.relation}")
        assert file.row_count == rows
        assert full.value(f"select count(*) from read_parquet('{file.parquet}')") == rows
        with file.csv.open(newline="", encoding="utf-8") as text:
            assert sum(1 for _ in csv.reader(text)) == rows + 1
    assert done.row_count == sum(file.row_count for file in done.files)
    assert done.warnings == ()


def test_money_and_types_survive_in_parquet(full: Warehouse, tmp_path: Path) -> None:
    export(full, tmp_path)
    parquet = tmp_path / "fct_orders.parquet"
    assert full.value(f"select sum(revenue) from read_parquet('{parquet}')") == full.value(
        "select sum(revenue) from main.fct_orders"
    )
    assert isinstance(full.value(f"select max(revenue) from read_parquet('{parquet}')"), Decimal)


@pytest.mark.parametrize(
    ("name", "outside"),
    [("dim_customer", True), ("fct_orders", True), ("mart_marketing__roas", True), ("user_alerts", True), ("product_sales", True),
     ("thirty_day_customer_snapshot", True), ("stg_orders", False), ("int_customer_orders", False), ("quarantined_rows", False)],
)  # fmt: skip
def test_what_is_a_mart_is_told_by_its_name(name: str, outside: bool) -> None:
    assert is_mart(name) is outside


def test_only_marts_of_schema_main_leave(full: Warehouse, tmp_path: Path) -> None:
    names = {file.relation for file in export(full, tmp_path).files}
    assert not {name for name in names if name.startswith(("stg_", "int_", "quarantined", "row_counts"))}
    assert not [name for name in files(tmp_path) if name.startswith("decision_log")]


def test_twice_gives_the_same_bytes(full: Warehouse, tmp_path: Path) -> None:
    export(full, tmp_path / "first")
    export(full, tmp_path / "second")
    assert files(tmp_path / "first") == files(tmp_path / "second")


def test_order_does_not_depend_on_how_rows_lie_in_the_table(tmp_path: Path) -> None:
    written = []
    for direction in ("asc", "desc"):
        with Warehouse(tmp_path / f"{direction}.duckdb") as warehouse:
            # neither column identifies a row alone
            rows = f"select i % 7 as a, i % 11 as b, i // 77 as c from range(3000) t(i) order by i {direction}"
            warehouse.execute(f"create table main.fct_things as {rows}")
            export(warehouse, tmp_path / direction)
        written.append((tmp_path / direction / "fct_things.csv").read_bytes())
    assert written[0] == written[1]


def test_a_failure_leaves_the_last_good_file_and_no_rubbish(tmp_path: Path) -> None:
    with Warehouse(tmp_path / "w.duckdb") as warehouse:
        warehouse.execute("create view main.fct_a as select 1 as x")
        export(warehouse, tmp_path / "bi")
        before = files(tmp_path / "bi")
        warehouse.execute("create or replace view main.fct_a as select error('no such luck')::int as x from range(3)")
        with pytest.raises(
            StageFailed, match=r"the mart fct_a cannot be written to .* \(.*no such luck.*\); its files are as before"
        ):
            export(warehouse, tmp_path / "bi")
    assert files(tmp_path / "bi") == before


def test_awkward_names_and_values_are_kept(tmp_path: Path) -> None:
    with Warehouse(tmp_path / "w.duckdb") as warehouse:
        name = """ "fct_it's ""odd\""" """
        warehouse.execute(f"""create table main.{name} as select 'a,"b"\nc' as "the, column", null as n""")
        done = export(warehouse, tmp_path / "it's here")
    with done.files[0].csv.open(newline="", encoding="utf-8") as text:
        assert list(csv.reader(text)) == [["the, column", "n"], ['a,"b"\nc', ""]]


def test_files_of_marts_that_are_gone_are_named_not_deleted(full: Warehouse, tmp_path: Path) -> None:
    (tmp_path / "mart_old.csv").write_text("x\n")
    (tmp_path / "my_notes.csv").write_text("x\n")
    assert export(full, tmp_path).warnings == (
        "mart_old.csv is from an earlier export: there is no mart of that name now; delete the file if nobody reads it",
    )
    assert (tmp_path / "mart_old.csv").exists()


def test_nothing_built_yet_is_a_warning(empty: Warehouse, tmp_path: Path) -> None:
    done = export(empty, tmp_path / "bi")
    assert done.files == ()
    assert done.warnings == ("there are no marts to export yet: run `headwater build` first",)


def test_progress_names_each_mart_and_ends_at_the_number_of_them(full: Warehouse, tmp_path: Path) -> None:
    told: list[tuple[str, int, int]] = []
    export(full, tmp_path, on_progress=lambda *step: told.append(step))
    names = marts(full)
    assert [name for name, _, _ in told] == [*names, ""]
    assert told[-1][1:] == (len(names), len(names))


def test_half_written_files_are_never_seen_under_the_real_name(
    full: Warehouse, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []
    real = Path.replace

    def watched(self: Path, target: Path) -> Path:
        seen.append(self.name)
        assert self.suffix == ".unfinished"
        return real(self, target)

    monkeypatch.setattr(module.Path, "replace", watched)
    export(full, tmp_path)
    assert len(seen) == 2 * len(marts(full))
