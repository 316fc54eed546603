"""The masks of a table's columns, whichever way its changes come: hash, constant, drop or none, and the values that they leave.

A column is named, not a path: what it holds is masked whole. mask.py has the masks of events, and the key of both.
"""

from collections.abc import Iterable, Mapping
from typing import Annotated, Literal

from pydantic import Field

ColumnMask = Literal["hash", "constant", "drop", "plain"]
ColumnMasks = Annotated[
    dict[str, ColumnMask],
    Field(
        description="column: hash (still joins), constant (`****`) or drop; applied before anything is stored. plain = stored as it is, on purpose"
    ),
]
CONSTANT = "****"
"""What stands in a column whose values are not to be known."""


def real(masks: Mapping[str, ColumnMask]) -> dict[str, ColumnMask]:
    """The masks without those that only say that a column is meant to be stored as it is."""
    return {column: kind for column, kind in masks.items() if kind != "plain"}


def hashed(masks: Iterable[tuple[str, Mapping[str, ColumnMask]]]) -> list[str]:
    """The columns that are to be hashed, as table.column. `masks`: (table, its masks)."""
    return [f"{table}.{column}" for table, columns in masks for column, kind in columns.items() if kind == "hash"]


def planted(number: int) -> str:
    """A value that nobody has, for the test of a mask: lower case, since what is hashed is normalised first."""
    return f"planted.{number}.zq7xv@mask.example"


def carries(stored: Iterable[bytes], value: str) -> bool:
    """Whether a planted value stands in any of these texts, in whatever case."""
    trace = value.lower().encode()
    return any(trace in one.lower() for one in stored)
