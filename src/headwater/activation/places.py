"""Where the confirmed rows of a sync are: the address that its destination had when they went there.

What one address has confirmed, another does not hold. A sync whose destination has moved is stopped (`moved`) until somebody
says what is so: that it is the same tool under another address, which is then one more of its places, or that all rows must go
to the new one (`start_anew`).
"""

from headwater.activation import delivered
from headwater.activation.destinations import Destination
from headwater.activation.settings import DestinationSettings, SyncSettings
from headwater.clock import Clock, naive_utc
from headwater.records.counted import counted
from headwater.warehouse import Warehouse


def of(destination: Destination, settings: DestinationSettings) -> str:
    """The address, without secrets; empty where the destination does not say one."""
    place = getattr(destination, "place", "")
    return f"{settings.type} {place}" if place else ""


def moved(warehouse: Warehouse, sync: SyncSettings, place: str) -> str | None:
    """The sentence for a sync of which rows are confirmed elsewhere; None for any other."""
    known = _known(warehouse, sync.name)
    if not place or not known or place in known:
        return None
    rows = _confirmed(warehouse, sync.name)
    if not rows:
        return None
    return (
        f"{counted(rows, 'row is', 'rows are')} confirmed at {known[0]}, and the destination {sync.destination!r} is {place} now, which "
        f"may have none of them; `headwater retry {sync.name} --confirmed` lets all rows go there, and `--allow moved` goes on where it is "
        "the same tool under another address"
    )


def remember(warehouse: Warehouse, sync: str, place: str, clock: Clock) -> None:
    """What is confirmed is also at this address from now on; nothing is written where that is known."""
    if not place or place in _known(warehouse, sync):
        return
    with warehouse.transaction():
        if not _confirmed(warehouse, sync):
            warehouse.execute("delete from headwater.sync_places where sync = ?", [sync])
        warehouse.execute("insert into headwater.sync_places values (?, ?, ?)", [sync, place, naive_utc(clock.now())])


def start_anew(warehouse: Warehouse, sync: str, clock: Clock) -> int:
    """Take nothing for confirmed any more, in the caller's transaction; how many rows were. What the model asks for goes out with
    the next run as new, under ids that no destination has seen; what it has stopped asking for stays where it is."""
    rows = _confirmed(warehouse, sync)
    used = [
        warehouse.value("select max(version) from headwater.outbox where sync = ?", [sync]),
        started(warehouse, sync),
    ]
    if rows:
        used.append(warehouse.value(f"select max(_headwater_version) from {delivered.table(sync)}"))
        warehouse.execute(f"delete from {delivered.table(sync)}")
    for table in ("sync_starts", "sync_places", "remote_ids"):
        warehouse.execute(f"delete from headwater.{table} where sync = ?", [sync])
    version = max(number or 0 for number in used)
    warehouse.execute("insert into headwater.sync_starts values (?, ?, ?)", [sync, version, naive_utc(clock.now())])
    return rows


def started(warehouse: Warehouse, sync: str) -> int:
    """The version above which those of the sync's rows are: what it had used when it was started anew."""
    return int(warehouse.value("select coalesce(max(version), 0) from headwater.sync_starts where sync = ?", [sync]))


def _known(warehouse: Warehouse, sync: str) -> list[str]:
    found = warehouse.execute(
        "select place from headwater.sync_places where sync = ? order by since", [sync]
    ).fetchall()
    return [place for (place,) in found]


def _confirmed(warehouse: Warehouse, sync: str) -> int:
    if not delivered.exists(warehouse, sync):
        return 0
    return int(warehouse.value(f"select count(*) from {delivered.table(sync)}"))
