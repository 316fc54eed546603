"""A warehouse for the tests of decisions."""

import pytest
from decision_cases import Candidates

from headwater.warehouse import Warehouse


@pytest.fixture
def shop(tmp_path) -> Candidates:
    warehouse = Warehouse(tmp_path / "shop.duckdb")
    yield Candidates(warehouse)
    warehouse.close()
