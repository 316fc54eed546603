"""Rows as CSV or JSON files in `outbox/`."""

import csv
import io
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from headwater.activation import exact
from headwater.activation.destinations import options as checked
from headwater.activation.destinations.base import BaseDestination, Batch, Later, Limits, Operation, Result
from headwater.failpoint import failpoint
from headwater.settings import Settings


class FilesOptions(Settings):
    folder: Annotated[str, Field(description="where the files go, relative to the project")] = "outbox"
    format: Annotated[Literal["csv", "json"], Field(description="csv, or json: a list with one object a line")] = "csv"


class Files(BaseDestination):
    """Writes each batch as one file `<folder>/<sync>/<batch id>.csv` (or `.json`), complete or not at all.

    Guarantee: a file is written beside its place, flushed to the disk and renamed, so nobody ever reads half of one. Rows
    that were written but not recorded before a crash come again in a batch of the same id and replace that file: after
    the next run every row stands in exactly one file. A new version of a row is a new row in a later file.
    Limits: 100,000 rows a file; a larger plan becomes several files. Idempotent.
    Columns: operation, key, operation_id, then the sync's fields in the order of its mapping. In CSV a field that is not
    to be touched and one that is to be cleared are both empty; in JSON the former is absent and the latter null.
    """

    limits = Limits(max_rows=100_000)

    def __init__(self, name: str, options: Mapping[str, Any], *, folder: Path, environment: Mapping[str, str]) -> None:
        super().__init__(name, options, folder=folder, environment=environment)
        self.settings = checked.read(FilesOptions, name, options)

    @property
    def place(self) -> str:
        """The folder."""
        return self.settings.folder

    def path(self, batch: Batch) -> Path:
        """The file that this batch becomes."""
        return self.folder / self.settings.folder / batch.sync / f"{batch.batch_id}.{self.settings.format}"

    def deliver(self, batch: Batch) -> Sequence[Result]:
        """Write the file. A disk that is full or a folder that cannot be written is Later."""
        text = _csv(batch) if self.settings.format == "csv" else _json(batch)
        try:
            _replace(self.path(batch), text)
        except OSError as error:
            raise Later(
                type(error).__name__,
                f"{self.path(batch).name} cannot be written: {error.strerror or error}",
                advice="make room or mend the folder, then run again",
            ) from error
        return self.done(batch)


def _csv(batch: Batch) -> str:
    columns = batch.columns or tuple(dict.fromkeys(name for row in batch.operations for name in row.fields))
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["operation", "key", "operation_id", *columns])
    for row in batch.operations:
        writer.writerow([row.operation, row.key, row.operation_id, *(_cell(row.fields.get(name)) for name in columns)])
    return out.getvalue()


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else exact.dumps(value)


def _json(batch: Batch) -> str:
    return "[\n" + ",\n".join(exact.dumps(_object(row)) for row in batch.operations) + "\n]\n"


def _object(row: Operation) -> dict[str, Any]:
    return {"operation": row.operation, "key": row.key, "operation_id": row.operation_id, "fields": row.fields}


def _replace(path: Path, text: str) -> None:
    """Put the text in place of the file, on the disk before it has the name."""
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.part")
    with aside.open("w", encoding="utf-8", newline="") as out:
        out.write(text)
        out.flush()
        os.fsync(out.fileno())
    failpoint("activate.file_written")
    aside.replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
