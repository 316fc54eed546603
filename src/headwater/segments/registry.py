"""Versions of segment models, which of them is in use, and the files they are kept in.

One row of `headwater.ml_model_registry` per version; rows stay, aliases move:

    champion     scores today
    challenger   trained, not (yet) promoted
    previous     was champion before; `rollback` returns to it
    (null)       history

The artefact is a skops file beside the warehouse, never a pickle. Its sha256 stands in the registry and is checked before
the file is opened; a type that skops does not know to be harmless is not loaded. An artefact is written under a temporary
name and renamed before its row is inserted: after a crash there may be a file without a row, never a row without a file.
"""

import hashlib
import json
import os
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

from headwater.clock import Clock, naive_utc
from headwater.errors import DataError, InvalidValue, Refused
from headwater.segments import centroids
from headwater.segments.gate import Measures, judge
from headwater.segments.settings import MlSegmentSettings
from headwater.warehouse.connection import Warehouse

KMEANS = "kmeans"
CLV = "clv"

Alias = Literal["champion", "challenger", "previous"]

_COLUMNS = (
    "model, version, alias, trained_at, as_of, params, metrics, stability, verdict, verdict_reason, data_hash, artefact, "
    "artefact_sha256, promoted_at"
)


class BrokenArtefact(DataError):
    """A model file is missing, was changed, or holds what must not be loaded."""


@dataclass(frozen=True)
class Version:
    """One row of the registry. Times are naive UTC. `artefact` is a file name within the artefact folder."""

    model: str
    version: int
    alias: Alias | None
    trained_at: datetime
    as_of: datetime
    params: Mapping[str, Any]
    metrics: Mapping[str, Any]
    stability: Mapping[str, Any]
    verdict: str
    verdict_reason: str
    data_hash: str
    artefact: str
    artefact_sha256: str
    promoted_at: datetime | None = None

    @property
    def published_stability(self) -> Literal["fine", "doubtful"]:
        """What assignments made with this version carry."""
        return "fine" if self.verdict == "promoted" else "doubtful"


@dataclass(frozen=True)
class Promotion:
    """`previous` is the version that was champion before; `changed` is False when there was nothing to do."""

    model: str
    version: int
    previous: int | None
    stability: str
    changed: bool
    warnings: tuple[str, ...] = field(default=())

    @property
    def message(self) -> str:
        """One sentence for the screen."""
        if not self.changed:
            return f"version {self.version} was the champion already"
        before = "none" if self.previous is None else f"version {self.previous}"
        return f"version {self.version} is the champion, {self.stability}; before: {before}"


def versions(warehouse: Warehouse, model: str = KMEANS) -> list[Version]:
    """All versions, oldest first."""
    return [
        Version(**{**row, **{key: json.loads(row[key] or "{}") for key in ("params", "metrics", "stability")}})
        for row in warehouse.rows(
            f"select {_COLUMNS} from headwater.ml_model_registry where model = ? order by version", [model]
        )
    ]


def aliased(warehouse: Warehouse, alias: Alias, model: str = KMEANS) -> Version | None:
    """The version that has `alias`; None when there is none."""
    return next((version for version in versions(warehouse, model) if version.alias == alias), None)


def champion(warehouse: Warehouse, model: str = KMEANS) -> Version | None:
    """The version that scores today; None when no model was published yet."""
    return aliased(warehouse, "champion", model)


def next_number(warehouse: Warehouse, model: str) -> int:
    """The number that the next version will have; numbers start at 1."""
    newest = warehouse.value("select max(version) from headwater.ml_model_registry where model = ?", [model])
    return int(newest or 0) + 1


def write_artefact(folder: Path, model: str, version: int, content: Mapping[str, Any]) -> tuple[str, str]:
    """Write `content` (scikit-learn objects, arrays, numbers) as skops; its file name and sha256."""
    from skops import io  # noqa: PLC0415

    folder.mkdir(parents=True, exist_ok=True)
    data = io.dumps(dict(content))
    name = f"{model}-{version:06d}.skops"
    aside = folder / f".{name}.part"
    with aside.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    aside.replace(folder / name)
    return name, hashlib.sha256(data).hexdigest()


def load_artefact(folder: Path, version: Version) -> dict[str, Any]:
    """The content of a version's artefact. Raises BrokenArtefact unless the bytes are those that were registered."""
    from skops import io  # noqa: PLC0415

    path = folder / version.artefact
    advice = "Restore the file from a backup, or run `headwater segment train`"
    try:
        data = path.read_bytes()
    except FileNotFoundError as error:
        raise BrokenArtefact(
            f"version {version.version} of {version.model} should be in {path}, and the file is not there. {advice}"
        ) from error
    found = hashlib.sha256(data).hexdigest()
    if found != version.artefact_sha256:
        raise BrokenArtefact(
            f"{path} has sha256 {found[:16]}…, the registry says {version.artefact_sha256[:16]}…: it was changed after training "
            f"and is not loaded. {advice}"
        )
    try:
        unknown = io.get_untrusted_types(data=data)
    except zipfile.BadZipFile as error:
        raise BrokenArtefact(f"{path} is not a skops file, and no other kind is loaded. {advice}") from error
    if unknown:
        raise BrokenArtefact(f"{path} holds types that are not loaded from a file: {', '.join(unknown)}. {advice}")
    return io.loads(data)


def intact(folder: Path, version: Version) -> bool:
    """Whether a version's artefact can be loaded."""
    try:
        load_artefact(folder, version)
    except BrokenArtefact:
        return False
    return True


def register(warehouse: Warehouse, version: Version) -> None:
    """Add a row. The newest version that is not champion is the one challenger. Call inside a transaction."""
    if version.alias == "challenger":
        warehouse.execute(
            "update headwater.ml_model_registry set alias = null where model = ? and alias = 'challenger'",
            [version.model],
        )
    warehouse.execute(
        f"insert into headwater.ml_model_registry ({_COLUMNS}) values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        [
            version.model,
            version.version,
            version.alias,
            version.trained_at,
            version.as_of,
            json.dumps(version.params, sort_keys=True),
            json.dumps(version.metrics, sort_keys=True),
            json.dumps(version.stability, sort_keys=True),
            version.verdict,
            version.verdict_reason,
            version.data_hash,
            version.artefact,
            version.artefact_sha256,
            version.promoted_at,
        ],
    )


def promote(
    warehouse: Warehouse, settings: MlSegmentSettings, clock: Clock, *, version: int | None = None, model: str = KMEANS
) -> Promotion:
    """Make `version` (default: the challenger) the champion; the champion becomes previous.

    The gate is applied again, with the settings of today, to what was measured at training. Raises Refused with rule and
    numbers when it does not pass while there is a champion, and InvalidValue when there is no such version. Promoting the
    champion changes nothing.
    """
    known = versions(warehouse, model)
    chosen = _chosen(known, version, model)
    before = next((v for v in known if v.alias == "champion"), None)
    if before and before.version == chosen.version:
        return Promotion(model, chosen.version, None, chosen.published_stability, changed=False)
    if chosen.verdict == "retired":
        raise Refused(
            f"version {chosen.version} of {model} was taken out of use by a rollback: {chosen.verdict_reason} Train a new version"
        )
    verdict, reason = chosen.verdict, chosen.verdict_reason
    warnings: list[str] = []
    if model == KMEANS:
        compared = chosen.metrics.get("previous_version")
        if before and compared != before.version:
            raise Refused(
                f"version {chosen.version} of {model} was compared with {f'version {compared}' if compared else 'no model'}, but the "
                f"champion is version {before.version}; its overlap is not known. Run `headwater segment train` again"
            )
        judged = judge(Measures(**chosen.metrics["measures"]), settings)
        verdict, reason = judged.outcome, judged.reason
    if verdict == "refused":
        if before:
            raise Refused(
                f"version {chosen.version} of {model} is not promoted, version {before.version} stays champion. {reason}"
            )
        verdict = "doubtful"
        warnings.append(f"version {chosen.version} of {model} is the first, and is published as doubtful. {reason}")
    elif reason:
        warnings.append(reason)
    with warehouse.transaction():
        warehouse.execute(
            "update headwater.ml_model_registry set alias = null where model = ? and alias = 'previous'", [model]
        )
        if before:
            _set_alias(warehouse, before, "previous")
        warehouse.execute(
            "update headwater.ml_model_registry set alias = 'champion', promoted_at = ?, verdict = ?, verdict_reason = ? "
            "where model = ? and version = ?",
            [naive_utc(clock.now()), verdict, reason, model, chosen.version],
        )
        stability: Literal["fine", "doubtful"] = "fine" if verdict == "promoted" else "doubtful"
        if model == KMEANS:
            centroids.put(warehouse, chosen.version, stability, chosen.params.get("model"))
    return Promotion(model, chosen.version, before.version if before else None, stability, True, tuple(warnings))


def rollback(warehouse: Warehouse, clock: Clock, *, model: str = KMEANS) -> Promotion:
    """Return to the champion before. The one that leaves is retired: neither promote nor rollback takes it up again.

    Raises Refused when there is no version to return to.
    """
    known = versions(warehouse, model)
    now = next((v for v in known if v.alias == "champion"), None)
    back = next((v for v in known if v.alias == "previous"), None)
    if now is None or back is None:
        raise Refused(
            f"there is no earlier version of {model} to return to; {'version ' + str(now.version) + ' is the first that was promoted' if now else 'no version was promoted yet'}"
        )
    earlier = [
        v for v in known if v.promoted_at and v.version not in (now.version, back.version) and v.verdict != "retired"
    ]
    with warehouse.transaction():
        warehouse.execute(
            "update headwater.ml_model_registry set alias = null, verdict = 'retired', verdict_reason = ? where model = ? and version = ?",
            [
                f"Rolled back to version {back.version} at {naive_utc(clock.now()):%Y-%m-%d %H:%M} UTC.",
                model,
                now.version,
            ],
        )
        _set_alias(warehouse, back, "champion")
        if model == KMEANS:
            centroids.put(warehouse, back.version, back.published_stability, back.params.get("model"))
        if earlier:
            _set_alias(warehouse, max(earlier, key=lambda v: (v.promoted_at, v.version)), "previous")
    return Promotion(model, back.version, now.version, back.published_stability, changed=True)


def _set_alias(warehouse: Warehouse, version: Version, alias: Alias) -> None:
    warehouse.execute(
        "update headwater.ml_model_registry set alias = ? where model = ? and version = ?",
        [alias, version.model, version.version],
    )


def _chosen(known: list[Version], version: int | None, model: str) -> Version:
    numbers = ", ".join(str(v.version) for v in known) or "none; run `headwater segment train` first"
    if version is None:
        challenger = next((v for v in known if v.alias == "challenger"), None)
        current = next((v for v in known if v.alias == "champion"), None)
        if chosen := challenger or current:
            return chosen
        raise InvalidValue(f"there is no challenger of {model} to promote; versions: {numbers}")
    for candidate in known:
        if candidate.version == version:
            return candidate
    raise InvalidValue(f"version: found {version!r}; {model} has the versions: {numbers}")
