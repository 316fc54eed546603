"""The destination of CONTRIBUTING's recipe, taken from the page as it stands, passes the kit that ours pass."""

import re
import sys
from decimal import Decimal
from pathlib import Path

import pytest

from headwater.activation.settings import DestinationSettings
from headwater.testing import checks

PAGE = Path(__file__).resolve().parents[2] / "CONTRIBUTING.md"


class BoardBench(checks.Bench):
    """A text file with a line per row: operation, key, fields as Python writes them."""

    @property
    def settings(self):
        return DestinationSettings(type="recipe_destination:Board")

    def lines(self):
        board = self.folder / "board.txt"
        return board.read_text(encoding="utf-8").splitlines() if board.exists() else []

    def arrived(self):
        rows = {}
        for line in self.lines():
            verb, key, fields = line.split(" ", 2)
            if verb == "delete":
                rows.pop(key, None)
            else:
                rows.setdefault(key, {}).update(eval(fields, {"Decimal": Decimal}))
        return rows

    def effects(self):
        return len(self.lines())

    def calls(self):
        """The file does not tell one call from the next."""
        return 1 if self.lines() else 0


@pytest.fixture
def recipe(tmp_path, monkeypatch):
    (code,) = re.findall(r"^```python my_destinations\.py\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.M | re.S)
    folder = tmp_path / "code"
    folder.mkdir()
    (folder / "recipe_destination.py").write_text(code, encoding="utf-8")
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.delitem(sys.modules, "recipe_destination", raising=False)
    return tmp_path / "shop"


@pytest.mark.parametrize("check", checks.of(BoardBench), ids=lambda check: check.__name__)
def test_the_recipe_passes(check, recipe):
    recipe.mkdir()
    check(BoardBench(recipe))
