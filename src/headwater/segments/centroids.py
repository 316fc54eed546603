"""The segment model that is in use, as rows: `headwater.segment_centroids`, one per cluster of the champion.

The live model `int_segment_scores` reads it, so a promotion changes rows and no code: the engine sees that the table has
changed, and everybody is scored anew. Written in the transaction that moves the alias, and again by every `assign`, which
finds it right unless the champion is older than the table.
"""

from collections.abc import Mapping
from typing import Any

from headwater.segments.cluster import Model
from headwater.segments.features import COLUMNS
from headwater.warehouse.connection import Warehouse


def put(warehouse: Warehouse, version: int, stability: str, model: Mapping[str, Any] | None) -> None:
    """Make the rows those of this version, in the caller's transaction; `model` as `Model.as_dict`, None = no cluster.

    A feature that is not in use has nulls.
    """
    warehouse.execute("delete from headwater.segment_centroids")
    if not model:
        return
    known = Model.from_dict(dict(model))
    places = {name: known.columns.index(name) for name in COLUMNS if name in known.columns}
    for cluster, (segment, centroid) in enumerate(zip(known.segments, known.centroids, strict=True)):
        row: list[Any] = [version, stability, cluster, segment.segment_id, segment.segment_name, known.floor]
        for name in COLUMNS:
            at = places.get(name)
            row += (
                [None, None, None]
                if at is None
                else [float(known.means[at]), float(known.scales[at]), float(centroid[at])]
            )
        warehouse.execute(f"insert into headwater.segment_centroids values ({', '.join('?' * len(row))})", row)
