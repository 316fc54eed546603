"""Where the confirmed rows of a sync are: the address that its destination had when they went there.

What one address has confirmed, another does not hold. A sync whose destination has moved is stopped (`moved`) until somebody
says what is so: that it is the same tool under another address, or that all rows must go to the new one (`start_anew`).
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
    known = warehouse.value("select max(place) from headwater.sync_places where sync = ?", [sync.name])
    if not place or not known or known == place:
        return None
    rows = (
        warehouse.value(f"select count(*) from {delivered.table(sync.name)}")
        if delivered.exists(warehouse, sync.name)
        else 0
    )
    if not rows:
        return None
    return (
        f"{counted(rows, 'row is', 'rows are')} confirmed at {known}, and the destination {sync.destination!r} is {place} now, which may have "
        f"none of them; `headwater retry {sync.name} --confirmed` lets all rows go there, and `--allow moved` goes on where it is "
        "the same tool under another address"
    )


def remember(warehouse: Warehouse, sync: str, place: str, clock: Clock) -> None:
    """What is confirmed from now on is at this address; nothing is written where that is known."""
    if not place or warehouse.value("select max(place) from headwater.sync_places where sync = ?", [sync]) == place:
        return
    with warehouse.transaction():
        warehouse.execute("delete from headwater.sync_places where sync = ?", [sync])
        warehouse.execute("insert into headwater.sync_places values (?, ?, ?)", [sync, place, naive_utc(clock.now())])


def start_anew(warehouse: Warehouse, sync: str) -> int:
    """Take nothing for confirmed any more, in the caller's transaction; how many rows were. What the model asks for goes out with
    the next run as new; what it has stopped asking for stays where it is."""
    warehouse.execute("delete from headwater.sync_places where sync = ?", [sync])
    warehouse.execute("delete from headwater.remote_ids where sync = ?", [sync])
    if not delivered.exists(warehouse, sync):
        return 0
    rows = int(warehouse.value(f"select count(*) from {delivered.table(sync)}"))
    warehouse.execute(f"delete from {delivered.table(sync)}")
    return rows
