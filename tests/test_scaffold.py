"""What a new project is called, and what a template makes."""

from pathlib import Path

import pytest

from headwater import config as configuration
from headwater import doctor, scaffold
from headwater.doctor import examine
from headwater.errors import ConfigError, UsageError
from headwater.stack import Stack


@pytest.mark.parametrize(
    ("folder", "name"),
    [("shop", "shop"), ("My Shop-2", "my_shop_2"), ("2nd", "shop_2nd"), ("Übersee", "bersee"), ("--", "shop")],
)
def test_a_project_is_called_after_its_folder(tmp_path, folder, name):
    scaffold.init(tmp_path / folder, None)
    assert configuration.load(tmp_path / folder).name == name


def test_a_template_is_a_whole_project(tmp_path: Path) -> None:
    made = scaffold.init_template(tmp_path / "our-retail", "online-retailer")
    config = configuration.load(made.folder)
    assert config.name == "our_retail"
    assert [base.name for base in config.collect.databases] == ["retail"]
    assert made.sentences[1:3] == (
        "retail.customers: email (constant) masked before it is stored; customername stored as it is, on purpose",
        "retail.addresses: street (constant), postalcode (constant) masked before it is stored",
    )
    assert {sync.model for sync in config.syncs} == {"thirty_day_customer_snapshot", "product_sales"}
    with Stack(made.folder) as stack:
        stages = [(result.stage, result.status) for result in stack.run()]
        assert stages == [("seed", "ok"), ("build", "ok"), *((f"plan {sync.name}", "ok") for sync in config.syncs)]
        assert stack.test().status == "ok"
        assert stack.masked() == {"email", "street", "postalcode"}, "a name that is plain on purpose may go back"
        assert stack.warehouse.value("select count(*) from main.thirty_day_customer_snapshot") == 0
    with pytest.raises(UsageError, match="holds a project already"):
        scaffold.init_template(made.folder, "online-retailer")


def test_a_template_that_is_not_there_names_those_that_are(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="there is no template 'shop'; there are: online-retailer"):
        scaffold.init_template(tmp_path / "shop", "shop")
    assert not (tmp_path / "shop").exists()


def test_an_expression_that_cannot_be_computed_stops_at_the_mapping_by_name(tmp_path: Path) -> None:
    """Said by `seed` and `doctor`, in one line, and not by a build of a model that nobody may edit."""
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / "orders.csv").write_text(
        "order_id,customer_id,ordered_at,amount\n" + "".join(f"{i},c{i % 3},2026-01-0{i},9.50\n" for i in range(1, 9))
    )
    folder = tmp_path / "shop"
    scaffold.init(folder, tmp_path / "files")
    path = folder / scaffold.MAPPING
    path.write_text(
        path.read_text().replace("ordered_at: ordered_at", "ordered_at: to_timestamp(ordered_at)")
        .replace("amount: amount", "amount: amount * 100 / 119")
    )  # fmt: skip
    with Stack(folder) as stack, pytest.raises(ConfigError) as refused:
        stack.seed()
    first, *said = str(refused.value).splitlines()
    assert first == "the mapping has expressions that cannot be computed:"
    assert [line.split(" found ")[0].strip() for line in said] == [
        "mapping.yml: orders.ordered_at:", "mapping.yml: orders.amount:",
    ]  # fmt: skip
    (check,) = (check for check in examine(folder) if check.name == "mapping")
    assert (check.status, check.sentence.splitlines()) == ("wrong", [line.strip() for line in said])
    path.write_text(
        path.read_text()
        .replace("to_timestamp(ordered_at)", "ordered_at")
        .replace("amount * 100", "amount::double * 100")
    )
    (check,) = (check for check in examine(folder) if check.name == "mapping")
    assert (check.status, check.sentence) == ("ok", "mapping.yml maps 1 entity, tried upon every row")


def test_doctor_tries_a_mapping_upon_every_row_and_says_where_it_does_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "files").mkdir()
    rows = [f"{i},c{i % 3},2026-01-01,0950" for i in range(1, 1_200)]
    (tmp_path / "files" / "orders.csv").write_text(
        "\n".join(["order_id,customer_id,ordered_at,amount", *rows, "o,c,2026-01-01,x\n"])
    )
    folder = tmp_path / "shop"
    scaffold.init(folder, tmp_path / "files")
    path = folder / scaffold.MAPPING
    path.write_text(path.read_text().replace("amount: amount", "amount: octet_length(unhex(amount))"))
    (check,) = (check for check in examine(folder) if check.name == "mapping")
    assert check.status == "wrong"
    assert "mapping.yml: orders.amount: found 'octet_length(unhex(amount))', which cannot be computed" in check.sentence
    monkeypatch.setattr(doctor, "_WHOLE_BYTES", 100)
    (check,) = (check for check in examine(folder) if check.name == "mapping")
    assert check.status == "ok"
    assert check.sentence.endswith(", tried upon the first 1,000 rows of each file; `headwater seed` tries all")
