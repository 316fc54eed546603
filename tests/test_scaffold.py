"""What a new project is called, and what a template makes."""

from pathlib import Path

import pytest

from headwater import config as configuration
from headwater import scaffold
from headwater.errors import UsageError
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
    assert made.sentences[1] == "retail.customers: email (constant) masked before it is stored"
    assert {sync.model for sync in config.syncs} == {"thirty_day_customer_snapshot", "product_sales"}
    with Stack(made.folder) as stack:
        stages = [(result.stage, result.status) for result in stack.run()]
        assert stages == [("seed", "ok"), ("build", "ok"), *((f"plan {sync.name}", "ok") for sync in config.syncs)]
        assert stack.test().status == "ok"
        assert stack.warehouse.value("select count(*) from main.thirty_day_customer_snapshot") == 0
    with pytest.raises(UsageError, match="holds a project already"):
        scaffold.init_template(made.folder, "online-retailer")


def test_a_template_that_is_not_there_names_those_that_are(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="there is no template 'shop'; there are: online-retailer"):
        scaffold.init_template(tmp_path / "shop", "shop")
    assert not (tmp_path / "shop").exists()
