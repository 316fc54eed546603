"""dbt in this process: what each node did, a broken project as a sentence, the file given back."""

import os

import pytest

from headwater.warehouse import Warehouse
from headwater.warehouse.dbt import Dbt


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Dbt:
    folder = tmp_path_factory.mktemp("dbt")
    (folder / "models").mkdir()
    (folder / "dbt_project.yml").write_text("name: tiny\nprofile: tiny\nmodel-paths: [models]\n")
    (folder / "profiles.yml").write_text(
        "tiny: {target: duckdb, outputs: {duckdb: {type: duckdb, schema: main, path: \"{{ env_var('HEADWATER_WAREHOUSE') }}\", settings: {memory_limit: \"{{ env_var('HEADWATER_MEMORY_LIMIT', '1GB') }}\"}}}}\n"
    )
    (folder / "models" / "numbers.sql").write_text("{{ config(materialized='table') }} select unnest(range(3)) as i\n")
    (folder / "models" / "numbers.yml").write_text(
        "models:\n- name: numbers\n  columns:\n  - name: i\n    data_tests:\n    - unique\n    - accepted_values: {arguments: {values: [0, 1], quote: false}}\n"
    )
    return Dbt(folder, folder / "shop.duckdb")


def test_every_node_is_reported_with_its_failures(project: Dbt) -> None:
    seen: list[tuple[str, str]] = []
    result = project.invoke(["build"], on_node=lambda name, status, done, total: seen.append((name, status)))
    assert not result.ok
    assert result.count("model") == 1
    assert {(node.status, node.failures, node.model) for node in result.tests} == {
        ("pass", 0, "numbers"),
        ("fail", 1, "numbers"),
    }
    assert ("numbers", "success") in seen
    assert len(seen) == 3


def test_the_file_is_given_back_and_the_last_good_table_stays(project: Dbt) -> None:
    project.invoke(["run"])
    model = project.folder / "models" / "numbers.sql"
    good = model.read_text()
    model.write_text("{{ config(materialized='table') }} select nope as i\n")
    try:
        broken = project.invoke(["run"])
    finally:
        model.write_text(good)
    assert [node.failed for node in broken.nodes] == [True]
    assert 'Referenced column "nope" was not found' in broken.nodes[0].message
    with Warehouse(project.warehouse) as warehouse:
        assert warehouse.value("select sum(i) from main.numbers") == 3


def test_without_artefacts_the_model_is_built_and_the_manifest_stays(project: Dbt) -> None:
    project.invoke(["run"])
    manifest = project.folder / "target" / "manifest.json"
    before = manifest.read_bytes()
    model = project.folder / "models" / "numbers.sql"
    good = model.read_text()
    model.write_text(good.replace("range(3)", "range(5)"))
    try:
        assert project.invoke(["run", "--select", "numbers"], artefacts=False).ok
    finally:
        model.write_text(good)
    assert manifest.read_bytes() == before
    with Warehouse(project.warehouse) as warehouse:
        assert warehouse.value("select count(*) from main.numbers") == 5


def test_a_project_that_does_not_parse_is_a_sentence(project: Dbt) -> None:
    bad = project.folder / "models" / "bad.sql"
    bad.write_text("select {{ ref('missing') }}\n")
    try:
        with pytest.raises(Exception, match=r"dbt run could not run in .* depends on a node named 'missing'"):
            project.invoke(["run"])
    finally:
        bad.unlink()


def test_a_build_keeps_to_the_memory_it_is_given(project: Dbt) -> None:
    model = project.folder / "models" / "limit.sql"
    model.write_text("{{ config(materialized='table') }} select current_setting('memory_limit') as memory_limit\n")
    try:
        assert Dbt(project.folder, project.warehouse, memory_limit="2GiB").invoke(["run", "--select", "limit"]).ok
    finally:
        model.unlink()
    with Warehouse(project.warehouse) as warehouse:
        assert warehouse.value("select memory_limit from main.limit") == "2.0 GiB"
    assert "HEADWATER_MEMORY_LIMIT" not in os.environ
