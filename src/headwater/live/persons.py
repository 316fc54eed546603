"""Who is who, kept in the warehouse: `headwater.identity_links` (what was said) and `headwater.identities` (what follows).

The engine calls `follow` once per batch, in its transaction, after landing and before the models:

    persons.prepare(warehouse)                       # once per connection, outside a transaction
    with warehouse.transaction():
        … rows with position > last are in collected.events, collected.identifies, collected.aliases …
        changed = persons.follow(warehouse, after=last_position, settings=config.identity)
        if changed:                                  # headwater.identities differs: a delta like that of any other table
            … changed.before, changed.after: temporary tables with the columns of headwater.identities …

Landing must not let ids that mean nobody pass: `customer_id` and `anonymous_id` for which `headwater.identity.keys.blocked`
(`blocked_sql`) holds are null in `collected.*`; here they link nobody, but a model would take them for a customer.

Whatever the order in which the events arrive, both tables end up the same: a link is dated by the earliest event that says
it, and every component that a new or re-dated link touches is resolved anew from all of its links.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np

from headwater.errors import UsageError
from headwater.identity import keys
from headwater.identity.resolve import Identity, Link, resolve
from headwater.identity.settings import IdentitySettings
from headwater.live import plain_links
from headwater.warehouse.connection import Warehouse

BEFORE = "temp.main.identities_before"
AFTER = "temp.main.identities_after"

_IDENTITY = "id_kind, id, person_id, customer_id, linked_at, reason, node"
_ALL = f"{_IDENTITY}, person_node"
_LINK = (
    "link_id, left_kind, left_id, right_kind, right_id, reason, linked_at, event_id, undone_at is not null, "
    "refused_because, left_node, right_node, rowid"
)


@dataclass(frozen=True)
class Changed:
    """What a call did. `links` were new, re-dated or undone; `identities` rows differ now from what they were.

    `before` holds the old images (none for ids never seen), `after` the new ones, both with the columns of
    `headwater.identities`, until the next call on the same connection. False when no identity differs.
    """

    links: int = 0
    identities: int = 0
    before: str = BEFORE
    after: str = AFTER

    def __bool__(self) -> bool:
        return self.identities > 0


@dataclass(frozen=True)
class Difference:
    """One row that is not what the links of its id say. `stored` or `resolved` is None where there is no such row; an id that
    has several rows is told of with each of them."""

    id_kind: str
    id: str
    stored: Identity | None
    resolved: Identity | None


def prepare(warehouse: Warehouse) -> None:
    """Make the temporary tables that `follow` needs; once per connection, outside a transaction (a rollback takes them away)."""
    for table in (BEFORE, AFTER):
        warehouse.execute(f"create temp table if not exists {table} as select {_ALL} from headwater.identities limit 0")
    warehouse.execute(
        "create temp table if not exists fresh_links as select link_id, left_kind, left_id, right_kind, right_id, reason, "
        "linked_at, event_id, left_node, right_node, false as known, rowid as held_row, false as settled, refused_because "
        "from headwater.identity_links limit 0"
    )
    plain_links.prepare(warehouse)


def follow(warehouse: Warehouse, after: int, settings: IdentitySettings) -> Changed:
    """Take the links out of the rows with a position above `after`, and bring the identities up to date.

    In the caller's transaction. Calling it again with the same rows changes nothing. When the rows say nothing new it is one
    query over them and the links.
    """
    _empty(warehouse)
    links = _fresh_sql(settings, _present(warehouse, after))
    fresh = int(warehouse.value(f"insert into fresh_links {links}", {"after": after})) if links else 0
    if fresh and warehouse.value("select bool_or(known) from fresh_links"):
        fresh -= int(
            warehouse.value(  # said at the same moment: the event's id decides, which is dear to read for all links
                "delete from fresh_links as fresh using headwater.identity_links as held where held.rowid = fresh.held_row "
                "and (held.linked_at, held.event_id) <= (fresh.linked_at, fresh.event_id)"
            )
        )
        warehouse.execute(
            "update headwater.identity_links as held set linked_at = fresh.linked_at, event_id = fresh.event_id, reason = fresh.reason "
            "from fresh_links as fresh where held.rowid = fresh.held_row"
        )
    if not fresh:
        return Changed()
    plain = plain_links.settle(warehouse, BEFORE, AFTER, _IDENTITY, settings)
    warehouse.execute(
        "insert into headwater.identity_links (link_id, left_kind, left_id, right_kind, right_id, reason, linked_at, event_id, "
        "left_node, right_node, refused_because) select link_id, left_kind, left_id, right_kind, right_id, reason, linked_at, event_id, "
        "left_node, right_node, refused_because from fresh_links where not known"
    )
    if plain:
        warehouse.execute(f"delete from headwater.identities where node in (select node from {BEFORE})")
        warehouse.execute(f"insert into headwater.identities ({_ALL}) select {_ALL} from {AFTER}")
    nodes = warehouse.execute(
        "select left_node as node from fresh_links where not settled union select right_node from fresh_links where not settled"
    ).fetchnumpy()["node"]
    return Changed(fresh, plain + (_refresh(warehouse, nodes, settings) if len(nodes) else 0))


def undo(warehouse: Warehouse, link_id: str, because: str, at: datetime, settings: IdentitySettings) -> Changed:
    """Take one link back; whoever it held together is resolved anew without it. In the caller's transaction.

    The row stays, with `undone_at` (naive UTC) and the reason, so events that say the same again do not bring it back.
    Undoing an undone link changes nothing. Raises UsageError when there is no such link.
    """
    prepare(warehouse)
    _empty(warehouse)
    found = warehouse.execute(
        "select left_node, right_node, undone_at is not null from headwater.identity_links where link_id = ?", [link_id]
    ).fetchone()
    if found is None:
        raise UsageError(
            f"there is no identity link {link_id!r}; `headwater why CUSTOMER` shows the links of a customer with their ids"
        )
    if found[2]:
        return Changed()
    warehouse.execute(
        "update headwater.identity_links set undone_at = ?, undone_because = ? where link_id = ?",
        [at, because, link_id],
    )
    return Changed(1, _refresh(warehouse, np.array(found[:2], dtype=np.uint64), settings))


def refresh(warehouse: Warehouse, ids: Iterable[tuple[str, str]], settings: IdentitySettings) -> Changed:
    """Resolve the components of these (kind, id) anew, whatever is stored for them; after links were removed from outside."""
    prepare(warehouse)
    _empty(warehouse)
    nodes = [warehouse.value(f"select {_node_sql('$kind', '$id')}", {"kind": kind, "id": name}) for kind, name in ids]
    return Changed(0, _refresh(warehouse, np.array(nodes, dtype=np.uint64), settings))


def recompute_all(warehouse: Warehouse, settings: IdentitySettings, *, chunk: int = 100_000) -> list[Difference]:
    """Where `headwater.identities` is not what all links say, resolved from nothing. Reads only.

    Components are resolved in groups of about `chunk` links, so memory does not grow with what the links hold in text.
    """
    from scipy.sparse import coo_matrix  # noqa: PLC0415  (only verify needs it)
    from scipy.sparse.csgraph import connected_components  # noqa: PLC0415

    differences: list[Difference] = []
    links = warehouse.execute("select rowid as link, left_node, right_node from headwater.identity_links").fetchnumpy()
    nodes, ends = np.unique(np.concatenate([links["left_node"], links["right_node"]]), return_inverse=True)
    if len(nodes):
        left, right = np.split(ends, 2)
        graph = coo_matrix((np.ones(len(left), dtype=np.int8), (left, right)), shape=(len(nodes), len(nodes)))
        label_of_node = connected_components(graph, directed=False)[1]
        labels = label_of_node[left]
        order = np.argsort(labels, kind="stable")
        ordered = labels[order]
        start = 0
        while start < len(order):
            last = min(start + chunk, len(order)) - 1
            stop = int(np.searchsorted(ordered, ordered[last], side="right"))
            within = np.isin(label_of_node, np.unique(ordered[start:stop]))
            differences += _chunk_differences(warehouse, links["link"][order[start:stop]], nodes[within], settings)
            start = stop
    with warehouse.relation("linked_nodes", {"node": nodes.astype(np.uint64)}):
        orphans = warehouse.execute(
            f"select {_IDENTITY}, rowid from headwater.identities where node not in (select node from linked_nodes)"
        ).fetchall()
    differences += [Difference(row[0], row[1], Identity(*row[:6]), None) for row in orphans]
    return sorted(differences, key=lambda difference: (difference.id_kind, difference.id))


def _chunk_differences(
    warehouse: Warehouse, link_rows: np.ndarray, nodes: np.ndarray, settings: IdentitySettings
) -> list[Difference]:
    with warehouse.relation("chunk_links", {"link": link_rows}):
        rows = warehouse.execute(
            f"select {_LINK} from headwater.identity_links where rowid in (select link from chunk_links)"
        ).fetchall()
    resolved: dict[tuple[str, str], Identity] = {
        (i.id_kind, i.id): i for i in resolve([_link(row) for row in rows], settings.limits).identities
    }
    stored: dict[tuple[str, str], list[Identity]] = {}
    for identity, _ in _stored(warehouse, nodes):
        stored.setdefault((identity.id_kind, identity.id), []).append(identity)
    found = []
    for key in resolved.keys() | stored.keys():
        right, rows = resolved.get(key), stored.get(key, [])
        if rows != [right]:  # two rows of one id are wrong even if one of them is right
            found += [Difference(*key, row, right) for row in rows if row != right or len(rows) > 1]
            found += [Difference(*key, None, right)] if not rows else []
    return found


def _refresh(warehouse: Warehouse, nodes: np.ndarray, settings: IdentitySettings) -> int:
    """Resolve the components of `nodes`, write what differs, fill BEFORE and AFTER; how many rows differ."""
    component = _component(warehouse, nodes)
    resolution = resolve([_link(row) for row in component.links], settings.limits)
    refused = [
        (row[-1], resolution.refused.get(row[0])) for row in component.links if resolution.refused.get(row[0]) != row[9]
    ]
    if refused:
        links, reasons = zip(*refused, strict=True)
        warehouse.execute(
            "update headwater.identity_links as held set refused_because = refused.why "
            f"from ({_handed(link='bigint', why='varchar')}) as refused where held.rowid = refused.link",
            {"handed": json.dumps({"link": links, "why": reasons}, ensure_ascii=False)},
        )
    stored = _stored(warehouse, np.fromiter(component.nodes, dtype=np.uint64, count=len(component.nodes)))
    was = {(identity.id_kind, identity.id): (identity, row) for identity, row in stored}
    new = []
    gone = []
    for identity in resolution.identities:
        old = was.pop((identity.id_kind, identity.id), None)
        if old is None:
            new.append(identity)
        elif old[0] != identity:
            new.append(identity)
            gone.append(old[1])
    gone += [row for _, row in was.values()]  # an id that no link names any more
    _replace(warehouse, gone, new)
    return len(new) + len(was)


def _replace(warehouse: Warehouse, gone: Sequence[int], new: Sequence[Identity]) -> None:
    if gone:
        with warehouse.relation("gone_identities", {"gone": np.array(gone, dtype=np.int64)}):
            warehouse.execute(
                f"insert into {BEFORE} select {_ALL} from headwater.identities where rowid in (select gone from gone_identities) "
                f"and node not in (select node from {AFTER})"
            )
            warehouse.execute(  # written by this very call: there was no such row before it
                f"delete from {AFTER} where node in (select node from headwater.identities where rowid in (select gone from gone_identities))"
            )
            warehouse.execute("delete from headwater.identities where rowid in (select gone from gone_identities)")
    if new:
        names = ("id_kind", "id", "person_id", "customer_id", "linked_at", "reason")
        handed = {name: [getattr(identity, name) for identity in new] for name in names}
        handed["linked_at"] = [moment.isoformat() for moment in handed["linked_at"]]
        given = _handed(**dict.fromkeys(names, "varchar") | {"linked_at": "timestamp"})
        before = int(warehouse.value(f"select coalesce(max(rowid), -1) from {AFTER}"))
        warehouse.execute(
            f"insert into {AFTER} ({_ALL}) select {', '.join(names)}, {_node_sql('id_kind', 'id')}, md5_number_lower(person_id) from ({given})",
            {"handed": json.dumps(handed, ensure_ascii=False)},
        )
        warehouse.execute(
            f"insert into headwater.identities ({_ALL}) select {_ALL} from {AFTER} where rowid > {before}"
        )


def _handed(**columns: str) -> str:
    """SQL that reads the parameter `handed`, a JSON object of one list per column (name to SQL type).

    Arrays of Python strings are looked at value by value: 20,000 rows of two columns took 1.9 s, as JSON 23 ms.
    """
    shape = ", ".join(f'"{name}": ["{kind}"]' for name, kind in columns.items())
    values = ", ".join(f"unnest(given.{name}) as {name}" for name in columns)
    return f"select {values} from (select from_json(cast($handed as json), '{{{shape}}}') as given)"


@dataclass(frozen=True)
class _Component:
    links: list[tuple[Any, ...]]
    nodes: set[int]


def _component(warehouse: Warehouse, nodes: np.ndarray) -> _Component:
    """All links of the components that `nodes` are in, refused and undone ones too: their refusal may end."""
    seen: set[int] = set(nodes.tolist())
    links: list[np.ndarray] = [np.empty(0, dtype=np.int64)]
    frontier = nodes.astype(np.uint64)
    while len(frontier):
        with warehouse.relation("frontier", {"node": frontier}):  # the numbers of a link first: texts are dear to read
            ends = warehouse.execute(
                "select rowid as link, left_node, right_node from headwater.identity_links where left_node in (select node from frontier) "
                "or right_node in (select node from frontier)"
            ).fetchnumpy()
        links.append(ends["link"])
        reached = set(ends["left_node"].tolist()) | set(ends["right_node"].tolist())
        reached -= seen
        seen |= reached
        frontier = np.fromiter(reached, dtype=np.uint64, count=len(reached))
    with warehouse.relation("component_links", {"link": np.unique(np.concatenate(links))}):
        rows = warehouse.execute(
            f"select {_LINK} from headwater.identity_links where rowid in (select link from component_links)"
        ).fetchall()
    return _Component(rows, seen)


def _stored(warehouse: Warehouse, nodes: np.ndarray) -> list[tuple[Identity, int]]:
    with warehouse.relation("component_nodes", {"node": nodes}):
        rows = warehouse.execute(
            "select id_kind, id, person_id, customer_id, linked_at, reason, rowid from headwater.identities "
            "where rowid in (select rowid from headwater.identities where node in (select node from component_nodes))"
        ).fetchall()
    return [(Identity(*row[:6]), row[6]) for row in rows]


def _link(row: tuple[Any, ...]) -> Link:
    return Link(*row[:9])


def _empty(warehouse: Warehouse) -> None:
    for table in (BEFORE, AFTER, "fresh_links"):
        warehouse.execute(f"delete from {table}")


def _node_sql(kind: str, name: str) -> str:
    return f"md5_number_lower({kind} || ':' || {name})"


def _present(warehouse: Warehouse, after: int) -> tuple[bool, ...]:
    """Whether the rows above `after` hold: events with both ids, identifies with both, addresses, devices, aliases.

    Most batches hold few of these, and what is not there need not be planned.
    """
    both = "count(anonymous_id) filter (where customer_id is not null) > 0"
    row = (
        warehouse.execute(
            f"select e.*, i.*, a.* from (select {both}, count(*) filter (where contains(context::varchar, '\"device\"')) > 0 "
            f"from collected.events where position > $after) as e (events, devices), "
            f"(select {both}, count(email) > 0 from collected.identifies where position > $after) as i (identifies, emails), "
            "(select count(*) > 0 from collected.aliases where position > $after) as a (aliases)",
            {"after": after},
        ).fetchone()
        or (False,) * 5
    )
    events, devices, identifies, emails, aliases = row
    return events, identifies, emails, devices, aliases


def _fresh_sql(settings: IdentitySettings, present: tuple[bool, ...] = (True,) * 5) -> str | None:
    """The links of the batch that are new, or said no later than by the event they are dated by; None when there can be none."""
    events, identifies, emails, devices, aliases = present
    nobody = lambda column: keys.blocked_sql(column, settings.blocked)  # noqa: E731
    person = f"case when {nobody('customer_id')} then 'anonymous' else 'user' end"
    person_id = f"case when {nobody('customer_id')} then anonymous_id else customer_id end"
    at = "least(occurred_at, received_at), event_id"  # a clock that runs ahead cannot date a link into the future
    both = "anonymous_id is not null and customer_id is not null"
    named = "left_kind, left_id, right_kind, right_id, reason, linked_at, event_id"
    parts = []
    if events:
        parts.append(
            f"select 'anonymous', anonymous_id, 'user', customer_id, 'event', {at} from collected.events where position > $after and {both}"
        )
    if identifies:
        parts.append(
            f"select 'anonymous', anonymous_id, 'user', customer_id, 'identify', {at} from collected.identifies where position > $after and {both}"
        )
    if aliases:  # nobody says of which kind a previous id is; as the other kind it is an id that nothing else has
        parts += [
            f"select '{kind}', previous_id, 'user', customer_id, 'alias', {at} from collected.aliases where position > $after"
            for kind in ("user", "anonymous")
        ]
    if emails and settings.email_limit:
        parts.append(
            f"select 'email', {keys.email_sql('email')}, {person}, {person_id}, 'email', {at} from collected.identifies "
            "where position > $after and email is not null"
        )
    if devices and settings.device_limit:
        parts.append(
            f"select 'device', json_extract_string(context, '$.device.id'), {person}, {person_id}, 'device', {at} from collected.events "
            "where position > $after and contains(context::varchar, '\"device\"')"
        )
    if not parts:
        return None
    said = " union all ".join(parts)
    return f"""
    with said ({named}) as ({said}),
    pairs as (
        select left_kind, left_id, right_kind, right_id, reason = 'alias' as is_alias,
            min({{'linked_at': linked_at, 'event_id': event_id, 'reason': reason}}) as first
        from said
        where not {nobody("left_id")} and not {nobody("right_id")} and (left_kind <> right_kind or left_id <> right_id)
        group by all
    ),
    hashed as (
        select *, {_node_sql("left_kind", "left_id")} as left_node, {_node_sql("right_kind", "right_id")} as right_node from pairs
    )
    select md5(concat_ws(chr(31), left_kind, left_id, right_kind, right_id, is_alias)) as link_id,
        left_kind, left_id, right_kind, right_id, first.reason, first.linked_at, first.event_id, left_node, right_node,
        held.held_at is not null as known, held.held_row, false as settled, cast(null as varchar) as refused_because
    from hashed
    left join (
        select left_node, right_node, reason = 'alias' as is_alias, linked_at as held_at, rowid as held_row from headwater.identity_links
    ) as held using (left_node, right_node, is_alias)
    where held.held_at is null or first.linked_at <= held.held_at
    """
