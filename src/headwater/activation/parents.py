"""Parents before children: the order of syncs whose rows refer to rows of others."""

from collections.abc import Sequence

from headwater.activation.settings import SyncSettings


def in_order(syncs: Sequence[SyncSettings]) -> list[SyncSettings]:
    """The syncs as they were given, but each after those of its parents that are among them.

    Parents that lead back to where they began are taken as they come; `cycle` names them.
    """
    by_name = {sync.name: sync for sync in syncs}
    placed: dict[str, SyncSettings] = {}

    def place(sync: SyncSettings, above: tuple[str, ...]) -> None:
        for parent in sync.parents:
            if parent in by_name and parent not in above:
                place(by_name[parent], (*above, sync.name))
        placed.setdefault(sync.name, sync)

    for sync in syncs:
        place(sync, ())
    return list(placed.values())


def cycle(syncs: Sequence[SyncSettings]) -> list[str]:
    """Names of syncs that are, in this order, each a parent of the next and the last of the first; empty when there are none."""
    parents = {sync.name: list(sync.parents) for sync in syncs}

    def follow(name: str, above: tuple[str, ...]) -> list[str]:
        if name in above:
            return list(above[above.index(name) :])
        return next((found for parent in parents.get(name, ()) if (found := follow(parent, (*above, name)))), [])

    return next((found for name in parents if (found := follow(name, ()))), [])
