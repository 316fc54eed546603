"""From features to a published model, on a shop and on real ones."""

import csv
import json
from collections import Counter
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
from segment_shops import AS_OF, QUICK, blobs, marketing_insights, noise, olist, rfm_table, synthetic, view_at

from headwater.clock import FixedClock
from headwater.segments import registry
from headwater.segments.assign import assign
from headwater.segments.features import ConstantColumn
from headwater.segments.monitor import monitor
from headwater.segments.naming import SEGMENT_IDS
from headwater.segments.settings import MlSegmentSettings
from headwater.segments.train import is_due, train
from headwater.warehouse.connection import Warehouse


def test_marketing_insights_ends_with_1468_customers_in_the_five_seed_segments(
    warehouse: Warehouse, clock: FixedClock, shared_data: Path, tmp_path: Path
) -> None:
    marketing_insights(warehouse, shared_data)
    settings = MlSegmentSettings(stability_refits=25)
    trained = train(warehouse, settings, clock, tmp_path / "models")
    assert (trained.status, trained.stability) == ("promoted", "fine")
    assert trained.smallest_jaccard == pytest.approx(0.84, abs=0.04)
    assert trained.auc is not None
    assert trained.auc_baseline is not None
    assert trained.auc_baseline < trained.auc < settings.max_auc
    seed = tmp_path / "customer_segments.csv"
    found = assign(warehouse, settings, clock, tmp_path / "models", seed)
    assert found.message == "1,468 of 1,468 customers are in 5 segments of version 1 (fine)"
    rows = list(csv.DictReader(seed.read_text(encoding="utf-8").splitlines()))
    assert len(rows) == len({row["customer_id"] for row in rows}) == 1468
    assert [row["customer_id"] for row in rows] == sorted(row["customer_id"] for row in rows)
    assert {(row["segment_name"], int(row["segment_id"])) for row in rows} == set(SEGMENT_IDS.items())
    assert Counter(row["segment_name"] for row in rows) == found.segments == trained.segments
    assert warehouse.rows("select distinct stability from headwater.segment_assignments") == [{"stability": "fine"}]
    assert warehouse.value("select count(*) from headwater.clv_scores where clv > 0") == 1468


def test_olist_goes_on_with_the_names_it_can_bear(
    warehouse: Warehouse, clock: FixedClock, shared_data: Path, tmp_path: Path
) -> None:
    olist(warehouse, shared_data)
    trained = train(warehouse, QUICK, clock, tmp_path)
    assert any(
        warning.startswith("the names Champions (VIPs) and Loyal Customers are refused") for warning in trained.warnings
    )
    assert trained.status == "doubtful"
    assert [refusal.split(":")[0] for refusal in trained.refusals] == ["structure", "min_share"]
    found = assign(warehouse, QUICK, clock, tmp_path)
    assert found.stability == "doubtful"
    assert sum(found.segments.values()) + sum(found.unsegmented.values()) == found.customers == 19_831
    assert not any(called.startswith(("Champions", "Loyal")) for called in found.segments)
    assert warehouse.rows("select distinct stability from headwater.segment_assignments") == [{"stability": "doubtful"}]


def test_the_same_data_and_settings_give_no_second_version(
    warehouse: Warehouse, clock: FixedClock, tmp_path: Path
) -> None:
    synthetic(warehouse, 900)
    first = train(warehouse, QUICK, clock, tmp_path)
    rows = warehouse.execute("select * from headwater.ml_model_registry order by all").fetchall()
    clock.push(timedelta(days=1))
    again = train(warehouse, QUICK, clock, tmp_path)
    assert again.status == "unchanged"
    assert again.message == "these data and settings are version 1 already (promoted); nothing was trained"
    assert (again.version, again.segments) == (first.version, first.segments)
    assert warehouse.execute("select * from headwater.ml_model_registry order by all").fetchall() == rows


def test_a_lost_artefact_stops_scoring_and_training_mends_it(
    warehouse: Warehouse, clock: FixedClock, tmp_path: Path
) -> None:
    synthetic(warehouse, 900)
    train(warehouse, QUICK, clock, tmp_path / "models")
    before = assign(warehouse, QUICK, clock, tmp_path / "models")
    for path in (tmp_path / "models").iterdir():
        path.write_bytes(b"not what it was")
    with pytest.raises(registry.BrokenArtefact, match="or run `headwater segment train`"):
        assign(warehouse, QUICK, clock, tmp_path / "models")
    mended = train(warehouse, QUICK, clock, tmp_path / "models")
    assert (mended.status, mended.version, mended.clv_version, mended.overlap) == ("promoted", 2, 2, 1.0)
    assert assign(warehouse, QUICK, clock, tmp_path / "models").segments == before.segments


def test_a_retrain_carries_the_segments_and_writes_down_how(
    warehouse: Warehouse, clock: FixedClock, tmp_path: Path
) -> None:
    synthetic(warehouse, 900)
    train(warehouse, QUICK, clock, tmp_path)
    assign(warehouse, QUICK, clock, tmp_path)
    view_at(warehouse, AS_OF + timedelta(days=3))
    other = QUICK.model_copy(update={"seed": 99})
    second = train(warehouse, other, clock, tmp_path)
    assert (second.status, second.version) == ("promoted", 2)
    assert second.overlap is not None
    assert second.overlap > 0.9
    rows = warehouse.rows("select * from headwater.segment_alignment where version = 2 order by segment_id")
    assert [row["outcome"] for row in rows] == ["carried"] * 5
    assert [row["segment_id"] for row in rows] == [row["previous_segment_id"] for row in rows] == [0, 1, 2, 3, 4]
    assert sum(row["customers"] for row in rows) == 900
    kept = {int(number): called for number, called in registry.versions(warehouse)[1].params["model"]["segments"]}
    assert kept == {number: called for called, number in SEGMENT_IDS.items()}
    moved = assign(warehouse, other, clock, tmp_path)
    assert moved.version == 2
    assert moved.moved < 90


def test_a_worse_model_is_refused_and_the_champion_goes_on(
    warehouse: Warehouse, clock: FixedClock, tmp_path: Path
) -> None:
    rfm_table(warehouse, blobs(1_000, 1))
    assert train(warehouse, QUICK, clock, tmp_path).status == "promoted"
    rfm_table(warehouse, noise(1_000, 2))
    second = train(warehouse, QUICK, clock, tmp_path)
    assert second.status == "refused"
    rules = ", ".join(refusal.split(":")[0] for refusal in second.refusals)
    assert second.message == f"version 2 is not promoted ({rules}), version 1 stays champion"
    assert {refusal.split(":")[0] for refusal in second.refusals} >= {"structure"}
    assert {version.version: version.alias for version in registry.versions(warehouse)} == {
        1: "champion",
        2: "challenger",
    }
    assert train(warehouse, QUICK, clock, tmp_path).status == "unchanged"
    assert assign(warehouse, QUICK, clock, tmp_path).version == 1


def test_noise_as_the_first_model_is_published_as_doubtful(
    warehouse: Warehouse, clock: FixedClock, tmp_path: Path
) -> None:
    rfm_table(warehouse, noise(1_000, 2))
    trained = train(warehouse, QUICK, clock, tmp_path)
    assert trained.status == "doubtful"
    rules = ", ".join(refusal.split(":")[0] for refusal in trained.refusals)
    assert "structure" in rules
    assert trained.message == (
        f"version 1 is champion and published as doubtful ({rules}), though it was refused, because it is the first"
    )
    assert assign(warehouse, QUICK, clock, tmp_path).stability == "doubtful"


def test_rolling_back_brings_the_old_memberships_back(warehouse: Warehouse, clock: FixedClock, tmp_path: Path) -> None:
    synthetic(warehouse, 900)
    train(warehouse, QUICK, clock, tmp_path)
    assign(warehouse, QUICK, clock, tmp_path)
    members = "select customer_id, segment_id from headwater.segment_assignments where valid_to is null order by 1"
    before = warehouse.execute(members).fetchall()
    train(warehouse, QUICK.model_copy(update={"k": 4, "min_overlap": 0.0, "min_jaccard": 0.0}), clock, tmp_path)
    assign(warehouse, QUICK.model_copy(update={"k": 4}), clock, tmp_path)
    assert warehouse.execute(members).fetchall() != before
    registry.rollback(warehouse, clock)
    assign(warehouse, QUICK, clock, tmp_path)
    assert warehouse.execute(members).fetchall() == before


def test_k_auto_takes_the_most_stable(warehouse: Warehouse, clock: FixedClock, tmp_path: Path) -> None:
    random = np.random.default_rng(1)
    logs = np.array([[1.0, 1.0, 3.0], [5.0, 1.0, 6.0], [1.2, 3.5, 7.0]])[random.integers(0, 3, 600)]
    rfm_table(warehouse, np.round(np.expm1(logs + 0.1 * random.standard_normal((600, 3)))) + np.array([0, 1, 1]))
    trained = train(warehouse, QUICK.model_copy(update={"k": "auto"}), clock, tmp_path)
    assert trained.k == 3
    assert set(trained.segments) == {"Champions (VIPs)", "At-Risk (Lapsing)", "Occasional Shoppers"}


def test_a_shop_without_repeat_buyers_is_trained(warehouse: Warehouse, clock: FixedClock, tmp_path: Path) -> None:
    values = blobs(600, 1)
    values[:, 1] = 1
    rfm_table(warehouse, values)
    trained = train(warehouse, QUICK, clock, tmp_path)
    assert trained.version == 1
    assert any("0.0% of the customers bought more than once" in warning for warning in trained.warnings)
    assert sum(assign(warehouse, QUICK, clock, tmp_path).segments.values()) == 600


def test_bad_input_leaves_no_version(warehouse: Warehouse, clock: FixedClock, tmp_path: Path) -> None:
    rfm_table(warehouse, blobs(600, 1))
    warehouse.execute("update main.int_customer_rfm set monetary = 7")
    with pytest.raises(ConstantColumn):
        train(warehouse, QUICK, clock, tmp_path / "models")
    assert registry.versions(warehouse) == []
    assert not (tmp_path / "models").exists()


def test_when_training_is_due(warehouse: Warehouse, clock: FixedClock, tmp_path: Path) -> None:
    synthetic(warehouse, 900)
    assert is_due(warehouse, QUICK, clock).reason == "there is no segment model yet"
    train(warehouse, QUICK, clock, tmp_path)
    fresh = is_due(warehouse, QUICK, clock)
    assert (fresh.due, fresh.reason) == (False, "version 1 is 0 days old, and 7 are allowed")
    view_at(warehouse, AS_OF + timedelta(days=7))
    assert is_due(warehouse, QUICK, clock).reason == "version 1 is 7 days old, and 7 are allowed"
    assert is_due(warehouse, QUICK, clock).due
    assert not is_due(warehouse, QUICK.model_copy(update={"retrain_after_days": 30}), clock).due
    assert is_due(warehouse, QUICK.model_copy(update={"k": 4}), clock).reason == (
        "the settings of segments.ml have changed since version 1"
    )
    assert not is_due(warehouse, QUICK.model_copy(update={"retrain_after_days": 30, "min_share": 0.02}), clock).due


def test_training_is_due_when_the_customers_have_changed_for_real(
    warehouse: Warehouse, clock: FixedClock, tmp_path: Path
) -> None:
    values = blobs(1_000, 1)
    patient = QUICK.model_copy(update={"retrain_after_days": 365})
    rfm_table(warehouse, values)
    train(warehouse, patient, clock, tmp_path)
    rfm_table(warehouse, values * [1.0, 1.0, 5.0], AS_OF + timedelta(days=1))
    monitor(warehouse, patient, clock, "r1")
    due = is_due(warehouse, patient, clock)
    assert due.due
    assert due.reason.startswith("since version 1 was trained the monitor has found that psi of monetary is ")


class Killed(BaseException):
    """Stands for the end of the process."""


@pytest.mark.parametrize("place", ["segment.registered", "segment.assigned"])
def test_a_run_that_ended_between_two_writes_is_mended_by_the_next(
    clock: FixedClock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    """Killed there and started again, it leaves what an undisturbed run leaves."""

    def end(code: int) -> None:
        raise Killed(code)

    def run(folder: Path) -> None:
        with Warehouse(folder / "shop.duckdb") as warehouse:
            if not warehouse.exists("main.fct_orders"):
                synthetic(warehouse, 600)
            if is_due(warehouse, QUICK, clock, relation="main.int_customer_rfm").due:
                train(warehouse, QUICK, clock, folder / "models")
            assign(warehouse, QUICK, clock, folder / "models", folder / "customer_segments.csv")

    def left(folder: Path) -> dict[str, object]:
        tables = ("ml_model_registry", "segment_assignments", "segment_alignment", "clv_scores")
        with Warehouse(folder / "shop.duckdb") as found:
            rows = {
                name: found.execute(
                    f"select columns(c -> c <> 'artefact_sha256') from headwater.{name} order by all"
                ).fetchall()
                for name in tables
            }
        return {**rows, "seed": (folder / "customer_segments.csv").read_text()}

    run(tmp_path / "undisturbed")
    monkeypatch.setattr("headwater.failpoint.os._exit", end)
    monkeypatch.setenv("HEADWATER_FAILPOINT", place)
    monkeypatch.setattr("headwater.failpoint._passed", {})
    with pytest.raises(Killed):
        run(tmp_path / "killed")
    run(tmp_path / "killed")
    assert left(tmp_path / "killed") == left(tmp_path / "undisturbed")


def test_the_registry_row_is_complete(warehouse: Warehouse, clock: FixedClock, tmp_path: Path) -> None:
    synthetic(warehouse, 900)
    train(warehouse, QUICK, clock, tmp_path)
    (row,) = warehouse.rows("select * from headwater.ml_model_registry where model = 'kmeans'")
    assert (row["version"], row["alias"], row["verdict"]) == (1, "champion", "promoted")
    assert row["as_of"] == AS_OF
    assert json.loads(row["params"])["model"]["columns"] == ["recency_days", "frequency", "monetary"]
    assert set(json.loads(row["stability"])["jaccard"]) == set(SEGMENT_IDS)
    assert (tmp_path / row["artefact"]).suffix == ".skops"
    assert len(row["artefact_sha256"]) == 64
