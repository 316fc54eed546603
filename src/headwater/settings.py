"""The base of every settings class: frozen, and an unknown key is an error; and how files of settings are read.

A setting is declared once, in the `settings.py` of the stage that it sets; `config.py` composes them into `headwater.yml`.
"""

from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict


def read_yaml(text: str) -> Any:
    """One YAML document; None when it is empty.

    Raises yaml.MarkedYAMLError also for a key given twice in one mapping: YAML's own readers keep the last one in silence.
    """
    return yaml.load(text, Loader=_UniqueKeys)  # noqa: S506  (a SafeLoader)


class _UniqueKeys(yaml.SafeLoader):
    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        first: dict[str, int] = {}
        for key, _ in node.value:
            line = key.start_mark.line + 1
            if key.value != "<<" and key.value in first:
                problem = f"the key {key.value!r} stands there already, in line {first[key.value]}; put both together under one"
                raise yaml.MarkedYAMLError(problem=problem, problem_mark=key.start_mark)
            first[key.value] = line
        return super().construct_mapping(node, deep)


class Settings(BaseModel):
    """A group of settings."""

    model_config = ConfigDict(extra="forbid", frozen=True)
