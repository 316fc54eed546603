"""The stage that makes a segment model: features, clusters, names, stability, alignment, churn head, CLV, gate, registry.

`train` never changes who is in what; it leaves a version in the registry and, when the gate lets it, makes it champion.
`assign` uses it then. The same data with the same settings give no second version, unless the artefact of the first is lost.
`is_due` says when to train again.
"""

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Literal

import numpy as np

from headwater.clock import Clock, naive_utc
from headwater.errors import Refused
from headwater.failpoint import failpoint
from headwater.segments import churn, clv, registry
from headwater.segments.align import Alignment, align
from headwater.segments.assign import score, unsegmented_reason
from headwater.segments.cluster import Fit, Model, fit
from headwater.segments.cluster import prepare as prepare_clusters
from headwater.segments.features import Features, read, spenders
from headwater.segments.gate import Measures, Verdict, judge
from headwater.segments.monitor import MATERIAL_PSI, reference
from headwater.segments.naming import Naming, name, profile
from headwater.segments.settings import MlSegmentSettings
from headwater.segments.stability import Stability, Structure, choose_k, measure, structure
from headwater.warehouse.connection import Warehouse

Progress = Callable[[str, int, int], None]
"""Called with what is being done, how much of it is done, and how much there is."""


@dataclass(frozen=True)
class Training:
    """What `train` did.

    `status`: promoted (champion, fine), doubtful (champion, published as doubtful), refused (stays challenger; the champion
    is as before), unchanged (these data and settings have a version already), skipped (too few customers; no version).
    `message` is the sentence for the screen; `refusals` and `doubts` carry rule and numbers, `warnings` everything else that
    was skipped, dropped or doubted."""

    status: Literal["promoted", "doubtful", "refused", "unchanged", "skipped"]
    message: str
    as_of: datetime | None
    customers: int
    version: int | None = None
    k: int | None = None
    segments: dict[str, int] = field(default_factory=dict)
    stability: str | None = None
    smallest_jaccard: float | None = None
    ari: float | None = None
    overlap: float | None = None
    auc: float | None = None
    auc_baseline: float | None = None
    clv_version: int | None = None
    refusals: tuple[str, ...] = ()
    doubts: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class Due:
    """Whether to train now, and why (or why not), in a sentence."""

    due: bool
    reason: str


def is_due(
    warehouse: Warehouse, settings: MlSegmentSettings, clock: Clock, *, relation: str = "main.int_customer_rfm"
) -> Due:
    """Due when there is no version at all, when a crash kept the newest from being promoted, when the settings that shape a
    model have changed, when the newest version is older than `segments.ml.retrain_after_days` of the as_of, or when the
    monitor has found a drift since that is neither chance nor small (an alert with a PSI above `monitor.MATERIAL_PSI`)."""
    known = registry.versions(warehouse)
    if not known:
        return Due(True, "there is no segment model yet")
    newest = known[-1]
    if all(version.alias != "champion" for version in known) or (
        newest.alias == "challenger" and newest.verdict != "refused"
    ):
        return Due(True, f"version {newest.version} was trained and never put into use")
    if newest.params.get("settings") != shaping(settings):
        return Due(True, f"the settings of segments.ml have changed since version {newest.version}")
    as_of = warehouse.value(f"select max(as_of) from {relation}") or naive_utc(clock.now())
    age = as_of - newest.as_of
    if age >= timedelta(days=settings.retrain_after_days):
        return Due(
            True, f"version {newest.version} is {age.days} days old, and {settings.retrain_after_days} are allowed"
        )
    drifted = warehouse.rows(
        "select measure, subject, value, threshold from headwater.segment_monitor where model = ? and alert and as_of > ? "
        "and measure in ('psi', 'share_drift') and value > ? order by value desc limit 1",
        [registry.KMEANS, newest.as_of, MATERIAL_PSI],
    )
    for row in drifted:
        return Due(
            True,
            f"since version {newest.version} was trained the monitor has found that {row['measure']} of {row['subject']} is "
            f"{row['value']:.2f}; above {max(MATERIAL_PSI, row['threshold']):.2f} it is no chance and worth a new model",
        )
    return Due(False, f"version {newest.version} is {age.days} days old, and {settings.retrain_after_days} are allowed")


def shaping(settings: MlSegmentSettings) -> str:
    """Short hash of the settings that change what is fitted (not of the gates, which are applied again at `promote`)."""
    used = settings.model_dump(mode="json", include={"k", "seed", "stability_sample", "stability_refits"})
    return hashlib.sha256(json.dumps(used, sort_keys=True).encode()).hexdigest()[:16]


def train(
    warehouse: Warehouse,
    settings: MlSegmentSettings,
    clock: Clock,
    artefacts: Path,
    relation: str = "main.int_customer_rfm",
    *,
    orders: str = "main.fct_orders",
    on_progress: Progress | None = None,
) -> Training:
    """Fit a model on `relation` (the columns of `int_customer_rfm`), judge it, register it, and promote it if it may be.

    `orders` feeds the churn head; where it does not exist the head is not judged, and a warning says so. With fewer than
    50 · k customers nothing is trained. Raises BadFeatures before anything is fitted.
    """
    tell = on_progress or (lambda _what, _done, _of: None)
    customers, spending = spenders(warehouse, relation)
    if why := unsegmented_reason(customers, spending, settings.k):
        return Training("skipped", why, None, customers, warnings=(why,))
    tell("reading features", 0, 1)
    features = read(warehouse, relation)
    data_hash = f"{features.digest}-{features.as_of:%Y%m%dT%H%M%S}"
    known = registry.versions(warehouse)
    for version in reversed(known):
        same = version.data_hash == data_hash and version.params.get("settings") == shaping(settings)
        if same and registry.intact(artefacts, version):
            return _unchanged(warehouse, settings, clock, version)

    tell("clustering", 0, 1)
    k = choose_k(prepare_clusters(features)[1], settings.seed) if settings.k == "auto" else settings.k
    found = fit(features, k, settings.seed)
    champion = registry.champion(warehouse)
    aligned = _align(found, features, champion)
    naming = _name(found, features, aligned, known)
    model = found.model.named(naming.segments)
    stability = measure(
        found.z,
        found.labels,
        k,
        settings.seed,
        sample=settings.stability_sample,
        refits=settings.stability_refits,
        on_progress=lambda done, of: tell("stability", done, of),
    )
    tell("churn head", 0, 1)
    head = (
        churn.out_of_time(warehouse, orders, features.as_of, seed=settings.seed)
        if warehouse.exists(orders)
        else f"the churn head was not judged: there is no relation {orders}"
    )
    measures = _measures(model, found, stability, structure(found.z, k, settings.seed), aligned, head)
    verdict = judge(measures, settings)
    tell("customer lifetime value", 0, 1)
    clv_version, clv_warnings = _train_clv(warehouse, settings, clock, artefacts, relation, features.as_of, data_hash)

    number = registry.next_number(warehouse, registry.KMEANS)
    artefact, sha256 = registry.write_artefact(
        artefacts,
        registry.KMEANS,
        number,
        {"model": model.as_dict(), "churn": head.model if isinstance(head, churn.Head) else None},
    )
    shares = np.bincount(found.labels, minlength=k)
    version = registry.Version(
        registry.KMEANS,
        number,
        "challenger",
        naive_utc(clock.now()),
        features.as_of,
        {"k": k, "seed": settings.seed, "settings": shaping(settings), "model": model.as_dict()},
        {
            "customers": features.customers,
            "inertia": found.inertia / features.customers,
            "shares": {s.segment_name: int(shares[j]) for j, s in enumerate(model.segments)},
            "reference": reference(features, model),
            "previous_version": champion.version if champion else None,
            "measures": asdict(measures),
        },
        {
            "jaccard": {s.segment_name: stability.jaccard[j] for j, s in enumerate(model.segments)},
            "smallest": stability.smallest,
            "ari": stability.ari,
            "sample": stability.sample,
            "refits": stability.refits,
            "trust": stability.trust(settings.min_jaccard, settings.warn_jaccard),
        },
        verdict.outcome,
        verdict.reason,
        data_hash,
        artefact,
        sha256,
    )
    with warehouse.transaction():
        registry.register(warehouse, version)
        _write_alignment(warehouse, model, version, champion, aligned, shares)
    failpoint("segment.registered")
    warnings = [*naming.refusals, *_drifted_names(found, features, model, aligned), *clv_warnings]
    if isinstance(head, str):
        warnings.append(head)
    return _promoted(warehouse, settings, clock, version, verdict, tuple(warnings), clv_version)


def _align(found: Fit, features: Features, champion: registry.Version | None) -> Alignment | None:
    """What the registry says of the champion is enough: a lost artefact must not keep a new version from being trained."""
    if champion is None:
        return None
    before = Model.from_dict(champion.params["model"])
    labels, _ = score(before, features.values)
    return align(found.labels, found.model.k, labels, before.segments)


def _name(found: Fit, features: Features, aligned: Alignment | None, known: list[registry.Version]) -> Naming:
    looks = profile(features, found.labels, found.model.k)
    ids = {str(called): int(number) for version in known for number, called in version.params["model"]["segments"]}
    return name(looks, features.repeat_share, aligned.carried if aligned else None, ids)


def _drifted_names(found: Fit, features: Features, model: Model, aligned: Alignment | None) -> list[str]:
    """Segments that keep a name the rules would not give them today."""
    if aligned is None:
        return []
    fresh = name(profile(features, found.labels, model.k), features.repeat_share).segments
    return [
        f"the segment {segment.segment_name} keeps its name because most of its customers stayed, but by the rules it would be "
        f"called {fresh[j].segment_name} today"
        for j, segment in enumerate(model.segments)
        if fresh[j].segment_name != segment.segment_name
    ]


def _measures(
    model: Model,
    found: Fit,
    stability: Stability,
    shape: Structure,
    aligned: Alignment | None,
    head: churn.Head | str,
) -> Measures:
    shares = np.bincount(found.labels, minlength=model.k) / len(found.labels)
    weakest, rarest = int(np.argmin(stability.jaccard)), int(np.argmin(shares))
    judged = isinstance(head, churn.Head)
    return Measures(
        stability.smallest,
        model.segments[weakest].segment_name,
        float(shares[rarest]),
        model.segments[rarest].segment_name,
        aligned.overlap if aligned else None,
        head.auc if judged else None,
        head.baseline if judged else None,
        head.noise if judged else 0.0,
        shape.tighter,
        shape.chance,
        shape.silhouette,
    )


def _write_alignment(
    warehouse: Warehouse,
    model: Model,
    version: registry.Version,
    champion: registry.Version | None,
    aligned: Alignment | None,
    shares: Any,
) -> None:
    sql = "insert into headwater.segment_alignment values (?, ?, ?, ?, ?, ?, ?, ?)"
    before = champion.version if champion else None
    if aligned is None:
        for j, segment in enumerate(model.segments):
            warehouse.execute(
                sql, [version.model, version.version, before, segment.segment_id, None, "new", None, int(shares[j])]
            )
        return
    for match in aligned.matches:
        segment = model.segments[match.cluster] if match.cluster is not None else None
        warehouse.execute(
            sql,
            [
                version.model,
                version.version,
                before,
                segment.segment_id if segment else None,
                match.previous.segment_id if match.previous else None,
                match.outcome,
                match.overlap,
                match.customers,
            ],
        )


def _train_clv(
    warehouse: Warehouse,
    settings: MlSegmentSettings,
    clock: Clock,
    artefacts: Path,
    relation: str,
    as_of: datetime,
    data_hash: str,
) -> tuple[int | None, tuple[str, ...]]:
    """Fit CLV, register it and make it champion; when the data cannot bear it, the champion stays and a sentence says why."""
    champion = registry.champion(warehouse, registry.CLV)
    if champion and champion.data_hash == data_hash and registry.intact(artefacts, champion):
        return champion.version, tuple(champion.metrics.get("warnings", ()))
    history = clv.read_history(warehouse, relation)
    try:
        life = clv.fit(history, settings.seed)
    except clv.NotIdentified as reason:
        kept = f"version {champion.version} stays in use" if champion else "predicted_clv stays empty"
        return champion.version if champion else None, (f"CLV was not fitted: {reason}; {kept}",)
    number = registry.next_number(warehouse, registry.CLV)
    params = {"purchases": asdict(life.purchases), "spend": asdict(life.spend)}
    artefact, sha256 = registry.write_artefact(artefacts, registry.CLV, number, params)
    version = registry.Version(
        registry.CLV,
        number,
        "challenger",
        naive_utc(clock.now()),
        as_of,
        params,
        {"customers": len(history.x), "correlation": life.correlation, "warnings": list(life.warnings)},
        {},
        "doubtful" if life.warnings else "promoted",
        " ".join(life.warnings),
        data_hash,
        artefact,
        sha256,
    )
    with warehouse.transaction():
        registry.register(warehouse, version)
    registry.promote(warehouse, settings, clock, version=number, model=registry.CLV)
    return number, life.warnings


def _promoted(
    warehouse: Warehouse,
    settings: MlSegmentSettings,
    clock: Clock,
    version: registry.Version,
    verdict: Verdict,
    warnings: tuple[str, ...],
    clv_version: int | None,
) -> Training:
    rules = ", ".join(finding.rule for finding in verdict.refusals or verdict.doubts)
    try:
        promotion = registry.promote(warehouse, settings, clock, version=version.version)
    except Refused as refusal:
        champion = registry.champion(warehouse)
        stays = f"version {champion.version} stays champion" if champion else str(refusal)
        message = f"version {version.version} is not promoted ({rules or 'see the warning'}), {stays}"
        return _training("refused", message, version, verdict, () if rules else (str(refusal),), warnings, clv_version)
    if promotion.stability == "fine":
        return _training(
            "promoted", f"version {version.version} is champion (fine)", version, verdict, (), warnings, clv_version
        )
    first = ", though it was refused, because it is the first" if verdict.refusals else ""
    message = f"version {version.version} is champion and published as doubtful ({rules}){first}"
    return _training("doubtful", message, version, verdict, (), warnings, clv_version)


def _training(
    status: Literal["promoted", "doubtful", "refused", "unchanged"],
    message: str,
    version: registry.Version,
    verdict: Verdict,
    first: tuple[str, ...] = (),
    warnings: tuple[str, ...] = (),
    clv_version: int | None = None,
) -> Training:
    measures = Measures(**version.metrics["measures"])
    return Training(
        status,
        message,
        version.as_of,
        version.metrics["customers"],
        version.version,
        version.params["k"],
        dict(version.metrics["shares"]),
        version.stability["trust"],
        measures.smallest_jaccard,
        version.stability["ari"],
        measures.overlap,
        measures.auc,
        measures.auc_baseline,
        clv_version,
        tuple(finding.sentence for finding in verdict.refusals),
        tuple(finding.sentence for finding in verdict.doubts),
        (*first, *warnings),
    )


def _unchanged(warehouse: Warehouse, settings: MlSegmentSettings, clock: Clock, version: registry.Version) -> Training:
    """These data and settings have been trained before. A crash between registration and promotion is mended here."""
    verdict = judge(Measures(**version.metrics["measures"]), settings)
    if registry.champion(warehouse) is None or (version.alias == "challenger" and verdict.outcome != "refused"):
        return _promoted(warehouse, settings, clock, version, verdict, (), None)
    message = f"these data and settings are version {version.version} already ({version.verdict}); nothing was trained"
    return _training("unchanged", message, version, verdict)
