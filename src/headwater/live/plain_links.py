"""The links that need no thought, settled by SQL alone: almost all, and tens of thousands of them in a catch-up.

`headwater.identity.resolve` would give the same rows (tests hold them equal). It need not be asked for

plain       an id never seen before joins one known or new customer. For one customer of the batch: every fresh link comes
            from an id that is in no other link, old or fresh, and is no alias; the customer's own row, if there is one, is
            under his own id and older than these links; with the new ids the person has at most as many ids of each kind,
            and in all, as the strictest cap and limit allow. Then nothing can be refused in whatever order the links are
            taken, and no row changes but the new ones and that of a customer whose links were all refused so far.

hopeless    an id that belongs to somebody already is seen with another customer. The id had its customer before the link,
            and the two are still different people: people only grow, so they were when it was said, and it is refused for
            good (`user_limit`) without any effect. This is what an anonymous id does that a whole shop shares by mistake:
            without this a batch would resolve the links of everybody anew.

Should a link that does need thought touch the same people, `persons` resolves them again from all of their links, and finds
these rows right or mends them.
"""

from headwater.identity.resolve import REFUSALS
from headwater.identity.settings import IdentitySettings
from headwater.warehouse.connection import Warehouse

_REFUSED = ", ".join(f"'{reason}'" for reason in REFUSALS)


def prepare(warehouse: Warehouse) -> None:
    """Make the temporary tables; once per connection, outside a transaction."""
    warehouse.execute(
        "create temp table if not exists seen_identities as select linked_at, reason, node, person_node, true as is_customer "
        "from headwater.identities limit 0"
    )
    warehouse.execute("create temp table if not exists plain_links (link_id varchar)")


def settle(warehouse: Warehouse, before: str, after: str, columns: str, settings: IdentitySettings) -> int:
    """Settle what it can of `fresh_links`: their `settled` and `refused_because` are set, the identities that come of them go
    into `after` and the old images of those that change into `before` (columns of `headwater.identities`, `columns` in order).

    The answer is how many rows `after` got; nothing else is written.
    """
    for table in ("seen_identities", "plain_links"):
        warehouse.execute(f"delete from {table}")
    warehouse.execute(
        "insert into seen_identities select linked_at, reason, node, person_node, customer_id is not null from headwater.identities "
        "where node in (select left_node from fresh_links union select right_node from fresh_links)"
    )
    return _hopeless(warehouse, after, columns) + _plain(warehouse, before, after, columns, settings)


def _hopeless(warehouse: Warehouse, after: str, columns: str) -> int:
    found = int(
        warehouse.value(
            """
            insert into plain_links
            with candidates as (
                select fresh.link_id, fresh.right_node, mine.node is null as is_new,
                    coalesce(not fresh.known and fresh.right_kind = 'user' and fresh.reason <> 'alias' and held.is_customer
                    and held.linked_at < fresh.linked_at
                    and (mine.node is null or (mine.person_node <> held.person_node and mine.linked_at < fresh.linked_at)), false) as fits
                from fresh_links as fresh
                left join seen_identities as held on held.node = fresh.left_node
                left join seen_identities as mine on mine.node = fresh.right_node
            ),
            others as (
                select right_node as node from candidates where not fits union all select left_node from fresh_links
            )
            select link_id from candidates where fits and (not is_new or right_node not in (select node from others))
            """
        )
    )
    if not found:
        return 0
    warehouse.execute(
        "update fresh_links set settled = true, refused_because = 'user_limit' where link_id in (select link_id from plain_links)"
    )
    warehouse.execute("delete from plain_links")
    return int(
        warehouse.value(
            f"""
            insert into {after} ({columns}, person_node)
            select 'user', right_id, right_id, right_id, min(linked_at), 'user_limit', right_node, md5_number_lower(right_id)
            from fresh_links
            where refused_because is not null and right_node not in (select node from seen_identities)
            group by right_id, right_node
            """
        )
    )


def _plain(warehouse: Warehouse, before: str, after: str, columns: str, settings: IdentitySettings) -> int:
    if not int(warehouse.value(f"insert into plain_links {_plain_sql(settings)}")):
        return 0
    renewed = (
        f"(select seen.node from seen_identities as seen where seen.reason in ({_REFUSED}) and seen.node in "
        "(select right_node from fresh_links semi join plain_links using (link_id)))"
    )
    if warehouse.value(f"select count(*) from {renewed}"):
        warehouse.execute(
            f"insert into {before} ({columns}, person_node) select {columns}, person_node from headwater.identities where node in {renewed}"
        )
    rows = int(
        warehouse.value(
            f"""
            insert into {after} ({columns}, person_node)
            with plain as (
                select fresh.*, coalesce(seen.reason not in ({_REFUSED}), false) as has_row
                from fresh_links as fresh semi join plain_links using (link_id)
                left join seen_identities as seen on seen.node = fresh.right_node
            ),
            first as (
                select right_id, right_node, min({{'linked_at': linked_at, 'event_id': event_id, 'link_id': link_id, 'reason': reason}}) as link
                from plain where not has_row group by right_id, right_node
            )
            select left_kind, left_id, right_id, right_id, linked_at, reason, left_node, md5_number_lower(right_id) from plain
            union all
            select 'user', right_id, right_id, right_id, link.linked_at, link.reason, right_node, md5_number_lower(right_id) from first
            """
        )
    )
    warehouse.execute("update fresh_links set settled = true where link_id in (select link_id from plain_links)")
    return rows


def _plain_sql(settings: IdentitySettings) -> str:
    limits = {
        "'anonymous'": settings.anonymous_limit,
        "'email'": settings.email_limit,
        "'device'": settings.device_limit,
    }
    within = " and ".join(
        f"coalesce(held.of_kind[{kind}], 0) + coalesce(fresh.of_kind[{kind}], 0) <= {limit}"
        for kind, limit in limits.items()
    )
    cap = min(settings.merge_cap, settings.mapping_cap)
    return f"""
    with unsettled as (select * from fresh_links where not settled),
    ends as (
        select node, count(*) as times from (select left_node as node from fresh_links union all select right_node from fresh_links)
        group by node
    ),
    lone as (
        select fresh.*, ends.times = 1 and not fresh.known and fresh.right_kind = 'user' and fresh.reason <> 'alias'
            and seen.node is null as is_lone
        from unsettled as fresh
        join ends on ends.node = fresh.left_node
        left join seen_identities as seen on seen.node = fresh.left_node
    ),
    customers as (
        select right_node, right_id, bool_and(is_lone) as is_plain, min(linked_at) as linked_at,
            histogram(left_kind) as of_kind, count(*) as ids
        from lone
        where right_node not in (select left_node from fresh_links)
        group by right_node, right_id
    ),
    persons as (
        select person_node, histogram(id_kind) as of_kind, count(*) as ids
        from headwater.identities
        where person_node in (
            select seen.person_node from seen_identities as seen semi join customers on seen.node = customers.right_node and customers.is_plain
        )
        group by person_node
    ),
    chosen as (
        select fresh.right_node
        from customers as fresh
        left join seen_identities as seen on seen.node = fresh.right_node
        left join persons as held on held.person_node = seen.person_node
        where fresh.is_plain
            and (seen.node is null or (
                seen.person_node = md5_number_lower(fresh.right_id) and seen.linked_at < fresh.linked_at
                and (seen.reason not in ({_REFUSED}) or held.ids = 1)
            ))
            and coalesce(held.ids, 1) + fresh.ids <= {cap}
            and {within}
    )
    select link_id from unsettled semi join chosen using (right_node)
    """
