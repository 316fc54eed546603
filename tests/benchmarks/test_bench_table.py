"""The bench: its rows can be found, its table and its page say the same, and what cannot be run is said."""

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def bench(benchmark: Callable[[str], ModuleType]) -> ModuleType:
    return benchmark("benchmarks.__main__")


def test_every_row_and_every_input_is_a_function(bench: ModuleType) -> None:
    registry = sys.modules["benchmarks.registry"]
    for target in (*registry.INPUTS.values(), *(row.target for row in registry.BENCHES.values())):
        assert callable(registry.load(target)), target
    for name, row in registry.BENCHES.items():
        assert set(row.inputs) <= set(registry.INPUTS), name


def test_bound_and_product_take_turns(bench: ModuleType) -> None:
    row = sys.modules["benchmarks.registry"].load("benchmarks.row:turns")
    calls: list[str] = []
    row(lambda: calls.append("product"), lambda: calls.append("bound"), rounds=2)
    assert calls == ["product", "bound", "product", "bound"]


def test_a_row_runs_in_its_own_process_and_has_the_promised_keys(
    bench: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(bench, "RESULTS", tmp_path / "results.json")
    monkeypatch.setattr(bench, "WORK", tmp_path / "work")
    monkeypatch.setenv("ONLY", "decide_one_by_one")
    assert bench.main() == 0
    (row,) = json.loads((tmp_path / "results.json").read_text())
    assert list(row) == ["name", "size", "seconds", "peak_mb", "bound", "ratio", "bar", "ok"]
    assert row["ratio"] == pytest.approx(row["seconds"] / row["bound"])
    assert row["peak_mb"] > 10
    assert not (tmp_path / "work").exists()


def test_an_unknown_row_is_refused_with_those_there_are() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks"],
        cwd=ROOT,
        env={"ONLY": "warp_drive", "PATH": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert " ".join(done.stdout.split()).startswith("ONLY: found 'warp_drive'; the rows are shop_100k_customers, ")


def test_the_page_has_every_row_and_no_other(bench: ModuleType) -> None:
    rows = set(sys.modules["benchmarks.registry"].BENCHES)
    page = (ROOT / "docs" / "benchmarks.md").read_text(encoding="utf-8")
    page = page[page.index("<!-- begin: results -->") : page.index("<!-- end: results -->")]
    assert set(re.findall(r"^\| `(\w+)` \|", page, re.M)) == rows


def test_rows_are_chosen_by_a_pattern(bench: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    ran: list[str] = []

    def row(name: str, console: object) -> dict[str, object]:
        ran.append(name)
        return {
            "name": name,
            "size": "",
            "seconds": 1.0,
            "peak_mb": 1.0,
            "bound": 1.0,
            "ratio": 1.0,
            "bar": "",
            "ok": True,
        }

    monkeypatch.setattr(bench, "RESULTS", tmp_path / "results.json")
    monkeypatch.setattr(bench, "WORK", tmp_path / "work")
    monkeypatch.setattr(bench, "_row", row)
    monkeypatch.setenv("ONLY", "peers_*_5m")
    assert bench.main() == 0
    assert ran == [f"peers_{engine}_5m" for engine in ("flink", "pathway", "postgres", "expiring", "view")]
