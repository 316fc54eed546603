"""The links that need no thought, written by SQL alone: an id never seen before that joins one known or new customer.

Almost every link is of this kind, and a catch-up brings tens of thousands of them at a time. `headwater.identity.resolve`
would give the same rows (a test holds them equal); it need not be asked when, for one customer of the batch,

    every fresh link of the customer comes from an id that is in no other link, old or fresh, and is no alias;
    the customer's own row, if there is one, is under his own id, is older than these links and was not refused;
    with the new ids the person has at most as many ids of each kind, and in all, as the strictest cap and limit allow.

Then nothing can be refused, in whatever order the links are taken, and no row but the new ones changes.
"""

from headwater.identity.resolve import REFUSALS
from headwater.identity.settings import IdentitySettings
from headwater.warehouse.connection import Warehouse


def prepare(warehouse: Warehouse) -> None:
    """Make the temporary tables; once per connection, outside a transaction."""
    warehouse.execute(
        "create temp table if not exists seen_identities as select linked_at, reason, node, person_node from headwater.identities limit 0"
    )
    warehouse.execute("create temp table if not exists plain_links (link_id varchar)")


def settle(warehouse: Warehouse, target: str, columns: str, settings: IdentitySettings) -> int:
    """Write the identities of the plain links among `fresh_links` into `target`, and take these links out of `fresh_links`.

    The answer is how many rows `target` (columns of `headwater.identities`, named by `columns`) got.
    """
    warehouse.execute("delete from seen_identities")
    warehouse.execute("delete from plain_links")
    warehouse.execute(
        "insert into seen_identities select linked_at, reason, node, person_node from headwater.identities "
        "where node in (select left_node from fresh_links union select right_node from fresh_links)"
    )
    warehouse.execute(f"insert into plain_links {_plain_sql(settings)}")
    rows = int(
        warehouse.value(
            f"""
            insert into {target} ({columns}, person_node)
            with plain as (
                select fresh.*, fresh.right_id as person_id, seen.node is not null as is_seen
                from fresh_links as fresh semi join plain_links using (link_id)
                left join seen_identities as seen on seen.node = fresh.right_node
            ),
            first as (
                select right_id, right_node, min({{'linked_at': linked_at, 'event_id': event_id, 'link_id': link_id, 'reason': reason}}) as link
                from plain where not is_seen group by right_id, right_node
            )
            select left_kind, left_id, person_id, person_id, linked_at, reason, left_node, md5_number_lower(person_id) from plain
            union all
            select 'user', right_id, right_id, right_id, link.linked_at, link.reason, right_node, md5_number_lower(right_id) from first
            """
        )
    )
    if rows:
        warehouse.execute("delete from fresh_links where link_id in (select link_id from plain_links)")
    return rows


def _plain_sql(settings: IdentitySettings) -> str:
    refusals = ", ".join(f"'{reason}'" for reason in REFUSALS)
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
    with ends as (
        select node, count(*) as times from (select left_node as node from fresh_links union all select right_node from fresh_links)
        group by node
    ),
    lone as (
        select fresh.*, ends.times = 1 and not fresh.known and fresh.right_kind = 'user' and fresh.reason <> 'alias'
            and seen.node is null as is_lone
        from fresh_links as fresh
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
                seen.person_node = md5_number_lower(fresh.right_id) and seen.linked_at < fresh.linked_at and seen.reason not in ({refusals})
            ))
            and coalesce(held.ids, 1) + fresh.ids <= {cap}
            and {within}
    )
    select link_id from fresh_links semi join chosen using (right_node)
    """
