"""Logged records that the engine itself cannot use, one by one: into `headwater.rejected_events`, where a redrive finds them."""

import json

from headwater.records.logged import Record
from headwater.warehouse import Warehouse


def put(warehouse: Warehouse, record: Record, code: str, message: str) -> None:
    """Keep a record with the reason why it cannot be used, in the caller's transaction; once, however often it is read."""
    warehouse.execute(
        "insert into headwater.rejected_events (rejected_id, source, received_at, message_id, reason, reasons, raw, position)"
        " select $id, $source, make_timestamp($received_at), $message_id, $code, $reasons, $raw, $position"
        " where not exists (select 1 from headwater.rejected_events where rejected_id = $id)",
        {
            "id": f"{record.topic}-{record.offset}",
            "source": record.source,
            "received_at": record.received_at,
            "message_id": record.message_id,
            "code": code,
            "reasons": json.dumps([{"code": code, "message": message, "path": "$"}]),
            "raw": record.payload,
            "position": record.offset,
        },
    )
