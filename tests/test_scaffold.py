"""What a new project is called."""

import pytest

from headwater import config, scaffold


@pytest.mark.parametrize(
    ("folder", "name"),
    [("shop", "shop"), ("My Shop-2", "my_shop_2"), ("2nd", "shop_2nd"), ("Übersee", "bersee"), ("--", "shop")],
)
def test_a_project_is_called_after_its_folder(tmp_path, folder, name):
    scaffold.init(tmp_path / folder, None)
    assert config.load(tmp_path / folder).name == name
