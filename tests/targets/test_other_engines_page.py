"""What docs/other-engines.md says stands in the project: targets, variables, versions, refusals. (Its model: test_compiled.)"""

import re

from target_shop import ROOT, TEMPLATE
from test_compiled import DIALECTS, REFUSED_BY_CONFLUENT

PAGE = (ROOT / "docs" / "other-engines.md").read_text(encoding="utf-8")


def rows(section: str) -> list[list[str]]:
    """The cells of the first table after a heading, without its head."""
    text = PAGE.split(f"## {section}\n")[1]
    table = re.search(r"(?:^\|.*\n)+", text, re.MULTILINE)
    assert table
    return [[cell.strip() for cell in line.strip("|\n").split("|")] for line in table[0].splitlines()[2:]]


def test_each_target_names_its_adapter_and_every_variable_of_its_profile() -> None:
    profiles = (TEMPLATE / "profiles.yml").read_text()
    project = (TEMPLATE / "dbt_project.yml").read_text()
    pinned = (ROOT / "requirements" / "targets.in").read_text().splitlines()
    shown = {
        row[0].strip("`"): (row[1].strip("`"), row[2].replace("`", "").split())
        for row in rows("Point a project at one")
    }
    assert set(shown) == set(DIALECTS)
    for target, (install, variables) in shown.items():
        assert install in pinned
        read = re.findall(rf"env_var\('({target.upper()}_\w+)'", profiles + project)
        assert sorted(variables) == sorted(read), target


def test_the_refused_models_are_listed() -> None:
    listed = [name for row in rows("What Confluent refuses") for name in row[1].replace("`", "").split()]
    assert sorted(listed) == sorted(REFUSED_BY_CONFLUENT)


def test_the_operations_and_the_models_that_it_names_exist() -> None:
    macros = "".join(path.read_text() for path in (TEMPLATE / "macros").glob("*.sql"))
    for operation in re.findall(r"run-operation (\w+)", PAGE):
        assert f"macro {operation}(" in macros
    names = {path.stem for path in (TEMPLATE / "models").rglob("*.sql")}
    assert set(re.findall(r"`((?:int|mart|fct|dim)_\w+)`", PAGE)) <= names
